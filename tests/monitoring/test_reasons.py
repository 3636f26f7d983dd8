"""Reasons without names."""

from __future__ import annotations

import pytest

from focusnb.monitoring.reasons import plain_reason, reason_key

NAMES = ["FoilHole_22_Data_3", "exposures/apoferritin_grid2/FoilHole_22_Data_3", "/data/wilson/apoferritin/a.tif"]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("a_0012.tif: header says 50 frames, file holds 37", "Header says 50 frames, file holds 37"),
        ("/data/wilson/x.mrc: is cut short (12 bytes of 40)", "Is cut short (12 bytes of 40)"),
        ("The gain /refs/gain_K3.mrc is 5760 × 4092 px", "The gain … is 5760 × 4092 px"),
        ("apoferritin does not fit wilson", "… does not fit …"),
        ("FoilHole_22_Data_3: no rings at 3.5 Å", "No rings at 3.5 Å"),
        (r"C:\Users\Wilson\m.eer: is no movie", "Is no movie"),
        ("worker tcp://10.0.0.7:4000 died", "Worker … died"),
        ("see https://lab.example.org/x or ask w@lab.org", "See … or ask …"),
        ("ZeroDivisionError: division by zero", "Division by zero"),
        ("cannot read /data/Miller Smith lab/gain.mrc (no such file)", "Cannot read … (no such file)"),
        ("Permission denied: '/home/John Miller/run'", "Permission denied: …"),
        ("broken: no key 'Ribosome' in «Miller's»", "No key … in …"),
        ("", ""),
    ],
)
def test_names_and_paths_are_left_out(reason: str, told: str) -> None:
    assert plain_reason(reason, NAMES) == told


def test_parts_of_names_are_left_out_wherever_they_stand() -> None:
    for told in (plain_reason("no room on apoferritin-grid2 for it", NAMES), plain_reason("on Apoferritin.", NAMES)):
        assert "poferritin" not in told


def test_reasons_that_differ_in_numbers_are_one() -> None:
    assert reason_key("file holds 37") == reason_key("file holds 4.5")
    assert reason_key("file holds 37") != reason_key("file has 37")
