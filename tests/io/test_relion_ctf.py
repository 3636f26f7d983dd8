"""RELION's micrographs_ctf.star, old and new, and Gctf's table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.errors import FormatError
from focusnb.io import star
from focusnb.io.ctf_record import CtfOptics, MicrographCtf
from focusnb.io.relion_ctf import read_micrographs_ctf, write_micrographs_ctf

OPTICS = CtfOptics(
    micrograph_pixel_size=0.885, voltage=200.0, spherical_aberration=1.4, amplitude_contrast=0.1, pixel_size=0.885
)
CTF = MicrographCtf("a.mrc", 10863.857, 10575.722, 77.967, None, 0.131, 4.809, optics=OPTICS)
OLD = """
data_

loop_
_rlnMicrographName #1
_rlnDefocusU #2
_rlnDefocusV #3
_rlnDefocusAngle #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
_rlnMagnification #8
_rlnDetectorPixelSize #9
_rlnCtfFigureOfMerit #10
_rlnPhaseShift #11
a.mrc 10863.8 10575.7 217.5 200.0 1.4 0.1 10000.0 1.06 0.13 45.0
b.mrc 10575.7 10863.8 -12.5 200.0 1.4 0.1 10000.0 1.06 0.13 nan
c.mrc nan 10863.8 -12.5 200.0 1.4 0.1 10000.0 1.06 None 0.0
"""
REAL = [
    "ctf_spectra_empiar10204/micrographs_ctf.star",
    "em-testdata/micrographs_ctf.star",
    "relion_empiar10204/precalculated/CtfFind__job003__micrographs_ctf.star",
]


@pytest.mark.parametrize("name", REAL)
def test_real_tables_come_back(data: Path, tmp_path: Path, name: str) -> None:
    theirs = read_micrographs_ctf(data / name)
    assert {ctf.ctf_quality for ctf in theirs} == {"ok"}
    assert {ctf.optics for ctf in theirs} == {replace(OPTICS, name="opticsGroup1", mtf_name="mtf_k2_200kV.star")}
    assert write_micrographs_ctf(tmp_path / "b.star", theirs) == []
    for again, ctf in zip(read_micrographs_ctf(tmp_path / "b.star"), theirs, strict=True):
        assert again.defocus_u == pytest.approx(ctf.defocus_u, abs=1e-3)
        assert again.defocus_v == pytest.approx(ctf.defocus_v, abs=1e-3)
        assert replace(again, defocus_u=ctf.defocus_u, defocus_v=ctf.defocus_v) == ctf
    ours, blocks = star.read(tmp_path / "b.star"), star.read(data / name)
    assert list(ours) == list(blocks) == ["optics", "micrographs"]
    for block in blocks:
        table, expected = ours[block], blocks[block]
        assert not isinstance(table, dict)
        assert not isinstance(expected, dict)
        assert list(table.columns) == list(expected.columns)
        for column in expected.columns:
            if expected[column].dtype.kind in "if":
                # the astigmatism is the difference of numbers that RELION writes with two digits less
                np.testing.assert_allclose(table[column], expected[column], rtol=1e-7, atol=2e-3, err_msg=column)
            else:
                assert list(table[column]) == list(expected[column])


def test_real_values(data: Path) -> None:
    ctf = read_micrographs_ctf(data / REAL[0])[0]
    assert ctf.micrograph == "MotionCorr/job002/Movies/20170629_00021_frameImage.mrc"
    assert ctf.ctf_image == "CtfFind/job003/Movies/20170629_00021_frameImage_PS.ctf:mrc"
    assert (ctf.defocus_u, ctf.defocus_v, ctf.astigmatism_angle) == (10863.857422, 10575.721680, 77.967194)
    assert (ctf.ctf_score, ctf.ctf_fit_resolution, ctf.phase_shift, ctf.program) == (0.131144, 4.809192, None, "RELION")


def test_the_angle_is_counted_as_ours(data: Path) -> None:
    """The fit to a real spectrum in the frame of the MRC file agrees with RELION's angle; flipped, it does not."""
    from focusnb.io.images import read_image
    from focusnb.ops.ctf import Optics, estimate_ctf

    spectrum = read_image(data / "ctf_spectra_empiar10204" / "20170629_00028_frameImage_PS.mrc").data
    [ctf] = [ctf for ctf in read_micrographs_ctf(data / REAL[0]) if "00028" in ctf.micrograph]
    assert ctf.astigmatism_angle is not None
    optics = Optics(pixel_size=1.39955, voltage=200.0, spherical_aberration=1.4, amplitude_contrast=0.1)
    off = []
    # row 0 of the spectrum is the frequency that has no opposite, so it stays where it is
    for seen in (spectrum, np.roll(spectrum[::-1], 1, axis=0)):
        angle = estimate_ctf(seen, optics=optics).astigmatism_angle
        assert angle is not None
        off.append(abs((angle - ctf.astigmatism_angle + 90) % 180 - 90))
    assert off[0] < 8
    assert off[1] > 15


