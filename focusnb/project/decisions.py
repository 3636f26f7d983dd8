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

# written as JSON by SQLite, which takes a fifth of the time: every flag set in a table waits for this
_QUOTED = ", ".join(f'"{name}"' for name in EXPOSURE_COLUMNS)
_PAIRS = ", ".join(f"'{name}', \"{name}\"" for name in EXPOSURE_COLUMNS)
_EXPOSURES = (
    f"SELECT json_group_array(json_object('id', id, {_PAIRS})) FROM (SELECT id, {_QUOTED} FROM exposures ORDER BY id)"
)


def write(library: Library, folder: Path) -> None:
    """Write the present decisions; a library on a server has backups of its own."""
    if library.path is None:
        return
    found: dict[str, list[dict[str, Any]]] = {}
    with library.read() as connection:
        for name in TABLES:
            rows = connection.execute(sa.select(schema.metadata.tables[name])).mappings()
            found[name] = [dict(row) for row in rows]
        exposures = str(connection.exec_driver_sql(_EXPOSURES).scalar())
    others = json.dumps(found, ensure_ascii=False, allow_nan=False)
    files.write_text(folder / FILE_NAME, f'{others[:-1]}, "exposures": {exposures}}}\n')


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read what was decided; empty where nothing was, or where the file cannot be read."""
    try:
        found = json.loads((folder / FILE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return {name: rows for name, rows in found.items() if isinstance(rows, list)} if isinstance(found, dict) else {}
