"""Import: from a camera's folder to exposures with their raw files and facts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.errors import FormatError, ParameterError
from focusnb.io import epu, files, gain, mdoc
from focusnb.io.movies import open_movie
from focusnb.project import facts as fact_rules
from focusnb.project import records, schema, storing
from focusnb.project.library import now
from focusnb.quantities import Acquisition

if TYPE_CHECKING:
    from focusnb.project.project import Project

SUFFIXES = (".tif", ".tiff", ".mrc", ".mrcs", ".eer")
"""What is looked for in a folder; files named one by one may have any suffix."""

_REFERENCE_NAME = re.compile(r"(^|[_.\- ])(gain|gainref|countref|superref|dark|defects?)([_.\- ]|$)", re.IGNORECASE)
_KINDS = ("movie", "image")


@dataclass
class ImportReport:
    """What an import did: ids of exposures added and updated, files left alone, and sentences for the user."""

    added: list[int] = field(default_factory=list)
    updated: list[int] = field(default_factory=list)
    known: int = 0
    messages: list[str] = field(default_factory=list)

    def tell(self, message: str) -> None:
        """Keep a sentence once."""
        if message not in self.messages:
            self.messages.append(message)


@dataclass(frozen=True)
class _Options:
    kind: str | None
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
    their row. Raises ParameterError for facts that are not valid and for paths that do not exist.
    """
    if kind is not None and kind not in _KINDS:
        raise ParameterError(f"kind is {' or '.join(_KINDS)}, not {kind}")
    given = fact_rules.check_facts(dict(facts or {}))
    report = ImportReport()
    references: dict[str, Any] = {}
    shape = None
    if gain_reference is not None:
        references["gain_reference"] = _reference(project, Path(gain_reference), "gain reference")
        shape = _gain_shape(Path(gain_reference), report)
    if defects is not None:
        references["defects"] = _reference(project, Path(defects), "defects file")
    options = _Options(kind, {**given, **references}, group, link, shape)
    not_movies = {Path(p).resolve() for p in (gain_reference, defects) if p is not None}
    found = list(_find(paths, not_movies, report))
    known = _known_sources(project)
    for number, path in enumerate(found):
        if progress is not None:
            progress(number, len(found), path.name)
        source = str(path.resolve())
        if source in known:
            _update(project, known[source], options, report)
        else:
            report.added.append(_import(project, path, options, report))
    if progress is not None:
        progress(len(found), len(found), "")
    return report


def _find(paths: list[Path], left_out: set[Path], report: ImportReport) -> Iterator[Path]:
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
        elif path.is_file():
            yield path
        else:
            raise ParameterError(f"{path}: does not exist; check the path")


def _known_sources(project: Project) -> dict[str, int]:
    e = schema.exposures.c
    with project.library.read() as connection:
        return {row.source: row.id for row in connection.execute(sa.select(e.source, e.id))}


def _reference(project: Project, path: Path, label: str) -> str:
    """Copy a reference into the project under the name of its content; returns its path there."""
    if not path.is_file():
        raise ParameterError(f"{path}: the {label} does not exist; check the path")
    name = files.hash_file(path)[:16] + "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:])
    target = project.folder / "references" / name
    if not target.exists():
        files.copy_verified(path, target)
    return f"references/{name}"


def _gain_shape(path: Path, report: ImportReport) -> tuple[int, int] | None:
    try:
        shape = gain.read_gain(path).shape
    except FormatError as error:
        report.tell(f"{error} Movies are imported with it; give a good one and import again.")
        return None
    return int(shape[0]), int(shape[1])


def _import(project: Project, path: Path, options: _Options, report: ImportReport) -> int:
    candidates, frame_shape = _read_facts(project, path, options, report)
    origin = "set"
    if "kind" not in options.facts and options.kind is None:
        # a file that cannot be read is taken for a movie: most are, and processing tells what is wrong with it
        frames = candidates.get("frame_count", {}).get("header", 2)
        candidates["kind"] = {"header": "movie" if frames > 1 else "image"}
    elif options.kind is not None:
        candidates["kind"] = {origin: options.kind}
    kind = str(fact_rules.resolve(candidates)["kind"][0])
    _check_gain(path, frame_shape, options, candidates, report)
    group = options.group or path.resolve().parent.name or "import"
    folder, name = _free_folder(project, group, _stem(path), str(path.resolve()))
    raw = project.folder / folder / "raw" / path.name
    raw.parent.mkdir(parents=True, exist_ok=True)
    content = _place(path, raw, link=options.link)
    candidates[kind] = {"header": f"raw/{path.name}"}
    metadata = _metadata_file(path)
    if metadata is not None:
        files.copy_verified(metadata, raw.parent / metadata.name)
        candidates["metadata"] = {"header": f"raw/{metadata.name}"}
    resolved = {name: value for name, (value, _) in fact_rules.resolve(candidates).items()}
    for message in fact_rules.disagreements(candidates, name):
        report.tell(message)
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
        transaction.update_exposure(identity, resolved)
        storing.write_record(project, transaction, identity)
    return identity


def _place(source: Path, target: Path, *, link: bool) -> str:
    if not link:
        return files.copy_verified(source, target)
    if target.is_symlink():
        target.unlink()
    target.symlink_to(source.resolve())
    return files.hash_file(source)