def test_gctf_table(data: Path) -> None:
    records = read_micrographs_ctf(data / "ctffind_outputs" / "micrographs_all_gctf.star")
    assert [ctf.ctf_quality for ctf in records] == ["ok", "ok", "failed", "poor", "ok", "poor", "poor", "poor"]
    first, fourth = records[0], records[3]
    assert (first.program, first.ctf_score, first.ctf_fit_resolution) == ("Gctf", 0.24338, 3.240843)
    assert (first.defocus_u, first.defocus_v, first.astigmatism_angle) == (54132.816406, 53882.808594, 34.349960)
    assert first.optics == CtfOptics(pytest.approx(1.07), 300.0, 2.7, 0.1)
    # row 4 gives V > U
    assert (fourth.defocus_u, fourth.defocus_v) == (30798.728125, 18982.021875)
    assert fourth.astigmatism_angle == pytest.approx(13.662141 - 90)


def test_tilt_images_of_low_score_are_not_ok(data: Path) -> None:
    records = read_micrographs_ctf(data / "relion_tomo_star" / "relion_ctf_estimation_output.star")
    assert len(records) == 41
    assert {ctf.ctf_quality for ctf in records} == {"poor", "failed"}
    capped = [ctf for ctf in records if ctf.ctf_fit_resolution == 25]
    assert len(capped) > 1
    assert all(ctf.ctf_quality == "failed" and "beyond 25 Å" in ctf.reason for ctf in capped)


def test_the_old_format(tmp_path: Path) -> None:
    (tmp_path / "a.star").write_text(OLD)
    first, second, third = read_micrographs_ctf(tmp_path / "a.star")
    assert first.optics == CtfOptics(pytest.approx(1.06), 200.0, 1.4, 0.1)
    assert (first.astigmatism_angle, first.phase_shift, first.ctf_quality) == (37.5, 45.0, "ok")
    assert (second.defocus_u, second.defocus_v, second.astigmatism_angle) == (10863.8, 10575.7, 77.5)
    assert second.phase_shift is None
    assert (third.defocus_u, third.ctf_score, third.ctf_quality) == (None, None, "failed")


@pytest.mark.parametrize(("ending", "encoding"), [("\r\n", "utf-8"), ("\n", "utf-8-sig"), ("\r\n", "utf-8-sig")])
def test_line_ends_and_marks(tmp_path: Path, ending: str, encoding: str) -> None:
    (tmp_path / "a.star").write_bytes(OLD.replace("\n", ending).encode(encoding))
    assert [ctf.micrograph for ctf in read_micrographs_ctf(tmp_path / "a.star")] == ["a.mrc", "b.mrc", "c.mrc"]


def test_different_optics_are_different_groups(tmp_path: Path) -> None:
    other = replace(OPTICS, voltage=300.0, mtf_name="k3.star")
    binned = replace(OPTICS, micrograph_pixel_size=1.77)
    written = [
        CTF, replace(CTF, micrograph="b.mrc", optics=other), replace(CTF, micrograph="c.mrc", optics=binned),
        replace(CTF, micrograph="d.mrc"),
    ]  # fmt: skip
    write_micrographs_ctf(tmp_path / "a.star", written, comment="focusnb")
    blocks = star.read(tmp_path / "a.star")
    optics, table = blocks["optics"], blocks["micrographs"]
    assert list(optics["rlnOpticsGroup"]) == [1, 2, 3]
    assert list(optics["rlnOpticsGroupName"]) == ["opticsGroup1", "opticsGroup2", "opticsGroup3"]
    assert list(optics["rlnMtfFileName"]) == ["None", "k3.star", "None"]
    assert list(optics["rlnVoltage"]) == [200, 300, 200]
    assert list(optics["rlnMicrographOriginalPixelSize"]) == [0.885] * 3
    assert list(optics["rlnMicrographPixelSize"]) == [0.885, 0.885, 1.77]
    assert list(table["rlnOpticsGroup"]) == [1, 2, 3, 1]
    read = read_micrographs_ctf(tmp_path / "a.star")
    assert [replace(ctf.optics, name="") for ctf in read] == [ctf.optics for ctf in written]
    assert (tmp_path / "a.star").read_text().startswith("# focusnb\n# version 30001\n")


