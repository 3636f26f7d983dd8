"""Widgets that show a project and ask for work; they compute nothing."""
