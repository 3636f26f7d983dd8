"""Forms from declarations: what is typed, what is told, what is given on."""

from __future__ import annotations

from typing import Annotated, Literal

import ipywidgets as widgets
import pytest
from pydantic import model_validator

from focusnb.errors import ParameterError
from focusnb.panels.forms import Form
from focusnb.parameters import Declared, quantity
from focusnb.steps.base import built_in_steps


class Choices(Declared):
    low: Annotated[float, quantity("Lowest resolution", unit="Å", gt=0, le=100)] = 30.0
    high: Annotated[float, quantity("Highest resolution", unit="Å", gt=0)] = 4.0
    method: Annotated[Literal["fast", "exact"], quantity("Method")] = "fast"
    halves: Annotated[bool, quantity("Halves")] = False
    rings: Annotated[int | None, quantity("Rings", unit="", ge=1, advanced=True)] = None

    @model_validator(mode="after")
    def _ordered(self) -> Choices:
        if self.high >= self.low:
            raise ValueError(f"high ({self.high:g} Å) must be finer than low ({self.low:g} Å)")
        return self


def test_only_what_differs_is_given_on_and_typed() -> None:
    form = Form(Choices, {"low": 25.0})
    assert form.changes == {}
    form.set(high="3.5", method="exact", halves=True)
    assert form.changes == {"high": 3.5, "method": "exact", "halves": True}
    form.set(low=25)
    assert "low" not in form.changes
    form.clear()
    assert form.changes == {}


def test_what_is_wrong_stands_under_its_field_and_goes_when_it_is_right() -> None:
    form = Form(Choices)
    form.fields["high"].set("-3")
    assert "should be greater than 0 Å" in form.fields["high"].told
    assert form.fields["low"].told == ""
    with pytest.raises(ParameterError, match="high"):
        _ = form.changes
    form.fields["high"].set("<b>many</b>")
    assert "&lt;b&gt;many" in form.fields["high"].told
    form.fields["high"].set("3")
    assert form.fields["high"].told == ""
    assert form.changes == {"high": 3.0}


def test_what_concerns_two_values_is_told_below_all() -> None:
    form = Form(Choices)
    form.set(high=40)
    assert "must be finer" in form._fault.value
    assert all(field.told == "" for field in form.fields.values())


def test_an_optional_value_can_be_given_and_taken_away() -> None:
    form = Form(Choices, {"rings": 5})
    form.set(rings="none")
    assert form.changes == {"rings": None}
    form.set(rings="7")
    assert form.changes == {"rings": 7}


def test_a_change_is_told_after_it_was_checked() -> None:
    seen = []
    form = Form(Choices, on_change=lambda: seen.append(form.fields["high"].told))
    form.set(high="0")
    form.set(high="2")
    assert len(seen) == 2
    assert seen[0]
    assert seen[1] == ""


@pytest.mark.parametrize("name", sorted(built_in_steps()))
def test_every_step_has_a_form(name: str) -> None:
    form = Form(built_in_steps()[name].Params)
    assert form.check()
    assert form.changes == {}
    assert isinstance(form.widget, widgets.VBox)
