"""What a file's name and its folders tell of an exposure: EPU, Tomo5, SerialEM, Leginon, and patterns of the user's.

A name that is not built as one of these programs builds it, to its last character, tells nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice, pairwise
from pathlib import PurePath
from typing import Any

from focusnb.errors import ParameterError
from focusnb.parameters import Spec
from focusnb.quantities import IMPORTED, Acquisition

Facts = dict[str, float | int | str]

SUFFIXES = (".tif", ".tiff", ".mrc", ".mrcs", ".eer", ".dm4", ".dm3", ".gz", ".mdoc", ".xml", ".jpg", ".st")
"""Ends of a name that are a format and no part of the name."""

_PRODUCT = re.compile(r"(?:\.frames|[_-](?:aligned|avg|average|sum|dws?|nodw|fractions|eer)|-a)$", re.IGNORECASE)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MOMENT = r"(?P<date>\d{8})_(?P<time>\d{6})"

_EPU = re.compile(rf"FoilHole_(?P<hole>\d+)_Data_(?P<area>\d+_\d+|\d+)(?:_\d+)*_{_MOMENT}")
_EPU_OVERVIEWS = (
    ("hole", re.compile(rf"FoilHole_(?P<hole>\d+)_{_MOMENT}")),
    ("square", re.compile(rf"GridSquare_{_MOMENT}")),
    ("atlas", re.compile(r"(?:Atlas|Tile)_\d+(?:_\d+)*")),
)
_EPU_SQUARE = re.compile(r"GridSquare_(\d+)")
_EPU_DISC = re.compile(r"Images-Disc\d+")
_TOMO5 = re.compile(rf"(?P<series>.+)_(?P<number>\d{{3,6}})_(?:\[(?P<old>-?\d+\.\d+)\]|(?P<tilt>-?\d+\.\d+))_{_MOMENT}")
_LEGINON = re.compile(r"(?P<session>.+?)(?P<chain>(?:_\d{5}[a-z]{2,4}(?:_v\d{2})?){2,})")
_LEGINON_SESSION = re.compile(rf"(\d{{2}}(?:{'|'.join(_MONTHS).lower()})\d{{2}}[a-z]+)(?:_([A-Za-z0-9]{{1,3}}))?")
_LEGINON_LINK = re.compile(r"_(\d{5})([a-z]{2,4})(_v\d{2})?")
_SERIALEM = re.compile(
    r"(?P<series>.+)_(?P<number>\d{3,6})(?:_(?P<tilt>-?\d{1,2}\.\d))?"
    rf"(?:_(?P<month>{'|'.join(_MONTHS)})(?P<day>\d{{2}})_(?P<time>\d{{2}}\.\d{{2}}\.\d{{2}}))?"
)


@dataclass(frozen=True)
class Recognised:
    """What a name tells.

    software : EPU, Tomo5, SerialEM or Leginon
    image : what was recorded: exposure, or an overview (hole, square, atlas), which is no exposure to process
    facts : by their names: hole, acquisition_area, square, tilt_angle (degrees), recorded_at (ISO, local time) ...
    """

    software: str
    image: str
    facts: Mapping[str, float | int | str]


def recognise(path: str | os.PathLike[str]) -> Recognised | None:
    """Read a file's name and folders as EPU, Tomo5, Leginon or SerialEM write them; None where none of them did."""
    pure = PurePath(path)
    stem = _bare(pure.name)
    found = (reader(stem, pure) for reader in (_epu, _tomo5, _leginon, _serialem))
    return next((record for record in found if record is not None), None)


def stem_of(name: str) -> str:
    """A file's name without its format: ``a_1.5.mrc`` gives ``a_1.5``, and so does ``a_1.5``."""
    while name.lower().endswith(SUFFIXES) and name.rpartition(".")[0]:
        name = name.rpartition(".")[0]
    return name


def _bare(name: str) -> str:
    """A name without format and without what cameras and programs append: _fractions, _EER, .frames, _DW ..."""
    stem = stem_of(name)
    while found := _PRODUCT.search(stem):
        stem = stem[: found.start()]
    return stem


def _epu(stem: str, path: PurePath) -> Recognised | None:
    image, found = "exposure", _EPU.fullmatch(stem)
    if found is None:
        for image, pattern in _EPU_OVERVIEWS:  # noqa: B007
            found = pattern.fullmatch(stem)
            if found is not None:
                break
        else:
            return None
    told: dict[str, Any] = found.groupdict()
    facts: Facts = {}
    if told.get("hole"):
        facts["hole"] = told["hole"]
    if told.get("area"):
        facts["acquisition_area"] = told["area"]
    if told.get("date"):
        recorded = _moment(told["date"], told["time"])
        if recorded is None:
            return None
        facts["recorded_at"] = recorded
    return Recognised("EPU", image, facts | _epu_folders(path))


