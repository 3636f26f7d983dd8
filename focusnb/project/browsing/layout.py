"""How a user likes the table of a project: columns, their widths, order and grouping, kept between sessions.

Kept with the user's other states, not in the project: two people at one project need not like the same, and a project
that can only be read is arranged as well as any other.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from focusnb.errors import FocusError
from focusnb.io import files
from focusnb.project.project import Project

NARROWEST, WIDEST = 48, 1200
"""Widths of columns, in pixels."""


@dataclass
class Layout:
    """Names of the columns shown, in order; widths in pixels where set; keys of the sorting; the column of groups."""

    columns: list[str] = field(default_factory=list)
    widths: dict[str, int] = field(default_factory=dict)
    sort: list[tuple[str, bool]] = field(default_factory=list)
    grouped: str | None = "group"


def layout_path(project: Project) -> Path:
    """Where this user's layout of a project is kept."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "focusnb" / "tables" / f"{project.settings.get('id') or project.name}.json"


def default_layout(project: Project) -> Layout:
    """What the project's mode shows."""
    return Layout([name for name in project.mode.columns if name != "group"])


def read_layout(project: Project) -> Layout:
    """The layout kept for a project; what its mode shows where none is kept or it cannot be read."""
    usual = default_layout(project)
    try:
        kept = json.loads(layout_path(project).read_text())
        columns = [str(name) for name in kept["columns"]]
        widths = {str(name): min(max(int(width), NARROWEST), WIDEST) for name, width in kept["widths"].items()}
        sort = [(str(name), bool(ascending)) for name, ascending in kept["sort"]]
        grouped = kept["grouped"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return usual
    return Layout(columns or usual.columns, widths, sort, None if grouped is None else str(grouped))


def keep_layout(project: Project, layout: Layout) -> str:
    """Keep a layout; returns why it could not be kept, or nothing."""
    path = layout_path(project)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, asdict(layout))
    except (OSError, FocusError) as error:
        return f"the arrangement of the columns cannot be kept: {error}"
    return ""
