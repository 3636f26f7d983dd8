"""What a file, the metadata beside it and the user say of an exposure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focusnb.errors import FormatError, ParameterError
from focusnb.io import epu, mdoc
from focusnb.io.movies import open_movie
from focusnb.io.names import Mismatch, Pattern, Recognised, recognise
from focusnb.project import facts as fact_rules
from focusnb.project.profiles import CAMERAS, Profile
from focusnb.quantities import Acquisition


@dataclass
class ImportReport:
    """What an import did: ids of exposures added and updated, files known already, and what is to be told."""

    added: list[int] = field(default_factory=list)
    updated: list[int] = field(default_factory=list)
    known: int = 0
    _told: dict[str, tuple[str, dict[str, None]]] = field(default_factory=dict)

    def tell(self, message: str, *, about: str = "", topic: str = "") -> None:
        """Keep a sentence once, with the files or exposures it is about.

        topic : sentences of one topic differ in their numbers only; the first is kept for all
        """
        message, about = in_one_line(message), in_one_line(about)
        _, names = self._told.setdefault(topic or message, (message, {}))
        if about:
            names[about] = None

    @property
    def messages(self) -> list[str]:
        """Sentences for the user; one that is about many files names the first and counts the others."""
        return [self._sentence(message, list(names)) for message, names in self._told.values()]

    @staticmethod
    def _sentence(message: str, names: list[str]) -> str:
        if not names:
            return message
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        return f"{names[0]}{others}: {message}"


def gather_facts(
    path: Path,
    given: Mapping[str, Any],
    report: ImportReport,
    *,
    keep: Callable[[Path, str], str],
    pattern: Pattern | None = None,
    profile: Profile | None = None,
    roots: Sequence[Path] = (),
    metadata: Path | None = None,
    content: Path | None = None,
) -> tuple[fact_rules.Candidates, tuple[int, int] | None]:
    """Gather what a file, its name, the metadata beside it and the user say of an exposure; with the frame's shape.

    given : validated facts of the user's
    keep : takes a reference that the metadata name, with its label, and returns the fact it becomes
    pattern : what the user says that names tell; stronger than what they tell by themselves
    profile : of the microscope, with references as the project keeps them
    roots : where a session of EPU may have its XML if not beside its movies, see :func:`metadata_file`
    metadata : its mdoc or XML where that is known; else it is looked for
    content : its copy where the file itself is not there any more, or does not answer: of it only the name is used

    What cannot be read, or is no valid fact, is told in the report; the shape (y, x) is then None.
    """
    candidates = fact_rules.add_origin({}, "default", fact_rules.DEFAULTS)
    shape = None
    try:
        with open_movie(content or path) as movie:
            candidates = fact_rules.add_origin(candidates, "header", _valid(path, movie.header_facts, report))
            shape = (movie.shape[1], movie.shape[2])
    except FormatError as error:
        report.tell(f"{sentence(error)} It is imported all the same, and its row will say so.")
    recognised = recognise(path)
    candidates = fact_rules.add_origin(candidates, "name", _name_facts(path, recognised, pattern, report))
    metadata = metadata or metadata_file(path, roots)
    if metadata is not None:
        _tell_of_others(metadata, path, report)
        try:
            said = _metadata_facts(metadata, path.name, shape)
            if "hardware_frames" in candidates:
                # metadata count the frames of the hardware, the facts those they are added up to
                said = {name: value for name, value in said.items() if name not in ("frame_count", "dose_per_frame")}
            if recognised is not None and recognised.software == "Tomo5":
                _leave_out_the_tilt_axis(said, report)
            _tell_of_doses(said, metadata, path, report)
            beside = (path if content is None else metadata).parent
            values = _valid(metadata, said, report) | _named_references(beside, said, given, keep)
        except FormatError as error:
            report.tell(f"{sentence(error)} Its facts were not used.")
        else:
            candidates = fact_rules.add_origin(candidates, "metadata", values)
    candidates = fact_rules.add_origin(candidates, "set", given)
    if profile is not None:
        candidates = fact_rules.add_origin(candidates, "profile", _profile_facts(profile, candidates, report))
    return candidates, shape


def later_facts(
    path: Path,
    candidates: fact_rules.Candidates,
    report: ImportReport,
    pattern: Pattern | None = None,
    profile: Profile | None = None,
) -> dict[str, dict[str, Any]]:
    """What a pattern and a profile, given after the import, say of an exposure: facts by origin.

    What another pattern or profile said before, and these do not, is None: taken back.

    candidates : what is known of it, the user's present facts included
    """
    later: dict[str, dict[str, Any]] = {}
    if pattern is not None:
        later["name"] = _name_facts(path, recognise(path), pattern, report)
    if profile is not None:
        others = fact_rules.add_origin(candidates, "profile", dict.fromkeys(candidates))
        later["profile"] = _profile_facts(profile, others, report)
    return {
        origin: {name: None for name, origins in candidates.items() if origin in origins} | values
        for origin, values in later.items()
    }


def _name_facts(
    path: Path, recognised: Recognised | None, pattern: Pattern | None, report: ImportReport
) -> dict[str, Any]:
    facts = {} if recognised is None else _valid(path, recognised.facts, report)
    if pattern is None:
        return facts
    try:
        reading = pattern.read(path)
    except Mismatch as error:
        told = f"{error.reason}; nothing was read with it"
        report.tell(told, about=path.name, topic=f"pattern {pattern.text}")
        return facts
    if reading.others:
        report.tell(
            f"fits the pattern {pattern.text} in several ways; {in_words(reading.facts)} was read, not "
            f"{in_words(reading.others[0])}; write more of what stands between the fields",
            about=path.name,
            topic=f"pattern {pattern.text} is ambiguous",
        )
    return facts | _valid(path, reading.facts, report)


def in_words(facts: Mapping[str, Any]) -> str:
    """Facts as they are set on a command line."""
    return ", ".join(f"{name}={value}" for name, value in facts.items())


def _profile_facts(profile: Profile, candidates: fact_rules.Candidates, report: ImportReport) -> dict[str, Any]:
    """The facts of a microscope's profile; its pixel size by the magnification, brought to the grid of the frames."""
    candidates = fact_rules.add_origin(candidates, "profile", profile.facts)
    facts = dict(profile.facts)
    told = _super_resolution(candidates) or _grid_by_camera(candidates, profile.camera_pixels)
    grid = told or 1.0
    if "super_resolution" not in candidates and grid > 1:
        facts["super_resolution"] = round(grid)
    if not profile.pixel_sizes:
        return facts
    known = fact_rules.resolve(candidates)
    magnification = known.get("magnification", (None, ""))[0]
    if magnification is None:
        report.tell(
            f"microscope {profile.name} has pixel sizes at the magnifications {profile.magnifications}, and nothing "
            "tells the magnification; give --set magnification=... or --set pixel_size=..."
        )
        return facts
    physical = profile.pixel_size_at(magnification)
    if physical is None:
        report.tell(
            f"microscope {profile.name} has no pixel size at magnification {magnification:,g}, only at "
            f"{profile.magnifications}; give --set pixel_size=..., or 'focusnb microscope set {profile.name} "
            f"pixel_size@{magnification:.12g}=...'"
        )
        return facts
    if told is None and known.get("pixel_size", (None, ""))[1] not in ("hand", "set"):
        _tell_of_the_grid(profile, known, report)
    return facts | {"pixel_size": round(physical / grid, 7)}


