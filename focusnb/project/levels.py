"""Choices of steps on their levels: default < project < group < exposure."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.project import schema
from focusnb.project.library import Transaction, encode, now, who
from focusnb.project.tasks import MANY
from focusnb.steps.base import Step, StepParams

LEVELS = ("default", "project", "group", "exposure")


def configuration_folder() -> Path:
    """The user's own settings for focusnb."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "focusnb"


def user_defaults() -> dict[str, dict[str, Any]]:
    """Choices from ``~/.config/focusnb/defaults.toml``, one table per step; copied into a project when it is made."""
    path = configuration_folder() / "defaults.toml"
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: is not valid TOML ({error}); correct or remove it") from error
    for step, values in found.items():
        if not isinstance(values, dict):
            raise ParameterError(f"{path}: {step} is not within the table of a step; write it below [STEP]")
    return found


Stored = dict[tuple[str, str], dict[str, Any]]
"""Choices of one step by level and key."""


def read_levels(connection: sa.Connection, step: str) -> Stored:
    """All stored choices of a step."""
    p = schema.parameters
    stored: Stored = {}
    for row in connection.execute(sa.select(p.c.level, p.c.key, p.c.name, p.c.value).where(p.c.step == step)):
        stored.setdefault((row.level, row.key), {})[row.name] = row.value
    return stored


def check(connection: sa.Connection, step: type[Step], stored: Stored) -> None:
    """ParameterError unless what is in force anywhere is valid: values valid by themselves may not fit together."""
    resolve(step, stored, group=None, exposure=None)
    e = schema.exposures.c
    own = [int(key) for level, key in stored if level == "exposure"]
    places: set[tuple[str, int | None]] = {(key, None) for level, key in stored if level == "group"}
    for start in range(0, len(own), MANY):
        rows = connection.execute(sa.select(e.id, e.group).where(e.id.in_(own[start : start + MANY])))
        places |= {(row.group, row.id) for row in rows}
    for group, exposure in places:
        try:
            resolve(step, stored, group=group, exposure=exposure)
        except ParameterError as error:
            where = f"group {group}" if exposure is None else f"exposure {exposure}"
            raise ParameterError(f"{error} (with the choices of {where})") from error


def as_stored(step: type[Step], given: Mapping[str, Any]) -> dict[str, Any]:
    """Choices in their declared types, as JSON keeps them."""
    model = step.Params.make(given)
    return {name: encode_json(getattr(model, name)) for name in given}


def resolve(
    step: type[Step], stored: Stored, *, group: str | None, exposure: int | None
) -> tuple[StepParams, dict[str, str]]:
    """Return the choices in force and, for each, the level it comes from. Names not declared any more are left out."""
    declared = {spec.name for spec in step.Params.specs()}
    values: dict[str, Any] = {}
    origin = dict.fromkeys(declared, "default")
    for level, key in (("project", ""), ("group", group), ("exposure", exposure)):
        if key is None:
            continue
        for name, value in stored.get((level, str(key)), {}).items():
            if name in declared:
                values[name] = value
                origin[name] = level
    return step.Params.make(values), origin


def write(
    transaction: Transaction,
    step: type[Step],
    level: str,
    keys: Sequence[str],
    values: Mapping[str, Any],
    names: Sequence[str],
) -> None:
    """Store the named choices on a level for each key; those that ``values`` does not hold are cleared."""
    p = schema.parameters
    for start in range(0, len(keys), MANY):
        part = keys[start : start + MANY]
        of_step = (p.c.level == level) & (p.c.step == step.name) & p.c.name.in_(names) & p.c.key.in_(part)
        transaction.execute(p.delete().where(of_step))
        rows = [
            {
                "level": level,
                "key": key,
                "step": step.name,
                "name": name,
                "value": values[name],
                "who": who(),
                "at": now(),
                "revision": transaction.revision,
            }
            for key in part
            for name in names
            if name in values
        ]
        if rows:
            transaction.execute(p.insert(), rows)


def encode_json(value: Any) -> Any:
    """A choice as JSON keeps it."""
    return encode(value) if not isinstance(value, dict | list | tuple) else value
