"""ctf: images and spectra without a project, on images whose CTF is known."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.cli.ctf import COLUMNS
from focusnb.io import star
from focusnb.io.ctffind import read_ctffind_averages
from focusnb.io.images import read_image
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.project.project import Project
from tests.cli.test_cli import MAIN, Ended, focusnb
from tests.ops.thon import thon_image

FACTS = ("--set", "voltage=300", "--set", "spherical_aberration=2.7", "--set", "amplitude_contrast=0.1")
PIXEL = 1.06
FIRST, SECOND = (15600.0, 14900.0, 35.0), (21000.0, 20300.0, -60.0)
"""U and V in Å, angle of U in degrees."""


def tile_spectrum(image: np.ndarray, box: int = 512) -> np.ndarray:
    """Mean amplitudes of overlapping tapered tiles, origin in the middle: as many programs make spectra."""
    taper = np.sin(np.pi * (np.arange(box) + 0.5) / box)
    total = np.zeros((box, box))
    for y in range(0, image.shape[0] - box + 1, box // 4):
        for x in range(0, image.shape[1] - box + 1, box // 4):
            tile = image[y : y + box, x : x + box]
            total += np.abs(np.fft.fft2((tile - tile.mean()) * taper[:, None] * taper[None, :]))
    return np.fft.fftshift(total).astype(np.float32)


def write_spoiled(path: Path, image: np.ndarray, count: int) -> None:
    """Write an image whose first pixels are not numbers, which the writer refuses to write."""
    write_mrc(path, image, pixel_size=PIXEL)
    with path.open("r+b") as file:
        file.seek(-image.nbytes, os.SEEK_END)
        file.write(np.full(count, np.nan, np.float32).tobytes())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images with known CTF, the spectrum of one, noise, and files that are broken in different ways."""
    folder = tmp_path_factory.mktemp("images")
    first = thon_image((800, 900), PIXEL, FIRST, signal=2.0, seed=1)
    write_mrc(folder / "first.mrc", first, pixel_size=PIXEL)
    write_mrc(folder / "second.mrc", thon_image((900, 800), PIXEL, SECOND, signal=2.0, seed=2), pixel_size=PIXEL)
    write_mrc(folder / "spectrum.mrc", tile_spectrum(first), pixel_size=PIXEL)
    rng = np.random.default_rng(7)
    noise = rng.normal(0.0, 1.0, (700, 700)).astype(np.float32)
    write_mrc(folder / "noise.mrc", noise, pixel_size=PIXEL)
    (folder / "cut.mrc").write_bytes((folder / "noise.mrc").read_bytes()[:5000])
    write_spoiled(folder / "nan.mrc", noise, 2)
    write_tiff(folder / "movie.tif", rng.poisson(1.0, (5, 64, 64)).astype(np.uint8), compression="lzw")
    return folder


def rows_of(ended: Ended) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ended.out.decode())))


def check(row: dict[str, Any], truth: tuple[float, float, float], tolerance: float = 80.0) -> None:
    u, v, angle = truth
    assert float(row["defocus_u"]) == pytest.approx(u, abs=tolerance)
    assert float(row["defocus_v"]) == pytest.approx(v, abs=tolerance)
    assert float(row["astigmatism_angle"]) == pytest.approx(angle, abs=6)
    assert float(row["phase_shift"]) == 0.0
    assert 2.1 < float(row["ctf_fit_resolution"]) < 5.0
    assert float(row["ctf_score"]) > 0.1


