"""Sources deleted after their copies were verified: the later the less is known, and never what may be wanted."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.io import complete, files
from focusnb.io.complete import Structure
from focusnb.io.folders import FULL_INTERVAL
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.project import deleting, placing
from focusnb.project.activity import Activity, Left
from focusnb.project.deleting import ON_A_NETWORK, STILL, WITHOUT_METADATA, WITHOUT_OTHERS, Deletion
from focusnb.project.gathering import ImportReport
from focusnb.project.project import Project
from tests.project.test_watching import Watched, mdoc
from tests.project.trees import write_epu
from tests.projects import make_project
from tests.unprivileged import run_as_nobody

SHAPE = (10, 12)


class Session:
    """Movies with their copies, and a clock that is set."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder, self.now, self.report, self.changed = folder, 0.0, ImportReport(), []
        self.deletion = Deletion(self.report, self.changed.append, clock=lambda: self.now, **options)
        (folder / "camera").mkdir()

    def movie(self, name: str, frames: int = 3, *, mdoc_frames: int | None = None) -> Path:
        """A movie that is to be deleted, as an import gives it."""
        path = self.folder / "camera" / name
        seed = sum(name.encode())
        write_tiff(path, np.random.default_rng(seed).poisson(3, (frames, *SHAPE)).astype(np.uint8), pixel_size=1.5)
        placed = self.folder / "copies" / name
        content = placing.place(path, placed, link=False)
        metadata = None if mdoc_frames is None else mdoc(path, NumSubFrames=mdoc_frames)
        self.deletion.note_frames(path, frames, SHAPE)
        self.deletion.add(path, placed, metadata, content=content)
        return path

    def after(self, seconds: float) -> list[str]:
        """The movies that are still there after so many seconds."""
        self.now += seconds
        self.deletion.step()
        return sorted(path.name for path in (self.folder / "camera").glob("*.tif"))


@pytest.fixture
def session(tmp_path: Path) -> Callable[..., Session]:
    return lambda **options: Session(tmp_path, **options)


def test_it_is_waited_the_longer_the_less_is_known(session: Callable[..., Session]) -> None:
    one = session()
    one.movie("told.tif", mdoc_frames=3)
    assert one.after(STILL - 1) == ["told.tif"]
    assert one.after(1) == []
    one.movie("alone.tif")
    one.deletion._frames.clear()
    one.deletion.note_frames(Path("alone.tif"), 3, SHAPE)
    assert one.after(STILL * WITHOUT_METADATA) == ["alone.tif"]
    assert one.after(STILL * WITHOUT_METADATA * (WITHOUT_OTHERS - 1)) == []
    for name in ("a.tif", "b.tif"):
        one.movie(name)
    assert one.after(STILL * WITHOUT_METADATA - 1) == ["a.tif", "b.tif"]
    assert one.after(1) == [], "each shows that the other has as many frames as are usual"
    assert one.report.messages == []


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "autofs", "virtiofs", "of which nobody has heard", ""])
def test_where_others_may_write_it_is_waited_for_longer(session: Callable[..., Session], kind: str) -> None:
    one = session(mount=lambda path: ("/mnt", kind))
    one.movie("told.tif", mdoc_frames=3)
    assert one.after(STILL * ON_A_NETWORK - 1) == ["told.tif"]
    assert one.after(1) == []


def test_a_movie_of_fewer_frames_than_the_others_stays_unless_metadata_tell(session: Callable[..., Session]) -> None:
    one = session()
    for name in ("a.tif", "b.tif", "c.tif"):
        one.movie(name, 6)
    one.movie("paused.tif", 4)
    one.movie("short.tif", 4, mdoc_frames=4)
    one.movie("more.tif", 7)
    assert one.after(STILL * WITHOUT_METADATA) == ["paused.tif"]
    (told,) = one.report.messages
    assert told == (
        f"{one.folder / 'camera' / 'paused.tif'}: holds 4 frames where others of its session hold 6, and no metadata "
        "tell that these are all, so it stays at its source; delete it there yourself if it is whole"
    )
    assert len(one.deletion) == 0


