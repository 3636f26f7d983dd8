"""How files are imported: what the user says of them, checked, with references copied into the project."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focusnb.errors import FormatError, ParameterError
from focusnb.io import files, gain
from focusnb.io.names import Pattern
from focusnb.project import facts as fact_rules
from focusnb.project import profiles
from focusnb.project.gathering import ImportReport, sentence
from focusnb.quantities import IMPORTED

if TYPE_CHECKING:
    from focusnb.project.project import Project

_KINDS = ("movie", "image")

REFERENCES = "references"
"""Folder of gain references and defects within a project."""


@dataclass(frozen=True)
class Queueing:
    """How what is imported is queued, together with its row.

    chain : gives the steps in their order for the kind of an exposure
    held : it is kept back until somebody releases it
    first : before everything that waits
    during : steps that the importing process runs before it lets the others go
    """

    chain: Callable[[str], tuple[str, ...]]
    held: bool = False
    first: bool = False
    during: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """How files are imported: the user's facts, checked, with references as the project keeps them.

    gain_shapes : sizes (y, x) of gain references that were looked at, by their place in the project
    references : resolved paths that are no recordings
    """

    facts: Mapping[str, Any]
    group: str | None = None
    link: bool = False
    delete_source: bool = False
    gain_shapes: Mapping[str, tuple[int, int] | None] = field(default_factory=dict)
    pattern: Pattern | None = None
    profile: profiles.Profile | None = None
    references: frozenset[Path] = frozenset()
    queueing: Queueing | None = None


def make_options(
    project: Project,
    report: ImportReport,
    *,
    kind: str | None = None,
    gain_reference: str | Path | None = None,
    defects: str | Path | None = None,
    facts: Mapping[str, Any] | None = None,
    group: str | None = None,
    link: bool = False,
    delete_source: bool = False,
    pattern: str | None = None,
    microscope: str | None = None,
    queueing: Queueing | None = None,
) -> Options:
    """Check how files are to be imported; references are copied into the project.

    kind : movie or image; by default a file of several frames is a movie
    gain_reference, defects : files for all of them, copied into the project
    facts : values of :class:`Acquisition` by name, as text or numbers
    group : the group of the exposures; by default the name of the folder each comes from
    link : link to the raw files instead of copying them
    delete_source : delete a recording some time after its copy was read back and compared, see
        :class:`focusnb.project.deleting.Deletion`; an import waits for that at its end; never a folder, never with link
    pattern : what their names tell, with fields: ``{specimen}_{tilt_angle}_{number}``
    microscope : name of the profile of the microscope that recorded them
    queueing : how they are queued; by default whoever processes the project finds them
    """
    project.library.check_writable()
    if kind is not None and kind not in _KINDS:
        raise ParameterError(f"kind is {' or '.join(_KINDS)}, not {kind}")
    if link and delete_source:
        raise ParameterError("a linked file is needed where it lies: sources are deleted after copying only")
    given = checked_facts(project, facts or {})
    references: dict[str, Any] = {}
    shapes: dict[str, tuple[int, int] | None] = {}
    if gain_reference is not None:
        references["gain_reference"] = copy_reference(project, Path(gain_reference), "gain reference")
        shapes[references["gain_reference"]] = gain_shape(Path(gain_reference), report)
    if defects is not None:
        references["defects"] = copy_reference(project, Path(defects), "defects file")
    if kind is not None:
        given["kind"] = kind
    profile = None
    if microscope is not None:
        profile = profiles.read_profile(microscope)
        looked_at = profile.gain_reference
        profile = profile.with_references(lambda path, label: copy_reference(project, path, label))
        if looked_at is not None and "gain_reference" not in references:
            shapes[str(profile.gain_reference)] = gain_shape(looked_at, report)
    return Options(
        facts={**given, **references},
        group=group,
        link=link,
        delete_source=delete_source,
        gain_shapes=shapes,
        pattern=None if pattern is None else Pattern(pattern),
        profile=profile,
        references=frozenset(Path(path).resolve() for path in (gain_reference, defects) if path is not None),
        queueing=queueing,
    )


def checked_facts(project: Project, values: Mapping[str, Any]) -> dict[str, Any]:
    """Validate facts; references named among them are copied into the project."""
    own = [name for name in IMPORTED if name in values]
    if own:
        raise ParameterError(f"{own[0]} is the file that is imported; it cannot be set")
    checked = fact_rules.check_facts(values)
    for name, label in (("gain_reference", "gain reference"), ("defects", "defects file")):
        value = checked.get(name)
        own_copy = str(value).startswith(f"{REFERENCES}/") and (project.folder / str(value)).is_file()
        if value is not None and not own_copy:
            checked[name] = copy_reference(project, Path(value), label)
    return checked


def copy_reference(project: Project, path: Path, label: str) -> str:
    """Copy a reference into a folder named by its content, under its own name; returns its path in the project.

    Copied again under another name, it is the first copy that is used: the content decides.
    """
    if not path.is_file():
        raise ParameterError(f"{path}: the {label} does not exist; check the path")
    folder = project.folder / REFERENCES / files.hash_file(path)[:16]
    present = [held for held in folder.glob("*") if not held.name.startswith(".")]
    if present:
        return str(present[0].relative_to(project.folder))
    folder.mkdir(parents=True, exist_ok=True)
    files.copy_verified(path, folder / path.name)
    return str((folder / path.name).relative_to(project.folder))


def gain_shape(path: Path, report: ImportReport) -> tuple[int, int] | None:
    """The size (y, x) of a gain reference as it is read; None, and told, for one that cannot be used."""
    try:
        shape = gain.read_gain(path).shape
    except FormatError as error:
        report.tell(f"{sentence(error)} Movies are imported with it; give a good one and import again.")
        return None
    return int(shape[0]), int(shape[1])
