"""Faults of files, disks and machines through the real command line: one clear sentence, the others processed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.processing.workflow import Workflow
from focusnb.project import lease, tasks
from focusnb.project.project import Project
from focusnb.steps import trust
from tests.projects import left_overs, statuses
from tests.waiting import wait_until

MAIN = [sys.executable, "-c", "from focusnb.cli import main; main()"]
SHAPE = (128, 160)


def focusnb(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run([*MAIN, *map(str, arguments)], capture_output=True, text=True, check=False)


def write_movie(path: Path, seed: int, shape: tuple[int, int] = SHAPE) -> Path:
    """Eight frames of Poisson counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tiff(path, np.random.default_rng(seed).poisson(2, (8, *shape)).astype(np.uint8), pixel_size=1.5)
    return path


def write_gain(path: Path, shape: tuple[int, int] = SHAPE) -> Path:
    """A gain reference that is not flat."""
    write_mrc(path, np.random.default_rng(9).normal(1, 0.05, shape).astype(np.float32), pixel_size=1.5)
    return path


def import_all(folder: Path, camera: Path, gain: Path | None = None) -> None:
    """Make a project and import a camera's folder."""
    with Project.create(folder, mode="drift") as project:
        project.add(camera, gain_reference=gain, facts={"pixel_size": 1.5, "voltage": 300})


def reasons(folder: Path) -> dict[str, tuple[str, str]]:
    """Status and reason by exposure."""
    with Project.open(folder) as project:
        table = project.table()
        return {row.exposure: (row.status, "" if row.isna()["reason"] else row.reason) for _, row in table.iterrows()}


def assert_a_sentence(text: str, *words: str) -> None:
    """Short, without a trace, and naming what the user must know."""
    assert "\n" not in text.strip()
    assert "Traceback" not in text
    assert len(text) < 400
    for word in words:
        assert word in text, (word, text)


