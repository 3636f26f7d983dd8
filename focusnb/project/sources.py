"""What a project watches: folders of cameras, remembered in ``sources.json`` in the project's folder.

A file of its own, so that it can be changed by anybody while the project is served, survives a library that is made
again, and can be read by people.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import model_validator

from focusnb.errors import ParameterError, ProjectError
from focusnb.io import files
from focusnb.io.folders import make_filter
from focusnb.parameters import Declared, quantity
from focusnb.project import facts as fact_rules
from focusnb.project.pairing import Pairing
from focusnb.quantities import ExposureKind

if TYPE_CHECKING:
    from focusnb.project.project import Project

FILE_NAME = "sources.json"

RESERVE_SHARE, RESERVE_BYTES = 0.02, 5_000_000_000
"""Of a project's disk this much is kept free, whichever is more."""

_Texts = tuple[str, ...]


class ImportSource(Declared):
    """One place that exposures come from, and how they are imported."""

    name: Annotated[str, quantity("Name", help="What the source is called in this project.")] = ""
    folders: Annotated[_Texts, quantity("Folders", help="Watched with all that is in them.")]
    patterns: Annotated[
        _Texts, quantity("Patterns", help="Shell patterns of names; of paths where they hold a /. Default: by suffix.")
    ] = ()
    ignore: Annotated[
        _Texts, quantity("Ignore", help="Texts or shell patterns in names of files and folders; case does not matter.")
    ] = ()
    group: Annotated[str, quantity("Group", help="Of the exposures. Default: the name of their folder.")] | None = None
    pair: Annotated[
        _Texts, quantity("Pairing", help="ROLE=_end or ROLE=folder/, ROLE being movie, aligned or average.")
    ] = ()
    alone: Annotated[bool, quantity("Each file alone", help="Every file is an exposure; nothing is paired.")] = False
    delay: (
        Annotated[
            float,
            quantity("Delay", unit="s", ge=0, le=84600, help="A file must be still so long. Default: by its format."),
        ]
        | None
    ) = None
    link: Annotated[bool, quantity("Link", help="Link to the files instead of copying them.")] = False
    delete_source: Annotated[
        bool, quantity("Delete source", help="Delete a file some minutes after its copy was read back and compared.")
    ] = False
    kind: ExposureKind | None = None
    facts: Annotated[dict[str, Any], quantity("Facts", help="Of all exposures, as --set gives them.")] = {}  # noqa: RUF012
    gain_reference: Annotated[str, quantity("Gain reference")] | None = None
    defects: Annotated[str, quantity("Defects")] | None = None
    pattern: (
        Annotated[str, quantity("Name pattern", help="Facts in file names: {specimen}_{tilt_angle}_{number}.")] | None
    ) = None
    microscope: Annotated[str, quantity("Microscope", help="A profile of 'focusnb microscope list'.")] | None = None
    newest_first: Annotated[
        bool, quantity("Newest first", help="What is imported is processed before all that waits.")
    ] = False
    during: Annotated[
        _Texts, quantity("Steps during import", help="Run one exposure after the other, before anything else.")
    ] = ()
    process: Annotated[
        bool, quantity("Process", help="Process what was imported; else it is held until it is released.")
    ] = True
    reserve: (
        Annotated[
            float,
            quantity("Disk reserve", unit="GB", ge=0, help="Import pauses before less is free on the project's disk."),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _fit_together(self) -> ImportSource:
        if not self.folders:
            raise ValueError("a source needs a folder")
        if self.link and self.delete_source:
            raise ValueError("a linked file is needed where it lies: delete_source goes with copies only")
        # each raises ParameterError in its own words
        Pairing(self.pair)
        make_filter(self.patterns, self.ignore)
        return self

    @property
    def reserve_of(self) -> float | None:
        """Bytes to keep free where the user says so."""
        return None if self.reserve is None else 1e9 * self.reserve


def make_source(values: Mapping[str, Any]) -> ImportSource:
    """Validate a source: absolute folders, facts within their limits, a name; ParameterError tells what is wrong."""
    given = {name: value for name, value in values.items() if value is not None}
    folders = tuple(os.path.abspath(os.path.expanduser(str(folder))) for folder in given.get("folders") or ())
    for name in ("gain_reference", "defects"):
        if given.get(name):
            given[name] = os.path.abspath(os.path.expanduser(str(given[name])))
    given |= {"folders": folders, "name": given.get("name") or (Path(folders[0]).name if folders else "")}
    source = ImportSource.make(given)
    fact_rules.check_facts(source.facts)
    if not re.fullmatch(r"[\w\-+][\w.\-+ ]*", source.name):
        raise ParameterError(f"{source.name!r} is no name of a source: use letters, digits and . _ - +")
    return source


def read_sources(folder: Path) -> list[ImportSource]:
    """The sources of the project in a folder. Raises ProjectError for a file that cannot be read."""
    path = folder / FILE_NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ProjectError(f"{path}: cannot be read ({error}); correct or remove it") from error
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ProjectError(f"{path}: is no list of sources; correct or remove it")
    try:
        return [ImportSource.read(item)[0] for item in found]
    except ParameterError as error:
        raise ProjectError(f"{path}: {error}; correct or remove it") from error


def add_source(project: Project, source: ImportSource) -> bool:
    """Remember a source; False where one of this name was replaced by it."""
    with _changing(project) as sources:
        known = [held.name for held in sources]
        if source.name in known:
            sources[known.index(source.name)] = source
            return False
        for held in sources:
            for folder in source.folders:
                if folder in held.folders and held.patterns == source.patterns:
                    raise ParameterError(
                        f"{folder} is watched by source {held.name} already; change that one with its --name, or "
                        "remove it"
                    )
        sources.append(source)
    return True


def remove_source(project: Project, name: str) -> ImportSource:
    """Forget a source; what was imported stays. ParameterError names those there are."""
    with _changing(project) as sources:
        for held in sources:
            if held.name == name:
                sources.remove(held)
                return held
        there = ", ".join(source.name for source in sources) or "none"
        raise ParameterError(f"there is no source {name}; there are {there}")


@contextlib.contextmanager
def _changing(project: Project) -> Iterator[list[ImportSource]]:
    """The sources, written when the block ends well; one at a time changes them."""
    project.library.check_writable()
    lock = os.open(project.folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not lock folders
            fcntl.flock(lock, fcntl.LOCK_EX)
        sources = read_sources(project.folder)
        yield sources
        files.write_json(
            project.folder / FILE_NAME, [source.model_dump(mode="json", exclude_defaults=True) for source in sources]
        )
    finally:
        os.close(lock)
