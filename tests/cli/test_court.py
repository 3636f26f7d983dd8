"""The court on the command line: told once while a project is run, shown when it is asked."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.modes import MODES
from focusnb.project.project import Project
from focusnb.project.sources import read_sources
from tests.cli.test_cli import focusnb

SHAPE = (144, 160)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two movies of bare counts, whose gain reference is upside down, and of no more than counts."""
    monkeypatch.setitem(MODES["drift"].steps, "movie", ("prepare_movie",))  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    gain = (1 + 0.08 * rng.standard_normal(SHAPE)).astype(np.float32)
    camera = tmp_path / "camera"
    camera.mkdir()
    for name in "ab":
        write_tiff(camera / f"{name}.tif", rng.poisson(4.0 / gain, (8, *SHAPE)).astype(np.uint8))
    write_mrc(tmp_path / "gain.mrc", gain[::-1].copy(), pixel_size=2.0)
    with Project.create(tmp_path / "project", mode="drift") as project:
        facts = {"pixel_size": 2.0, "voltage": 300, "dose_per_frame": 1.0}
        project.add(camera, gain_reference=tmp_path / "gain.mrc", facts=facts)
    return tmp_path / "project"


def test_told_once_shown_when_asked_and_gone_when_cured(folder: Path) -> None:
    camera = folder.parent / "camera"
    cure = ["import", folder, camera, "--set", "gain_rotation=0", "--set", "gain_flip=yes"]
    told = "camera: The gain reference fits when it is flipped (correlation 0.4"
    ended = focusnb("run", folder, "--until-idle", "--workers", "0")
    assert ended.status == 0
    assert ended.err.count(told) == 1
    assert f"focusnb {' '.join(str(word) for word in cure)}\n" in ended.err
    assert "The gain reference fits" not in focusnb("run", folder, "--until-idle", "--workers", "0").err

    shown = focusnb("court", folder)
    assert (shown.status, shown.out) == (0, b"")
    assert "Gain, orientation" in shown.err
    assert "2 of 2" in shown.err
    assert "it is told and work goes on" in shown.err
    rows = {row["check"]: row for row in json.loads(focusnb("court", folder, "--format", "json").out)}
    assert rows["gain_orientation"]["verdict"] == "wrong"
    assert rows["gain_orientation"]["session"] == "camera"
    assert rows["dose"]["verdict"] == "fine"
    assert "gain_flip 1" in rows["gain_orientation"]["numbers"]

    assert focusnb(*cure).status == 0
    ended = focusnb("run", folder, "--until-idle", "--workers", "0")
    assert "camera: now fine: The gain reference lies as the counts say" in ended.err
    assert b"wrong" not in focusnb("court", folder, "--format", "csv").out


def test_what_a_watched_source_still_brings_is_cured_too(folder: Path) -> None:
    camera, gain = folder.parent / "camera", folder.parent / "gain.mrc"
    given = ["--gain", gain, "--link", "--ignore", "no such", "--delay", "0.5", "--set", "pixel_size=2"]
    focusnb("source", "add", folder, camera, "--name", "K3 of ours", "--group", "night", *given)
    told = focusnb("run", folder, "--until-idle", "--workers", "0").err.split("given neither turned nor flipped")[1]
    now, later = (shlex.split(part.split(")")[0]) for part in told.replace("\n", " ").split("focusnb ")[1:3])
    assert now[:3] == ["import", str(folder), str(camera)]
    # whatever was put elsewhere by hand is not moved back
    assert "--group" not in now
    with Project.open(folder) as project:
        project.move([1], "TRASH")
        before = read_sources(folder)[0]
    assert "2 updated" in focusnb(*[word for word in now if word != "(and"][: now.index("gain_flip=yes") + 1]).err
    assert focusnb(*later).status == 0
    after = read_sources(folder)[0]
    facts = {**before.facts, "gain_rotation": "0", "gain_flip": "yes"}
    assert after == before.model_copy(update={"facts": facts})
    with Project.open(folder) as project:
        assert project.ids(group="TRASH") == [1]
        assert [bool(value) for value in project.table()["gain_flip"]] == [True, True]


def test_what_is_done_is_a_setting_of_the_project(folder: Path) -> None:
    assert "the queue is paused" in focusnb("court", folder, "--pause").err
    assert "the queue is paused" in focusnb("court", folder).err
    assert "work goes on" in focusnb("court", folder, "--warn").err


def test_a_gain_reference_is_taken_back(folder: Path) -> None:
    camera = folder.parent / "camera"
    assert "2 updated" in focusnb("import", folder, camera, "--set", "gain_reference=").err
    table = json.loads(focusnb("table", folder, "--format", "json").out)
    assert [row["gain_reference"] for row in table] == [None, None]


def test_a_project_without_exposures(tmp_path: Path) -> None:
    assert focusnb("new", tmp_path / "empty", "--mode", "drift").status == 0
    ended = focusnb("court", tmp_path / "empty")
    assert ended.status == 0
    assert "There is no exposure yet" in ended.err
    assert json.loads(focusnb("court", tmp_path / "empty", "--format", "json").out) == []