def _epu_folders(path: PurePath) -> Facts:
    facts: Facts = {}
    folders = path.parent.parts
    square = next((found for name in reversed(folders) if (found := _EPU_SQUARE.fullmatch(name))), None)
    if square:
        facts["square"] = square[1]
    for above, name in pairwise(folders):
        if _EPU_DISC.fullmatch(name) and above not in ("/", path.anchor):
            facts["session"] = above
    return facts


def _tomo5(stem: str, path: PurePath) -> Recognised | None:
    found = _TOMO5.fullmatch(stem)
    if found is None:
        return None
    recorded, tilt = _moment(found["date"], found["time"]), float(found["old"] or found["tilt"])
    if recorded is None or abs(tilt) > 90:
        return None
    facts: Facts = {"series": found["series"], "exposure_number": int(found["number"])}
    return Recognised("Tomo5", "exposure", facts | {"tilt_angle": tilt + 0.0, "recorded_at": recorded})


def _leginon(stem: str, path: PurePath) -> Recognised | None:
    """A chain of parents, each with its number; places are named by their chain, for numbers begin anew in each parent.

    A version (_v02) belongs to the image: it is part of the names of what was found in it, not of its own place.
    """
    found = _LEGINON.fullmatch(stem)
    if found is None:
        return None
    links = _LEGINON_LINK.findall(found["chain"])
    if not {"gr", "sq", "hl"} & {preset for _, preset, _ in links[:-1]}:
        return None
    facts: Facts = {"session": found["session"]}
    chain = ""
    if session := _LEGINON_SESSION.fullmatch(found["session"]):
        facts["session"] = session[1]
        chain = f"{session[2]}_" if session[2] else ""
    for number, preset, version in links:
        place = {"gr": "grid", "sq": "square", "hl": "hole"}.get(preset)
        if place is not None:
            facts[place] = f"{chain}{number}{preset}"
        chain += f"{number}{preset}{version}_"
    number, preset, _ = links[-1]
    kind = {"gr": "atlas", "sq": "square", "hl": "hole"}.get(preset, "exposure")
    return Recognised("Leginon", kind, facts | {"exposure_number": int(number), "preset": preset})


def _serialem(stem: str, path: PurePath) -> Recognised | None:
    """Prefix and number with a tilt angle, a date, or both; the year is in no name, so the date tells no moment."""
    found = _SERIALEM.fullmatch(stem)
    if found is None or not (found["tilt"] or found["month"]):
        return None
    if found["month"] and not _is_day(found["month"], found["day"], found["time"]):
        return None
    facts: Facts = {"series": found["series"], "exposure_number": int(found["number"])}
    if found["tilt"]:
        tilt = float(found["tilt"])
        if abs(tilt) > 90:
            return None
        facts["tilt_angle"] = tilt + 0.0  # SerialEM writes -0.0
    return Recognised("SerialEM", "exposure", facts)


def _moment(date: str, time: str) -> str | None:
    try:
        return datetime.strptime(date + time, "%Y%m%d%H%M%S").isoformat()
    except ValueError:
        return None


def _is_day(month: str, day: str, time: str) -> bool:
    # a leap year, so that 29 February is a day
    return _moment(f"2024{_MONTHS.index(month) + 1:02d}{day}", time.replace(".", "")) is not None


# ------------------------------------------------------------------------------------------------- patterns of the user

_FIELD = re.compile(r"\{([^{}]*)\}")
_SKIP = "_"
_ALIASES = {"number": "exposure_number"}
_NO_FIELDS = (*IMPORTED, "gain_reference", "defects")
_SHOWN = 2
_MOST_WAYS = 200
"""Ways of reading a name that are looked at before it is called ambiguous."""

_BETWEEN = "-+_. "

_WRITTEN = {
    "int": re.compile(r"[-+]?\d+"),
    "float": re.compile(r"[-+]?\d+(?:\.\d+)?"),
    "bool": re.compile(r"(?:true|false|yes|no|on|off|0|1)", re.IGNORECASE),
    "datetime": re.compile(r"\d{4}-?\d{2}-?\d{2}(?:[_T -]?\d{2}[:.-]?\d{2}[:.-]?\d{2})?"),
}


