"""``decisions.json``: what people decided, beside the library, so that a lost library does not lose it.

Groups, flags, comments, choices of steps, overrides, selections and manual picks. What is measured is in the
exposures' own records.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from focusnb.io import files
from focusnb.project import schema
from focusnb.project.library import Library

FILE_NAME = "decisions.json"

TABLES = ("parameters", "overrides", "selections", "picks", "sets", "set_members")
"""Tables that hold nothing but decisions."""

EXPOSURE_COLUMNS = ("group", "flag", "comment")


def write(library: Library, folder: Path) -> None:
    """Write the present decisions; a library on a server has backups of its own."""
    if library.path is None:
        return
    e = schema.exposures.c
    found: dict[str, list[dict[str, Any]]] = {}
    with library.read() as connection:
        for name in TABLES:
            rows = connection.execute(sa.select(schema.metadata.tables[name])).mappings()
            found[name] = [dict(row) for row in rows]
        chosen = sa.select(e.id, *(e[name] for name in EXPOSURE_COLUMNS)).order_by(e.id)
        found["exposures"] = [dict(row) for row in connection.execute(chosen).mappings()]
    files.write_json(folder / FILE_NAME, found)


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read what was decided; empty where nothing was, or where the file cannot be read."""
    try:
        found = json.loads((folder / FILE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return {name: rows for name, rows in found.items() if isinstance(rows, list)} if isinstance(found, dict) else {}
