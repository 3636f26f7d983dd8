"""Facts and where they come from: by hand, from the command line, from metadata, from the file itself."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from focusnb.errors import ParameterError
from focusnb.parameters import Spec
from focusnb.quantities import Acquisition

ORIGINS = ("hand", "set", "metadata", "header", "default")
"""Strongest first: ``set`` is --set and the microscope's profile, ``metadata`` an mdoc or XML."""

_FILE_ORDER = ("hand", "set", "header", "metadata", "default")

OF_THE_FILE = frozenset({"frame_count", "width", "height"})
"""What the file itself knows better than the metadata beside it."""

DEFAULTS: dict[str, Any] = {"spherical_aberration": 2.7, "amplitude_contrast": 0.1}
"""Assumed, and told, where nothing says better."""

DISAGREEMENT = 0.01
"""Relative difference between two origins above which it is reported."""

Candidates = dict[str, dict[str, Any]]
"""Per fact the value of each origin."""


def check_facts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Validate facts given as text or values, None for one taken back; all faults in one ParameterError."""
    given = {name: value for name, value in values.items() if value is not None}
    model = Acquisition.make(given)
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


def disagreements(candidates: Candidates) -> list[str]:
    """Name the facts on which two origins differ by more than 1 %, each in a sentence."""
    told = []
    specs: dict[str, Spec] = {spec.name: spec for spec in Acquisition.specs()}
    for name, (value, origin) in resolve(candidates).items():
        for other, different in candidates[name].items():
            if other in (origin, "default") or not _differ(value, different):
                continue
            spec = specs[name]
            unit = f" {spec.unit}" if spec.unit else ""
            told.append(
                f"{spec.label.lower()} is {value:g}{unit} by {_origin(origin)} and {different:g}{unit} by "
                f"{_origin(other)}; {value:g}{unit} is used"
            )
    return told


def _differ(a: Any, b: Any) -> bool:
    if isinstance(a, bool | str) or isinstance(b, bool | str):
        return False
    return abs(a - b) > DISAGREEMENT * max(abs(a), abs(b))


def _origin(origin: str) -> str:
    return {"hand": "hand", "set": "--set", "metadata": "the metadata", "header": "the file's header"}.get(
        origin, origin
    )