def test_one_row_per_file_as_a_script_reads_it(files: Path) -> None:
    ended = focusnb("ctf", files / "first.mrc", files / "noise.mrc", files / "second.mrc", *FACTS)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.decode().splitlines()[0] == (
        "file,defocus_u,defocus_v,astigmatism_angle,phase_shift,ctf_score,ctf_fit_resolution,ctf_quality,"
        "ctf_probability,ctf_remark"
    )
    first, noise, second = rows_of(ended)
    assert [row["file"] for row in (first, noise, second)] == [
        str(files / name) for name in ("first.mrc", "noise.mrc", "second.mrc")
    ]
    check(first, FIRST)
    check(second, SECOND)
    assert {first["ctf_quality"], second["ctf_quality"]} <= {"ok", "poor"}
    # no CTF is a finding, not an error
    assert (noise["ctf_quality"], noise["defocus_u"], noise["ctf_fit_resolution"]) == ("failed", "", "")
    assert noise["ctf_remark"]


def test_results_are_those_of_a_project(files: Path, tmp_path: Path) -> None:
    with Project.create(tmp_path / "project", mode="single-particle") as project:
        project.add(files / "first.mrc", facts={"voltage": 300})
    assert focusnb("run", tmp_path / "project", "--until-idle", "--workers", 0).status == 0
    (of_project,) = json.loads(focusnb("table", tmp_path / "project", "--format", "json").out)
    (row,) = json.loads(focusnb("ctf", files / "first.mrc", *FACTS, "--format", "json").out)
    assert set(row) == set(COLUMNS)
    assert row["file"] == str(files / "first.mrc")
    assert {name: row[name] for name in COLUMNS[1:]} == {name: of_project[name] for name in COLUMNS[1:]}


def test_spectra(files: Path) -> None:
    ended = focusnb("ctf", files / "spectrum.mrc", "--spectrum", *FACTS)
    assert ended.status == 0, ended.err
    (row,) = rows_of(ended)
    check(row, FIRST)
    # parameters reach the fit: nothing is found where the defocus is not searched
    narrow = ("--param", "fit_ctf.defocus_min=30000", "--param", "fit_ctf.defocus_max=40000")
    (elsewhere,) = rows_of(focusnb("ctf", files / "spectrum.mrc", "--spectrum", *FACTS, *narrow))
    assert elsewhere["ctf_quality"] != "ok"


def test_the_header_tells_the_pixel_size_and_set_is_stronger(files: Path) -> None:
    ended = focusnb("ctf", files / "first.mrc", *FACTS, "--set", "pixel_size=1.166")
    (row,) = rows_of(ended)
    assert "first.mrc: pixel size is 1.166 Å/px by --set and 1.06 Å/px by the file's header; 1.166 Å/px is used" in (
        ended.err
    )
    # rings at frequencies lower by 1.1 belong to a defocus larger by about 1.1²
    assert float(row["defocus_u"]) == pytest.approx(1.21 * FIRST[0], rel=0.02)
    assumed = focusnb("ctf", files / "first.mrc", "--set", "voltage=300")
    assert "Assumed: spherical aberration 2.7 mm and amplitude contrast 0.1; --set spherical_aberration" in assumed.err
    check(rows_of(assumed)[0], FIRST)


def test_metadata_beside_a_file_tell_the_rest_but_not_the_pixels_of_a_spectrum(files: Path, tmp_path: Path) -> None:
    for name, size in (("first.mrc", "900 800"), ("spectrum.mrc", "512 512")):
        (tmp_path / name).write_bytes((files / name).read_bytes())
        (tmp_path / f"{name}.mdoc").write_text(
            f"PixelSpacing = 0.53\nImageSize = {size}\nVoltage = 300\n\n[FrameSet = 0]\nSubFramePath = X:\\{name}\n"
        )
    ended = focusnb("ctf", tmp_path / "spectrum.mrc", "--spectrum")
    assert ended.status == 0, ended.err
    assert "pixel size" not in ended.err
    check(rows_of(ended)[0], FIRST)
    ended = focusnb("ctf", tmp_path / "first.mrc")
    assert "pixel size is 0.53 Å/px by the metadata and 1.06 Å/px by the file's header; 0.53 Å/px is used" in ended.err


