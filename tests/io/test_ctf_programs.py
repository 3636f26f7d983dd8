"""Results told apart by what they hold; files cut off at every byte."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from focusnb.errors import FormatError
from focusnb.io.ctf_programs import read_ctf
from focusnb.io.ctffind import read_ctffind, read_ctffind_averages, read_ctffind_tilt_search
from focusnb.io.gctf import read_gctf_epa, read_gctf_log
from focusnb.io.relion_ctf import read_micrographs_ctf
from tests.io.test_ctffind import VERSION_5
from tests.io.test_gctf import EPA, LOG, PHASE
from tests.io.test_relion_ctf import OLD


@pytest.mark.parametrize(
    ("text", "program"), [(VERSION_5, "CTFFIND 5.0.2"), (LOG, "Gctf"), (OLD, "RELION"), ("\ufeff" + OLD, "RELION")]
)
def test_the_content_tells_the_program(tmp_path: Path, text: str, program: str) -> None:
    (tmp_path / "result.dat").write_text(text)
    assert {ctf.program for ctf in read_ctf(tmp_path / "result.dat")} == {program}


@pytest.mark.parametrize(
    "name",
    [
        "relion_empiar10204/ctffind_failed_run/20170629_00021_frameImage_PS.txt",
        "ctffind_outputs/micrographs_all_gctf.star",
        "em-testdata/micrographs_ctf.star",
    ],
)
def test_real_results(data: Path, name: str) -> None:
    assert all(ctf.defocus_u and ctf.defocus_v for ctf in read_ctf(data / name))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\r\n \r\n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is not text"),
        (LOG.encode("utf-16"), "is not text"),
        (b"defocus,score\n1,2\n", "no summary of CTFFIND, no log of Gctf and no STAR table; give the file"),
        (b"<html></html>\n", "no summary of CTFFIND"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(FormatError, match=words):
        read_ctf(tmp_path / "a.txt")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="there is no such file"):
        read_ctf(tmp_path / "a.txt")


def test_real_files_of_other_kinds(data: Path) -> None:
    wrong = [
        "em-testdata/corrected_micrographs.star",
        "em-testdata/autopick.star",
        "em-testdata/movie_frameImage.star",
        "relion_empiar10204/ctffind_failed_run/20170629_00021_frameImage_PS_avrot.txt",
        "relion_empiar10204/ctffind_failed_run/20170629_00021_frameImage_PS_ctffind4.log",
        "relion_empiar10204/picks_and_particles/20170629_00021_frameImage.mrcs",
        "mdoc/TS_01.mrc.mdoc",
    ]
    for name in wrong:
        with pytest.raises(FormatError, match=str(data / name)):
            read_ctf(data / name)


AVERAGES = VERSION_5[: VERSION_5.index("# Columns")].replace("micrographs: 3", "micrographs: 1") + (
    "0.0 0.1 0.2\n1.0 2.0 3.0\n1.0 2.0 3.0\n0.1 0.5 0.9\n1.0 0.9 0.8\n0.0 0.3 0.2\n"
)
TILT = '{"tilt_axis_and_angle_search": [\n [0, 0, 0.125],\n [10, 5, 0.5]\n]}'
CASES: list[tuple[Callable[[Path], Any], str]] = [
    (read_ctffind, VERSION_5),
    (read_ctffind_averages, AVERAGES),
    (read_ctffind_tilt_search, TILT),
    (read_gctf_log, LOG + PHASE),
    (read_gctf_epa, EPA),
    (read_micrographs_ctf, OLD),
    (read_ctf, VERSION_5),
]


@pytest.mark.parametrize(("reader", "text"), CASES)
def test_files_cut_off_at_every_byte(tmp_path: Path, reader: Callable[[Path], Any], text: str) -> None:
    content, path = text.encode(), tmp_path / "a.txt"
    path.write_bytes(content)
    reader(path)
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with suppress(FormatError):
            reader(path)


@pytest.mark.parametrize(("reader", "text"), CASES)
def test_what_is_cut_off_within_its_last_number_is_refused(
    tmp_path: Path, reader: Callable[[Path], Any], text: str
) -> None:
    path = tmp_path / "a.txt"
    for count in (1, 2, 3):
        path.write_text(text[:-count])
        with pytest.raises(FormatError):
            reader(path)


@pytest.mark.parametrize(("reader", "text"), CASES)
def test_damaged_bytes_never_raise_anything_else(tmp_path: Path, reader: Callable[[Path], Any], text: str) -> None:
    content, path, chance = text.encode(), tmp_path / "a.txt", random.Random(7)
    words = [*b"inf|-nan|1e400|-|'|#|_|\xff|\t|\n|\r|0|data_".split(b"|"), b"9" * 400, b'"']
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(damaged))
            damaged[place : place + chance.randint(0, 12)] = chance.choice(words)
        path.write_bytes(bytes(damaged))
        with suppress(FormatError):
            reader(path)


def test_real_tables_cut_off_at_every_byte(data: Path, tmp_path: Path) -> None:
    content = (data / "ctffind_outputs" / "micrographs_all_gctf.star").read_bytes()
    path = tmp_path / "a.star"
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with suppress(FormatError):
            assert len(read_micrographs_ctf(path)) <= 8


def test_real_tables_cut_off_and_ended(data: Path, tmp_path: Path) -> None:
    """As a program that stops ends its last line: nothing tells then, but nothing else is raised either."""
    content = (data / "em-testdata" / "micrographs_ctf.star").read_bytes()
    for end in range(0, len(content), 29):
        (tmp_path / "a.star").write_bytes(content[:end] + b"\n")
        with suppress(FormatError):
            read_micrographs_ctf(tmp_path / "a.star")
