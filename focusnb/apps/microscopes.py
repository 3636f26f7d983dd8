"""Which microscopes a page shows, as its launcher tells its kernels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from focusnb.apps.settings import MICROSCOPES_VARIABLE
from focusnb.errors import FormatError, ParameterError
from focusnb.monitoring.microscopes import Microscope, fetch_from, read_microscopes
from focusnb.monitoring.settings import read_publishing
from focusnb.monitoring.snapshot import STATUS_NAME, read_snapshot
from focusnb.project.project import read_settings

SETTINGS_NAME = "project.json"


def find_microscopes(sources: Sequence[str | os.PathLike[str]]) -> list[Microscope]:
    """The microscopes that sources name: TOML files, folders of projects, or where sessions are published.

    A project is called what its owner shows of it, never by its own name unless that is shown. Raises ParameterError
    for what is none of these.
    """
    found = [microscope for source in sources for microscope in _of(os.fspath(source))]
    if not found:
        raise ParameterError("no microscope is named; give a TOML file of microscopes, or the folder of a project")
    return _told_apart(found)


def _of(source: str) -> list[Microscope]:
    path = Path(source).expanduser()
    if "://" in source:
        return [Microscope(_published_name(source), published=source)]
    if path.is_dir():
        path = path.resolve()
        if (path / SETTINGS_NAME).is_file():
            return [Microscope(_project_name(path), project=path)]
        if (path / STATUS_NAME).is_file():
            return [Microscope(_published_name(str(path)), published=str(path))]
        raise ParameterError(
            f"{path}: holds neither a project nor a published session; name another folder, or a TOML file"
        )
    return [_from_here(microscope, path.resolve().parent) for microscope in read_microscopes(path)]


def _from_here(microscope: Microscope, folder: Path) -> Microscope:
    """The same, with folders named from the root: a page's kernels work elsewhere."""
    published, project = microscope.published, microscope.project
    if published is not None and "://" not in published and not published.startswith("rsync:"):
        published = str((folder / Path(published).expanduser()).absolute())
    return replace(microscope, project=None if project is None else (folder / project).absolute(), published=published)


def _project_name(folder: Path) -> str:
    settings, _ = read_publishing(folder)
    own = str(read_settings(folder)["name"]) if settings.names else ""
    return settings.title or settings.microscope or own


def _published_name(address: str) -> str:
    try:
        status: Mapping[str, object] = read_snapshot(fetch_from(address), files=False).status
    except (OSError, FormatError):
        return ""  # shown as what cannot be reached
    return str(status.get("title") or status.get("microscope") or "")


def _told_apart(found: Sequence[Microscope]) -> list[Microscope]:
    """Each with a name of its own."""
    names: list[str] = []
    for microscope in found:
        wanted, number = microscope.name or "Microscope", 2
        name = wanted
        while name in names:
            name, number = f"{wanted} {number}", number + 1
        names.append(name)
    return [replace(microscope, name=name) for microscope, name in zip(found, names, strict=True)]


def to_environment(microscopes: Sequence[Microscope]) -> dict[str, str]:
    """What the kernels of a page are told, as an environment variable: never in the address, which anybody may edit."""
    told = [[m.name, None if m.project is None else str(m.project), m.published] for m in microscopes]
    return {MICROSCOPES_VARIABLE: json.dumps(told)}


def named_microscopes() -> list[Microscope]:
    """The microscopes this page was started for; ParameterError where it was started by hand without any."""
    told = os.environ.get(MICROSCOPES_VARIABLE, "")
    if not told:
        raise ParameterError(
            "no microscope is named for this page; start it with 'focusnb monitor CONFIG', or set "
            f"{MICROSCOPES_VARIABLE}"
        )
    return [Microscope(name, None if p is None else Path(p), published) for name, p, published in json.loads(told)]