def test_of_several_files_the_broken_ones_are_rows_and_the_others_go_on(files: Path, tmp_path: Path) -> None:
    names = ("cut.mrc", "nan.mrc", "movie.tif", "gone.mrc", "first.mrc")
    ended = focusnb("ctf", *(files / name for name in names), files / "*.dm4", files, *FACTS)
    assert ended.status == 1
    rows = {Path(row["file"]).name: row for row in rows_of(ended)}
    assert len(rows) == 7
    check(rows.pop("first.mrc"), FIRST)
    for row in rows.values():
        assert [row[name] for name in COLUMNS[1:7]] == [""] * 6
        assert row["ctf_quality"] == "failed"
        assert row["ctf_remark"] in ended.err
    assert "file" in rows["cut.mrc"]["ctf_remark"]
    assert "nan.mrc: 2 of 490000 pixels are not numbers; export it again" in rows["nan.mrc"]["ctf_remark"]
    assert (
        "movie.tif: holds 5 frames, a micrograph is 1 image; align it first: focusnb align"
        in (rows["movie.tif"]["ctf_remark"])
    )
    assert rows["gone.mrc"]["ctf_remark"] == f"{files / 'gone.mrc'}: does not exist; check the path"
    assert rows["*.dm4"]["ctf_remark"] == f"{files / '*.dm4'}: no file matches; check the path"
    assert rows[files.name]["ctf_remark"].startswith(f"{files}: is a folder; name the files in it")
    assert "Traceback" not in ended.err


def test_a_pattern_that_no_shell_replaced(files: Path) -> None:
    ended = focusnb("ctf", files / "[fs]*d.mrc", files / "f*t.mrc", *FACTS)
    assert [Path(row["file"]).name for row in rows_of(ended)] == ["second.mrc", "first.mrc"]


def test_what_is_no_spectrum_is_refused_and_a_spectrum_is_known(files: Path, tmp_path: Path) -> None:
    amplitudes = read_image(files / "spectrum.mrc").data
    write_mrc(tmp_path / "log.mrc", np.log(amplitudes / amplitudes.mean()), pixel_size=PIXEL)
    write_spoiled(tmp_path / "nan.mrc", amplitudes, 3)
    write_mrc(tmp_path / "dose.mrc", 9 + read_image(files / "noise.mrc").data, pixel_size=PIXEL)
    write_mrc(tmp_path / "stack.mrc", [amplitudes, amplitudes], pixel_size=PIXEL)
    write_mrc(tmp_path / "small.mrc", amplitudes[240:272, 240:272].copy(), pixel_size=PIXEL)
    names = ("log.mrc", "nan.mrc", "dose.mrc", "stack.mrc", "small.mrc")
    ended = focusnb("ctf", files / "first.mrc", *(tmp_path / name for name in names), "--spectrum", *FACTS)
    remarks = [row["ctf_remark"] for row in rows_of(ended)]
    assert ended.status == 1
    assert "is 900 × 800 px, an amplitude spectrum is square with its origin in the middle" in remarks[0]
    assert "amplitudes are never below 0" in remarks[1]
    assert "3 of 262144 pixels are not numbers" in remarks[2]
    assert "does not equal itself turned by 180°" in remarks[3]
    assert "holds 2 images, a spectrum is one; split the stack" in remarks[4]
    assert "at least 64 × 64" in remarks[5]
    ended = focusnb("ctf", files / "spectrum.mrc", *FACTS)
    assert ended.status == 1
    assert "equals itself turned by 180°, as spectra do and images do not; add --spectrum" in ended.err


