"""Import under faults: every good file becomes one exposure, once; nothing is deleted unverified, nothing is left."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from focusnb.io.tiff import write_tiff
from focusnb.project import placing
from focusnb.project.finding import find
from focusnb.project.project import Project
from focusnb.project.sources import make_source
from focusnb.project.watching import Watcher
from tests.faults.import_campaign import Campaign
from tests.projects import left_overs, make_project
from tests.unprivileged import run_as_nobody


@pytest.mark.slow
def test_sixty_files_under_faults_of_every_kind(small_disk: Callable[[float], Path], tmp_path: Path) -> None:
    seed = int(os.environ.get("FOCUSNB_SEED", "6"))
    campaign = Campaign(small_disk(30), tmp_path / "session", files=60, seed=seed, small_disk=True)
    try:
        figures = campaign.run(["killed", "killed", "root gone", "listing hangs", "disk full"], limit=120, pause=0.02)
    finally:
        campaign.close()
    print(figures.row())
    assert figures.notes == [], f"seed {seed}"
    assert figures.faultless(), figures.row()
    assert (figures.imported, figures.deleted) == (60, 30)
    assert sum(figures.faults.values()) == 5


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
