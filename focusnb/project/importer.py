"""Import: from a camera's folder to exposures with their raw files and facts."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.errors import FormatError, ParameterError
from focusnb.io import files, gain
from focusnb.project import facts as fact_rules
from focusnb.project import records, schema, storing
from focusnb.project.gathering import ImportReport, gather_facts, metadata_file, sentence
from focusnb.project.library import now

if TYPE_CHECKING:
    from focusnb.project.project import Project

SUFFIXES = (".tif", ".tiff", ".mrc", ".mrcs", ".eer")
"""What is looked for in a folder; files named one by one may have any suffix."""

_REFERENCE_NAME = re.compile(r"(^|[_.\- ])(gain|gainref|countref|superref|dark|defects?)([_.\- ]|$)", re.IGNORECASE)
_KINDS = ("movie", "image")

_BESIDE = (".mdoc", ".xml", ".txt", ".json", ".log")
"""What lies beside recordings and is none."""

REFERENCES = "references"
"""Folder of gain references and defects within a project."""


@dataclass(frozen=True)
class _Imported:
    id: int
    name: str
    content: str


@dataclass(frozen=True)
class _Options:
    facts: Mapping[str, Any]
    group: str | None
    link: bool
    gain_shape: tuple[int, int] | None


def add(
    project: Project,
    paths: list[Path],
    *,
    kind: str | None = None,
    gain_reference: str | Path | None = None,
    defects: str | Path | None = None,
    facts: Mapping[str, Any] | None = None,
    group: str | None = None,
    link: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> ImportReport:
    """Import files, or what folders hold, as exposures.

    kind : movie or image; by default a file of several frames is a movie
    gain_reference, defects : files for all of them, copied into the project
    facts : values of :class:`Acquisition` by name, as text or numbers
    group : the group of the exposures; by default the name of the folder each comes from
    link : link to the raw files instead of copying them
    progress : called with files done, files in all and the name of the present one

    A file imported before is not imported again; where facts, gain or defects are given it gets them, and what depends
    on them becomes stale. Files that cannot be read become exposures as well: processing them tells the reason in
    their row; one that cannot be copied is left out and told. Raises ParameterError for facts that are not valid and
    for paths that do not exist, ProjectError where the project cannot be written.
    """
    project.library.check_writable()
    if kind is not None and kind not in _KINDS:
        raise ParameterError(f"kind is {' or '.join(_KINDS)}, not {kind}")
    given = checked_facts(project, facts or {})
    report = ImportReport()
    references: dict[str, Any] = {}
    shape = None
    if gain_reference is not None:
        references["gain_reference"] = copy_reference(project, Path(gain_reference), "gain reference")
        shape = _gain_shape(Path(gain_reference), report)
    if defects is not None:
        references["defects"] = copy_reference(project, Path(defects), "defects file")
    if kind is not None:
        given["kind"] = kind
    options = _Options({**given, **references}, group, link, shape)
    not_movies = {Path(p).resolve() for p in (gain_reference, defects) if p is not None}
    found = list(_find(paths, not_movies, report))
    known, contents = _known(project)
    for number, path in enumerate(found):
        if progress is not None:
            progress(number, len(found), path.name)
        source = str(path.resolve())
        if source in known:
            _update(project, known[source], options, report)
            continue
        try:
            exposure = _import_alone(project, path, options, report)
        except FormatError as error:
            report.tell(f"{sentence(error)} It was left out.")
            continue
        if exposure is None:
            report.known += 1
            continue
        report.added.append(exposure.id)
        known[source] = exposure.id
        twin = contents.setdefault(exposure.content, exposure.name)
        if twin != exposure.name:
            report.tell(f"has the same content as {twin}; imported all the same", about=str(path))
    if progress is not None:
        progress(len(found), len(found), "")
    return report


def _find(paths: list[Path], left_out: set[Path], report: ImportReport) -> Iterator[Path]:
    beside = 0
    for path in paths:
        if path.is_dir():
            skipped = 0
            for inner in sorted(path.rglob("*")):
                hidden = any(part.startswith(".") for part in inner.relative_to(path).parts)
                if hidden or inner.suffix.lower() not in SUFFIXES or not inner.is_file():
                    continue
                if inner.resolve() in left_out or _REFERENCE_NAME.search(inner.stem):
                    skipped += inner.resolve() not in left_out
                    continue
                yield inner
            if skipped:
                report.tell(f"{path}: {skipped} files named like gain, dark or defects were not imported as exposures")
        elif not path.is_file():
            raise ParameterError(f"{path}: does not exist; check the path")
        elif path.resolve() in left_out or path.suffix.lower() in _BESIDE:
            beside += 1
        else:
            yield path
    if beside:
        report.tell(f"{beside} of the files named are references or metadata and were not imported as exposures")


def _known(project: Project) -> tuple[dict[str, int], dict[str, str]]:
    """Ids by the file they came from, and names by content."""
    e = schema.exposures.c
    with project.library.read() as connection:
        rows = connection.execute(sa.select(e.source, e.id, e.content, e.exposure)).all()
    return {row.source: row.id for row in rows}, {row.content: row.exposure for row in rows}


def checked_facts(project: Project, values: Mapping[str, Any]) -> dict[str, Any]:
    """Validate facts; references named among them are copied into the project."""
    own = [name for name in ("movie", "image", "metadata") if name in values]
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


def _gain_shape(path: Path, report: ImportReport) -> tuple[int, int] | None:
    try:
        shape = gain.read_gain(path).shape
    except FormatError as error:
        report.tell(f"{sentence(error)} Movies are imported with it; give a good one and import again.")
        return None
    return int(shape[0]), int(shape[1])


def _import_alone(project: Project, path: Path, options: _Options, report: ImportReport) -> _Imported | None:
    """Import a file while no other process chooses and fills a folder; None where one was faster with this file."""
    try:
        str(path.resolve()).encode()
    except UnicodeEncodeError:
        raise FormatError(f"{str(path)!r}: its name is not UTF-8; rename it and import it again.") from None
    e = schema.exposures.c
    lock = os.open(project.folder / "exposures", os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems do not lock folders
            fcntl.flock(lock, fcntl.LOCK_EX)
        with project.library.read() as connection:
            if connection.execute(sa.select(e.id).where(e.source == str(path.resolve()))).first() is not None:
                return None
        return _import(project, path, options, report)
    finally:
        os.close(lock)


def _import(project: Project, path: Path, options: _Options, report: ImportReport) -> _Imported:
    candidates, frame_shape = gather_facts(
        path, options.facts, report, keep=lambda named, label: copy_reference(project, named, label)
    )
    if "kind" not in options.facts:
        # a file that cannot be read is taken for a movie: most are, and processing tells what is wrong with it
        frames = candidates.get("frame_count", {}).get("header", 2)
        candidates["kind"] = {"header": "movie" if frames > 1 else "image"}
    kind = str(fact_rules.resolve(candidates)["kind"][0])
    if "hardware_frames" not in candidates:
        # the gain of an EER movie is brought to its grid, and is square as its camera is
        _check_gain(path, frame_shape, options, report)
    group = options.group or path.absolute().parent.name or "import"
    folder, name = _free_folder(project, group, _stem(path), path)
    raw = _empty_folder(project.folder / folder / "raw")
    try:
        content = _place(path, raw / path.name, link=options.link)
        candidates[kind] = {"header": f"raw/{path.name}"}
        metadata = metadata_file(path)
        if metadata is not None:
            files.copy_verified(metadata, raw / metadata.name)
            candidates["metadata"] = {"header": f"raw/{metadata.name}"}
    except BaseException:
        shutil.rmtree(raw.parent, ignore_errors=True)
        raise
    _tell_disagreements(candidates, name, report)
    with project.library.write() as transaction:
        row = {
            "exposure": name,
            "group": group,
            "status": "new",
            "folder": folder,
            "source": str(path.resolve()),
            "content": content,
            "imported_at": now(),
            "facts": candidates,
            "current": {},
            "revision": transaction.revision,
        }
        identity = int(transaction.execute(schema.exposures.insert().values(**row)).inserted_primary_key[0])
        transaction.update_exposure(identity, fact_rules.columns(candidates))
        storing.write_record(project, transaction, identity)
    return _Imported(identity, name, content)


def _tell_disagreements(candidates: fact_rules.Candidates, exposure: str, report: ImportReport) -> None:
    for message in fact_rules.disagreements(candidates):
        report.tell(message, about=exposure)


def _empty_folder(folder: Path) -> Path:
    """The folder of raw files of an exposure to be; what an interrupted import left there is removed."""
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _place(source: Path, target: Path, *, link: bool) -> str:
    if not link:
        return files.copy_verified(source, target)
    target.symlink_to(source.resolve())
    return files.hash_file(source)


def _stem(path: Path) -> str:
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return _as_name(name)


def _as_name(text: str) -> str:
    """A text as the name of a folder: never hidden, never a path."""
    return re.sub(r"[^\w.\-+]", "_", text).lstrip(".") or "exposure"


def _free_folder(project: Project, group: str, stem: str, source: Path) -> tuple[str, str]:
    """A folder that no exposure has; one left by an interrupted import is used again."""
    e = schema.exposures.c
    folder_name = _as_name(group)
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}_{number}"
        folder = f"exposures/{folder_name}/{name}"
        with project.library.read() as connection:
            taken = connection.execute(sa.select(e.id).where(e.folder == folder)).first() is not None
        if not taken and _may_be_used(project.folder / folder, source):
            return folder, name
        number += 1


def _may_be_used(folder: Path, source: Path) -> bool:
    """Whether a folder that no exposure owns holds nothing but what an interrupted import left, or this very file.

    What a library was rebuilt without is not overwritten by another file of the same name.
    """
    try:
        record = json.loads((folder / records.FILE_NAME).read_text())
        return bool(record["content"] == files.hash_file(source))
    except (OSError, ValueError, TypeError, KeyError):
        return not folder.exists() or all(path.name == "raw" or files.is_left_over(path) for path in folder.iterdir())


def _check_gain(path: Path, frame_shape: tuple[int, int] | None, options: _Options, report: ImportReport) -> None:
    if frame_shape is None or options.gain_shape is None:
        return
    turned = int(options.facts.get("gain_rotation") or 0) % 2 == 1
    shape = options.gain_shape[::-1] if turned else options.gain_shape
    if shape != frame_shape:
        report.tell(
            f"the frames are {frame_shape[1]}×{frame_shape[0]} px and the gain reference is "
            f"{shape[1]}×{shape[0]} px; give the right gain reference or its rotation and import again",
            about=path.name,
        )


def _update(project: Project, identity: int, options: _Options, report: ImportReport) -> None:
    """Give an exposure imported before the facts of this call."""
    if options.group is not None:
        project.move([identity], options.group)
    if not set_origin(project, [identity], "set", options.facts, report):
        report.known += 1
        return
    report.updated.append(identity)


def set_origin(
    project: Project, exposures: Iterable[int], origin: str, values: Mapping[str, Any], report: ImportReport
) -> int:
    """Write what an origin says of facts; None takes back what it said. Returns how many exposures changed."""
    changed = 0
    with project.library.write() as transaction:
        for identity in exposures:
            row = records.row_of(transaction.connection, identity)
            candidates = _with_kind(fact_rules.add_origin(row["facts"], origin, values))
            if candidates == row["facts"]:
                continue
            changed += 1
            missing = dict.fromkeys(row["facts"].keys() - candidates.keys())
            transaction.update_exposure(identity, {"facts": candidates, **missing, **fact_rules.columns(candidates)})
            storing.write_record(project, transaction, identity)
            _tell_disagreements(candidates, row["exposure"], report)
    return changed


def _with_kind(candidates: fact_rules.Candidates) -> fact_rules.Candidates:
    """The raw file under the name of the exposure's kind, where that was changed."""
    kind = str(fact_rules.resolve(candidates)["kind"][0])
    other = "image" if kind == "movie" else "movie"
    if kind in candidates or other not in candidates:
        return candidates
    return {kind: candidates[other], **{name: origins for name, origins in candidates.items() if name != other}}
