"""Facts and where they come from: by hand, from the command line, from metadata, from the file's name and the file."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from focusnb.errors import ParameterError
from focusnb.parameters import Spec
from focusnb.quantities import Acquisition

ORIGINS = ("hand", "set", "profile", "metadata", "name", "header", "default")
"""Strongest first: ``set`` is --set, ``profile`` the microscope's, ``metadata`` an mdoc or XML, ``name`` the file's."""

_FILE_ORDER = ("hand", "set", "header", "profile", "metadata", "name", "default")

OF_THE_FILE = frozenset({"frame_count", "width", "height"})
"""What the file itself knows better than the metadata beside it."""

DEFAULTS: dict[str, Any] = {"spherical_aberration": 2.7, "amplitude_contrast": 0.1}
"""Assumed, and told, where nothing says better."""

DISAGREEMENT = 0.01
"""Relative difference between two origins above which it is reported."""

_NEAR = {"tilt_angle": 0.5, "tilt_axis": 1.0, "defocus_target": 500.0}
"""Differences that are none: a name has the angle asked for, metadata the one reached."""

_PLACES = ("specimen", "square", "hole", "acquisition_area", "grid", "series", "session")
"""Texts that name one thing, so that two origins should agree; others are free words, such as a camera's name."""

_HALF_AS_FAR = 0.06
"""How near to 2 a ratio of pixel sizes must be to be one of grids."""

_LARGEST = 2**53
"""Whole numbers beyond this are kept exactly neither by JSON nor by every database."""

Candidates = dict[str, dict[str, Any]]
"""Per fact the value of each origin."""


def check_facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Validate facts given as text or values, None or no text for one taken back; all faults in one ParameterError."""
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    model = Acquisition.make(given)
    for name in given:
        value = getattr(model, name)
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ParameterError(f"{name} = {value}: {Acquisition.spec(name).label} is beyond all that can be counted")
    taken_back = [name for name in values if name not in given and Acquisition.spec(name)]
    return {**{name: plain(getattr(model, name)) for name in given}, **dict.fromkeys(taken_back)}


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """Split NAME=VALUE texts of a command line."""
    values: dict[str, str] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ParameterError(f"{text!r} is not NAME=VALUE")
        values[name.strip()] = value.strip()
    return values


def plain(value: Any) -> Any:
    """A fact as JSON keeps it."""
    return value.isoformat() if isinstance(value, datetime.datetime) else value


def add_origin(candidates: Candidates, origin: str, values: Mapping[str, Any]) -> Candidates:
    """Add or replace what one origin says, None taking it back; returns new candidates."""
    merged = {name: dict(origins) for name, origins in candidates.items()}
    for name, value in values.items():
        if value is not None:
            merged.setdefault(name, {})[origin] = plain(value)
        elif origin in merged.get(name, {}):
            del merged[name][origin]
            if not merged[name]:
                del merged[name]
    return merged


def resolve(candidates: Candidates) -> dict[str, tuple[Any, str]]:
    """Choose for every fact the value of its strongest origin: name to (value, origin)."""
    chosen: dict[str, tuple[Any, str]] = {}
    for name, origins in candidates.items():
        for origin in _FILE_ORDER if name in OF_THE_FILE else ORIGINS:
            if origin in origins:
                chosen[name] = (origins[origin], origin)
                break
    _let_the_stronger_dose_win(chosen)
    return chosen


def _let_the_stronger_dose_win(chosen: dict[str, tuple[Any, str]]) -> None:
    """Two facts tell one dose: what somebody says of the whole exposure is stronger than an mdoc's dose per frame."""
    per_frame, whole = (chosen.get(name) for name in ("dose_per_frame", "exposure_dose"))
    if per_frame and whole and per_frame[1] != whole[1]:
        weaker = max(("dose_per_frame", "exposure_dose"), key=lambda name: ORIGINS.index(chosen[name][1]))
        del chosen[weaker]


def columns(candidates: Candidates) -> dict[str, Any]:
    """The facts in force, by name; None for one that another fact put out of force."""
    return {**dict.fromkeys(candidates), **{name: value for name, (value, _) in resolve(candidates).items()}}


@dataclass(frozen=True)
class Disagreement:
    """Two origins that contradict each other, in a sentence.

    topic : the same for exposures on which they differ in the same way, so that it is told once
    """

    topic: str
    sentence: str


def disagreements(candidates: Candidates) -> list[Disagreement]:
    """Name the facts on which two origins differ by more than 1 %, and doses that exclude each other."""
    chosen = resolve(candidates)
    told = [
        Disagreement(f"{name} {origin} {other} {_likeness(value, different)}", sentence)
        for name, (value, origin) in chosen.items()
        for other, different in candidates[name].items()
        if other not in (origin, "default") and _differ(name, value, different)
        for sentence in [_sentence(name, (value, origin), (different, other))]
    ]
    told += _doses(candidates, chosen)
    return told