def _tell_of_the_grid(profile: Profile, known: Mapping[str, tuple[Any, str]], report: ImportReport) -> None:
    """Say that frames are taken to be of physical pixels, where neither metadata nor the camera tell."""
    if not {"height", "width"} <= known.keys():
        return
    camera = f" of the camera {known['camera'][0]}" if "camera" in known else " of a camera without a name"
    report.tell(
        f"microscope {profile.name} has pixel sizes of the camera's physical pixels, and nothing tells whether frames "
        f"of {known['width'][0]}×{known['height'][0]} px{camera} are of these or finer: they are taken as these; if "
        "that is wrong give --set super_resolution=2, and for good the physical pixels of the camera with 'focusnb "
        f"microscope set {profile.name} camera_pixels=WIDTHxHEIGHT'",
        topic=f"grid of microscope {profile.name}",
    )


def _super_resolution(candidates: fact_rules.Candidates) -> float | None:
    """Recorded pixels along a physical one of the camera, where somebody or the metadata tell."""
    known = fact_rules.resolve(candidates).get("super_resolution")
    return None if known is None else float(known[0])


def _grid_by_camera(candidates: fact_rules.Candidates, physical: tuple[int, int] | None) -> float | None:
    """The same by the size of a known camera, below 1 for binned frames; None for a part of its field.

    physical : pixels (y, x) of the camera where the user told them
    """
    known = fact_rules.resolve(candidates)
    if not {"height", "width"} <= known.keys():
        return None
    if physical is None and "camera" in known:
        physical = next((shape for word, shape in CAMERAS.items() if word in str(known["camera"][0]).lower()), None)
    return None if physical is None else mdoc.grid_ratio((known["height"][0], known["width"][0]), physical)


def _metadata_facts(metadata: Path, movie_name: str, shape: tuple[int, int] | None) -> dict[str, Any]:
    if metadata.suffix.lower() == ".xml":
        return dict(epu.read(metadata).facts(frame_shape=shape))
    document = mdoc.read(metadata)
    section = document.of_movie(movie_name)
    if section is None:
        raise FormatError(f"{metadata}: says nothing of {movie_name}; was it written for another file?")
    return dict(mdoc.exposure_facts(document, section, frame_shape=shape))


