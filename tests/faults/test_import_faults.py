"""Import under faults: every good file becomes one exposure, once; nothing is deleted unverified, nothing is left."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from focusnb.io import folders
from focusnb.io.tiff import write_tiff
from focusnb.processing import detached
from focusnb.processing.court import sitting
from focusnb.project import placing
from focusnb.project.finding import find
from focusnb.project.project import Project
from focusnb.project.sources import add_source, make_source
from focusnb.project.watching import Watcher
from tests.faults.import_campaign import Campaign
from tests.projects import exposure_names, left_overs, make_project
from tests.unprivileged import run_as_nobody
from tests.waiting import wait_until


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sixty_files_under_faults_of_every_kind(small_disk: Callable[[float], Path], tmp_path: Path) -> None:
    seed = int(os.environ.get("FOCUSNB_SEED", "6"))
    campaign = Campaign(small_disk(30), tmp_path / "session", files=60, seed=seed, small_disk=True)
    try:
        faults = ["killed", "killed", "root gone", "listing hangs", "reading hangs", "disk full"]
        figures = campaign.run(faults, limit=450, pause=0.02)
    finally:
        campaign.close()
    print(figures.row())
    assert figures.notes == [], f"seed {seed}"
    assert figures.faultless(), figures.row()
    assert (figures.imported, figures.deleted) == (60, 30)
    assert sum(figures.faults.values()) == 6


def movies(folder: Path, *names: str) -> list[Path]:
    """Tiny movies that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        frames = np.random.default_rng(number).poisson(3, (3, 10, 12)).astype(np.uint8)
        write_tiff(folder / name, frames, pixel_size=1.5)
    return [folder / name for name in names]


def test_a_folder_that_may_not_be_read_is_told_once_and_the_others_are_imported(tmp_path: Path) -> None:
    camera = tmp_path / "camera"
    movies(camera / "open", "a.tif", "b.tif")
    movies(camera / "closed", "c.tif")
    make_project(tmp_path / "project", steps=False).close()
    (camera / "closed").chmod(0)

    def watch() -> tuple[list[str], list[str], list[str]]:
        told: list[str] = []
        with Project.open(tmp_path / "project") as project:
            watcher = Watcher(project, make_source({"folders": [camera], "delay": 0.0}), told.append)
            for _ in range(3):
                watcher.step()
            before, said = list(project.table().exposure), list(told)
            (camera / "closed").chmod(0o755)
            watcher.step()
            watcher.step()
            return before, said, list(project.table().exposure)

    try:
        before, said, after = run_as_nobody(watch)
    finally:
        (camera / "closed").chmod(0o755)
    assert before == ["a", "b"]
    (line,) = said
    assert str(camera / "closed") in line
    assert "may not be read by this user; change its permissions" in line
    assert after == ["a", "b", "c"]


def test_an_import_pauses_before_the_disk_is_full_and_goes_on(
    small_disk: Callable[[float], Path], tmp_path: Path
) -> None:
    camera = tmp_path / "camera"
    camera.mkdir()
    for number in range(6):
        write_tiff(camera / f"m{number}.tif", [np.full((700, 1000), number, np.uint8)], compression="none")
    disk = small_disk(6)
    told: list[str] = []
    clock = [0.0]
    with make_project(disk / "project", steps=False) as project:
        filler = disk / "filler"
        filler.write_bytes(bytes(3_000_000))
        source = make_source({"folders": [camera], "delay": 0.0, "reserve": 0.001})
        watcher = Watcher(project, source, told.append, clock=lambda: clock[0])
        for _ in range(3):
            watcher.step()
        imported = len(project.table())
        assert 0 < imported < 6
        assert left_overs(project.folder) == []
        (line,) = told
        assert line.startswith("import pauses: ")
        assert "0.001 GB are kept free" in line
        filler.unlink()
        watcher.step()
        assert len(project.table()) == imported, "it does not look at each moment"
        clock[0] += 6
        watcher.step()
        assert len(project.table()) == 6
        assert told[1:] == ["there is room again; import goes on"]


def test_what_may_not_be_listed_is_told_without_watching_too(tmp_path: Path) -> None:
    movies(tmp_path / "camera", "a.tif")
    movies(tmp_path / "camera" / "closed", "b.tif")
    (tmp_path / "camera" / "link.tif").symlink_to(tmp_path / "camera" / "closed" / "b.tif")
    (tmp_path / "camera" / "closed").chmod(0)

    def look() -> tuple[list[str], list[str]]:
        told: list[str] = []
        return [path.name for path, _ in find([tmp_path / "camera"], set(), told.append)], told

    try:
        found, told = run_as_nobody(look)
    finally:
        (tmp_path / "camera" / "closed").chmod(0o755)
    assert found == ["a.tif"]
    assert told == [f"{tmp_path}/camera/closed: cannot be listed (Permission denied); what is in it was left out"]


