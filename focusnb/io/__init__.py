"""Bytes and files in, arrays and records out, and back."""