def _stem(path: Path) -> str:
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return re.sub(r"[^\w.\-+]", "_", name) or "exposure"


def _free_folder(project: Project, group: str, stem: str, source: str) -> tuple[str, str]:
    """A folder that no exposure has; one left by an interrupted import of the same file is used again."""
    e = schema.exposures.c
    folder_name = re.sub(r"[^\w.\-+]", "_", group)
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}_{number}"
        folder = f"exposures/{folder_name}/{name}"
        with project.library.read() as connection:
            taken = connection.execute(sa.select(e.source).where(e.folder == folder)).scalar()
        if taken is None:
            return folder, name
        number += 1


def _metadata_file(path: Path) -> Path | None:
    """The mdoc or XML beside a file."""
    stem = re.sub(r"_(fractions|EER)$", "", path.with_suffix("").name, flags=re.IGNORECASE)
    names = (f"{path.name}.mdoc", f"{path.stem}.mdoc", f"{stem}.mdoc", f"{path.stem}.xml", f"{stem}.xml")
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _read_facts(
    project: Project, path: Path, options: _Options, report: ImportReport
) -> tuple[fact_rules.Candidates, tuple[int, int] | None]:
    candidates = fact_rules.add_origin({}, "default", fact_rules.DEFAULTS)
    shape = None
    try:
        with open_movie(path) as movie:
            candidates = fact_rules.add_origin(candidates, "header", _valid(path, movie.header_facts, report))
            shape = (movie.shape[1], movie.shape[2])
    except FormatError as error:
        report.tell(f"{error} It is imported all the same, and its row will say so.")
    metadata = _metadata_file(path)
    if metadata is not None:
        try:
            said = _metadata_facts(metadata, path.name, shape)
            if str(said.get("dose_origin", "")).startswith(("DoseRate", "MinMaxMean")):
                report.tell(
                    f"{metadata.parent}: doses are taken from {said['dose_origin']}, measured at the camera behind the "
                    "specimen; give --set exposure_dose=... where you know better"
                )
            values = _valid(metadata, said, report) | _named_references(project, path, said, options)
        except FormatError as error:
            report.tell(f"{error} Its facts were not used.")
        else:
            candidates = fact_rules.add_origin(candidates, "metadata", values)
    return fact_rules.add_origin(candidates, "set", options.facts), shape


def _metadata_facts(metadata: Path, movie_name: str, shape: tuple[int, int] | None) -> dict[str, Any]:
    if metadata.suffix.lower() == ".xml":
        return dict(epu.read(metadata).facts(frame_shape=shape))
    document = mdoc.read(metadata)
    section = document.find(movie_name) or document.exposure
    if section is None:
        raise FormatError(f"{metadata}: says nothing of {movie_name}; was it written for another file?")
    return dict(mdoc.exposure_facts(document, section, frame_shape=shape))


def _named_references(project: Project, path: Path, said: Mapping[str, Any], options: _Options) -> dict[str, str]:
    """Gain reference and defects that the metadata name and that lie beside the movie; given ones are stronger."""
    found: dict[str, str] = {}
    for name, label in (("gain_reference", "gain reference"), ("defects", "defects file")):
        beside = path.with_name(str(said.get(name) or "")) if said.get(name) else None
        if name not in options.facts and beside is not None and beside.is_file():
            found[name] = _reference(project, beside, label)
    return found


def _valid(path: Path, values: Mapping[str, Any], report: ImportReport) -> dict[str, Any]:
    """Facts that are facts here and within their limits; the others are told, not lost: the file is kept."""
    kept: dict[str, Any] = {}
    declared = {spec.name for spec in Acquisition.specs() if spec.kind != "file"}
    for name, value in values.items():
        if name not in declared or value is None:
            continue
        try:
            kept |= fact_rules.check_facts({name: value})
        except ParameterError as error:
            report.tell(f"{path}: {error}; not used")
    return kept


def _check_gain(
    path: Path,
    frame_shape: tuple[int, int] | None,
    options: _Options,
    candidates: fact_rules.Candidates,
    report: ImportReport,
) -> None:
    if frame_shape is None or options.gain_shape is None:
        return
    turned = int(candidates.get("gain_rotation", {}).get("set", 0)) % 2 == 1
    shape = options.gain_shape[::-1] if turned else options.gain_shape
    if shape != frame_shape:
        report.tell(
            f"{path.name}: its frames are {frame_shape[1]}×{frame_shape[0]} px and the gain reference is "
            f"{shape[1]}×{shape[0]} px; give the right gain reference or its rotation and import again"
        )


def _update(project: Project, identity: int, options: _Options, report: ImportReport) -> None:
    """Give an exposure imported before the facts of this call."""
    values = dict(options.facts)
    if options.group is not None:
        project.move([identity], options.group)
    if not values:
        report.known += 1
        return
    with project.library.write() as transaction:
        row = records.row_of(transaction.connection, identity)
        candidates = fact_rules.add_origin(row["facts"], "set", values)
        if candidates == row["facts"]:
            report.known += 1
            return
        resolved = {name: value for name, (value, _) in fact_rules.resolve(candidates).items()}
        transaction.update_exposure(identity, {"facts": candidates, **resolved})
        storing.write_record(project, transaction, identity)
    report.updated.append(identity)
