"""What the launcher of pages and the pages' kernels agree on."""

from __future__ import annotations

PROJECT_VARIABLE = "FOCUSNB_PROJECT"
"""Names the project's folder to the kernels of a page: never the address, which anybody may edit."""

MICROSCOPES_VARIABLE = "FOCUSNB_MICROSCOPES"
"""Names microscopes, as JSON, to the kernels of the monitor."""