@pytest.mark.parametrize(("frames", "left"), [(980, []), (940, ["a.eer"])])
def test_eer_movies_may_vary_a_little(
    session: Callable[..., Session], monkeypatch: pytest.MonkeyPatch, frames: int, left: list[str]
) -> None:
    one = session()
    monkeypatch.setattr(deleting, "read_structure", lambda path: Structure(True, frames, shape=SHAPE))
    path, placed = one.folder / "camera" / "a.eer", one.folder / "a.eer"
    path.write_bytes(b"events")
    content = placing.place(path, placed, link=False)
    for count in (1000, 1000, frames):
        one.deletion.note_frames(path, count, SHAPE)
    one.deletion.add(path, placed, content=content)
    one.after(STILL * WITHOUT_METADATA)
    assert [name.name for name in (one.folder / "camera").iterdir()] == left


def test_a_source_whose_content_differs_though_nothing_else_does_stays(session: Callable[..., Session]) -> None:
    one = session()
    path = one.movie("a.tif", mdoc_frames=3)
    stamp = os.stat(path)
    content = path.read_bytes()
    with open(path, "r+b") as file:
        file.seek(len(content) // 2)
        file.write(bytes([content[len(content) // 2] ^ 1]))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert one.after(STILL) == ["a.tif"]
    assert one.changed == [path]
    assert "is not what was copied from it though its size and time are the same" in one.report.messages[0]


def test_a_source_stays_whose_copy_was_lost(session: Callable[..., Session]) -> None:
    one = session()
    one.movie("a.tif", mdoc_frames=3)
    one.movie("b.tif", mdoc_frames=3)
    (one.folder / "copies" / "a.tif").write_bytes(b"short")
    (one.folder / "copies" / "b.tif").unlink()
    assert one.after(STILL) == ["a.tif", "b.tif"]


@pytest.fixture
def watched(tmp_path: Path) -> Any:
    (tmp_path / "camera").mkdir()
    with make_project(tmp_path / "project", steps=False) as project:
        yield Watched(project, tmp_path / "camera", delete_source=True)


def wait(watched: Watched, seconds: float) -> None:
    """Let much time go by in few looks."""
    for _ in range(10):
        watched.clock.now += seconds / 10
        watched.watcher.step()


def test_a_writer_elsewhere_that_pauses_for_minutes_loses_nothing(watched: Watched, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(3, (6, 64, 64)).astype(np.uint8)
    path = tmp_path / "camera" / "a.tif"
    write_tiff(path, counts[:3], pixel_size=1.25)
    write_tiff(tmp_path / "whole.tif", counts, pixel_size=1.25)
    wait(watched, complete.WHOLE + 2)
    assert watched.names == ["a"]
    wait(watched, STILL * WITHOUT_METADATA)
    assert path.exists(), "a movie that is alone and of which nothing tells how many frames it must have"
    path.write_bytes((tmp_path / "whole.tif").read_bytes())
    wait(watched, FULL_INTERVAL)
    wait(watched, 10 * complete.WHOLE)
    assert path.exists()
    assert list(watched.project.table().frame_count) == [6]
    wait(watched, STILL * WITHOUT_METADATA * WITHOUT_OTHERS)
    assert not path.exists()
    assert watched.project.path(1, "movie").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_what_differs_from_its_copy_is_copied_anew(watched: Watched, tmp_path: Path) -> None:
    path = tmp_path / "camera" / "a.tif"
    write_tiff(path, np.full((3, 64, 64), 3, np.uint8), pixel_size=1.25, compression="none")
    mdoc(path, NumSubFrames=3)
    wait(watched, complete.WHOLE)
    stamp = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"\7")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    wait(watched, STILL)
    wait(watched, STILL)
    table = watched.project.table()
    assert len(table) in (1, 2)
    held = [watched.project.path(identity, "movie").read_bytes() for identity in table.index]
    assert any(b"\7" in content for content in held), "what the source held in the end is kept"
    wait(watched, STILL + FULL_INTERVAL)
    assert not path.exists()


def test_the_frames_of_a_session_are_known_after_a_restart(watched: Watched, tmp_path: Path) -> None:
    camera = tmp_path / "camera"
    for number in range(3):
        frames = np.random.default_rng(number).poisson(3, (6, *SHAPE)).astype(np.uint8)
        write_tiff(camera / f"m{number}.tif", frames, pixel_size=1.25)
    wait(watched, complete.WHOLE + 2)
    assert len(watched.names) == 3
    watched.begin()
    write_tiff(camera / "paused.tif", np.full((4, *SHAPE), 3, np.uint8), pixel_size=1.25)
    wait(watched, STILL * WITHOUT_METADATA + complete.WHOLE + 60)
    assert [path.name for path in camera.iterdir()] == ["paused.tif"]


def test_what_is_due_is_left_when_it_is_to_end_and_what_takes_long_for_the_next_look(
    session: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = session()
    for name in ("a.tif", "b.tif", "c.tif"):
        one.movie(name, mdoc_frames=3)
    one.now += STILL
    one.deletion.step(stopped=lambda: True)
    assert one.after(0) == [], "nothing else kept them"
    for name in ("a.tif", "b.tif", "c.tif"):
        one.movie(name, mdoc_frames=3)
    real = files.hash_file

    def slowly(path: Path, **options: Any) -> str:
        one.now += 5
        return real(path, **options)

    monkeypatch.setattr(deleting.files, "hash_file", slowly)
    one.now += STILL
    one.deletion.step(seconds=3.0)
    assert len(one.deletion) == 2
    one.deletion.finish(lambda text: None, lambda: len(one.deletion) < 2)
    assert len(one.deletion) == 1
    assert len(list((one.folder / "camera").glob("*.tif"))) == 1


def test_a_thread_that_was_left_deletes_nothing(session: Callable[..., Session]) -> None:
    at = Activity()
    one = session(activity=at)
    path = one.movie("a.tif", mdoc_frames=3)

    def stand_of(asked: Path) -> Any:
        if len(asked_for) == 1:
            at.leave()  # while the server is asked for the last time
        asked_for.append(asked)
        return complete.stand_of(asked)

    asked_for: list[Path] = []
    one.now += STILL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deleting, "stand_of", stand_of)
        with pytest.raises(Left):
            one.deletion.step()
    assert path.exists()


def test_one_frame_of_a_movie_is_not_deleted_as_if_it_were_an_average(session: Callable[..., Session]) -> None:
    one = session()
    one.movie("a.tif", 1, mdoc_frames=40)
    assert len(one.deletion) == 0
    assert "holds one frame and its metadata say 40, so it stays at its source" in one.report.messages[0]


def cut_after_one_frame(path: Path) -> None:
    """Let a TIFF movie be as it is when its first directory was written and the second was not yet."""
    content = bytearray(path.read_bytes())
    (directory,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, directory)
    pointer = directory + 2 + 12 * entries
    struct.pack_into("<I", content, pointer, 0)
    path.write_bytes(content)
    assert complete.read_structure(path).frames == 1
    assert complete.read_structure(path).whole


def by_mdoc(camera: Path) -> str:
    mdoc(camera / "a.tif", NumSubFrames=40)
    return "a.tif"


def by_epu(camera: Path) -> str:
    (camera / "a.tif").unlink()
    (path,) = write_epu(camera / "session", squares=1, holes=1, areas=1).movies
    cut_after_one_frame(path)
    return path.name


def by_others(camera: Path) -> str:
    for number in range(2):
        frames = np.random.default_rng(number).poisson(3, (6, *SHAPE)).astype(np.uint8)
        write_tiff(camera / f"m{number}.tif", frames, pixel_size=1.25)
    return "a.tif"


def by_nothing(camera: Path) -> str:
    return "a.tif"


@pytest.mark.parametrize("told", [by_mdoc, by_epu, by_others, by_nothing])
def test_one_frame_of_a_movie_is_never_deleted_by_an_import(
    watched: Watched, tmp_path: Path, told: Callable[[Path], str]
) -> None:
    camera = tmp_path / "camera"
    frames = np.random.default_rng(9).poisson(3, (6, *SHAPE)).astype(np.uint8)
    write_tiff(camera / "a.tif", frames, pixel_size=1.25)
    cut_after_one_frame(camera / "a.tif")
    name = told(camera)
    for restart in (False, True):
        if restart:
            watched.begin()
        wait(watched, complete.UNSURE + 2)
        wait(watched, STILL * WITHOUT_METADATA * WITHOUT_OTHERS)
        wait(watched, STILL * WITHOUT_METADATA * WITHOUT_OTHERS)
        assert [path.name for path in camera.rglob("*.tif*") if path.suffix != ".mdoc"] == [name]
    assert any(name in line and "holds one frame" in line and "stays at its source" in line for line in watched.told)


def test_pictures_and_averages_are_deleted(watched: Watched, tmp_path: Path) -> None:
    camera = tmp_path / "camera"
    for number, name in enumerate(("picture_a.tif", "picture_b.tif")):
        write_tiff(camera / name, np.full((1, *SHAPE), number, np.uint8), pixel_size=1.25)
    write_tiff(camera / "x_Fractions.tiff", np.full((6, 12, 14), 3, np.uint8), pixel_size=1.25)
    write_mrc(camera / "x.mrc", np.ones((1, 12, 14), np.float32), pixel_size=1.25)
    write_mrc(camera / "y_avg.mrc", np.ones((1, 14, 16), np.float32), pixel_size=1.25)
    wait(watched, complete.UNSURE + 12)
    assert sorted(watched.names) == ["picture_a", "picture_b", "x_Fractions", "y_avg"]
    wait(watched, STILL * WITHOUT_METADATA * WITHOUT_OTHERS)
    assert list(camera.iterdir()) == [], watched.told


def test_what_may_not_be_deleted_is_told_at_once_in_a_sentence(tmp_path: Path) -> None:
    camera = tmp_path / "camera"
    camera.mkdir()
    for number in range(2):
        write_tiff(camera / f"m{number}.tif", np.full((3, *SHAPE), number, np.uint8), pixel_size=1.25)
    make_project(tmp_path / "project", steps=False).close()
    camera.chmod(0o555)

    def add() -> tuple[list[int], list[str]]:
        with Project.open(tmp_path / "project") as project:
            report = project.add(camera, delete_source=True)
            return report.added, report.messages

    try:
        added, (told,) = run_as_nobody(add)
    finally:
        camera.chmod(0o755)
    assert added == [1, 2]
    assert told == (
        f"{camera}/m0.tif (and 1 more): was imported and stays, for this user may not delete it: its folder is "
        "read-only here; give write access to it, or import without --delete-source"
    )


def test_what_joined_an_exposure_is_deleted_by_a_later_import_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = tmp_path / "camera"
    camera.mkdir()
    write_tiff(camera / "a_Fractions.tiff", np.full((3, *SHAPE), 3, np.uint8), pixel_size=1.25)
    write_mrc(camera / "a.mrc", np.ones((1, *SHAPE), np.float32), pixel_size=1.25)
    monkeypatch.setattr(deleting, "STILL", 0.0)
    with make_project(tmp_path / "project", steps=False) as project:
        assert project.add(camera).added == [1]
        assert project.add(camera, delete_source=True).added == []
        assert list(camera.iterdir()) == []
        assert project.path(1, "image").is_file()


def test_metadata_that_come_when_their_movie_was_deleted_are_used(watched: Watched, tmp_path: Path) -> None:
    folder = tmp_path / "camera" / "Images-Disc1" / "GridSquare_7"
    folder.mkdir(parents=True)
    path = folder / "FoilHole_1_Data_2_3_20240831_200551_Fractions.tiff"
    write_tiff(path, np.full((3, *SHAPE), 3, np.uint8), pixel_size=1.25)
    wait(watched, complete.WHOLE + 2)
    wait(watched, STILL * WITHOUT_METADATA * WITHOUT_OTHERS)
    assert not path.exists()
    mdoc(path, NumSubFrames=3, TiltAngle=12.5)
    wait(watched, 6)
    row = watched.project.table().loc[1]
    assert (row.tilt_angle, row.voltage, row.square, row.frame_count) == (12.5, 200.0, "7", 3)
    assert (watched.project.path(1) / "raw" / f"{path.name}.mdoc").is_file()
