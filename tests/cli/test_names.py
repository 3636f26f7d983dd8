"""names and microscope on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from focusnb.cli import main
from focusnb.project.profiles import read_profile


@dataclass
class Ended:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in this process."""

    def run_here(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["focusnb", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run_here


def test_names_show_what_is_read_and_where_a_pattern_stops_fitting(run: Run) -> None:
    done = run("names", "TS_01_003_-6.0.mrc", "x.tif", "/a/GridSquare_20230919_140816.mrc")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines == [
        ["name", "fact", "value", "by"],
        ["TS_01_003_-6.0.mrc", "series", "TS_01", "SerialEM"],
        ["exposure_number", "3", "SerialEM"],
        ["tilt_angle", "-6", "°", "SerialEM"],
        ["x.tif", "–", "tells", "nothing"],
        ["GridSquare_20230919_140816.mrc", "recorded_at", "2023-09-19T14:08:16", "EPU"],
    ]
    assert "EPU names images of a whole square like this" in done.stderr


def test_names_try_a_pattern(run: Run) -> None:
    done = run("names", "a_b_-12.5_003.tif", "a_b_c.tif", "--pattern", "{specimen}_{tilt_angle}_{number}")
    assert done.returncode == 1
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1:4] == [
        ["a_b_-12.5_003.tif", "specimen", "a_b", "pattern"],
        ["tilt_angle", "-12.5", "°", "pattern"],
        ["exposure_number", "3", "pattern"],
    ]
    assert "a_b_c: does not fit the pattern" in done.stderr
    done = run("names", "a_b_c_3.tif", "--pattern", "{specimen}_{hole}_{number}")
    assert done.returncode == 0
    assert "specimen=a_b, hole=c, exposure_number=3; or specimen=a, hole=b_c, exposure_number=3" in done.stderr
    done = run("names", "a_3.tif", "--pattern", "{specimn}_{number}")
    assert done.returncode == 2
    assert "did you mean {specimen}?" in done.stderr


def test_microscopes_are_set_listed_shown_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert "There is no microscope in" in run("microscope", "list").stderr
    done = run("microscope", "set", "titan1", "voltage=300", "camera=K3", "pixel_size@81000=1.06")
    assert done.returncode == 0
    assert "--microscope titan1" in done.stderr
    assert read_profile("titan1").pixel_sizes == {81000: 1.06}
    assert run("microscope", "set", "talos", "voltag=200").returncode == 2
    lines = [line.split() for line in run("microscope", "list").stdout.splitlines()]
    assert lines[1:] == [["titan1", "300", "kV", "K3", "81,000"]]
    shown = run("microscope", "show", "titan1").stdout.splitlines()
    assert shown == [
        "voltage = 300 kV",
        "camera = K3",
        "pixel_size@81000 = 1.06 Å/px (of a physical pixel of the camera)",
    ]
    with (tmp_path / "focusnb" / "microscopes.toml").open("a") as file:
        file.write("[broken]\nvoltage = 3\n")
    done = run("microscope", "list")
    assert done.returncode == 1
    assert "titan1" in done.stdout
    assert "[broken]: voltage = 3" in done.stderr
    assert run("microscope", "remove", "broken").returncode == 0
    assert run("microscope", "remove", "titan1").returncode == 0
    assert run("microscope", "show", "titan1").returncode == 2
