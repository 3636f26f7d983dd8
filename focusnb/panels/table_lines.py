"""What the table tells a browser, as plain data: its columns, its state, some of its lines."""

from __future__ import annotations

from typing import Any

from focusnb.project.browsing import Browser, GroupLine, RowLine
from focusnb.project.exports import tables

TICKED, HIGHLIGHTED = 1, 2
"""Marks of a row, added up."""

LONGEST = 300
"""Letters shown of a text; a comment, which may be edited, is sent whole."""


def columns(browser: Browser) -> list[dict[str, Any]]:
    """The columns shown, in order, with how they are sorted and filtered."""
    keys = {name: (place, ascending) for place, (name, ascending) in enumerate(browser.sorting, start=1)}
    return [
        {
            **_column(browser, name),
            "kind": "name" if name == "exposure" else browser.kind(name),
            "width": browser.widths.get(name),
            "sort": keys.get(name),
            "filter": browser.filters[name].text if name in browser.filters else "",
            "example": browser.example(name),
        }
        for name in browser.columns
    ]


def all_columns(browser: Browser) -> list[dict[str, Any]]:
    """All columns there are, with the group each belongs to and whether it is shown."""
    shown = set(browser.columns)
    return [
        {
            **_column(browser, name),
            "shown": name in shown,
            "number": spec.type in ("float", "int") and not spec.choices,
            "words": spec.type == "str",
        }
        for name, spec in browser.rows.specs.items()
    ]


def _column(browser: Browser, name: str) -> dict[str, Any]:
    spec = browser.spec(name)
    return {"name": name, "label": spec.label, "unit": spec.unit, "help": spec.help, "group": spec.group}


def state(browser: Browser) -> dict[str, Any]:
    """Everything but columns and lines."""
    grouped = browser.grouped
    return {
        "version": browser.version,
        "lines": browser.lines,
        "total": len(browser),
        "shown": browser.shown_count,
        "ticked": browser.ticked_count,
        "trashed": browser.trashed_count,
        "added": browser.added,
        "sort": browser.sorting,
        "grouped": grouped,
        "grouped_label": browser.spec(grouped).label if grouped else "",
        "text": browser.text,
        "filters": len(browser.filters),
        "only_ticked": browser.only_ticked,
        "show_trash": browser.show_trash,
        "undo": browser.undoable,
        "writable": not browser.project.library.read_only,
        "remark": browser.remark,
        "notice": notice(browser),
    }


def notice(browser: Browser) -> dict[str, Any] | None:
    """One sentence with the cure where there is nothing to be seen; None where there is."""
    folder = browser.project.folder
    total, trashed = len(browser), browser.trashed_count
    if not total:
        text = "There are no exposures yet. Import the camera's folder; they appear here as they come."
        return {"text": text, "command": f"focusnb import {folder} CAMERA_FOLDER", "icon": "table"}
    if not browser.shown_count:
        if browser.only_ticked and not browser.ticked_count:
            return _cure("No exposure is ticked.", "Show all", "show", only_ticked=False)
        if browser.filters or browser.text or browser.only_ticked:
            return _cure(f"None of {total:,} exposures passes the filters.", "Take the filters off", "clear")
        return _cure(f"All {trashed:,} exposures are in TRASH.", "Show TRASH", "show", trash=True)
    if not browser.is_measured:
        text = "None of the exposures shown has been measured yet."
        return {"text": text, "command": f"focusnb run {folder}", "icon": "play", "beside": True}
    return None


def _cure(text: str, label: str, what: str, **arguments: Any) -> dict[str, Any]:
    return {"text": text, "icon": "filter", "action": {"what": what, **arguments}, "label": label}


def window(browser: Browser, start: int, count: int) -> list[list[Any]]:
    """Some lines: ``[id, marks, cells, reason]`` of a row, ``[None, name, count, open, ticked, unwell, cells]``."""
    columns = browser.columns
    kinds = [browser.kind(name) for name in columns]
    reason = columns.index("reason") if "reason" in columns else None
    return [_line(line, kinds, reason) for line in browser.window(start, count)]


def _line(line: RowLine | GroupLine, kinds: list[str], reason: int | None) -> list[Any]:
    if isinstance(line, GroupLine):
        group = line.group
        return [None, group.name, group.count, group.open, line.ticked, line.unwell, line.cells]
    marks = TICKED * line.ticked + HIGHLIGHTED * line.highlighted
    cells = [
        text if len(text) <= LONGEST or kind == "comment" else text[:LONGEST] + "…"
        for text, kind in zip(line.cells, kinds, strict=True)
    ]
    if reason is not None:
        cells[reason] = _without_name(cells[reason], line.cells[0])
    return [line.id, marks, cells, line.reason[:LONGEST]]


def _without_name(reason: str, exposure: str) -> str:
    """A reason without the file it begins with, where that is the exposure of its row: the cell is narrow."""
    file, colon, said = reason.partition(": ")
    return said if colon and file.rpartition("/")[2].startswith(exposure) else reason


def line_of(browser: Browser, end: Any) -> int:
    """The line of ``[id, None]`` or ``[None, group]``; -1 where there is none."""
    if end is None:
        return -1
    identity, group = end
    return browser.line_of(int(identity)) if identity is not None else browser.arrangement.group_line(str(group))


def follow(browser: Browser, start: int, count: int, anchor: Any) -> tuple[int, int]:
    """Where a window begins now, and by how many lines it moved since the browser last knew.

    anchor : ``[line, id, group]`` of what stands at the top of the browser's sight, which is to stay there
    """
    shift = 0
    if anchor is not None:
        line, identity, group = anchor
        present = line_of(browser, (identity, group))
        shift = present - int(line) if present >= 0 else 0
    return min(max(start + shift, 0), max(browser.lines - count, 0)), shift


def as_text(browser: Browser, ids: list[int], *, names_only: bool = False) -> str:
    """Rows as text for a spreadsheet: captions first, cells apart by tabs, in the order given."""
    positions = browser.rows.positions(ids)
    if names_only:
        return "\n".join(browser.rows.column("exposure").texts(positions))
    names = browser.columns
    cells = [[_plain(text) for text in browser.rows.column(name).texts(positions)] for name in names]
    rows = [[browser.spec(name).caption for name in names], *map(list, zip(*cells, strict=True))]
    return "\n".join("\t".join(row) for row in rows)


def _plain(text: str) -> str:
    return str(tables.without_formula(" ".join(text.split())))
