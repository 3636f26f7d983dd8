"""Metadata files of SerialEM and Tomo5 (``.mdoc``): all keys and sections kept as text, and the facts in them."""

from __future__ import annotations

import codecs
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from focusnb.errors import FormatError
from focusnb.io.files import read_text, read_unpacked, write_text

Facts = dict[str, float | int | str]

_HEADING = re.compile(r"\[\s*([^=\]\s][^=\]]*?)\s*=\s*(.*?)\s*\]$")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(r"(\d{1,2})-([A-Za-z]{3})[a-z]*-(\d{4}|\d{2})\s+(\d{1,2}):(\d{2}):(\d{2})")
_DECIMAL_COMMA = re.compile(r"(?<![\d,.])(\d+),(\d+)(?![\d,.])")
_LARGEST = 1e12
_TILT_AXIS = re.compile(r"tilt\s*axis\s*angle\s*=\s*(-?\d+(?:\.\d+)?)", re.IGNORECASE)


@dataclass(frozen=True)
class Section:
    """A section: its kind (``ZValue``, ``FrameSet``, ``MontSection`` ...), its name and its keys in order.

    kind is empty for the keys before the first section. Keys are found whatever their capitals.
    """

    kind: str
    name: str
    items: tuple[tuple[str, str], ...]

    @property
    def index(self) -> int | None:
        """The name as a number, where it is one."""
        return int(self.name) if re.fullmatch(r"-?\d{1,9}", self.name) else None

    def __contains__(self, key: str) -> bool:
        """Tell whether a key is there."""
        return self.text(key) is not None

    def text(self, key: str) -> str | None:
        """Return a key's value as it is written, None where the key is missing; the last one where it is repeated."""
        for name, value in reversed(self.items):
            if name.lower() == key.lower():
                return value
        return None

    def numbers(self, key: str) -> list[float]:
        """Return a key's value as numbers, empty where it is missing or not of numbers that a microscope has."""
        text = self.text(key) or ""
        # a list that is one word, as 5760,4092, has its comma between two numbers
        return _numbers(text if len(text.split()) == 1 else _DECIMAL_COMMA.sub(r"\1.\2", text))

    def number(self, key: str) -> float | None:
        """Return a key's first number, None where there is none."""
        # 1,25 is a number as some languages write it; 1, 25 and 1.5,25.5 are two
        values = _numbers(_DECIMAL_COMMA.sub(r"\1.\2", self.text(key) or ""))
        return values[0] if values else None

    @property
    def movie(self) -> str | None:
        """The file name of the frames, from a path that is usually of Windows."""
        return file_name(self.text("SubFramePath"))


def _numbers(text: str) -> list[float]:
    try:
        values = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        return []
    return values if all(abs(value) <= _LARGEST for value in values) else []


@dataclass(frozen=True)
class Mdoc:
    """A metadata file: the keys before the first section, the ``[T = ...]`` titles and the sections."""

    path: Path
    globals: Section
    headings: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def titles(self) -> tuple[str, ...]:
        """All titles, those in brackets and those written as a key T."""
        return tuple(value for key, value in self.globals.items if key == "T") + self.headings

    def of_kind(self, kind: str) -> Iterator[Section]:
        """Give the sections of a kind, whatever its capitals."""
        return (section for section in self.sections if section.kind.lower() == kind.lower())

    @property
    def exposure(self) -> Section | None:
        """The section of a single movie: the FrameSet where there is one, else the only ZValue section."""
        for kind in ("FrameSet", "ZValue"):
            found = list(self.of_kind(kind))
            if len(found) == 1:
                return found[0]
        return None

    def find(self, movie_name: str) -> Section | None:
        """The section whose frames have this file name; else the only one of that name in another format."""
        name = file_name(movie_name) or ""
        named = [section for section in self.sections if section.movie]
        exact = next((section for section in named if section.movie == name), None)
        if exact is not None:
            return exact
        stem = _stem(name)
        alike = [section for section in named if _stem(str(section.movie)) == stem]
        return alike[0] if len(alike) == 1 else None

    def of_movie(self, movie_name: str) -> Section | None:
        """The section of a movie: the one that names it, else the only one of a file named as the movie is.

        The mdoc of a tilt series holds one section, of another movie, when its second movie comes.
        """
        if (found := self.find(movie_name)) is not None:
            return found
        name = file_name(movie_name) or ""
        own = self.path.name.lower().removesuffix(".mdoc")
        bare = re.sub(r"_(fractions|eer)$", "", _stem(name))
        return self.exposure if {own, _stem(own)} & {name.lower(), _stem(name), bare} else None


