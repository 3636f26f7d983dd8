"""Commands that give the facts of a session anew: of what is there, and of what a watched source still brings."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from focusnb.project.sources import ImportSource

_LISTED = 4  # folders that a command names; more are named by the one that holds them all

_FLAGS = {"link": "--link", "delete_source": "--delete-source", "alone": "--alone", "newest_first": "--newest-first"}
_VALUES = {
    "kind": "--kind",
    "gain_reference": "--gain",
    "defects": "--defects",
    "pattern": "--pattern",
    "microscope": "--microscope",
    "delay": "--delay",
    "reserve": "--reserve",
}
_REPEATED = {"patterns": "--include", "ignore": "--ignore", "pair": "--pair", "during": "--during"}


def command(
    project: Path, folders: Sequence[Path], source: ImportSource | None, values: Mapping[str, Any], options: str = ""
) -> str:
    """The commands that give facts anew.

    folders : where the exposures came from; source : the one that is watched and brought them, if any; values : facts;
    options : others, as ``--gain FILE``

    A source keeps its other options: without them, what comes just then would be imported without a gain reference.
    Its group is left out where facts change, since whatever was put elsewhere by hand would be moved back.
    """
    if source is None:
        return " ".join(["focusnb import", _paths([project, *folders]), *_facts(values), *[options] * bool(options)])
    given = {**source.facts, **values}
    replaced = set(options.split()[:1])
    if "gain_reference" in values:
        replaced.add("--gain")
    kept = [*_options(source, replaced), *[options] * bool(options)]
    places = _paths([project, *source.folders])
    group = [] if source.group is None else [f"--group {shlex.quote(source.group)}"]
    now = " ".join(["focusnb import", places, *kept, *_facts(given)])
    # a reference that is taken back is not asked for any more
    later = _facts({name: value for name, value in given.items() if value != ""})
    name = f"--name {shlex.quote(source.name)}"
    return f"{now} (and for what still comes: {' '.join(['focusnb source add', places, name, *group, *kept, *later])})"


def common(folders: Iterable[str]) -> list[Path]:
    """The folders to name in a command, in their order; the one that holds all where they are many."""
    each = list(dict.fromkeys(folders))
    if len(each) > _LISTED:
        return [Path(os.path.commonpath(each))]
    return [Path(folder) for folder in each]


def _options(source: ImportSource, replaced: set[str]) -> list[str]:
    told = [flag for name, flag in _FLAGS.items() if getattr(source, name)]
    told += [] if source.process else ["--no-processing"]
    for name, option in _VALUES.items():
        value = getattr(source, name)
        if value is not None and option not in replaced:
            told.append(f"{option} {shlex.quote(f'{value:g}' if isinstance(value, float) else str(value))}")
    for name, option in _REPEATED.items():
        told += [f"{option} {shlex.quote(text)}" for text in getattr(source, name)]
    return told


def _facts(values: Mapping[str, Any]) -> list[str]:
    return [f"--set {shlex.quote(f'{name}={_text(value)}')}" for name, value in values.items() if value is not None]


def _paths(paths: Iterable[Path | str]) -> str:
    return " ".join(shlex.quote(str(path)) for path in paths)


def _text(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
