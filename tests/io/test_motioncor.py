"""What MotionCor2 and MotionCor3 tell of motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from focusnb.errors import FormatError
from focusnb.io.motioncor import file_name, read_motioncor, read_movie_size, stem_of
from tests.project.finished_work import shifts_of, write_motioncor, write_output

EXPECTED = {
    # frames, first and last shift (dy, dx), (t, y, x), Å/px, e⁻/Å² per frame
    "29123499.motioncor2.log": (28, (5.76, -2.55), (-1.61, 1.39), (28, 4092, 5760), 0.65, 2.16),
    "30117940.motioncor2.log": (40, (0.39, -1.18), (0.27, 0.25), (40, 4092, 5760), 0.83, 1.45),
    "30157838.motioncor2.log": (40, (0.19, 0.77), (-0.55, 0.41), (40, 4092, 5760), 0.83, 1.33),
    "motioncor2_1.5.0_log.txt": (16, (8.51, 2.46), (-4.60, -1.32), (16, 4096, 4096), 0.73, 3.23),
    "motioncor2_1.6.4_log.txt": (16, (0.0, 0.0), (-13.12, -3.79), (16, 4096, 4096), 0.73, 3.23),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_words_of_the_versions(data: Path, name: str) -> None:
    count, first, last, shape, pixel_size, dose = EXPECTED[name]
    log = read_motioncor(data / "motioncor2_logs" / name)
    assert len(log.shifts) == count
    np.testing.assert_allclose(log.shifts[[0, -1]], [first, last])
    assert (log.shape, log.first_frame, log.number("PixSize"), log.number("FmDose")) == (shape, 1, pixel_size, dose)
    assert (log.number("kV"), log.program, log.is_eer) == (300.0, "MotionCor2", "eer" in log.movie_name)
    assert file_name(log.output_name).endswith("_c.mrc")
    # an option without a value has none, and is not the next line's
    assert "InSuffix" not in log.options
    assert log.number("DefectFile") is None


def test_two_versions_agree_on_one_movie(data: Path) -> None:
    old, new = (
        read_motioncor(data / "motioncor2_logs" / f"motioncor2_{version}_log.txt") for version in ("1.5.0", "1.6.4")
    )
    assert old.movie_name == new.movie_name
    # they were given different options, and found nearly the same
    difference = (old.shifts - old.shifts[0]) - new.shifts
    assert np.abs(difference).max() < 1.2


def test_appion_turns_the_signs(data: Path, tmp_path: Path) -> None:
    log = read_motioncor(data / "motioncor2_logs" / "23mar23b_a_00038gr_00003sq_v02_00008hl_v01_00002ex_st_Log.txt")
    assert (len(log.shifts), log.first_frame, log.shape) == (80, 1, None)
    np.testing.assert_allclose(log.shifts[0], [-1.195, 1.165])
    line = "......Add Frame #00{} with xy shift: {}\n"
    text = f"Sum Frame #002 - #003:\n{line.format(2, '1.0 -2.0')}{line.format(3, '0 0')}"
    path = tmp_path / "m_Log.txt"
    path.write_text(text)
    log = read_motioncor(path)
    assert (log.shifts.tolist(), log.first_frame) == ([[2.0, -1.0], [0.0, 0.0]], 3)
    path.write_text(text.replace("#003 with", "#004 with"))
    with pytest.raises(FormatError, match="frame 3 is missing, 4 stands in its place"):
        read_motioncor(path)


@pytest.mark.parametrize("tabular", [False, True])
def test_options_and_frames_thrown_away(tmp_path: Path, tabular: bool) -> None:
    shifts = shifts_of("a")
    path = write_output(tmp_path / "a.log", "a", shifts, tabular=tabular)
    log = read_motioncor(path)
    np.testing.assert_allclose(log.shifts, shifts, atol=5e-4)
    assert (log.first_frame, log.shape, log.version) == (2, (9, 256, 256), "1.4.7")
    assert (log.number("FtBin"), log.number("InitDose"), log.number("Gain")) == (2.0, 0.5, None)
    assert (log.movie_name, log.output_name) == ("/x/a.tif", "/gone/a_c.mrc")


def test_the_log_of_the_whole_frame(tmp_path: Path) -> None:
    folder = write_motioncor(tmp_path)
    log = read_motioncor(folder / "b-Patch-Full.log")
    np.testing.assert_allclose(log.shifts, shifts_of("b"), atol=6e-3)
    assert (log.first_frame, log.options, log.shape) == (1, {}, None)
    assert read_movie_size(folder / "b-Patch-Patch.log") == (8, 256, 256)
    with pytest.raises(FormatError, match="holds the shifts of patches; give the log that ends with -Full"):
        read_motioncor(folder / "b-Patch-Patch.log")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("m_1-Full.log", "m_1"),
        ("m_1-Patch-Full.log", "m_1"),
        ("m_10-Patch-Full.log", "m_1"),
        ("m_1-patch-Full.log", "m_1"),
        ("m_1-patch-Patch.log", "m_1"),
        ("m_1-Patch-Frame.log", "m_1"),
        ("m_1_Log.txt", "m_1"),
        ("m_1.log", "m_1"),
    ],
)
def test_names_of_logs(name: str, stem: str) -> None:
    assert stem_of(name) == stem


def test_cut_off_at_any_byte_it_is_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    for tabular in (False, True):
        text = write_output(path, "a", shifts_of("a"), tabular=tabular).read_text()
        whole = read_motioncor(path).shifts
        for end in range(len(text)):
            path.write_text(text[:end])
            try:
                found = read_motioncor(path).shifts
            except FormatError:
                continue
            np.testing.assert_array_equal(found, whole)
    # the log of the whole frame has no end of its own: only whole lines are read
    text = "# Full\n" + "".join(f"{n:4d} {n / 3:8.2f} {-n / 7:8.2f}\n" for n in range(1, 12))
    for end in range(len(text)):
        path.write_text(text[:end])
        try:
            found = read_motioncor(path).shifts
        except FormatError:
            continue
        assert text[end - 1] == "\n"
        assert len(found) == text[:end].count("\n") - 1


def test_what_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    wrong = {
        "hello\nworld\n": "frame, x and y belong there",
        "# nothing\n": "holds 0 shifts",
        "1 0 0\n3 1 1\n": "frame 2 is missing, 3 stands in its place",
        "1 0 0\n2 nan 1\n": "1 of 2 shifts are no numbers",
        "1 0 0\n2 a 1\n": "the shift of frame 2 is 'a', '1'",
        "Full-frame alignment shift\nFull-frame alignment shift\n": "holds the motion of 2 movies",
        "Full-frame alignment shift\n\n": "lists 0 shifts; did MotionCor finish",
    }
    for text, told in wrong.items():
        path.write_text(text)
        with pytest.raises(FormatError, match=told):
            read_motioncor(path)
    path.write_text(write_output(path, "a", shifts_of("a")).read_text().replace("256  256  9", "256  256  20"))
    with pytest.raises(FormatError, match="has shifts of 8 frames, the movie has 20"):
        read_motioncor(path)
    path.write_bytes(b"\0\1")
    with pytest.raises(FormatError, match="is not text"):
        read_motioncor(path)
