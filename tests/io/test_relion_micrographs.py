"""RELION's tables of micrographs and the folder they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from focusnb.errors import FormatError
from focusnb.io.relion import read_motion
from focusnb.io.relion_micrographs import find_project, read_job_options, read_micrographs, relion_version
from tests.project.finished_work import write_relion


def test_both_tables_of_a_project(tmp_path: Path) -> None:
    fitted = write_relion(tmp_path)
    table = tmp_path / "MotionCorr" / "job002" / "corrected_micrographs.star"
    rows = read_micrographs(table)
    base = "MotionCorr/job002/Movies/a"
    assert [Path(row.name).stem for row in rows] == ["a", "b", "c"]
    assert (rows[0].unweighted, rows[0].even, rows[0].odd) == (f"{base}_noDW.mrc", f"{base}_EVN.mrc", f"{base}_ODD.mrc")
    assert (rows[0].metadata, rows[0].ctf) == (f"{base}.star", None)
    assert (rows[0].optics.pixel_size, rows[0].optics.micrograph_pixel_size) == (0.4425, 0.885)
    fits = read_micrographs(fitted)
    assert [row.ctf.ctf_quality for row in fits if row.ctf is not None] == ["ok", "ok", "failed"]
    assert (fits[1].motion_total, fits[1].metadata) == (None, "")
    assert (relion_version(fitted), relion_version(table)) == ("3.1", "3.1")


def test_lengths_of_motion_are_pixels(data: Path) -> None:
    folder = data / "relion_empiar10204" / "motioncorr"
    rows = {Path(row.name).stem: row for row in read_micrographs(folder / "corrected_micrographs.star")}
    for name in ("20170629_00021_frameImage", "20170629_00022_frameImage", "20170629_00026_frameImage"):
        shifts = read_motion(folder / f"{name}.star").shifts
        length = float(np.sqrt((np.diff(shifts, axis=0) ** 2).sum(axis=1)).sum())
        # 0.885 Å/px: in Å it would be another number
        assert rows[name].motion_total == pytest.approx(length, rel=1e-5)
    assert relion_version(folder / "corrected_micrographs.star") == "5"


def test_a_table_of_before_optics_groups(data: Path) -> None:
    rows = read_micrographs(data / "ctffind_outputs" / "micrographs_all_gctf.star")
    assert (len(rows), rows[0].optics.voltage, rows[0].ctf and rows[0].ctf.program) == (8, 300.0, "Gctf")
    assert relion_version(data / "ctffind_outputs" / "micrographs_all_gctf.star") == ""


def test_the_project_is_found_upwards(tmp_path: Path) -> None:
    fitted = write_relion(tmp_path / "deep" / "project")
    names = [row.name for row in read_micrographs(fitted)]
    assert find_project(fitted, ["missing.mrc", *names]) == tmp_path / "deep" / "project"
    # none is there: by the place of the table
    assert find_project(fitted, ["missing.mrc"]) == tmp_path / "deep" / "project"
    copy = tmp_path / "table.star"
    copy.write_text(fitted.read_text())
    assert find_project(copy, names) is None


def test_options_of_a_job(data: Path, tmp_path: Path) -> None:
    options = read_job_options(data / "relion_empiar10204" / "precalculated" / "MotionCorr__job002__job.star")
    assert (options["do_dose_weighting"], options["save_noDW"], options["dose_per_frame"]) == ("Yes", "No", "1.277")
    assert read_job_options(tmp_path / "missing.star") == {}
    assert read_job_options(data / "em-testdata" / "autopick.star") == {}


def test_what_is_no_table_of_micrographs(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"holds particles \(data_images\)"):
        read_micrographs(data / "relion_empiar10204" / "picks_and_particles" / "20170629_00021_frameImage_extract.star")
    with pytest.raises(FormatError, match="has 0 tables with rlnMicrographName"):
        read_micrographs(data / "em-testdata" / "movie_frameImage.star")
    fitted = write_relion(tmp_path)
    fitted.write_text(fitted.read_text().replace("a.mrc 1 Ctf", "a.mrc 7 Ctf"))
    with pytest.raises(FormatError, match="row 1 belongs to optics group 7, data_optics has 1"):
        read_micrographs(fitted)
    table = tmp_path / "MotionCorr" / "job002" / "corrected_micrographs.star"
    text = table.read_text()
    whole = read_micrographs(table)
    for end in range(0, len(text), 7):
        table.write_text(text[:end])
        try:
            found = read_micrographs(table)
        except FormatError:
            continue
        assert found == whole[: len(found)]