def _sentence(name: str, used: tuple[Any, str], other: tuple[Any, str]) -> str:
    spec = Acquisition.spec(name)
    (value, origin), (different, elsewhere) = used, other
    if name == "frame_count" and {origin, elsewhere} == {"header", "metadata"}:
        return (
            f"the file holds {value} frames and the metadata say {different}; those {value} are used: was it copied "
            "while being written, or were frames left out?"
        )
    a, b = (_shown(number, spec) for number in (value, different))
    hint = _hint(name, value, different)
    return (
        f"{spec.label.lower()} is {a} by {_origin(origin)} and {b} by {_origin(elsewhere)}; {a} is used{hint}"
        f"{_cure(name, origin)}"
    )


def _hint(name: str, value: Any, different: Any) -> str:
    if name == "pixel_size" and abs(max(value, different) / min(value, different) - 2) < _HALF_AS_FAR:
        return " (a factor of 2: one is of the camera's pixels, the other of super-resolution or binned ones)"
    return ""


def _cure(name: str, origin: str) -> str:
    """What to do, where nobody has said on purpose which is right."""
    return "" if origin in ("hand", "set") else f"; if that is wrong, give --set {name}=..."


def _doses(candidates: Candidates, chosen: Mapping[str, tuple[Any, str]]) -> Iterator[Disagreement]:
    """A dose per frame times the frames that is not the exposure's dose: the strongest of each are compared."""
    pair = [_strongest(candidates, name) for name in ("dose_per_frame", "exposure_dose")]
    if "frame_count" not in chosen or "hardware_frames" in candidates or None in pair:
        return
    (each, of_each), (whole, of_whole) = (found for found in pair if found is not None)
    # metadata mean the frames they count, also where the file holds another number
    frames = candidates["frame_count"].get(of_each, chosen["frame_count"][0])
    if not _differ("exposure_dose", each * frames, whole):
        return
    used = "dose_per_frame" if "dose_per_frame" in chosen else "exposure_dose"
    yield Disagreement(
        f"doses {of_each} {of_whole} {_likeness(each * frames, whole)}",
        f"dose per frame is {each:.4g} e⁻/Å² by {_origin(of_each)}, {each * frames:.4g} in {frames} frames, and "
        f"exposure dose is {whole:.4g} e⁻/Å² by {_origin(of_whole)}; the {used.replace('_', ' ')} is used"
        f"{_cure(used, min(of_each, of_whole, key=ORIGINS.index))}",
    )


def _strongest(candidates: Candidates, name: str) -> tuple[Any, str] | None:
    """What the strongest origin says of a fact, whatever other facts put it out of force."""
    origins = candidates.get(name, {})
    return next(((origins[origin], origin) for origin in ORIGINS if origin in origins), None)


def gain_contradiction(
    frame_shape: tuple[int, int],
    gain_shape: tuple[int, int],
    candidates: Candidates,
    *,
    name: str = "",
    scaled: bool = False,
) -> Disagreement | None:
    """Compare the size of the frames with that of the gain reference as it is turned; shapes are (y, x).

    name : of the gain reference's file
    scaled : whether a reference of 2 times more or fewer pixels along both axes is brought to the frames, as it is for
        EER movies; others need one of their own grid
    """
    rotation = int(resolve(candidates).get("gain_rotation", (0, ""))[0]) % 4
    shape = gain_shape[::-1] if rotation % 2 else gain_shape
    larger, smaller = sorted((sorted(shape), sorted(frame_shape)), reverse=True)
    finer = larger == [2 * side for side in smaller]
    if shape == frame_shape or (scaled and finer):
        return None
    turned = f", turned {rotation} × 90°," if rotation else ""
    gain = f"the gain reference{f' {name}' * bool(name)}{turned} is {shape[1]}×{shape[0]} px"
    said = f"the frames are {frame_shape[1]}×{frame_shape[0]} px and {gain}"
    if finer:
        one, other = ("gain reference", "movie") if larger == sorted(shape) else ("movie", "gain reference")
        cure = "give the gain reference of the recording mode, or one averaged or repeated 2×2, and import again"
        return Disagreement(f"gain {said}", f"{said}: the {one} is of super-resolution and the {other} is not; {cure}")
    if shape[::-1] == frame_shape:
        ways = " or ".join(f"gain_rotation={(rotation + turn) % 4}" for turn in (1, 3))
        return Disagreement(f"gain {said}", f"{said}: turned by 90° it fits; import again with --set {ways}")
    cure = "give the gain reference of this camera and recording mode and import again"
    return Disagreement(f"gain {said}", f"{said}; {cure}")


def _differ(name: str, a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return False
    if isinstance(a, str) or isinstance(b, str):
        return name in _PLACES and str(a) != str(b)
    return bool(abs(a - b) > max(DISAGREEMENT * max(abs(a), abs(b)), _NEAR.get(name, 0.0)))


def _likeness(a: Any, b: Any) -> str:
    """How two values differ, in a form that does not change with every exposure."""
    return "" if isinstance(a, str) or isinstance(b, str) or not b else f"{a / b:.2g}"


def _shown(value: Any, spec: Spec) -> str:
    return str(value) if isinstance(value, str) else f"{value:g}{f' {spec.unit}' if spec.unit else ''}"


def _origin(origin: str) -> str:
    words = {
        "hand": "hand",
        "set": "--set",
        "profile": "the microscope's profile",
        "metadata": "the metadata",
        "name": "the file's name",
        "header": "the file's header",
    }
    return words.get(origin, origin)
