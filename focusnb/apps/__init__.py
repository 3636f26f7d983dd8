"""Panels arranged for a notebook cell and for a page of their own.

Names are loaded when they are first used: the launcher of pages needs none of the widgets.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_NAMES = {
    "explorer": ("focusnb.apps.explore", "explorer"),
    "monitor": ("focusnb.apps.watch", "monitor"),
    "named_microscopes": ("focusnb.apps.microscopes", "named_microscopes"),
    "named_project": ("focusnb.apps.opening", "named_project"),
}

__all__ = ["explorer", "monitor", "named_microscopes", "named_project"]

if TYPE_CHECKING:
    from focusnb.apps.explore import explorer
    from focusnb.apps.microscopes import named_microscopes
    from focusnb.apps.opening import named_project
    from focusnb.apps.watch import monitor


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'focusnb.apps' has no attribute {name!r}")
    module, attribute = _NAMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
