"""Choices of steps on their levels: default < project < group < exposure."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.project import schema
from focusnb.project.library import Library, Transaction, encode, now, who
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
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: is not valid TOML ({error}); correct or remove it") from error


def read_levels(library: Library, step: str) -> dict[tuple[str, str], dict[str, Any]]:
    """All stored choices of a step by (level, key)."""
    p = schema.parameters
    stored: dict[tuple[str, str], dict[str, Any]] = {}
    with library.read() as connection:
        for row in connection.execute(sa.select(p.c.level, p.c.key, p.c.name, p.c.value).where(p.c.step == step)):
            stored.setdefault((row.level, row.key), {})[row.name] = row.value
    return stored


def resolve(
    step: type[Step], stored: Mapping[tuple[str, str], Mapping[str, Any]], *, group: str | None, exposure: int | None
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
    transaction: Transaction, step: type[Step], level: str, key: str, merged: Mapping[str, Any], names: list[str]
) -> None:
    """Store the named choices on a level; ``merged`` was validated as a whole before."""
    p = schema.parameters
    for name in names:
        where = (p.c.level == level) & (p.c.key == key) & (p.c.step == step.name) & (p.c.name == name)
        transaction.execute(p.delete().where(where))
        if merged.get(name) is not None or name in merged:
            transaction.execute(
                p.insert().values(
                    level=level,
                    key=key,
                    step=step.name,
                    name=name,
                    value=encode_json(merged[name]),
                    who=who(),
                    at=now(),
                    revision=transaction.revision,
                )
            )


def encode_json(value: Any) -> Any:
    """A choice as JSON keeps it."""
    return encode(value) if not isinstance(value, dict | list | tuple) else value