def test_files_of_all_kinds_of_wrong_are_told_and_the_others_processed(tmp_path: Path) -> None:
    camera, folder = tmp_path / "camera", tmp_path / "project"
    for number, name in enumerate(("good_1", "truncated", "good_2")):
        write_movie(camera / f"{name}.tif", number)
    whole = (camera / "truncated.tif").read_bytes()
    (camera / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    (camera / "empty.tif").write_bytes(b"")
    (camera / "text.tif").write_text("Dear diary, today I recorded no movie.\n")
    write_movie(camera / "larger.tif", 7, (140, 160))
    assert focusnb("new", folder, "--mode", "drift").returncode == 0
    facts = ("--set", "pixel_size=1.5", "--set", "voltage=300", "--delay", 0)
    added = focusnb("import", folder, camera, "--gain", write_gain(tmp_path / "reference.mrc"), *facts)
    assert (added.returncode, added.stdout) == (0, "")
    assert "6 imported" in added.stderr
    for name in ("truncated.tif", "empty.tif", "text.tif", "larger.tif"):
        assert sum(name in line for line in added.stderr.splitlines()) == 1
    ran = focusnb("run", folder, "--until-idle", "--workers", 0)
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "2 done, 4 failed in" in ran.stderr
    told = reasons(folder)
    assert {name: status for name, (status, _) in told.items()} == {
        "good_1": "done",
        "good_2": "done",
        "truncated": "failed",
        "empty": "failed",
        "text": "failed",
        "larger": "failed",
    }
    assert_a_sentence(told["truncated"][1], "truncated.tif", str(len(whole) // 2))
    assert_a_sentence(told["empty"][1], "empty.tif", "0 bytes")
    assert_a_sentence(told["text"][1], "text.tif")
    assert_a_sentence(told["larger"][1], "160×128", "160×140", "give the gain of this camera")
    for name in ("truncated", "empty", "text", "larger"):
        assert told[name][1] in ran.stderr
    assert left_overs(folder) == []
    for name in ("good_1", "good_2"):
        made = {path.name for path in (folder / "exposures/camera" / name).iterdir()}
        assert {"micrograph.mrc", "motion.star", "power_spectrum.mrc", "exposure.json", "log.txt", "raw"} <= made
    for name in ("truncated", "empty", "text", "larger"):
        made = {path.name for path in (folder / "exposures/camera" / name).iterdir()}
        assert made == {"exposure.json", "log.txt", "raw"}


@pytest.mark.parametrize("fault", ["size", "nan"])
def test_a_gain_that_does_not_fit_fails_the_rows_and_a_good_one_heals_them(tmp_path: Path, fault: str) -> None:
    camera, folder, gain = tmp_path / "camera", tmp_path / "project", tmp_path / "reference.tif"
    for number in range(2):
        write_movie(camera / f"m{number}.tif", number)
    values = np.ones((100, 160) if fault == "size" else SHAPE, np.float32)
    if fault == "nan":
        values[50, 60] = np.nan
    write_tiff(gain, [values])
    import_all(folder, camera, gain)
    assert focusnb("run", folder, "--until-idle", "--workers", 0).returncode == 0
    words = (
        ("160×100", "160×128") if fault == "size" else ("1 of 20480", "not numbers", "make the gain reference again")
    )
    for status, reason in reasons(folder).values():
        assert status == "failed"
        assert_a_sentence(reason, *words, "gain")
    with Project.open(folder) as project:
        assert project.add(camera, gain_reference=write_gain(tmp_path / "good.mrc")).updated == [1, 2]
    assert "2 done" in focusnb("run", folder, "--until-idle", "--workers", 0).stderr


def test_a_disk_that_fills_is_told_and_what_waits_is_done_when_there_is_room(
    small_disk: Callable[[float], Path], tmp_path: Path
) -> None:
    camera, disk = tmp_path / "camera", small_disk(30)
    folder = disk / "project"
    for number in range(4):
        write_movie(camera / f"m{number}.tif", number)
    import_all(folder, camera)
    filling = disk / "filling"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filling.write_bytes(bytes(max(0, free - 1_000_000)))
    ran = focusnb("run", folder, "--until-idle", "--workers", 0)
    assert "the disk is full" in ran.stderr
    assert "make room" in ran.stderr or "free space" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert left_overs(folder) == []
    filling.unlink()
    ran = focusnb("run", folder, "--until-idle", "--workers", 0)
    assert ran.returncode == 0, ran.stderr
    assert {status for status, _ in reasons(folder).values()} == {"done"}
    assert left_overs(folder) == []


def count_done(folder: Path) -> int:
    """Exposures done, read as another program would."""
    with sqlite3.connect(f"file:{folder / 'library.sqlite'}?mode=ro", uri=True, timeout=10) as connection:
        return int(connection.execute("SELECT count(*) FROM exposures WHERE status = 'done'").fetchone()[0])


def test_killed_with_its_workers_and_started_again_at_once_everything_is_done_once(tmp_path: Path) -> None:
    camera, folder = tmp_path / "camera", tmp_path / "project"
    for number in range(10):
        write_movie(camera / f"m{number}.tif", number)
    import_all(folder, camera)
    draw = random.Random(int(os.environ.get("FOCUSNB_SEED", "3")))
    command = [*MAIN, "run", str(folder), "--until-idle", "--workers", "2"]
    for least in (1, 4):
        running = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
        while count_done(folder) < least and running.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        assert running.stderr is not None
        running.stderr.close()
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert {status for status, _ in reasons(folder).values()} == {"done"}
    with Project.open(folder) as project:
        runs = project.runs()
        steps = project.step_names("movie")
    done = runs[runs.status == "done"].groupby(["exposure", "step"]).size()
    assert len(done) == 10 * len(steps)
    assert set(done) == {1}
    assert set(runs.status) <= {"done", "lost"}
    assert set(runs[runs.status == "lost"].reason) <= {"processing was interrupted"}
    assert left_overs(folder) == []


HOLD = """
import os
import time

from focusnb.steps.base import Step, StepResults


class Hold(Step):
    name = "hold"
    title = "Hold"
    category = "prepare"

    def run(self, inputs, params, work):
        if work.exposure == os.environ.get("HELD"):
            time.sleep(600)
        return StepResults()
"""
"""A step that does not end for the exposure that a variable names."""


def test_interrupted_from_the_keyboard_it_gives_back_what_waits(tmp_path: Path) -> None:
    camera, folder = tmp_path / "camera", tmp_path / "project"
    for number in range(3):
        write_movie(camera / f"m{number}.tif", number)
    import_all(folder, camera)
    (folder / "steps" / "hold.py").write_text(HOLD)
    trust.trust(folder)
    with Project.open(folder) as project:
        project.use_steps("hold")
        running = subprocess.Popen(
            [*MAIN, "run", str(folder), "--until-idle", "--workers", "1"],
            start_new_session=True,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HELD": "m1"},
        )
        # one that waits at its worker counts as running: the first is done, so the second is under way
        wait_until(lambda: statuses(project)["m0"] == "done" or running.poll() is not None)
        os.killpg(running.pid, signal.SIGINT)  # a terminal sends it to the workers as well
        _, errors = running.communicate(timeout=120)
        assert running.returncode not in (0, None)
        assert "Traceback" not in errors
        assert left_overs(folder) == []
        assert statuses(project) == {"m0": "done", "m1": "queued", "m2": "queued"}
        assert focusnb("run", folder, "--until-idle", "--workers", 0).returncode == 0
        assert set(statuses(project).values()) == {"done"}


def test_files_named_beside_their_references_and_metadata_are_not_taken_for_movies(tmp_path: Path) -> None:
    camera = tmp_path / "camera"
    movie = write_movie(camera / "m.tif", 1)
    gain = write_gain(camera / "ref.mrc")
    (camera / "m.tif.mdoc").write_text("[FrameSet = 0]\nTiltAngle = 1\n")
    with Project.create(tmp_path / "project", mode="drift") as project:
        report = project.add(movie, gain, camera / "m.tif.mdoc", gain_reference=gain)
        assert list(project.table().exposure) == ["m"]
        assert any("2 of the files named are references or metadata" in message for message in report.messages)


def test_interrupted_often_no_exposure_is_blamed(tmp_path: Path) -> None:
    write_movie(tmp_path / "camera" / "m.tif", 1)
    import_all(tmp_path / "project", tmp_path / "camera")
    with Project.open(tmp_path / "project") as project:
        processor = Processor(project, InlineExecutor())
        assert processor.submit_stale() == 1
        for _ in range(5):
            epoch = lease.take_lease(project.library)
            (waiting,) = tasks.waiting(project.library, 1)
            run = {"id": uuid.uuid4().hex, "step": "prepare_movie", "fingerprint": "", "params": {}}
            tasks.start(project.library, epoch, waiting, [run])
            assert tasks.recover(project, epoch) == 1
            lease.release_lease(project.library, epoch)
        assert processor.run().done == 1
        assert list(project.runs().status).count("lost") == 5


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "int16", "uint16", "float32"])
def test_movies_of_every_number_type_are_processed(tmp_path: Path, dtype: str) -> None:
    frames = np.random.default_rng(3).poisson(3, (6, 96, 128)).astype(dtype)
    (tmp_path / "camera").mkdir()
    with mrcfile.new(tmp_path / "camera" / "m.mrc", frames) as mrc:
        mrc.voxel_size = 1.5
    import_all(tmp_path / "project", tmp_path / "camera")
    with Project.open(tmp_path / "project") as project:
        processor = Processor(project, InlineExecutor())
        processor.submit_stale()
        assert processor.run().reasons == {}
        assert project.table().mean_counts.iloc[0] == pytest.approx(3, abs=0.05)


def test_identical_frames_have_not_moved(tmp_path: Path) -> None:
    picture = np.random.default_rng(3).poisson(20, (96, 128)).astype(np.uint8)
    (tmp_path / "camera").mkdir()
    write_tiff(tmp_path / "camera" / "m.tif", np.stack([picture] * 6), pixel_size=1.5)
    import_all(tmp_path / "project", tmp_path / "camera")
    with Project.open(tmp_path / "project") as project:
        processor = Processor(project, InlineExecutor())
        processor.submit_stale()
        assert processor.run().reasons == {}
        assert project.table().motion_total.iloc[0] == pytest.approx(0, abs=0.05)


def test_a_voltage_whose_damage_is_unknown_is_told_with_its_cure(tmp_path: Path) -> None:
    write_movie(tmp_path / "camera" / "m.tif", 1)
    with Project.create(tmp_path / "project", mode="drift") as project:
        project.add(tmp_path / "camera", facts={"pixel_size": 1.5, "voltage": 80, "dose_per_frame": 1})
        processor = Processor(project, InlineExecutor())
        processor.submit_stale()
        assert processor.run().failed == 1
        reason = project.table().reason.iloc[0]
        assert "not at 80 kV" in reason
        assert "critical_dose_factor" in reason
        project.set_params("align_frames", critical_dose_factor=0.55)
        processor.submit_stale()
        assert processor.run().done == 1


def test_a_step_for_movies_on_an_image_says_so(tmp_path: Path) -> None:
    picture = np.random.default_rng(3).poisson(20, (128, 160)).astype(np.float32)
    (tmp_path / "camera").mkdir()
    write_mrc(tmp_path / "camera" / "m.mrc", picture, pixel_size=1.5)
    with Project.create(tmp_path / "project", mode="drift") as project:
        project.add(tmp_path / "camera", kind="image", facts={"pixel_size": 1.5, "voltage": 300})
        processor = Processor(project, InlineExecutor())
        processor.submit(Workflow.named(project, ["prepare_movie"]))
        (reason,) = processor.run().reasons.values()
        assert reason == "m: was imported as an image, and prepare the movie needs movies; leave it out"
