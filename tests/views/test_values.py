"""Values as text."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from focusnb.parameters import Spec
from focusnb.views.values import MISSING, format_value, micrometres, show


@pytest.mark.parametrize(
    ("spec", "value", "text"),
    [
        (Spec("a", precision=2), 3.14159, "3.14"),
        (Spec("a", precision=0), 12400.4, "12400"),
        (Spec("a"), 12345.678, "1.235e+04"),
        (Spec("a", precision=1), -2.25, "−2.2"),
        (Spec("a", precision=1), -0.01, "0.0"),
        (Spec("a", "int"), 7, "7"),
        (Spec("a", "bool"), 0, "no"),
        (Spec("a", "str"), "ok", "ok"),
        (Spec("a", "datetime"), "2026-11-21T08:10:51", "2026-11-21 08:10:51"),
    ],
)
def test_a_value_has_the_digits_of_its_declaration(spec: Spec, value: Any, text: str) -> None:
    assert format_value(spec, value) == text


@pytest.mark.parametrize("nothing", [None, math.nan, "", pd.NA, pd.NaT])
def test_nothing_is_a_dash_without_unit(nothing: Any) -> None:
    assert show(Spec("a", unit="Å"), nothing) == (MISSING, "")
    assert micrometres(nothing).whole == MISSING


def test_units_stand_apart_and_degrees_do_not() -> None:
    assert show(Spec("a", unit="Å", precision=1), 4.25).whole == "4.2 Å"
    assert show(Spec("a", unit="°", precision=0), 45.0).whole == "45°"
    assert micrometres(12345.0).whole == "1.23 µm"
