"""Values as a reader wants them: with the digits that mean something, and the unit beside them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

from focusnb.parameters import Spec

MISSING = "–"
"""Stands where a value is not known."""

_DIGITS = 4
"""Digits that a number has for which no precision is declared."""


class Shown(NamedTuple):
    """A value as text, and its unit."""

    text: str
    unit: str = ""

    @property
    def whole(self) -> str:
        """The value with its unit, as a sentence or a caption has it."""
        return f"{self.text} {self.unit}".rstrip() if self.unit not in ("°", "×") else f"{self.text}{self.unit}"


def is_missing(value: Any) -> bool:
    """Whether a cell of a table or a row is empty: None, NaN, NaT or no text."""
    return value is None or (value == "" if isinstance(value, str) else bool(pd.isna(value)))


def format_value(spec: Spec, value: Any) -> str:
    """Write a value with the digits its declaration gives it; an en dash where there is none."""
    if is_missing(value):
        return MISSING
    if spec.type == "bool":
        return "yes" if value else "no"
    if spec.type == "datetime":
        moment = pd.Timestamp(value)
        return f"{moment:%Y-%m-%d %H:%M:%S}"
    if spec.type == "int":
        return f"{int(value):d}"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return format_number(float(value), spec.precision)
    return str(value)


def format_number(value: float, precision: int | None = None) -> str:
    """Write a number with so many decimals, or with four digits that count where none are told."""
    if math.isnan(value):
        return MISSING
    text = f"{value:.{precision}f}" if precision is not None else f"{value:.{_DIGITS}g}"
    return text.replace("-", "−") if float(text) != 0 else text.lstrip("-")


def show(spec: Spec, value: Any) -> Shown:
    """Return a value with its unit; the unit is left out where there is no value."""
    text = format_value(spec, value)
    return Shown(text, "" if text == MISSING else spec.unit)


def micrometres(angstrom: float | None) -> Shown:
    """Return a defocus in µm, as it is spoken of; it is kept in Å."""
    if angstrom is None or is_missing(angstrom):
        return Shown(MISSING)
    return Shown(format_number(1e-4 * angstrom, 2), "µm")
