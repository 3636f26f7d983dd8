"""import and source on the command line: once, watching, and remembered for the process that serves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from focusnb.io.tiff import write_tiff
from focusnb.project import deleting
from focusnb.project.project import Project
from tests.cli.test_cli import MAIN, focusnb
from tests.projects import exposure_names, left_overs, make_project
from tests.waiting import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with make_project(tmp_path / "project", steps=False) as project:
        return project.folder


def movie(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tiff(path, np.random.default_rng(seed).poisson(3, (3, 10, 12)).astype(np.uint8), pixel_size=1.25)
    path.with_name(path.name + ".mdoc").write_text("Voltage = 300\n\n[FrameSet = 0]\nNumSubFrames = 3\n")
    return path


def test_an_import_waits_until_files_are_complete(folder: Path, tmp_path: Path) -> None:
    camera = movie(tmp_path / "camera" / "a.tif").parent
    whole = movie(camera / "b.tif", 1).read_bytes()
    (camera / "b.tif").write_bytes(whole[:-50])
    command = [sys.executable, "-c", MAIN, "import", str(folder), str(camera)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as importing:
        wait_until(lambda: exposure_names(folder) == ["a"])
        (camera / "b.tif").write_bytes(whole)
        _, errors = importing.communicate(timeout=120)
    assert importing.returncode == 0
    assert "waiting for" in errors
    assert errors.strip().splitlines()[-1] == "2 imported"
    again = focusnb("import", folder, camera, "--set", "spherical_aberration=2.0")
    assert again.err.strip().splitlines()[-1] == "0 imported, 2 updated"


def test_options_reach_the_import(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "STILL", 0.0)
    for name in ("x/lys_12.5_1.tif", "x/lys_-3.0_2.tif", "Search/lys_0.0_3.tif"):
        movie(tmp_path / "camera" / name)  # of equal content: three exposures all the same
    ended = focusnb(
        "import", folder, tmp_path / "camera", "--ignore", "search", "--pattern", "{specimen}_{tilt_angle}_{number}",
        "--group", "grid 1", "--delete-source", "--include", "*.tif", "--delay", 0,
    )  # fmt: skip
    assert (ended.status, ended.err.strip().splitlines()[-1]) == (0, "2 imported")
    with Project.open(folder) as project:
        table = project.table().sort_values("exposure")
    assert list(table.tilt_angle) == [-3.0, 12.5]
    assert set(table["group"]) == {"grid 1"}
    assert [path.name for path in (tmp_path / "camera").rglob("*.tif")] == ["lys_0.0_3.tif"]
    refused = focusnb("import", folder, tmp_path / "camera", "--link", "--delete-source")
    assert (refused.status, "delete_source goes with copies only" in refused.err) == (2, True)


def test_watching_ends_with_an_interrupt_and_leaves_nothing_half(folder: Path, tmp_path: Path) -> None:
    camera = tmp_path / "camera"
    camera.mkdir()
    command = [sys.executable, "-c", MAIN, "import", str(folder), str(camera), "--watch", "--remember"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watching:
        movie(camera / "a.tif")
        wait_until(lambda: exposure_names(folder) == ["a"])
        movie(camera / "b.tif", 1)
        wait_until(lambda: exposure_names(folder) == ["a", "b"])
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=120)
    assert (watching.returncode, "Traceback" in errors) == (0, False)
    assert "Ctrl-C ends it" in errors
    assert errors.strip().splitlines()[-1] == "2 imported"
    assert left_overs(folder) == []
    assert "camera: " in focusnb("source", "list", folder).out.decode()


def test_what_cannot_be_watched_is_refused_at_once(folder: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("--pattern", "{specimen}_{nonsense}"), "{nonsense} is no field"),
        (("--gain", tmp_path / "none.mrc"), "does not exist; check the path"),
    ):
        refused = focusnb("import", folder, tmp_path, "--watch", *arguments)
        assert (refused.status, words in refused.err, "Watching" in refused.err) == (2, True, False), refused.err


def test_sources_are_added_listed_and_removed(folder: Path, tmp_path: Path) -> None:
    assert "Nothing is watched" in focusnb("source", "list", folder).err
    added = focusnb(
        "source", "add", folder, tmp_path / "camera", "--name", "titan", "--set", "voltage=300", "--delay", 5,
        "--no-processing",
    )  # fmt: skip
    assert added.status == 0
    assert "is not there yet; it is waited for" in added.err
    shown = focusnb("source", "list", folder).out.decode()
    assert shown.splitlines() == [
        f"titan: {tmp_path / 'camera'}", "    Delay: 5.0 s", "    Facts: voltage=300", "    Process: no",
    ]  # fmt: skip
    assert json.loads((folder / "sources.json").read_text())[0]["facts"] == {"voltage": "300"}
    for arguments, words in (
        ((folder,), "lies in the project itself"),
        ((tmp_path / "camera", "--name", "x"), "is watched by source titan already"),
        ((tmp_path / "other", "--set", "volts=3"), "did you mean voltage"),
        ((tmp_path / "other", "--gain", tmp_path / "none.mrc"), "does not exist; check the path"),
        ((tmp_path / "other", "--during", "fit_ctf"), "cannot run during import"),
        ((tmp_path / "other", "--microscope", "none"), "there is no microscope none"),
    ):
        refused = focusnb("source", "add", folder, *arguments)
        assert (refused.status, words in refused.err) == (2, True), refused.err
    assert focusnb("source", "remove", folder, "titan").status == 0
    assert focusnb("source", "remove", folder, "titan").status == 2


def test_a_served_project_imports_and_processes_what_comes(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAIN, "serve", str(folder), "--foreground", "--workers", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as serving:
        movie(tmp_path / "camera" / "a.tif")
        assert focusnb("source", "add", folder, tmp_path / "camera").status == 0

        wait_until(lambda: exposure_names(folder, "status IN ('done', 'failed')") == ["a"])
        serving.send_signal(signal.SIGTERM)
        _, errors = serving.communicate(timeout=120)
    assert (serving.returncode, "Traceback" in errors) == (0, False)
    log = (folder / "logs" / "serve.log").read_text()
    assert "1 imported" in log
    assert left_overs(folder) == []