def read(path: str | os.PathLike[str]) -> Mdoc:
    """Read an mdoc file: UTF-8, UTF-16 with its mark, or Latin-1. A blank line ends a section, unknown keys are kept.

    Raises FormatError naming the line that is neither ``key = value`` nor ``[kind = name]``.
    """
    before: list[tuple[str, str]] = []
    headings: list[str] = []
    found: list[tuple[str, str, list[tuple[str, str]]]] = []
    current = before
    for number, line in enumerate(_text(path).split("\n"), start=1):
        text = line.strip()
        if not text:
            current = before
        elif heading := _HEADING.fullmatch(text):
            kind, name = heading.groups()
            if kind == "T":
                headings.append(name)
                current = before
            else:
                current = []
                found.append((kind, name, current))
        elif not text.startswith("#"):
            key, equals, value = text.partition("=")
            if not equals or not key.strip() or text.startswith("["):
                raise FormatError(
                    f"{path}: line {number}, {text[:60]!r}, is neither key = value nor [section = name]; "
                    "is it an mdoc, complete?"
                )
            current.append((key.strip(), value.strip()))
    if not before and not found:
        raise FormatError(f"{path}: holds no key = value; is it an mdoc?")
    sections = tuple(Section(kind, name, tuple(items)) for kind, name, items in found)
    return Mdoc(Path(path), Section("", "", tuple(before)), tuple(headings), sections)


def write(path: str | os.PathLike[str], mdoc: Mdoc) -> None:
    """Write an mdoc file as SerialEM lays it out, atomically."""
    blocks = [[f"{key} = {value}" for key, value in mdoc.globals.items]] if mdoc.globals.items else []
    blocks += [[f"[T = {title}]"] for title in mdoc.headings]
    for section in mdoc.sections:
        blocks.append([f"[{section.kind} = {section.name}]", *(f"{key} = {value}" for key, value in section.items)])
    write_text(path, "\n\n".join("\n".join(lines) for lines in blocks) + "\n")


