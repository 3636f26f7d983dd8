"""``exposure.json``: all that is known of an exposure beside its files, and a library made again from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.io import files
from focusnb.parameters import Spec
from focusnb.project import schema
from focusnb.project.library import Transaction, placeholder

FILE_NAME = "exposure.json"
FORMAT = 1

_ROW = (
    "id",
    "exposure",
    "group",
    "status",
    "reason",
    "flag",
    "comment",
    "folder",
    "source",
    "content",
    "imported_at",
    "processed_at",
    "facts",
    "current",
)


def write(project_folder: Path, row: Mapping[str, Any], findings: Mapping[str, Any]) -> None:
    """Write the record of an exposure from its row in the library."""
    record = {"format": FORMAT, **{name: row.get(name) for name in _ROW}}
    record["findings"] = {name: value for name, value in findings.items() if value is not None}
    files.write_json(project_folder / str(row["folder"]) / FILE_NAME, record)


def find(project_folder: Path) -> Iterator[tuple[Path, dict[str, Any] | str]]:
    """Yield every record below a project's folder, or the reason why it cannot be read."""
    for path in sorted((project_folder / "exposures").glob(f"*/*/{FILE_NAME}")):
        try:
            record = json.loads(path.read_text())
            if not isinstance(record, dict) or not isinstance(record.get("id"), int) or not record.get("exposure"):
                raise ValueError("it is no record of an exposure")
            # the folder counts, not what it was called when the record was written
            record["folder"] = str(path.parent.relative_to(project_folder))
        except (OSError, ValueError) as error:
            yield path, f"{path}: cannot be read ({error}); the exposure was left out, import it again"
        else:
            yield path, record


def restore(transaction: Transaction, record: Mapping[str, Any], known: Mapping[str, Spec]) -> None:
    """Put one record back as a row with its current runs."""
    row = {name: record.get(name) for name in _ROW if name in schema.exposures.c}
    row["group"] = row["group"] or ""
    row["status"], row["reason"] = overall(record.get("current") or {})
    transaction.execute(schema.exposures.insert().values(**row, revision=transaction.revision))
    facts = {name: value for name, (value, _) in _resolved(record.get("facts") or {}).items() if name in known}
    findings = {name: value for name, value in (record.get("findings") or {}).items() if name in known}
    if facts or findings:
        transaction.update_exposure(int(record["id"]), {**facts, **findings})
    for step, state in (record.get("current") or {}).items():
        values = {name: state.get(name) for name in ("version", "fingerprint", "params", "started_at", "finished_at")}
        transaction.execute(
            schema.runs.insert().values(
                id=state["run"],
                exposure_id=record["id"],
                step=step,
                status=state.get("status", "done"),
                reason=state.get("reason"),
                error=state.get("error"),
                attempt=state.get("attempt", 1),
                revision=transaction.revision,
                **values,
            )
        )


def overall(current: Mapping[str, Mapping[str, Any]]) -> tuple[str, str | None]:
    """Status and reason of an exposure from the state of its steps; the first that went wrong is told.

    Steps run beside the project's workflow do not count: what one of them cannot do makes no exposure worse.
    """
    counted = [state for state in current.values() if not state.get("beside")]
    for wrong in ("broken", "failed"):
        for state in counted:
            if state.get("status") == wrong:
                return wrong, state.get("reason")
    return ("done" if counted else "new"), None


def _resolved(candidates: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    from focusnb.project import facts

    return facts.resolve({name: dict(origins) for name, origins in candidates.items()})


def row_of(connection: sa.Connection, exposure: int) -> dict[str, Any]:
    """All columns of an exposure's row, those of declared values included; ParameterError if there is none."""
    # the driver's own cursor: a hundred columns take SQLAlchemy four times as long
    cursor = connection.connection.cursor()
    try:
        cursor.execute(f"SELECT * FROM exposures WHERE id = {placeholder(connection)}", (exposure,))
        found = cursor.fetchone()
        if found is None:
            raise ParameterError(f"there is no exposure {exposure}; 'focusnb table' shows the ids there are")
        row = {column[0]: value for column, value in zip(cursor.description, found, strict=True)}
    finally:
        cursor.close()
    for name in ("facts", "current"):
        row[name] = json.loads(row[name]) if isinstance(row[name], str) else row[name] or {}
    return row
