"""Views: tables and image files in, figures out; no widgets, no state."""