def _text(path: str | os.PathLike[str]) -> str:
    content = read_unpacked(path)
    if content[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return read_text(path)
    try:
        text = content.decode("utf-16")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: begins as UTF-16 and is none ({error}); is it complete?") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _stem(name: str) -> str:
    return name.rpartition(".")[0].lower() or name.lower()


def file_name(path: str | None) -> str | None:
    r"""Return the last part of a path of Windows or Unix: ``D:\frames\a.tif`` gives ``a.tif``."""
    name = re.split(r"[\\/]", path.strip().rstrip("\\/"))[-1] if path else ""
    return name or None


def exposure_facts(mdoc: Mdoc, section: Section, *, frame_shape: tuple[int, int] | None = None) -> Facts:
    """Return the facts of one exposure by their names, in our units; what is not known is left out.

    Defocus is positive for underfocus (Å), stage and image shift in µm, recorded_at in ISO format without time zone.
    `movie` is the file name of the frames; gain_reference and defects are bare file names too. dose_origin tells which
    keys the dose was taken from; dose_behind_specimen is that by DoseRate; unbinned_pixel_size is that of SerialEM's
    unbinned images.

    frame_shape : (y, x) of the movie where known; only then is the pixel size of frames beside a binned image certain
    """
    facts: Facts = {}
    for name, key, factor in _NUMBERS:
        value = section.number(key)
        if value is not None:
            facts[name] = round(value * factor, 9)
    for name, key in _POSITIVE.items():
        value = section.number(key)
        if value is None:
            value = mdoc.globals.number(key)
        if value is not None and value > 0:
            facts[name] = value
    for keys, names in _PAIRS.items():
        for name, value in zip(names, section.numbers(keys), strict=False):
            facts[name] = value
    for name, key in (("gain_reference", "GainReference"), ("defects", "DefectFile"), ("movie", "SubFramePath")):
        if bare := file_name(section.text(key)):
            facts[name] = bare
    facts |= _places(section)
    for name, key in (
        ("frame_count", "NumSubFrames"),
        ("spot_size", "SpotSize"),
        ("rotation_and_flip", "RotationAndFlip"),
    ):
        value = section.number(key)
        if value is not None and (value > 0 or name == "rotation_and_flip"):
            facts[name] = int(value)
    if recorded := recorded_at(section.text("DateTime")):
        facts["recorded_at"] = recorded
    axis = tilt_axis(mdoc, section)
    if axis is not None:
        facts["tilt_axis"] = axis
    facts |= _pixel_sizes(mdoc, section, frame_shape)
    facts |= super_resolution(facts)
    return facts | _doses(section, facts)


_NUMBERS = (
    ("tilt_angle", "TiltAngle", 1.0),
    ("stage_z", "StageZ", 1.0),
    ("defocus_target", "TargetDefocus", -1e4),
    ("prior_dose", "PriorRecordDose", 1.0),
)
_POSITIVE = {
    "voltage": "Voltage",
    "magnification": "Magnification",
    "exposure_time": "ExposureTime",
    "binning": "Binning",
    "spherical_aberration": "Cs",
}
_PAIRS = {"StagePosition": ("stage_x", "stage_y"), "ImageShift": ("image_shift_x", "image_shift_y")}


def recorded_at(text: str | None) -> str | None:
    """Return SerialEM's ``05-Jun-22  23:45:28`` (or with a year of four digits) as ISO text, None for anything else."""
    if not text:
        return None
    try:
        if found := _DATE.fullmatch(text.strip()):
            day, month, year, hour, minute, second = found.groups()
            month_number = _MONTHS.index(month.lower()) + 1
            century = 2000 if len(year) == 2 else 0
            moment = datetime(century + int(year), month_number, int(day), int(hour), int(minute), int(second))
        else:
            moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return moment.isoformat()


def tilt_axis(mdoc: Mdoc, section: Section) -> float | None:
    """Return the angle of the tilt axis in degrees from the titles, else from RotationAngle, which is 90° more."""
    for title in mdoc.titles:
        if found := _TILT_AXIS.search(title):
            return float(found[1])
    value = mdoc.globals.number("TiltAxisAngle")
    if value is not None:
        return value
    rotation = section.number("RotationAngle")
    return None if rotation is None else round((rotation - 90 + 180) % 360 - 180, 6)


def _places(section: Section) -> Facts:
    """Hole and acquisition area, from ``hole-position`` of a multi-shot record; the navigator's label."""
    facts: Facts = {}
    place = section.text("MultiShotHoleAndPosition")
    if place and (found := re.fullmatch(r"\s*(\S+?)\s*[-\s]\s*(\S+)\s*", place)):
        facts |= {"hole": found[1], "acquisition_area": found[2]}
    if label := section.text("NavigatorLabel"):
        facts["navigator_label"] = label
    return facts


def _pixel_sizes(mdoc: Mdoc, section: Section, frame_shape: tuple[int, int] | None) -> Facts:
    """Å/px of the frames. PixelSpacing belongs to SerialEM's image, which may be binned while the frames are not.

    Without frames it is that image's. Beside frames it is theirs in a FrameSet at binning up to 1; otherwise the sizes
    of image and frames must tell, which agree within 2 % up to a power of 2 (images are trimmed by a few pixels).
    """
    spacing = section.number("PixelSpacing")
    if spacing is None:
        spacing = mdoc.globals.number("PixelSpacing")
    if spacing is None or spacing < _FINEST:
        return {}
    facts: Facts = {}
    binning = section.number("Binning")
    if binning is not None and binning >= _FINEST:
        facts["unbinned_pixel_size"] = round(spacing / binning, 7)
    is_frame_set = section.kind.lower() == "frameset"
    if section.movie is None or (is_frame_set and binning is not None and binning <= 1):
        facts["pixel_size"] = spacing
    elif frame_shape is not None and len(size := mdoc.globals.numbers("ImageSize")) == 2:
        ratio = grid_ratio(frame_shape, (size[0], size[1]))
        if ratio is not None:
            facts["pixel_size"] = round(spacing / ratio, 7)
    return facts


def super_resolution(facts: Facts) -> Facts:
    """Return how many pixels of the frames lie along one of the camera's, where both sizes tell a whole number."""
    if not {"pixel_size", "unbinned_pixel_size"} <= facts.keys():
        return {}
    if float(facts["pixel_size"]) < _FINEST:
        return {}
    ratio = float(facts["unbinned_pixel_size"]) / float(facts["pixel_size"])
    return {"super_resolution": round(ratio)} if ratio > 0.9 and abs(ratio / round(ratio) - 1) < _TRIMMED else {}


def grid_ratio(frames: tuple[float, float], image: tuple[float, float]) -> float | None:
    """Return how many times finer one grid is than another of the same field: a power of 2, None where it is none.

    Sizes in pixels, whichever way they lie; they may differ by 2 %, for images are trimmed by a few pixels.
    """
    if min(*frames, *image) < 1:
        return None
    ratios = [fine / coarse for fine, coarse in zip(sorted(frames), sorted(image), strict=True)]
    power = 2.0 ** round(math.log2(ratios[0]))
    return power if all(abs(ratio / power - 1) < _TRIMMED for ratio in ratios) else None


_TRIMMED, _FINEST = 0.02, 1e-3
"""Part of an image that may be missing; a pixel (Å) or a binning below which none is."""


def _doses(section: Section, facts: Facts) -> Facts:
    """Dose in e⁻/Å² of the exposure and of a frame, and the keys it was taken from; nothing where no key tells it.

    In this order: ExposureDose; the sum of FrameDosesAndNumber; DoseRate × ExposureTime; the image's mean counts.
    The last two are what arrives at the camera, behind the specimen.
    """
    pairs = _frame_doses(section)
    summed = sum(dose * count for dose, count in pairs)
    frames = facts.get("frame_count") or sum(count for _, count in pairs)
    found: Facts = {}
    total = section.number("ExposureDose") or 0.0
    if total > 0:
        found = {"exposure_dose": total, "dose_origin": "ExposureDose"}
    elif summed > 0:
        found = {"exposure_dose": _rounded(summed), "dose_origin": "FrameDosesAndNumber"}
    else:
        found = _dose_at_camera(section, facts)
    if summed > 0:
        found["dose_per_frame"] = _rounded(summed / sum(count for _, count in pairs))
    elif "exposure_dose" in found and frames:
        found["dose_per_frame"] = _rounded(float(found["exposure_dose"]) / int(frames))
    behind = _dose_by_rate(section, facts)
    if behind is not None:
        found["dose_behind_specimen"] = behind
    return found


def _frame_doses(section: Section) -> list[tuple[float, int]]:
    """Pairs of dose per frame and number of frames."""
    values = section.numbers("FrameDosesAndNumber") or section.numbers("FrameDosesAndNumbers")
    if len(values) % 2 or any(count < 1 or count != int(count) for count in values[1::2]):
        return []
    return [(dose, int(count)) for dose, count in zip(values[::2], values[1::2], strict=True)]


def _dose_by_rate(section: Section, facts: Facts) -> float | None:
    """Dose in e⁻/Å² by the rate at the camera, which is per physical pixel: a FrameSet binned beyond hides its size."""
    pixel = float(facts.get("unbinned_pixel_size", 0.0))
    rate, time = section.number("DoseRate") or 0.0, float(facts.get("exposure_time", 0.0))
    known = section.kind.lower() != "frameset" or float(facts.get("binning", 1.0)) <= 1
    return _rounded(rate * time / pixel**2) if rate > 0 and time > 0 and pixel >= _FINEST and known else None


def _dose_at_camera(section: Section, facts: Facts) -> Facts:
    spacing, by_rate = section.number("PixelSpacing"), _dose_by_rate(section, facts)
    if by_rate is not None:
        return {"exposure_dose": by_rate, "dose_origin": "DoseRate × ExposureTime"}
    counts, per_electron = section.numbers("MinMaxMean"), section.number("CountsPerElectron") or 0.0
    if len(counts) == 3 and counts[2] > 0 and per_electron > _FINEST and spacing and spacing >= _FINEST:
        halved = 2.0 if section.number("DividedBy2") else 1.0
        dose = counts[2] * halved / per_electron / spacing**2
        return {"exposure_dose": _rounded(dose), "dose_origin": "MinMaxMean / CountsPerElectron"}
    return {}


def _rounded(value: float) -> float:
    return float(f"{value:.7g}")