def test_folders_are_filled_one_at_a_time_where_only_files_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def flock(handle: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EBADF, "no locks for folders")
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with make_project(tmp_path / "project", steps=False) as project:
        inside: list[int] = []

        def fill(number: int) -> None:
            with placing.filling(project):
                inside.append(number)
                time.sleep(0.02)
                inside.append(number)

        threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert inside[::2] == inside[1::2]
        with open(project.folder / "exposures" / placing.LOCK, "r+") as other:
            with placing.filling(project), pytest.raises(BlockingIOError):
                real(other.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            real(other.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_court_does_not_wait_for_a_folder_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, answers, real = tmp_path / "dead", threading.Event(), Path.resolve

    def resolve(path: Path, strict: bool = False) -> Path:
        if path == dead:
            answers.wait()
        return real(path, strict)

    monkeypatch.setattr(folders, "PATIENCE", 0.1)
    monkeypatch.setattr(folders, "_silent", {})
    with make_project(tmp_path / "project", steps=False) as project:
        add_source(project, make_source({"folders": [dead]}))
        monkeypatch.setattr(Path, "resolve", resolve)
        watched = sitting._watched(project, [dead / "grid"])
    answers.set()
    assert watched is not None
    assert watched.name == "dead"


HANGING = """
import sys, time
from focusnb.io import complete, files
from focusnb.project import activity, threads
complete.WITH_METADATA, complete.WHOLE = 0.1, 0.2
activity.SILENT, activity.LEAVE, threads.LEAVE = 0.5, 0.5, 0.5
dead, real = sys.argv.pop(1), files._read_block

def read(stream, source):
    if str(source).startswith(dead):
        time.sleep(3600)  # in the system, as a server that is gone keeps whoever reads from it
    return real(stream, source)

files._read_block = read
from focusnb.cli import main
sys.argv[0] = "focusnb"
main()
"""


def test_a_serving_process_goes_on_and_ends_in_good_order_while_a_source_hangs(tmp_path: Path) -> None:
    dead, good = tmp_path / "dead", tmp_path / "good"
    movies(dead, "a.tif")
    movies(good, "b.tif")
    with make_project(tmp_path / "project") as project:
        for camera in (dead, good):
            add_source(project, make_source({"folders": [camera]}))
        folder = project.folder
    log = folder / "logs" / "serve.log"
    command = [sys.executable, "-c", HANGING, str(dead), "serve", str(folder), "--foreground", "--workers", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as serving:
        wait_until(lambda: log.is_file() and "has not answered" in log.read_text())
        movies(good, "b.tif", "c.tif")

        wait_until(lambda: exposure_names(folder, "processed_at IS NOT NULL") == ["b", "c"])
        with Project.open(folder) as opened:
            assert detached.stop(opened)
        _, errors = serving.communicate(timeout=120)
    assert (serving.returncode, errors) == (0, "")
    told = log.read_text()
    assert f"source dead: {dead / 'a.tif'}: has not answered for 0 s; check the mount it is on and its server" in told
    assert f"source dead: {dead / 'a.tif'} does not answer, so it is left as it is" in told
    # the next one finds the server well, and nothing half
    with Project.open(folder) as project:
        assert project.add(dead).added == [3]
    assert left_overs(folder) == []


@pytest.mark.parametrize(
    ("options", "number", "status"),
    [([], signal.SIGINT, 1), (["--watch"], signal.SIGTERM, 0)],
    ids=["once", "watching"],
)
def test_an_import_ends_at_a_signal_while_a_file_hangs(
    tmp_path: Path, options: list[str], number: int, status: int
) -> None:
    movies(tmp_path / "dead", "a.tif")
    make_project(tmp_path / "project", steps=False).close()
    command = [sys.executable, "-c", HANGING, str(tmp_path / "dead"), "import", str(tmp_path / "project")]
    with subprocess.Popen([*command, str(tmp_path / "dead"), *options], stderr=subprocess.PIPE, text=True) as importing:
        assert importing.stderr is not None
        said = iter(importing.stderr.readline, "")
        assert any("has not answered" in line for line in said)
        importing.send_signal(number)
        _, errors = importing.communicate(timeout=120)
    assert importing.returncode == status
    assert "does not answer, so" in errors
    assert exposure_names(tmp_path / "project") == []