def test_columns_are_written_only_where_they_are_used(tmp_path: Path) -> None:
    plain = [
        "rlnMicrographName", "rlnOpticsGroup", "rlnDefocusU", "rlnDefocusV", "rlnCtfAstigmatism", "rlnDefocusAngle",
        "rlnCtfFigureOfMerit", "rlnCtfMaxResolution",
    ]  # fmt: skip
    write_micrographs_ctf(tmp_path / "a.star", [CTF])
    blocks = star.read(tmp_path / "a.star")
    assert list(blocks["micrographs"]) == plain
    assert "rlnMtfFileName" not in blocks["optics"]
    assert list(blocks["micrographs"]["rlnCtfAstigmatism"]) == [pytest.approx(288.135)]
    shifted = replace(CTF, micrograph="b.mrc", phase_shift=87.5, ctf_image="b.ctf:mrc", ctf_fit_resolution=None)
    write_micrographs_ctf(tmp_path / "a.star", [CTF, shifted])
    table = star.read(tmp_path / "a.star")["micrographs"]
    assert list(table["rlnPhaseShift"]) == [0, 87.5]
    assert list(table["rlnCtfImage"]) == ["None", "b.ctf:mrc"]
    assert list(table["rlnCtfMaxResolution"]) == [4.809, 25]
    assert [ctf.ctf_image for ctf in read_micrographs_ctf(tmp_path / "a.star")] == ["", "b.ctf:mrc"]


def test_failed_fits_are_left_out_and_named(tmp_path: Path) -> None:
    wrong = replace(CTF, micrograph="wrong.mrc", ctf_quality="failed")
    empty = MicrographCtf("empty.mrc", optics=OPTICS)
    assert write_micrographs_ctf(tmp_path / "a.star", [wrong, CTF, empty]) == ["wrong.mrc", "empty.mrc"]
    assert [ctf.micrograph for ctf in read_micrographs_ctf(tmp_path / "a.star")] == ["a.mrc"]


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "none of 0 micrographs"),
        ([MicrographCtf("a.mrc")], "none of 1 micrographs"),
        ([replace(CTF, optics=replace(OPTICS, voltage=None))], "a.mrc has no voltage"),
        (
            [replace(CTF, optics=replace(OPTICS, name="x", voltage=kv)) for kv in (200.0, 300.0)],
            "two optics groups are called x",
        ),
    ],
)
def test_what_relion_could_not_use_is_not_written(tmp_path: Path, records: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_micrographs_ctf(tmp_path / "a.star", records)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("_rlnDefocusAngle", "_rlnOther", r"lacks rlnDefocusAngle \(data_optics, data_micrographs\)"),
        ("data_micrographs", "data_particles", "holds particles"),
        ("data_optics", "data_other", "row 1"),
        ("a.mrc\t1", "a.mrc\t2", "row 1 belongs to optics group 2, data_optics has 1"),
        ("10863.857", "1086x", "row 1 has '1086x' for rlnDefocusU where a number belongs"),
        ("4.809\n", "4.8", "has no end; was the file copied while being written"),
    ],
)
def test_damaged_tables(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "a.star"
    write_micrographs_ctf(path, [CTF])
    text = path.read_text().rstrip("\n") + "\n"
    assert old in text
    path.write_text(text.replace(old, new))
    if old == "data_optics":
        # without its optics a table is read, and says of no optics what they are
        assert read_micrographs_ctf(path)[0].optics == CtfOptics()
        return
    with pytest.raises(FormatError, match=words):
        read_micrographs_ctf(path)
