"""Looking through the library: sorted, filtered, grouped, ticked; the model behind the table, without widgets."""

from __future__ import annotations

from focusnb.project.browsing.browser import Browser, GroupLine, RowLine
from focusnb.project.browsing.filters import FilterError

__all__ = ["Browser", "FilterError", "GroupLine", "RowLine"]
