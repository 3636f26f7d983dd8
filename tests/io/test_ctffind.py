"""CTFFIND's files: read as it writes them, written as others read them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from focusnb.errors import FormatError
from focusnb.io.ctf_record import CtfOptics, CtfSearch, MicrographCtf, RingAverages
from focusnb.io.ctffind import (
    read_ctffind,
    read_ctffind_averages,
    read_ctffind_tilt_search,
    write_ctffind,
    write_ctffind_averages,
)

OPTICS = CtfOptics(micrograph_pixel_size=1.4, voltage=200.0, spherical_aberration=1.4, amplitude_contrast=0.1)
SEARCH = CtfSearch(box=512, resolution_low=30.0, resolution_high=5.0, defocus_min=5000.0, defocus_max=50000.0)
GOOD = MicrographCtf("a", 9836.5, 9586.7, 70.3, 0.0, 0.169, 3.6, optics=OPTICS, search=SEARCH)
WHEN = datetime(2024, 8, 30, 16, 5, 30)

HEADER = """# Output from CTFFind version {version}, run on 2025-02-13 21:14:21
# Input file: /data/my movies/stack_1.mrc ; Number of micrographs: {count}
# Pixel size: 0.930 Angstroms ; acceleration voltage: 300.0 keV ; spherical aberration: 2.70 mm ; \
amplitude contrast: 0.07
# Box size: 512 pixels ; min. res.: 30.0 Angstroms ; max. res.: 3.5 Angstroms ; min. def.: 0.0 um; max. def. 50000.0 um
# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2
"""
VERSION_5 = HEADER.format(version="5.0.2", count=3) + (
    "1.000000 8984.742188 8709.236328 45.948771 1.570796 0.446317 3.720000 221.912292 12.251187 1619.773438\n"
    "2.000000 8709.236328 8984.742188 45.948771 0.000000 0.446317 inf 10.0 12.25 0.000000\n"
    "3.000000 8984.742188 8709.236328 -90.0 0.000000 -nan nan 0.0 0.0 0.000000\n"
)
FAILED = "relion_empiar10204/ctffind_failed_run"


def test_a_stack_of_version_5(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(VERSION_5)
    first, second, third = read_ctffind(tmp_path / "a.txt")
    assert first.micrograph == "/data/my movies/stack_1.mrc"
    assert first.program == "CTFFIND 5.0.2"
    assert [ctf.number for ctf in (first, second, third)] == [1, 2, 3]
    assert (first.defocus_u, first.defocus_v, first.astigmatism_angle) == (8984.742188, 8709.236328, 45.948771)
    assert first.phase_shift == pytest.approx(90, abs=1e-4)
    assert (first.ctf_score, first.ctf_fit_resolution, first.ctf_quality) == (0.446317, 3.72, "ok")
    # 221.9° is 41.9° seen from the other end, where the tilt has the other sign
    assert (first.tilt_axis_fitted, first.tilt_angle_fitted) == (pytest.approx(41.912292), -12.251187)
    assert first.thickness_fitted == 1619.773438
    assert first.optics == CtfOptics(0.93, 300.0, 2.7, 0.07)
    assert first.search == CtfSearch(512, 30.0, 3.5, 0.0, 50000.0)
    assert (second.defocus_u, second.defocus_v) == (8984.742188, 8709.236328)
    assert second.astigmatism_angle == pytest.approx(-44.051229)
    assert (second.ctf_fit_resolution, second.ctf_quality) == (None, "failed")
    assert (second.tilt_axis_fitted, second.tilt_angle_fitted, second.thickness_fitted) == (10.0, 12.25, None)
    assert third.astigmatism_angle == 90
    assert (third.ctf_score, third.ctf_fit_resolution, third.ctf_quality) == (None, None, "failed")
    assert (third.tilt_axis_fitted, third.tilt_angle_fitted, third.thickness_fitted) == (None, None, None)


def test_the_failed_run_is_flagged(data: Path) -> None:
    expected = {
        "20170629_00021": (37034.929688, 35846.542969, -14.849661, 0.017465, 9.554261),
        "20170629_00022": (41828.664062, 40649.269531, -20.385893, 0.033214, 7.961884),
        "20170629_00026": (49928.726562, 48217.093750, -8.509942, 0.023828, 9.186789),
    }
    for name, numbers in expected.items():
        [ctf] = read_ctffind(data / FAILED / f"{name}_frameImage_PS.txt")
        assert numbers == (
            ctf.defocus_u, ctf.defocus_v, ctf.astigmatism_angle, ctf.ctf_score, ctf.ctf_fit_resolution,
        )  # fmt: skip
        assert ctf.ctf_quality == "failed"
        assert "agree with the fit better than noise does" in ctf.reason
        assert (ctf.optics, ctf.search) == (OPTICS, SEARCH)


def test_the_failed_run_is_flagged_by_its_summary_alone(data: Path, tmp_path: Path) -> None:
    qualities = []
    for path in sorted((data / FAILED).glob("*_PS.txt")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        [ctf] = read_ctffind(tmp_path / path.name)
        qualities.append(ctf.ctf_quality)
    assert qualities == ["failed", "poor", "failed"]


def test_real_averages(data: Path) -> None:
    header, [rings] = read_ctffind_averages(data / "ctffind_outputs" / "mmm_CTF_0_avrot.txt")
    assert (header.version, header.count, header.optics.micrograph_pixel_size) == ("4.1.14", 1, 40.0)
    assert header.search == CtfSearch(512, 400.0, 80.0, 1e6, 4e6)
    assert {len(values) for values in vars(rings).values()} == {363}
    assert (rings.frequency[1], rings.frequency[-1]) == (0.000049, 0.017676)
    assert (rings.measured_circular[0], rings.measured[0]) == (0.03239, 2.052496)
    assert (rings.fit[0], rings.quality[0], rings.noise[-1]) == (0.07, 1, 0.234082)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_line_ends_and_encodings(tmp_path: Path, ending: str, encoding: str) -> None:
    text = VERSION_5.replace("my movies", "µ").replace("\n", ending)
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert [ctf.micrograph for ctf in read_ctffind(tmp_path / "a.txt")] == ["/data/µ/stack_1.mrc"] * 3


def rings(count: int = 40, seed: int = 1) -> RingAverages:
    rng = np.random.default_rng(seed)
    values = [np.round(rng.normal(size=count), 5) for _ in range(5)]
    return RingAverages(np.round(np.arange(count) / 500, 6), *values)


def shape(line: str) -> str:
    """A line with each number replaced by the count of its decimals, and without version, time and file."""
    line = re.sub(r"version.*", "version", line)
    line = re.sub(r"Input file: \S+", "Input file:", line)
    return re.sub(r"-?\d+(\.\d+)?(?![\w])", lambda found: f"<{len((found[1] or '.')[1:])}>", line)


def test_averages_are_written_as_ctffind_writes_them(data: Path, tmp_path: Path) -> None:
    for name in ("mmm_CTF_0_avrot.txt", "mmm_CTF_1_avrot.txt"):
        theirs = data / "ctffind_outputs" / name
        header, averages = read_ctffind_averages(theirs)
        write_ctffind_averages(
            tmp_path / "a.txt", averages, optics=header.optics, search=header.search, input_name=header.input_name,
            frames_averaged=3, written_at=WHEN,
        )  # fmt: skip
        ours, lines = (path.read_text().split("\n") for path in (tmp_path / "a.txt", theirs))
        assert ours[1:] == lines[1:]
        assert ours[0] == "# Output from CTFFind version 4.1.14, run on 2024-08-30 16:05:30 ; written by focusnb"
        assert [shape(line) for line in ours] == [shape(line) for line in lines]


def test_a_summary_is_written_as_ctffind_writes_it(data: Path, tmp_path: Path) -> None:
    theirs = data / FAILED / "20170629_00021_frameImage_PS.txt"
    [ctf] = read_ctffind(theirs)
    write_ctffind(tmp_path / "a.txt", [replace(ctf, ctf_quality="ok")], input_name=ctf.micrograph, written_at=WHEN)
    assert (tmp_path / "a.txt").read_text().split("\n")[1:] == theirs.read_text().split("\n")[1:]


def test_words_stand_where_relion_takes_them(tmp_path: Path) -> None:
    """RELION splits the line at blanks and takes the words 3, 8, 13 and 18, and the words below the Columns line."""
    optics = replace(OPTICS, micrograph_pixel_size=1.39955)
    ctf = replace(GOOD, phase_shift=90.0, optics=optics)
    write_ctffind(tmp_path / "a.txt", [ctf], input_name="a.mrc")
    lines = (tmp_path / "a.txt").read_text().splitlines()
    words = next(line for line in lines if "acceleration voltage:" in line).split()
    assert [words[place] for place in (3, 8, 13, 18)] == ["1.39955", "200.0", "1.40", "0.10"]
    below = next(place for place, line in enumerate(lines) if "Columns: " in line) + 1
    numbers = [float(word) for word in lines[below].split()]
    assert numbers == pytest.approx([1, 9836.5, 9586.7, 70.3, math.pi / 2, 0.169, 3.6], abs=1e-6)


def test_a_summary_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(VERSION_5)
    read = [replace(ctf, ctf_quality="ok", reason="") for ctf in read_ctffind(tmp_path / "a.txt")]
    write_ctffind(tmp_path / "b.txt", read, input_name=read[0].micrograph)
    for ours, theirs in zip(read_ctffind(tmp_path / "b.txt"), read, strict=True):
        for name in ("defocus_u", "defocus_v", "astigmatism_angle", "tilt_axis_fitted", "tilt_angle_fitted"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=1e-6), name
        assert ours.phase_shift == pytest.approx(theirs.phase_shift, abs=1e-4)
        assert (ours.ctf_fit_resolution, ours.thickness_fitted) == (theirs.ctf_fit_resolution, theirs.thickness_fitted)
        assert (ours.optics, ours.search) == (theirs.optics, theirs.search)


def test_a_failed_fit_is_written_as_failed(tmp_path: Path) -> None:
    wrong = replace(GOOD, defocus_u=37035.0, defocus_v=35846.0, ctf_score=0.017, ctf_quality="failed")
    write_ctffind(tmp_path / "a.txt", [wrong, GOOD], input_name="a.mrc")
    first, second = read_ctffind(tmp_path / "a.txt")
    assert (first.defocus_u, first.ctf_fit_resolution, first.ctf_quality) == (0.0, None, "failed")
    assert (second.defocus_u, second.ctf_quality, second.number) == (9836.5, "ok", 2)


def test_averages_of_a_stack_come_back(tmp_path: Path) -> None:
    written = [rings(seed=1), rings(count=30, seed=2)]
    write_ctffind_averages(tmp_path / "a_avrot.txt", written, optics=OPTICS, search=SEARCH, input_name="a.mrc")
    header, read = read_ctffind_averages(tmp_path / "a_avrot.txt")
    assert (header.count, header.optics, header.search, header.input_name) == (2, OPTICS, SEARCH, "a.mrc")
    for ours, theirs in zip(read, written, strict=True):
        for name, values in vars(theirs).items():
            np.testing.assert_array_equal(getattr(ours, name), values, err_msg=name)


@pytest.mark.parametrize(
    ("optics", "search", "words"),
    [
        (replace(OPTICS, voltage=None), SEARCH, "header needs voltage"),
        (OPTICS, replace(SEARCH, box=None), "header needs box"),
    ],
)
def test_what_is_not_known_is_not_written(tmp_path: Path, optics: CtfOptics, search: CtfSearch, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_ctffind(tmp_path / "a.txt", [MicrographCtf("a", optics=optics, search=search)], input_name="a")
    with pytest.raises(ValueError, match=words):
        write_ctffind_averages(tmp_path / "a.txt", [rings()], optics=optics, search=search, input_name="a")
    assert not list(tmp_path.iterdir())


def test_rows_of_different_length_are_not_written(tmp_path: Path) -> None:
    uneven = replace(rings(), noise=np.zeros(7))
    with pytest.raises(ValueError, match="micrograph 1 have 7 to 40 rings"):
        write_ctffind_averages(tmp_path / "a.txt", [uneven], optics=OPTICS, search=SEARCH, input_name="a")
    with pytest.raises(ValueError, match="no micrograph"):
        write_ctffind(tmp_path / "a.txt", [], input_name="a")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (VERSION_5, "", r"is empty \(0 bytes\)"),
        ("CTFFind version", "Whatever", "names CTFFind and its version"),
        ("micrographs: 3", "micrographs: 4", "header says 4 micrographs, it holds 3; was it copied"),
        ("0.446317 3.720000 221", "0.446317 3.72x 221", "line 6 holds '3.72x' where a number belongs"),
        (" 1619.773438", "", "line 6 has 9 numbers, CTFFIND 4 writes 7 and CTFFIND 5 10"),
        (" 1619.773438", " 1 2 3", "line 6 has 12 numbers, .* read_ctffind_averages"),
        ("300.0 keV", "high keV", "'high' for 'acceleration voltage'"),
        (" nan 0.0 0.0 0.000000\n", " nan 0.0 0.0 0.00", "line 8 has no end; was the file copied"),
        ("CTFFind", "CTF\0Find", "is not text: byte"),
        (VERSION_5[VERSION_5.index("1.000000 8984") :], "", "no numbers"),
    ],
)
def test_damaged_summaries(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in VERSION_5
    path = tmp_path / "a.txt"
    path.write_text(VERSION_5.replace(old, new, 1))
    with pytest.raises(FormatError, match=words) as caught:
        read_ctffind(path)
    assert str(caught.value).startswith(str(path))


def test_damaged_averages(tmp_path: Path) -> None:
    path = tmp_path / "a_avrot.txt"
    write_ctffind_averages(path, [rings()], optics=OPTICS, search=SEARCH, input_name="a.mrc")
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    for damaged, words in (
        ("".join(lines[:-1]), "has 5 rows, 6 belong to each micrograph"),
        ("".join([*lines[:-1], "0.5 0.5\n"]), "hold 2 to 40 numbers"),
        ("".join([*lines[:5], *lines[6:], lines[5]]), "do not rise"),
        (text.replace("micrographs: 1", "micrographs: 2"), "header says 2 micrographs, it holds 1"),
    ):
        path.write_text(damaged)
        with pytest.raises(FormatError, match=words):
            read_ctffind_averages(path)


def test_averages_of_another_stack_beside_a_summary(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(VERSION_5)
    write_ctffind_averages(tmp_path / "a_avrot.txt", [rings()], optics=OPTICS, search=SEARCH, input_name="a.mrc")
    with pytest.raises(FormatError, match=r"a_avrot.txt: holds 1 micrographs, a.txt beside it 3"):
        read_ctffind(tmp_path / "a.txt")


def test_a_summary_is_no_table_of_averages(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(VERSION_5)
    with pytest.raises(FormatError, match="has 3 rows, 6 belong to each"):
        read_ctffind_averages(tmp_path / "a.txt")


def test_a_real_tilt_search(data: Path) -> None:
    [path] = (data / "ctffind_outputs").glob("*tilt.json")
    search = read_ctffind_tilt_search(path)
    assert search.axis.shape == search.angle.shape == search.score.shape == (468,)
    assert (search.axis[:3].tolist(), search.angle.max(), search.score[0]) == ([0, 10, 20], 60, 0.1291206479)
    rows = json.loads(path.read_text())["tilt_axis_and_angle_search"]
    axis, angle, _ = max(rows, key=lambda row: row[2])
    assert (axis, angle) == (170, 20)
    assert (search.tilt_axis_fitted, search.tilt_angle_fitted) == (-10.0, -20.0)


def test_a_tilt_search_whose_best_is_no_tilt(tmp_path: Path) -> None:
    rows = [[axis, angle, 0.5 - angle / 100] for angle in (0, 10) for axis in (0, 90, 270)]
    (tmp_path / "a.json").write_text(json.dumps({"tilt_axis_and_angle_search": rows}))
    search = read_ctffind_tilt_search(tmp_path / "a.json")
    assert (search.tilt_axis_fitted, search.tilt_angle_fitted) == (None, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ('{"tilt_axis_and_angle_search": [[0, 0,', "is no JSON .*; is the file complete"),
        ("[1, 2]", "has no list tilt_axis"),
        ('{"tilt_axis_and_angle_search": []}', "has no list tilt_axis"),
        ('{"tilt_axis_and_angle_search": [[0, 0, 1], [0, 1]]}', "entry 2 of 2"),
        ('{"tilt_axis_and_angle_search": [[0, 0, NaN]]}', "entry 1 of 1"),
        ('{"tilt_axis_and_angle_search": [[0, 0, true]]}', "entry 1 of 1"),
        ('{"tilt_axis_and_angle_search": [[0, 0, 1' + "0" * 400 + "]]}", "entry 1 of 1"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_damaged_tilt_searches(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FormatError, match=words):
        read_ctffind_tilt_search(tmp_path / "a.json")