@dataclass(frozen=True)
class _Part:
    """Literal text, or a field: its name, and the declaration of its fact (None for what is skipped)."""

    text: str = ""
    name: str = ""
    spec: Spec | None = None

    @property
    def shown(self) -> str:
        return f"{{{self.name}}}" if self.name else repr(self.text)


@dataclass(frozen=True)
class Reading:
    """What a pattern read from a name: facts by name, and how else the pattern fits it (the first is used)."""

    facts: Facts
    others: tuple[Facts, ...] = field(default=())


class Mismatch(ParameterError):
    """A name that a pattern does not fit: the part of the path compared, and the reason."""

    def __init__(self, name: str, reason: str) -> None:
        """Make the sentence of both."""
        super().__init__(f"{name}: {reason}")
        self.reason = reason


class Pattern:
    """A pattern for names with fields in braces: ``{specimen}_{tilt_angle}_{number}``.

    Fields are facts; ``number`` is the exposure number, ``_`` skips what is there. Numbers may have a sign. A pattern
    with slashes is compared with as many folders as well; without a suffix like ``.tif`` at its end it is compared with
    the name without its suffix. Where a text may end in several places, earlier fields take what they can, but no text
    ends or begins with a dash, dot, blank or underscore where it can do without.
    """

    def __init__(self, text: str) -> None:
        """Take a pattern; ParameterError names fields that are none, and fields that nothing separates."""
        self.text = text
        self._parts = _parse(text)
        self._suffix = text.lower().endswith(SUFFIXES)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the facts it reads."""
        return tuple(part.spec.name for part in self._parts if part.spec is not None)

    def read(self, path: str | os.PathLike[str]) -> Reading:
        """Read a file's name. Raises Mismatch where it does not fit, with the place, and for values beyond limits."""
        name = self._compared(path)
        reached = _Reached()
        # a text that ends with a dash has taken the sign of the number behind it, or half of what stands between
        ways = self._ways(name, _Reached(), clean=True) or self._ways(name, reached, clean=False)
        if not ways:
            raise Mismatch(name, f"does not fit the pattern {self.text}: {reached.describe(self._parts, name)}")
        try:
            model = Acquisition.make(ways[0])
        except ParameterError as error:
            raise Mismatch(name, f"read with the pattern {self.text}: {error}") from error
        checked = {key: _plain(getattr(model, key)) for key in ways[0]}
        return Reading(checked, tuple(ways[1 : 1 + _SHOWN]))

    def _ways(self, name: str, reached: _Reached, *, clean: bool) -> list[Facts]:
        """Different facts that fits of the pattern give, in order of preference."""
        ways: list[Facts] = []
        for spans in islice(_fits(self._parts, name, reached, clean=clean), _MOST_WAYS):
            facts = {
                part.spec.name: _value(part.spec, text)
                for part, text in zip(self._parts, spans, strict=True)
                if part.spec is not None
            }
            if facts not in ways:
                ways.append(facts)
        return ways

    def _compared(self, path: str | os.PathLike[str]) -> str:
        """The part of a path that the pattern speaks of."""
        parts = PurePath(path).parts
        depth = self.text.count("/") + 1
        compared = "/".join(parts[-depth:])
        if self._suffix:
            return compared
        folder, slash, name = compared.rpartition("/")
        return folder + slash + stem_of(name)


def try_pattern(pattern: str, example: str | os.PathLike[str]) -> Facts:
    """Read an example with a pattern. Raises ParameterError for a wrong field, and where the pattern does not fit."""
    return Pattern(pattern).read(example).facts