def _leave_out_the_tilt_axis(said: dict[str, Any], report: ImportReport) -> None:
    if said.pop("tilt_axis", None) is not None:
        report.tell(
            "the tilt axis in metadata of Tomo5 is not that of the images and is not used; give --set tilt_axis=..."
        )


def _tell_of_doses(said: Mapping[str, Any], metadata: Path, path: Path, report: ImportReport) -> None:
    if str(said.get("dose_origin", "")).startswith(("DoseRate", "MinMaxMean")):
        report.tell(
            f"{metadata.parent}: doses are taken from {said['dose_origin']}, measured at the camera behind the "
            "specimen; give --set exposure_dose=... where you know better"
        )
    whole, behind = said.get("exposure_dose"), said.get("dose_behind_specimen")
    if whole and behind and behind > _MOST_PASSED * whole:
        report.tell(
            f"exposure dose is {whole:.4g} e⁻/Å² by the metadata, and their dose rate makes {behind:.4g} e⁻/Å² at the "
            f"camera, where no more can arrive; {whole:.4g} is used; if that is wrong, give --set exposure_dose=...",
            about=path.name,
            topic="dose rate",
        )


_MOST_PASSED = 1.1
"""Part of the electrons that may arrive behind a specimen: all of them, and what the rate is wrong by."""


def _named_references(
    folder: Path, said: Mapping[str, Any], given: Mapping[str, Any], keep: Callable[[Path, str], str]
) -> dict[str, str]:
    """Gain reference and defects that the metadata name and that lie in the movie's folder; given ones are stronger."""
    found: dict[str, str] = {}
    for name, label in (("gain_reference", "gain reference"), ("defects", "defects file")):
        beside = folder / Path(str(said[name])).name if said.get(name) else None
        if name not in given and beside is not None and os.path.isfile(beside):
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


def metadata_file(path: Path, roots: Sequence[Path] = (), *, beside: bool = True) -> Path | None:
    """The mdoc or XML of a file: beside it; of its tilt series, also in the folder above; in another tree of EPU.

    roots : folders in which a session of EPU may lie once more: it can write movies to another disk than their XML,
        each in the same folders below
    beside : whether it is looked for beside the file as well; not so where its own folder does not answer

    A second XML of EPU, named as the movie is with _Fractions, tells of the file and not of the exposure.
    """
    stem = _bare(path)
    found = next(filter(os.path.isfile, _own_metadata(path)), None) if beside else None
    recognised = None if found is not None else recognise(path)
    if recognised is None:
        return found
    others: list[Path] = []
    if {"series", "tilt_angle"} <= recognised.facts.keys():
        series = recognised.facts["series"]
        folders = (path.parent, path.absolute().parent.parent) if beside else ()
        others = [folder / f"{series}{ending}" for folder in folders for ending in _SERIES_ENDINGS]
    elif recognised.software == "EPU":
        parts = path.parent.parts
        disc = next((number for number, part in enumerate(parts) if part.startswith("Images-Disc")), len(parts))
        # with the session's folder and without, for either may have been given
        below = [Path(*parts[first:]) for first in (disc - 1, disc) if 0 < first < len(parts)]
        others = [root / folder / f"{stem}.xml" for root in roots for folder in below]
    return next(filter(os.path.isfile, others), None)


def _own_metadata(path: Path) -> list[Path]:
    """Where metadata of a file's own may lie beside it, the likeliest first."""
    stem = _bare(path)
    names = dict.fromkeys((f"{path.name}.mdoc", f"{path.stem}.mdoc", f"{stem}.mdoc", f"{stem}.xml"))
    return [path.with_name(name) for name in names]


def _bare(path: Path) -> str:
    return re.sub(r"_(fractions|EER)$", "", path.with_suffix("").name, flags=re.IGNORECASE)


def _tell_of_others(metadata: Path, path: Path, report: ImportReport) -> None:
    """Say where several files may be the metadata of one recording: they may contradict each other."""
    own = _own_metadata(path)
    others = [other.name for other in own if other != metadata and os.path.isfile(other)] if metadata in own else []
    if others:
        report.tell(
            f"has several files of metadata; {metadata.name} is used, {' and '.join(others)} is not; where that is "
            "wrong give its facts with --set",
            about=path.name,
            topic="several metadata",
        )


_SERIES_ENDINGS = (".mdoc", ".mrc.mdoc", ".st.mdoc")


def in_one_line(text: str) -> str:
    """A sentence without what would break its line, as the names of files may: written as \\n."""
    return "".join(repr(sign)[1:-1] if sign < " " or sign == "\x7f" else sign for sign in text)


def sentence(error: Exception) -> str:
    text = str(error)
    return text if text.endswith((".", "?", "!")) else f"{text}."
