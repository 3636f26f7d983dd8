"""Whether a file is whole: by two observations that agree, apart by what its format lets one trust."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from focusnb.io import complete
from focusnb.io.complete import UNSURE, WHOLE, WITH_METADATA, Patience, read_structure, stand_of
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from tests.io.eer_encoder import CODINGS, write_eer
from tests.project.trees import write_epu


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def movie(path: Path, frames: int = 3) -> Path:
    write_tiff(path, np.random.default_rng(frames).poisson(3, (frames, 8, 12)).astype(np.uint8))
    return path


def seconds_until_complete(path: Path, clock: Clock, patience: Patience, **options: object) -> float:
    """Seconds of stillness after which a file counts as complete."""
    began = clock.now
    while True:
        stand = stand_of(path)
        assert stand is not None
        if patience.is_complete(str(path), stand, **options):  # type: ignore[arg-type]
            return clock.now - began
        clock.now += 0.5
        assert clock.now - began < 2 * UNSURE


def test_how_long_depends_on_what_the_file_shows(tmp_path: Path) -> None:
    clock = Clock()
    whole = movie(tmp_path / "a.tif")
    mdoc = tmp_path / "a.tif.mdoc"
    mdoc.write_text("Voltage = 300\n\n[FrameSet = 0]\nNumSubFrames = 3\n")
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[:-20])
    assert seconds_until_complete(whole, clock, Patience(clock=clock), metadata=mdoc) == WITH_METADATA
    assert seconds_until_complete(whole, clock, Patience(clock=clock)) == WHOLE
    assert seconds_until_complete(cut, clock, Patience(clock=clock)) == UNSURE
    assert seconds_until_complete(cut, clock, Patience(2.0, clock=clock)) == 2.0
    assert seconds_until_complete(cut, clock, Patience(0.0, clock=clock)) == 0.0


def test_fewer_frames_than_the_mdoc_says_are_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    path, mdoc = movie(tmp_path / "a.tif", 3), tmp_path / "a.tif.mdoc"
    mdoc.write_text("Voltage = 300\n\n[FrameSet = 0]\nNumSubFrames = 5\n")
    assert seconds_until_complete(path, clock, Patience(clock=clock), metadata=mdoc) == UNSURE
    mdoc.write_bytes(b"\x00\x01 not yet")
    assert seconds_until_complete(path, clock, Patience(clock=clock), metadata=mdoc) == WHOLE
    xml = write_epu(tmp_path / "session", squares=1, holes=1, areas=1).metadata.popitem()[1]
    xml.write_text(xml.read_text().replace("<NumberOffractions>3<", "<NumberOffractions>5<"))
    assert complete.frames_said(xml, "a.tif") == 5
    assert seconds_until_complete(path, clock, Patience(clock=clock), metadata=xml) == UNSURE
    # the sum that EPU writes beside its movie has the same XML
    single = movie(tmp_path / "sum.tif", 1)
    assert seconds_until_complete(single, clock, Patience(clock=clock), metadata=xml) == WITH_METADATA
    xml.write_text(xml.read_text().replace("NumberOffractions", "Other"))
    assert complete.frames_said(xml, "a.tif") is None


def test_a_file_that_grows_replaces_itself_or_changes_its_time_is_not_still(tmp_path: Path) -> None:
    clock = Clock()
    path = movie(tmp_path / "a.tif")
    patience = Patience(3.0, clock=clock)

    def look() -> bool:
        stand = stand_of(path)
        assert stand is not None
        return patience.is_complete(str(path), stand)

    def changes() -> None:
        with open(path, "ab") as file:
            file.write(b"1")

    def is_touched() -> None:
        os.utime(path, (1e9, 1e9))

    def is_replaced() -> None:
        stat = os.stat(path)
        other = tmp_path / "other"
        other.write_bytes(path.read_bytes())
        os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        other.rename(path)

    for change in (changes, is_touched, is_replaced):
        assert not look()
        clock.now += 2.9
        assert not look()
        change()
        clock.now += 2.9
        assert not look()
    clock.now += 3
    assert look()


def test_no_clock_but_its_own_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.time", lambda: 4e9)
    for stamp in (0, 4_000_000_000):  # the file server's clock is decades behind, or ahead
        path = movie(tmp_path / f"{stamp}.tif")
        os.utime(path, (stamp, stamp))
        assert seconds_until_complete(path, clock, Patience(clock=clock)) == WHOLE
    patience = Patience(5.0, clock=clock)
    stand = stand_of(path)
    assert stand is not None
    assert not patience.is_complete(str(path), stand)
    clock.now -= 1000  # a clock that was set back after all costs time, and no file
    assert not patience.is_complete(str(path), stand)
    clock.now += 5
    assert patience.is_complete(str(path), stand)


def test_an_old_answer_of_the_file_system_is_checked_by_opening_the_file(tmp_path: Path) -> None:
    clock = Clock()
    path = movie(tmp_path / "a.tif")
    cached = stand_of(path)
    assert cached is not None
    patience = Patience(3.0, clock=clock)
    assert not patience.is_complete(str(path), cached)
    with open(path, "ab") as file:
        file.write(b"more")
    clock.now += 3
    assert not patience.is_complete(str(path), cached), "it has grown behind the client's back"
    assert not patience.is_complete(str(path), stand_of(path) or cached)
    clock.now += 3
    assert patience.is_complete(str(path), stand_of(path) or cached)


def test_the_structure_of_every_format(tmp_path: Path) -> None:
    image = np.ones((6, 8), np.float32)
    write_mrc(tmp_path / "a.mrc", np.stack([image] * 4), pixel_size=1.0)
    write_eer(tmp_path / "a.eer", [[(0, 0)]] * 5, (16, 20), CODINGS["8+4"])
    movie(tmp_path / "a.tif", 3)
    for name, frames, shape in (("a.mrc", 4, (6, 8)), ("a.eer", 5, (16, 20)), ("a.tif", 3, (8, 12))):
        path = tmp_path / name
        assert read_structure(path) == complete.Structure(True, frames, shape=shape), name
        content = path.read_bytes()
        for cut in (len(content) - 1, len(content) // 2, 100, 0):
            path.write_bytes(content[:cut])
            found = read_structure(path)
            assert not found.whole, (name, cut)
            assert name in found.reason
    write_mrc(tmp_path / "b.mrc", np.stack([image] * 4), pixel_size=1.0)
    with open(tmp_path / "b.mrc", "ab") as file:
        file.write(image.tobytes())
    assert not read_structure(tmp_path / "b.mrc").whole, "its header is behind its frames"
    assert not read_structure(tmp_path / "none.tif").whole


def test_a_file_made_in_full_size_and_filled_later_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    write_mrc(path, np.ones((600, 1000), np.float32), pixel_size=1.0)
    header = path.read_bytes()[:1024]
    size = path.stat().st_size
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(size)
    if 512 * path.stat().st_blocks >= size // 2:
        pytest.skip("this file system does not keep files with holes")
    found = read_structure(path)
    assert not found.whole
    assert f"of {size} bytes are on the disk yet" in found.reason


@pytest.mark.parametrize(
    ("name", "frames", "metadata", "lacks"),
    [
        ("a.mrc", 1, "a.xml", False),
        ("a.mrc", 1, "a.mdoc", True),
        ("a_Fractions.tiff", 1, "a.xml", True),
        ("a_EER.eer", 1, "a.xml", True),
        ("a.frames.mrc", 1, "a.xml", True),
        ("a.mrc", 3, "a.xml", True),
        ("a_Fractions.tiff", 40, "a.xml", False),
    ],
)
def test_which_file_of_one_frame_lacks_frames(name: str, frames: int, metadata: str, lacks: bool) -> None:
    assert complete.lacks_frames(f"/camera/{name}", frames, 40, metadata) is lacks
