"""Gctf's logs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from focusnb.errors import FormatError
from focusnb.io.ctf_record import CtfOptics, CtfSearch
from focusnb.io.gctf import read_gctf_epa, read_gctf_log

LOG = """\x1b[32mGctf, running on GPU 0\x1b[0m
 Input image file name
Micrographs/a 1.mrc
 Output diagnostic file name
Micrographs/a 1.ctf
 CS[mm], HT[kV], AmpCnst, XMAG, DStep[um]
  2.7    300.0    0.10   130841.1    14.000
 Box, ResMin[A], ResMax[A], dFMin[A], dFMax[A], FStep[A], dAst[A]
  1024   50.0    4.0   5000.0  90000.0    500.0  1000.0

Cycle: 12
            24401.23   21649.58      34.52 736.376770
**************************************   LAST CYCLE    ********************************************

   Defocus_U   Defocus_V       Angle         CCC
    24401.23    23649.58      134.52    0.180863  Final Values

\x1b[1;31mResolution limit estimated by EPA: 3.464 \x1b[0m
Processing done successfully.
"""
PHASE = LOG.replace("a 1", "b").replace(
    "    24401.23    23649.58      134.52    0.180863  Final Values",
    "    13401.23    13649.58      -10.52    87.50    0.200863  Final Values",
)
EPA = """  Resolution    |CTFsim|    EPA( Ln|F| )    EPA(Ln|F| - Bg)    CCC
   20.000   0.100   8.10   0.20   0.99
   10.000   0.900   7.10   0.30   0.95
    5.000   0.300   6.10  -0.20   0.40
"""


def test_a_log_with_escapes(tmp_path: Path) -> None:
    (tmp_path / "a_gctf.log").write_text(LOG)
    [ctf] = read_gctf_log(tmp_path / "a_gctf.log")
    assert (ctf.micrograph, ctf.program, ctf.ctf_quality) == ("Micrographs/a 1.mrc", "Gctf", "ok")
    assert (ctf.defocus_u, ctf.defocus_v, ctf.phase_shift) == (24401.23, 23649.58, None)
    assert ctf.astigmatism_angle == pytest.approx(-45.48)
    assert (ctf.ctf_score, ctf.ctf_fit_resolution) == (0.180863, 3.464)
    assert ctf.optics == CtfOptics(pytest.approx(1.07, abs=1e-4), 300.0, 2.7, 0.1)
    assert ctf.search == CtfSearch(1024, 50.0, 4.0, 5000.0, 90000.0)


def test_a_phase_shift_is_in_degrees_and_v_may_be_the_larger(tmp_path: Path) -> None:
    (tmp_path / "b_gctf.log").write_text(PHASE)
    [ctf] = read_gctf_log(tmp_path / "b_gctf.log")
    assert (ctf.defocus_u, ctf.defocus_v) == (13649.58, 13401.23)
    assert ctf.astigmatism_angle == pytest.approx(79.48)
    assert (ctf.phase_shift, ctf.ctf_score) == (87.5, 0.200863)


def test_logs_put_together(tmp_path: Path) -> None:
    (tmp_path / "all.log").write_text(LOG + PHASE)
    first, second = read_gctf_log(tmp_path / "all.log")
    assert (first.micrograph, first.number, first.defocus_u) == ("Micrographs/a 1.mrc", 1, 24401.23)
    assert (second.micrograph, second.number, second.defocus_u) == ("Micrographs/b.mrc", 2, 13649.58)


def test_a_log_without_header_and_resolution(tmp_path: Path) -> None:
    text = "   Defocus_U   Defocus_V  Angle  CCC\n  100.0  99.0  3.0  0.18  Final Values\n"
    (tmp_path / "c 3_gctf.log").write_text(text)
    [ctf] = read_gctf_log(tmp_path / "c 3_gctf.log")
    assert (ctf.micrograph, ctf.ctf_fit_resolution, ctf.optics) == ("c 3", None, CtfOptics())


@pytest.mark.parametrize("last", ["nan", "inf", "0.000"])
def test_a_limit_that_is_not_finite_fails(tmp_path: Path, last: str) -> None:
    (tmp_path / "a_gctf.log").write_text(LOG.replace("EPA: 3.464", f"EPA: {last}"))
    [ctf] = read_gctf_log(tmp_path / "a_gctf.log")
    assert (ctf.ctf_fit_resolution, ctf.ctf_quality) == (None, "failed")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Final Values", "Values", "no line of Final Values for micrograph 1"),
        ("134.52    0.180863", "134.52", "'24401.23 23649.58 134.52' for Final Values, 4 or 5 numbers"),
        ("0.180863", "0.18x", "for Final Values"),
        ("EPA: 3.464", "EPA: ???", "for the resolution limit"),
        ("  2.7    300.0", "  2.7", r"for CS\[mm\], HT\[kV\], 5 numbers"),
        ("successfully.\n", "succ", "has no end"),
    ],
)
def test_damaged_logs(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in LOG
    (tmp_path / "a_gctf.log").write_text(LOG.replace(old, new))
    with pytest.raises(FormatError, match=words):
        read_gctf_log(tmp_path / "a_gctf.log")


def test_epa(tmp_path: Path) -> None:
    (tmp_path / "a_EPA.log").write_bytes(EPA.replace("\n", "\r\n").encode("utf-8-sig"))
    averages = read_gctf_epa(tmp_path / "a_EPA.log")
    np.testing.assert_allclose(averages.frequency, [0.05, 0.1, 0.2])
    np.testing.assert_array_equal(averages.fit, [0.1, 0.9, 0.3])
    np.testing.assert_array_equal(averages.measured, [8.1, 7.1, 6.1])
    np.testing.assert_array_equal(averages.flattened, [0.2, 0.3, -0.2])
    np.testing.assert_array_equal(averages.quality, [0.99, 0.95, 0.4])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (EPA, " ", "is empty"),
        (EPA, "title\n", "holds no rings"),
        ("0.30   0.95", "0.30", "line 3 has 4 words, 5 numbers belong"),
        ("   0.95", "   good", "line 3 has 5 words"),
        ("    5.000", "   15.000", "do not fall"),
        ("0.40\n", "0.4", "line 4 has no end"),
    ],
)
def test_damaged_epa(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in EPA
    (tmp_path / "a_EPA.log").write_text(EPA.replace(old, new))
    with pytest.raises(FormatError, match=words):
        read_gctf_epa(tmp_path / "a_EPA.log")
