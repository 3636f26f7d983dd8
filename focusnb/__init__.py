"""focusnb: from the electron microscope to structure determination, in a notebook.

Names are loaded when they are first used, so that a worker or a command does not pay for what it does not need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "Project": ("focusnb.project.project", "Project"),
    "create_project": ("focusnb.project.project", "create_project"),
    "open_project": ("focusnb.project.project", "open_project"),
    "Workflow": ("focusnb.processing.workflow", "Workflow"),
    "Queue": ("focusnb.processing.queue", "Queue"),
    "Processor": ("focusnb.processing.processor", "Processor"),
    "Step": ("focusnb.steps.base", "Step"),
    "quantity": ("focusnb.parameters", "quantity"),
    "explorer": ("focusnb.apps.explore", "explorer"),
}

__all__ = [
    "Processor",
    "Project",
    "Queue",
    "Step",
    "Workflow",
    "__version__",
    "create_project",
    "explorer",
    "open_project",
    "quantity",
]

if TYPE_CHECKING:
    from focusnb.apps.explore import explorer
    from focusnb.parameters import quantity
    from focusnb.processing.processor import Processor
    from focusnb.processing.queue import Queue
    from focusnb.processing.workflow import Workflow
    from focusnb.project.project import Project, create_project, open_project
    from focusnb.steps.base import Step


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'focusnb' has no attribute {name!r}")
    module, attribute = _NAMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
