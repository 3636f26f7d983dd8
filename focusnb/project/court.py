"""What the court of a project's sessions found and has told: kept with the set of all exposures, by import group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.io import files
from focusnb.project import decisions, schema, sets
from focusnb.project.library import Library
from focusnb.steps.work import SESSION

if TYPE_CHECKING:
    from focusnb.project.project import Project

ACTIONS = ("warn", "pause")
"""What is done where a fact is wrong: say so and go on, or let nothing more begin as well."""

_SETTING = "court"


def read(library: Library) -> dict[str, dict[str, Any]]:
    """The record of every import group: its ``exposures``, ``verdicts`` and what was ``told``, as JSON."""
    of_all = schema.sets.c.name == SESSION
    with library.read() as connection:
        found = connection.execute(sa.select(schema.sets.c["values"]).where(of_all)).scalar()
    kept = (found or {}).get(sets.COURT)
    return dict(kept) if isinstance(kept, dict) else {}


def write(project: Project, group: str, record: Mapping[str, Any]) -> None:
    """Keep the record of an import group, here and where a lost library does not lose it."""
    identity = sets.session(project.library).id
    s = schema.sets
    with project.library.write() as transaction:
        values = dict(transaction.execute(sa.select(s.c["values"]).where(s.c.id == identity)).scalar() or {})
        values[sets.COURT] = {**(values.get(sets.COURT) or {}), group: dict(record)}
        changed = {"values": values, "revision": transaction.revision}
        transaction.execute(s.update().where(s.c.id == identity).values(changed))
    decisions.write(project.library, project.folder)


def action(project: Project) -> str:
    """What is done where a fact is wrong; as the project's settings on the disk say now."""
    from focusnb.project.project import read_settings

    chosen = read_settings(project.folder).get(_SETTING)
    return chosen if chosen in ACTIONS else ACTIONS[0]


def set_action(project: Project, chosen: str) -> None:
    """Choose what is done where a fact is wrong: warn or pause."""
    from focusnb.project.project import SETTINGS_NAME, read_settings

    if chosen not in ACTIONS:
        raise ParameterError(f"the court can {' or '.join(ACTIONS)}, not {chosen}")
    project.library.check_writable()
    project.settings = {**read_settings(project.folder), _SETTING: chosen}
    files.write_json(project.folder / SETTINGS_NAME, project.settings)
