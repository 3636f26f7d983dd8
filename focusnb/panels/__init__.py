"""Widgets that show a project and ask for work; they compute nothing."""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"
"""The widgets' JavaScript and the look, bundled from ``frontend`` when focusnb is installed."""
