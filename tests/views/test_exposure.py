"""What is read of one exposure."""

from __future__ import annotations

import pytest

from focusnb.errors import ParameterError
from focusnb.project.project import Project
from focusnb.views.exposure import caption, read_exposure
from tests.views.shown import empty


def test_a_record_holds_what_is_in_force(shown: Project) -> None:
    shown.flag([2], "gold")
    shown.override(2, defocus_u=20000.0)
    record = read_exposure(shown, 2)
    assert (record.name, record.flag, record.status, record.folder) == ("b", "gold", "done", shown.path(2))
    assert (record.values["defocus_u"], record.measured["defocus_u"]) == (20000.0, 12400.0)
    assert record.overrides["defocus_u"].who
    assert record.values["pixel_size"] == 1.5
    assert "pixel_size" not in record.measured


def test_an_override_that_empties_a_value_counts(shown: Project) -> None:
    shown.override(1, drift=3.0)
    shown.clear_override(1)
    assert read_exposure(shown, 1).values["drift"] == 7.25
    assert not read_exposure(shown, 1).overrides


def test_what_is_read_first(shown: Project) -> None:
    shown.override(1, ctf_fit_resolution=4.0)
    record = read_exposure(shown, 1)
    told = {item.label: item.value.whole for item in caption(record, shown.specs())}
    assert told == {"Defocus": "1.20 µm", "Fit": "4.00 Å", "Drift": "7.2 Å", "Iciness": "0.831"}
    assert [item.label for item in caption(record, shown.specs()) if item.by_hand] == ["Fit"]


def test_what_is_not_known_is_left_out(shown: Project) -> None:
    empty(shown, 1, "defocus_u", "defocus_v", "ctf_fit_resolution")
    labels = [item.label for item in caption(read_exposure(shown, 1), shown.specs())]
    assert labels == ["Drift", "Iciness"]


def test_there_is_no_such_exposure(shown: Project) -> None:
    with pytest.raises(ParameterError, match="no exposure 99"):
        read_exposure(shown, 99)