def _parse(text: str) -> tuple[_Part, ...]:
    declared = {spec.name: spec for spec in Acquisition.specs() if spec.name not in _NO_FIELDS}
    parts: list[_Part] = []
    end = 0
    for found in _FIELD.finditer(text):
        parts += [_Part(text=text[end : found.start()])] * (found.start() > end)
        parts.append(_field(found[1].strip(), declared, text))
        if len(parts) > 1 and parts[-2].name:
            raise ParameterError(
                f"pattern {text}: nothing separates {parts[-2].shown} and {parts[-1].shown}; write what stands between"
            )
        end = found.end()
    parts += [_Part(text=text[end:])] * (end < len(text))
    if stray := [part for part in parts if not part.name and re.search(r"[{}]", part.text)]:
        raise ParameterError(f"pattern {text}: a brace is open or closed alone at {stray[0].text!r}; write {{name}}")
    names = [part.spec.name for part in parts if part.spec is not None]
    if not names:
        raise ParameterError(
            f"pattern {text!r}: has no field; write for example {{specimen}}_{{tilt_angle}}_{{number}}"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise ParameterError(f"pattern {text}: {twice[0]} is in it twice; skip one of them with {{_}}")
    return tuple(parts)


def _field(name: str, declared: Mapping[str, Spec], text: str) -> _Part:
    if name == _SKIP:
        return _Part(name=_SKIP)
    spec = declared.get(_ALIASES.get(name, name))
    if spec is None:
        import difflib

        near = difflib.get_close_matches(name, [*declared, *_ALIASES], n=1)
        names = ", ".join((*_ALIASES, *declared))
        cure = f"did you mean {{{near[0]}}}?" if near else f"there are {names}, and _ for what is to be skipped"
        raise ParameterError(f"pattern {text}: {{{name}}} is no field; {cure}")
    return _Part(name=name, spec=spec)


@dataclass
class _Reached:
    """How far a pattern fits a name at best: the first part that fits nowhere, and the place where it is asked for.

    The part counts before the place: a text takes the whole name, and then says nothing of what is wrong.
    """

    part: int = -1
    place: int = 0

    def note(self, part: int, place: int) -> None:
        if (part, place) > (self.part, self.place):
            self.part, self.place = part, place

    def describe(self, parts: tuple[_Part, ...], name: str) -> str:
        seen, rest = name[: self.place], name[self.place :]
        where = f"after {seen!r} " if seen else ""
        if self.part == len(parts):
            return f"{where}the name goes on with {rest!r} where the pattern ends"
        part = parts[self.part]
        wanted = part.shown if part.spec is None else f"{part.shown}, {_kind(part.spec)}"
        return f"{where}it asks for {wanted}, and there is {rest!r}" if rest else f"{where}it asks for {wanted}"


def _kind(spec: Spec) -> str:
    kinds = {"int": "a whole number", "float": "a number", "bool": "yes or no", "datetime": "a date", "str": "text"}
    return f"one of {', '.join(map(str, spec.choices))}" if spec.choices else kinds[spec.type]


def _fits(parts: tuple[_Part, ...], name: str, reached: _Reached, *, clean: bool) -> Iterator[tuple[str, ...]]:
    """Give all ways in which the parts cover a name, each as the texts of the parts.

    clean : only those in which no text begins or ends with what usually stands between

    What is known to lead nowhere is not tried again, so that a long name costs no more than its length by the parts.
    """
    hopeless: set[tuple[int, int]] = set()

    def from_here(part: int, place: int) -> Iterator[tuple[str, ...]]:
        if part == len(parts):
            if place == len(name):
                yield ()
            else:
                reached.note(part, place)
            return
        if (part, place) in hopeless:
            return
        any_way = False
        for end in _ends(parts[part], name, place, clean=clean):
            for others in from_here(part + 1, end):
                any_way = True
                yield (name[place:end], *others)
        if not any_way:
            hopeless.add((part, place))
            reached.note(part, place)

    return from_here(0, 0)


def _ends(part: _Part, name: str, place: int, *, clean: bool) -> Iterator[int]:
    """Where a part that begins at a place may end, the farthest first; a field never spans folders."""
    if not part.name:
        if name.startswith(part.text, place):
            yield place + len(part.text)
        return
    slash = name.find("/", place)
    farthest = len(name) if slash < 0 else slash
    fits = _fitting(part.spec)
    of_text = part.spec is None or (part.spec.type == "str" and not part.spec.choices)
    for end in range(farthest, place, -1):
        text = name[place:end]
        if fits(text) and not (clean and of_text and (text[0] in _BETWEEN or text[-1] in _BETWEEN)):
            yield end


def _fitting(spec: Spec | None) -> Callable[[str], object]:
    if spec is None:
        return bool
    if spec.choices:
        words = {str(choice) for choice in spec.choices}
        return lambda text: text in words
    if spec.type == "datetime":
        return lambda text: _WRITTEN["datetime"].fullmatch(text) and _date(text)
    written = _WRITTEN.get(spec.type)
    return bool if written is None else written.fullmatch


def _value(spec: Spec, text: str) -> float | int | str:
    if spec.type == "int":
        return int(text)
    if spec.type == "float":
        return float(text)
    if spec.type == "datetime":
        return str(_date(text))
    return text


def _date(text: str) -> str | None:
    digits = re.sub(r"\D", "", text)
    return _moment(digits[:8], digits[8:] or "000000")


def _plain(value: Any) -> float | int | str:
    plain: float | int | str = value.isoformat() if isinstance(value, datetime) else value
    return plain
