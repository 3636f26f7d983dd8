"""What a file, the metadata beside it and the user say of an exposure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focusnb.errors import FormatError, ParameterError
from focusnb.io import epu, mdoc
from focusnb.io.movies import open_movie
from focusnb.project import facts as fact_rules
from focusnb.quantities import Acquisition


@dataclass
class ImportReport:
    """What an import did: ids of exposures added and updated, files known already, and what is to be told."""

    added: list[int] = field(default_factory=list)
    updated: list[int] = field(default_factory=list)
    known: int = 0
    _told: dict[str, list[str]] = field(default_factory=dict)

    def tell(self, message: str, *, about: str = "") -> None:
        """Keep a sentence once, with the files or exposures it is about."""
        names = self._told.setdefault(message, [])
        if about and about not in names:
            names.append(about)

    @property
    def messages(self) -> list[str]:
        """Sentences for the user; one that is about many files names the first and counts the others."""
        return [self._sentence(message, names) for message, names in self._told.items()]

    @staticmethod
    def _sentence(message: str, names: list[str]) -> str:
        if not names:
            return message
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        return f"{names[0]}{others}: {message}"


def gather_facts(
    path: Path, given: Mapping[str, Any], report: ImportReport, *, keep: Callable[[Path, str], str]
) -> tuple[fact_rules.Candidates, tuple[int, int] | None]:
    """Gather what a file, the metadata beside it and the user say of an exposure; returns it with the frame's shape.

    given : validated facts of the user's
    keep : takes a reference that the metadata name, with its label, and returns the fact it becomes
    What cannot be read, or is no valid fact, is told in the report; the shape (y, x) is then None.
    """
    candidates = fact_rules.add_origin({}, "default", fact_rules.DEFAULTS)
    shape = None
    try:
        with open_movie(path) as movie:
            candidates = fact_rules.add_origin(candidates, "header", _valid(path, movie.header_facts, report))
            shape = (movie.shape[1], movie.shape[2])
    except FormatError as error:
        report.tell(f"{sentence(error)} It is imported all the same, and its row will say so.")
    metadata = metadata_file(path)
    if metadata is not None:
        try:
            said = _metadata_facts(metadata, path.name, shape)
            if "hardware_frames" in candidates:
                # metadata count the frames of the hardware, the facts those they are added up to
                said = {name: value for name, value in said.items() if name not in ("frame_count", "dose_per_frame")}
            if str(said.get("dose_origin", "")).startswith(("DoseRate", "MinMaxMean")):
                report.tell(
                    f"{metadata.parent}: doses are taken from {said['dose_origin']}, measured at the camera behind the "
                    "specimen; give --set exposure_dose=... where you know better"
                )
            values = _valid(metadata, said, report) | _named_references(path, said, given, keep)
        except FormatError as error:
            report.tell(f"{sentence(error)} Its facts were not used.")
        else:
            candidates = fact_rules.add_origin(candidates, "metadata", values)
    return fact_rules.add_origin(candidates, "set", given), shape


def _metadata_facts(metadata: Path, movie_name: str, shape: tuple[int, int] | None) -> dict[str, Any]:
    if metadata.suffix.lower() == ".xml":
        return dict(epu.read(metadata).facts(frame_shape=shape))
    document = mdoc.read(metadata)
    section = document.find(movie_name) or document.exposure
    if section is None:
        raise FormatError(f"{metadata}: says nothing of {movie_name}; was it written for another file?")
    return dict(mdoc.exposure_facts(document, section, frame_shape=shape))


def _named_references(
    path: Path, said: Mapping[str, Any], given: Mapping[str, Any], keep: Callable[[Path, str], str]
) -> dict[str, str]:
    """Gain reference and defects that the metadata name and that lie beside the movie; given ones are stronger."""
    found: dict[str, str] = {}
    for name, label in (("gain_reference", "gain reference"), ("defects", "defects file")):
        beside = path.parent / Path(str(said[name])).name if said.get(name) else None
        if name not in given and beside is not None and beside.is_file():
            found[name] = keep(beside, label)
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


def metadata_file(path: Path) -> Path | None:
    """The mdoc or XML beside a file."""
    stem = re.sub(r"_(fractions|EER)$", "", path.with_suffix("").name, flags=re.IGNORECASE)
    names = (f"{path.name}.mdoc", f"{path.stem}.mdoc", f"{stem}.mdoc", f"{path.stem}.xml", f"{stem}.xml")
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def sentence(error: Exception) -> str:
    text = str(error)
    return text if text.endswith((".", "?", "!")) else f"{text}."