@pytest.mark.parametrize(
    ("name", "arguments", "status", "message"),
    [
        (
            "first.mrc",
            (),
            1,
            "first.mrc: voltage is told neither by the file nor beside it; give --set voltage=VALUE (kV)",
        ),
        ("first.mrc", ("--set", "volts=3"), 2, "volts is not a value of Acquisition; did you mean voltage?"),
        ("first.mrc", ("--set", "voltage=3"), 2, "voltage = '3': Voltage should be greater than or equal to 20 kV"),
        ("first.mrc", ("--set", "pixel_size=0"), 2, "Pixel size should be greater than 0 Å/px"),
        ("first.mrc", ("--set", "pixel_size=1e-10"), 2, "images that show rings have 0.05 to 20 Å/px"),
        ("first.mrc", ("--set", "pixel_size=nan"), 2, "pixel_size = 'nan'"),
        ("first.mrc", ("--set", "image=a.mrc"), 2, "image is told by the file that is named; it cannot be set"),
        ("first.mrc", ("--param", "fit_ctf.box=3"), 2, "box is not a value of Params"),
        (
            "first.mrc",
            ("--param", "align_frames.b_factor=3"),
            2,
            "is not STEP.NAME of the steps that run: prepare_image",
        ),
        ("first.mrc", ("--format", "xml"), 2, "xml"),
        ("first.mrc", (*FACTS, "--out", __file__), 2, "test_ctf.py: is a file; --out names a folder"),
        ("movie.tif", ("--spectrum", *FACTS), 1, "movie.tif: holds 5 images, a spectrum is one; split the stack"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    files: Path, name: str, arguments: tuple[str, ...], status: int, message: str
) -> None:
    ended = focusnb("ctf", files / name, *arguments)
    assert message in " ".join(ended.err.replace("│", " ").split())
    assert ended.status == status
    assert "Traceback" not in ended.err


def test_a_fact_that_is_missing_of_all_is_told_once_and_of_one_in_its_row(files: Path, tmp_path: Path) -> None:
    write_mrc(tmp_path / "unknown.mrc", read_image(files / "noise.mrc").data, pixel_size=1.0)
    header = bytearray((tmp_path / "unknown.mrc").read_bytes())
    header[40:52] = bytes(12)  # a cell of no size: the pixel size is 0
    (tmp_path / "unknown.mrc").write_bytes(header)
    alone = focusnb("ctf", tmp_path / "unknown.mrc", *FACTS)
    assert (alone.status, alone.out) == (1, b"")
    assert "pixel size is told neither by the file nor beside it; give --set pixel_size=VALUE (Å/px)" in alone.err
    both = focusnb("ctf", tmp_path / "unknown.mrc", files / "first.mrc", *FACTS)
    assert both.status == 1
    unknown, first = rows_of(both)
    assert (unknown["ctf_quality"], "give --set pixel_size=VALUE" in unknown["ctf_remark"]) == ("failed", True)
    check(first, FIRST)
    write_mrc(tmp_path / "unknown.mrc", read_image(files / "noise.mrc").data, pixel_size=400.0)
    absurd = focusnb("ctf", tmp_path / "unknown.mrc", *FACTS)
    assert "pixel size is 400 Å/px by its header; images that show rings have 0.05 to 20 Å/px: give --set" in absurd.err
    assert absurd.status == 1


def test_a_terminal_gets_a_table(files: Path) -> None:
    """On a terminal of its own, as a person sees it; --format decides where it is given."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", MAIN, "ctf", str(files / "first.mrc"), str(files / "noise.mrc"), *FACTS]
    environment = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}
    ended = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, env=environment)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert ended.returncode == 0, ended.stderr
    assert "Defocus U" in shown
    assert "first.mrc" in shown
    assert str(files / "first.mrc") not in shown
    table = focusnb("ctf", files / "first.mrc", files / "gone.mrc", *FACTS, "--format", "table")
    text = table.out.decode()
    assert text.splitlines()[1].split() == ["Å", "Å", "°", "°", "Å"]
    assert f"{files / 'gone.mrc'}: does not exist; check the path" in text
    assert (table.status, table.err) == (1, "")


def test_spectra_curves_and_previews_are_kept_on_request(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = focusnb("ctf", files / "first.mrc", files / "noise.mrc", *FACTS, "--out", out, "--avrot")
    assert ended.status == 0, ended.err
    assert "noise.mrc: no averages are written, there is no CTF whose rings they could follow" in ended.err
    assert sorted(path.name for path in out.iterdir()) == ["first", "noise"]
    record = json.loads((out / "first" / "ctf.json").read_text())
    assert sorted(path.name for path in (out / "first").iterdir()) == sorted([*record["files"], "ctf.json"])
    assert {"curves.json", "ctf_rings.png", "power_spectrum.mrc", "first_avrot.txt", "log.txt"} <= set(record["files"])
    assert "micrograph.mrc" not in record["files"]
    assert record["facts"]["pixel_size"] == {"value": PIXEL, "origin": "header"}
    assert record["steps"]["fit_ctf"]["resolution_low"] == 30.0
    assert record["findings"]["defocus_u"] == float(rows_of(ended)[0]["defocus_u"])
    assert not (out / "noise" / "curves.json").exists()


def test_results_are_overwritten_by_those_of_the_same_file_only(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert focusnb("ctf", files / "first.mrc", *FACTS, "--out", out, "--avrot").status == 0
    assert focusnb("ctf", files / "first.mrc", *FACTS, "--out", out).status == 0
    assert not (out / "first_avrot.txt").exists()
    refused = focusnb("ctf", files / "second.mrc", *FACTS, "--out", out)
    assert refused.status == 1
    assert (
        f"{out}: holds the results of {files / 'first.mrc'}; second.mrc needs another --out, or --force" in refused.err
    )
    assert focusnb("ctf", files / "second.mrc", *FACTS, "--out", out, "--force").status == 0
    assert json.loads((out / "ctf.json").read_text())["path"] == str(files / "second.mrc")
    (out / "ctf.json").unlink()
    refused = focusnb("ctf", files / "second.mrc", *FACTS, "--out", out)
    assert "which is not known to be of this file" in refused.err
    # what is read is never overwritten, not even with --force
    own = tmp_path / "power_spectrum.mrc"
    own.write_bytes((files / "first.mrc").read_bytes())
    refused = focusnb("ctf", own, *FACTS, "--out", tmp_path, "--force")
    assert (refused.status, "would be overwritten by what is found of it" in refused.err) == (1, True)
    same = focusnb("ctf", files / "first.mrc", tmp_path / "first.mrc", *FACTS, "--out", out)
    assert (same.status, "would both be written to" in same.err) == (2, True)


def test_averages_as_ctffind_writes_them(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = focusnb("ctf", files / "first.mrc", *FACTS, "--avrot")
    assert ended.status == 0, ended.err
    header, (table,) = read_ctffind_averages("first_avrot.txt")
    assert header.optics.micrograph_pixel_size == pytest.approx(PIXEL)
    assert (header.optics.voltage, header.search.box, header.search.resolution_low) == (300.0, 512, 30.0)
    assert header.input_name == str(files / "first.mrc")
    # |CTF| of the mean defocus by the formula
    length, squared = 0.019687, table.frequency**2
    phase = np.pi * length * squared * (15250.0 - 0.5 * 2.7e7 * length**2 * squared) + np.arcsin(0.1)
    coarse = table.frequency < 1 / 8
    np.testing.assert_allclose(table.fit[coarse], np.abs(np.sin(phase))[coarse], atol=0.1)
    band = (table.frequency > 1 / 25) & (table.frequency < 1 / 5)
    assert np.corrcoef(table.measured[band], table.fit[band])[0, 1] > 0.9
    assert [path.name for path in tmp_path.iterdir()] == ["first_avrot.txt"]
    # renewed, and removed where there is no CTF any more; what another program wrote stays
    assert focusnb("ctf", files / "first.mrc", *FACTS, "--avrot").status == 0
    Path("noise_avrot.txt").write_text(Path("first_avrot.txt").read_text())
    assert focusnb("ctf", files / "noise.mrc", *FACTS, "--avrot").status == 0
    assert not Path("noise_avrot.txt").exists()
    Path("first_avrot.txt").write_text("# Output from CTFFind version 4.1.14, run on 2023-01-15 17:09:33\n")
    refused = focusnb("ctf", files / "first.mrc", *FACTS, "--avrot")
    assert refused.status == 1
    assert "first_avrot.txt: was written by another program; give another --out, or --force" in refused.err
    assert Path("first_avrot.txt").stat().st_size < 100
    same = focusnb("ctf", files / "first.mrc", tmp_path / "first.mrc", *FACTS, "--avrot")
    assert (same.status, "would both be written to first_avrot.txt; give --out" in same.err) == (2, True)


def test_averages_of_a_defocus_that_needs_finer_sampling(tmp_path: Path) -> None:
    """The rings of 6 µm at 1 Å/px are followed in a spectrum of their own; its averages are written."""
    image = thon_image((1400, 1400), PIXEL, (61000.0, 60000.0, 20.0), signal=3.0, seed=3)
    write_mrc(tmp_path / "far.mrc", image, pixel_size=PIXEL)
    ended = focusnb("ctf", tmp_path / "far.mrc", *FACTS, "--avrot", "--out", tmp_path / "out")
    (row,) = rows_of(ended)
    assert float(row["defocus_u"]) == pytest.approx(61000, rel=0.02)
    _, (table,) = read_ctffind_averages(tmp_path / "out" / "far_avrot.txt")
    band = (table.frequency > 1 / 25) & (table.frequency < 1 / 9)
    assert np.corrcoef(table.measured[band], table.fit[band])[0, 1] > 0.8
    assert np.corrcoef(table.measured_circular[band], table.measured[band])[0, 1] > 0.3


def test_the_help_fits_a_terminal_and_names_the_facts() -> None:
    command = [sys.executable, "-c", MAIN, "ctf", "--help"]
    ended = subprocess.run(command, capture_output=True, env={**os.environ, "COLUMNS": "80"})
    text = ended.stdout.decode()
    assert ended.returncode == 0
    assert max(map(len, text.splitlines())) <= 80
    for name in ("--spectrum", "--set", "--param", "--format", "--out", "--avrot", "pixel_size"):
        assert name in text
    assert " ctf " in focusnb("--help").out.decode()


def test_published_spectra(data: Path) -> None:
    folder = data / "ctf_spectra_empiar10204"
    optics = ("--set", "voltage=200", "--set", "spherical_aberration=1.4", "--set", "amplitude_contrast=0.1")
    ended = focusnb("ctf", *sorted(folder.glob("*2[1-4]_*.mrc")), "--spectrum", *optics)
    assert (ended.status, ended.err) == (0, "")
    rows = rows_of(ended)
    table = star.read(folder / "micrographs_ctf.star")["micrographs"].head(4)
    assert len(rows) == 4
    for row, (_, published) in zip(rows, table.iterrows(), strict=True):
        assert Path(row["file"]).stem.removesuffix("_PS") == Path(published["rlnMicrographName"]).stem
        assert float(row["defocus_u"]) == pytest.approx(float(published["rlnDefocusU"]), abs=60)
        assert float(row["defocus_v"]) == pytest.approx(float(published["rlnDefocusV"]), abs=60)
        assert float(row["astigmatism_angle"]) == pytest.approx(float(published["rlnDefocusAngle"]), abs=8)


def test_real_micrographs_and_the_one_that_drifted(data: Path) -> None:
    folder = data / "apoferritin_empiar10146"
    optics = ("--set", "pixel_size=1.5", "--set", "voltage=300", "--set", "amplitude_contrast=0.07")
    names = ("May08_03.05.02", "May08_06.09.02", "May08_07.30.46")
    ended = focusnb("ctf", *(folder / f"{name}.mrc" for name in names), *optics)
    assert ended.status == 0, ended.err
    rows = {Path(row["file"]).stem: row for row in rows_of(ended)}
    drifted = rows.pop("May08_06.09.02")
    assert drifted["ctf_quality"] != "ok"
    assert drifted["ctf_remark"]
    for row in rows.values():
        assert 14_000 < float(row["defocus_v"]) <= float(row["defocus_u"]) < 26_000
