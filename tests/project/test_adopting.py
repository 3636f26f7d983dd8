"""Work of other programs adopted: as history, told with units and signs, once, and left alone until asked."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from focusnb.errors import FormatError, ParameterError
from focusnb.io import files
from focusnb.io.images import read_image
from focusnb.io.relion import read_motion
from focusnb.ops.motion.trajectory import describe_motion
from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.processing.workflow import Workflow
from focusnb.project.adopting import adopt, writing
from focusnb.project.gathering import ImportReport
from focusnb.project.project import Project
from focusnb.project.rebuilding import rebuild
from tests.project.finished_work import (
    FITS,
    MOVIE_PIXEL,
    PIXEL,
    shifts_of,
    write_focus,
    write_image,
    write_motioncor,
    write_output,
    write_relion,
)
from tests.projects import left_overs, make_project

STAR = Path("CtfFind") / "job003" / "micrographs_ctf.star"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty project with the steps of single particles."""
    with make_project(tmp_path / "project", steps=False) as project:
        yield project


def run(project: Project) -> None:
    """Work until nothing is stale."""
    processor = Processor(project, InlineExecutor())
    processor.submit_stale()
    processor.run()


def told(report: ImportReport, words: str) -> str:
    """The one sentence with these words."""
    [sentence] = [message for message in report.messages if words in message]
    return sentence


def test_values_of_relion(project: Project, tmp_path: Path) -> None:
    report = adopt(project, [write_relion(tmp_path / "relion")])
    assert (len(report.added), report.left_out) == (3, 0)
    table = project.table().set_index("exposure")
    a, b, c = (table.loc[name] for name in "abc")
    assert (a.status, a.kind, a.group, a.image) == ("done", "image", "Movies", "raw/a_noDW.mrc")
    assert (a.voltage, a.spherical_aberration, a.amplitude_contrast, a.pixel_size) == (200, 1.4, 0.1, PIXEL)
    assert (a.exposure_dose, a.prior_dose, a.width) == (10.0, 0.5, 128)
    assert (a.defocus_u, a.defocus_v, a.astigmatism_angle, a.ctf_score, a.ctf_fit_resolution) == FITS["a"]
    assert (a.astigmatism, a.ctf_quality, a.phase_shift) == (pytest.approx(288.2), "ok", 0)
    # the direction of an axis, in (-90, 90]
    assert b.astigmatism_angle == 20.0
    # a fit that failed is no defocus, and is told
    assert (c.ctf_quality, np.isnan(c.defocus_u), c.ctf_fit_resolution) == ("failed", True, 25.0)
    assert c.ctf_remark.endswith("RELION wrote 37035 / 35846 Å")
    assert project.facts(1).origin["voltage"] == "metadata"
    for product in ("micrograph_dose_weighted", "micrograph_even", "micrograph_odd"):
        assert project.path(1, product).is_symlink()
        assert read_image(project.path(1, product)).data.shape == (128, 128)


def test_motion_of_relion_is_in_the_steps_own_files_and_units(project: Project, tmp_path: Path) -> None:
    report = adopt(project, [write_relion(tmp_path / "relion")])
    table = project.table().set_index("exposure")
    expected = describe_motion(shifts_of("b"), pixel_size=MOVIE_PIXEL, dose_per_frame=1.25)
    for name in ("drift", "motion_total", "motion_early", "motion_late", "max_step", "jitter", "deceleration"):
        assert table.loc["b", name] == pytest.approx(getattr(expected, name), abs=1e-6)
    motion = read_motion(project.path(2, "motion"))
    np.testing.assert_allclose(motion.shifts, shifts_of("b") - shifts_of("b")[0], atol=1e-6)
    curves = json.loads(project.path(2, "motion_curves").read_text())
    np.testing.assert_allclose(curves["shifts"], (shifts_of("b") - shifts_of("b")[0]) * MOVIE_PIXEL, atol=1e-3)
    assert project.path(2, "trajectory_preview").read_bytes().startswith(b"\x89PNG")
    # the local model: its mean over the field belongs to the whole frame, the rest is told
    assert (table.loc["a", "local_motion"], len(read_motion(project.path(1, "motion")).local_coefficients)) == (
        "fitted",
        36,
    )
    assert 0.01 < table.loc["a", "local_motion_rms"] < 0.5
    # without the STAR of its motion there are lengths alone, which RELION writes in pixels
    steps = np.sqrt((np.diff(shifts_of("c"), axis=0) ** 2).sum(axis=1))
    assert table.loc["c", "motion_total"] == pytest.approx(steps.sum() * MOVIE_PIXEL, abs=1e-5)
    assert table.loc["c", "motion_early"] == pytest.approx(steps[:3].sum() * MOVIE_PIXEL, abs=1e-5)
    assert np.isnan(table.loc["c", "drift"])
    assert "multiplied by 0.4425 Å/px" in told(report, "are pixels of the movie")
    assert told(report, "STAR of its motion").startswith("c.star:")


def test_adopted_steps_stay_and_missing_ones_run_on_them(project: Project, tmp_path: Path) -> None:
    adopt(project, [write_relion(tmp_path / "relion")])
    workflow = Workflow.of(project, "image")
    missing = ["prepare_image", "measure_spectrum", "measure_image", "add_to_session", "judge_exposure"]
    assert project.stale(workflow) == dict.fromkeys((1, 2, 3), missing)
    run(project)
    table = project.table().set_index("exposure")
    assert set(table.status) == {"done"}
    assert table.loc["a", "defocus_u"] == FITS["a"][0]
    assert table[["iciness", "stripe_measure", "micrograph_pixel_size"]].notna().all(axis=None)
    # the judgement knows the CTF that was adopted
    assert list(table.quality_flags.str.contains("ctf")) == [False, False, True]
    assert project.stale(workflow) == {}
    # a choice of the step does not make it stale, given for a run it asks for it
    project.set_params("fit_ctf", defocus_max=30_000)
    assert project.stale(workflow) == {}
    assert project.plan(workflow, [1], params={"fit_ctf": {}}) == {}
    asked = project.plan(workflow, [1], params={"fit_ctf": {"defocus_max": 20_000}})
    assert [step.step for step in asked[1]] == ["fit_ctf", "judge_exposure"]
    processor = Processor(project, InlineExecutor())
    processor.submit(Workflow.named(project, ["fit_ctf"]), [1], everything=True)
    processor.run()
    runs = project.runs(exposure=1)
    assert list(runs[runs.step == "fit_ctf"].version) == ["by RELION 3.1", "2"]
    assert project.stale(workflow, [1]) == {1: ["judge_exposure"]}
    # what focusnb found itself is not replaced by adopting again
    report = adopt(project, [tmp_path / "relion" / STAR])
    assert (report.added, report.updated, report.known) == ([], [], 3)
    assert told(report, "results of fit_ctf that focusnb made").startswith("a:")


def test_history_tells_program_version_and_file(project: Project, tmp_path: Path) -> None:
    fitted = write_relion(tmp_path / "relion")
    adopt(project, [fitted])
    runs = project.runs(exposure=1).set_index("step")
    assert list(runs.index) == ["align_frames", "fit_ctf"]
    assert set(runs.status) == {"done"}
    assert runs.loc["fit_ctf", "log"] == f"Adopted from {fitted}, which RELION 3.1 wrote"
    record = json.loads((project.path(1) / "exposure.json").read_text())
    corrected = tmp_path / "relion" / "MotionCorr" / "job002" / "corrected_micrographs.star"
    assert record["current"]["align_frames"]["adopted"]["file"] == str(corrected)
    assert record["current"]["fit_ctf"]["adopted"]["program"] == "RELION"


@pytest.mark.parametrize("lost", [True, False])
def test_a_library_made_again_has_what_was_adopted(project: Project, tmp_path: Path, lost: bool) -> None:
    sources = [write_relion(tmp_path / "relion"), write_motioncor(tmp_path / "mc"), write_focus(tmp_path / "focus")]
    adopt(project, sources)
    before = project.table()
    stale = project.stale(Workflow.of(project, "image"))
    project.close()
    if lost:
        (project.folder / "library.sqlite").unlink()
    again, complaints = rebuild(project.folder)
    with again:
        assert complaints == []
        columns = [name for name in before.columns if name != "processed_at"]
        assert before[columns].equals(again.table()[columns])
        assert again.stale(Workflow.of(again, "image")) == stale
        assert adopt(again, sources).known == len(before)


def test_again_adds_the_new_and_renews_what_changed(project: Project, tmp_path: Path) -> None:
    fitted = write_relion(tmp_path / "relion")
    adopt(project, [fitted])
    project.flag([2], "green")
    project.move([3], "TRASH")
    assert adopt(project, [fitted]).known == 3
    revision = project.revision
    fits = FITS | {"b": (9900.0, 9600.0, 21.0, 0.17, 3.5), "d": (12000.0, 11000.0, 0.0, 0.2, 4.0)}
    write_relion(tmp_path / "relion", fits=fits)
    report = adopt(project, [fitted], facts={"spherical_aberration": 2.0})
    assert (report.added, report.updated, report.known) == ([4], [1, 2, 3], 0)
    table = project.table().set_index("exposure")
    assert (table.loc["b", "defocus_u"], table.loc["b", "flag"], table.loc["c", "group"]) == (9900.0, "green", "TRASH")
    assert set(table.spherical_aberration) == {2.0}
    assert list(project.runs(exposure=2).step) == ["align_frames", "fit_ctf", "fit_ctf"]
    assert set(project.changes(revision).exposures.index) == {1, 2, 3, 4}
    # what is gone there is gone here
    (tmp_path / "relion" / "MotionCorr" / "job002" / "Movies" / "a_EVN.mrc").unlink()
    assert adopt(project, [fitted]).updated == [1]
    assert not (project.path(1) / "micrograph_even.mrc").is_symlink()
    assert project.table().micrograph_even.notna().tolist() == [False, True, True, True]


def test_movies_where_they_are(project: Project, tmp_path: Path) -> None:
    fitted = write_relion(tmp_path / "relion")
    report = adopt(project, [fitted], movies=True)
    assert "c: its movie is not there" in told(report, "starts from its sum")
    table = project.table().set_index("exposure")
    assert list(table.kind) == ["movie", "movie", "image"]
    assert (table.loc["a", "pixel_size"], table.loc["a", "micrograph_pixel_size"]) == (MOVIE_PIXEL, PIXEL)
    assert (table.loc["a", "dose_per_frame"], table.loc["a", "frame_count"]) == (1.25, 8)
    assert project.path(1, "micrograph").resolve() == tmp_path / "relion/MotionCorr/job002/Movies/a_noDW.mrc"
    assert project.path(1, "micrograph_preview").is_file()
    run(project)
    table = project.table().set_index("exposure")
    assert set(table.status) == {"done"}
    assert table.loc["a", "mean_counts"] == pytest.approx(2.0, abs=0.05)
    # the sum is RELION's: the frames were not aligned again
    assert project.path(1, "micrograph").is_symlink()
    assert table.loc["a", "drift"] > 0


def test_a_movie_that_was_imported_gets_the_values(project: Project, tmp_path: Path) -> None:
    fitted = write_relion(tmp_path / "relion")
    project.add(tmp_path / "relion" / "Movies" / "a.mrcs", facts={"voltage": 300})
    report = adopt(project, [fitted])
    assert (report.updated, len(report.added)) == ([1], 2)
    first = project.table().iloc[0]
    assert (first.kind, first.voltage, first.defocus_u, first.pixel_size) == ("movie", 300, FITS["a"][0], MOVIE_PIXEL)
    assert project.facts(1).origin["spherical_aberration"] == "metadata"


def test_files_are_linked_or_copied(project: Project, tmp_path: Path) -> None:
    fitted = write_relion(tmp_path / "relion")
    report = adopt(project, [fitted], copy=True)
    shutil.rmtree(tmp_path / "relion")
    raw = project.path(1) / "raw" / "a_noDW.mrc"
    assert not raw.is_symlink()
    assert not project.path(1, "micrograph_dose_weighted").is_symlink()
    assert read_image(raw).data.shape == (128, 128)
    run(project)
    assert set(project.table().status) == {"done"}
    assert report.left_out == 0


def test_what_is_not_there_is_left_out_and_told(project: Project, tmp_path: Path) -> None:
    fitted = write_relion(tmp_path / "relion")
    images = tmp_path / "relion" / "MotionCorr" / "job002" / "Movies"
    for name in ("a", "c"):
        (images / f"{name}.mrc").unlink()
        (images / f"{name}_noDW.mrc").unlink()
    report = adopt(project, [fitted])
    assert (len(report.added), report.left_out) == (1, 2)
    assert told(report, "--without-files").startswith(f"{images / 'a.mrc'} (and 1 more): is not there; left out")
    # by their values alone, and with their files when these are back
    report = adopt(project, [fitted], without_files=True)
    assert (len(report.added), report.known) == (2, 1)
    table = project.table().set_index("exposure")
    assert (table.loc["a", "defocus_u"], pd.isna(table.loc["a", "image"])) == (FITS["a"][0], True)
    write_relion(tmp_path / "again")
    shutil.copy(tmp_path / "again/MotionCorr/job002/Movies/a.mrc", images / "a.mrc")
    assert adopt(project, [fitted]).updated == [2]
    assert project.table().set_index("exposure").loc["a", "image"] == "raw/a.mrc"


def test_damaged_files_stop_nothing(project: Project, tmp_path: Path) -> None:
    fitted = write_relion(tmp_path / "relion")
    images = tmp_path / "relion" / "MotionCorr" / "job002" / "Movies"
    (images / "a.star").write_text("data_general\n\nnonsense")
    (images / "b_noDW.mrc").write_bytes(b"")
    text = (images / "b.star").read_text()
    (images / "b.star").write_text(re.sub(r"(StartFrame\s+)1", r"\g<1>20", text))
    report = adopt(project, [fitted])
    assert len(report.added) == 3
    assert "Its motion was not adopted" in told(report, "a.star")
    assert "no shift of its first used frame, 20" in told(report, "b.star")
    assert "It is adopted all the same" in told(report, "b_noDW.mrc")
    run(project)
    assert dict(zip(project.table().exposure, project.table().status, strict=True)) == {
        "a": "done",
        "b": "failed",
        "c": "done",
    }
    # values that no microscope gives are not kept
    (images / "a.star").unlink()
    fitted.write_text(fitted.read_text().replace("200.000000", "9.0"))
    report = adopt(project, [fitted])
    assert told(report, "not used").startswith("a (and 2 more): voltage = 9.0")


def test_what_is_written_meanwhile_is_not_lost(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = write_relion(tmp_path / "relion")
    project.adopt(fitted)
    fits = FITS | {"a": (9900.0, 9600.0, 21.0, 0.17, 3.5)}
    write_relion(tmp_path / "relion", fits=fits)
    write = writing.Writer._write

    def after_others(writer: writing.Writer, changes: list[Any]) -> None:
        run(project)
        project.set_facts([1], voltage=120)
        write(writer, changes)

    monkeypatch.setattr(writing.Writer, "_write", after_others)
    report = project.adopt(fitted)
    assert (report.updated, report.known) == ([1], 2)
    first = project.table().iloc[0]
    assert (first.defocus_u, first.voltage) == (9900.0, 120)
    assert not np.isnan(first.iciness)
    current = json.loads((project.path(1) / "exposure.json").read_text())["current"]
    assert {"measure_image", "fit_ctf", "align_frames"} <= set(current)


def test_another_sum_under_the_same_name(project: Project, tmp_path: Path) -> None:
    fitted = write_relion(tmp_path / "relion")
    project.adopt(fitted)
    run(project)
    write_image(tmp_path / "relion" / "MotionCorr" / "job002" / "Movies" / "a_noDW.mrc", seed=99)
    report = project.adopt(fitted)
    assert (report.updated, report.known) == ([1], 2)
    assert project.stale(Workflow.of(project, "image"))[1][0] == "prepare_image"


def test_motioncor(project: Project, tmp_path: Path) -> None:
    report = adopt(project, [write_motioncor(tmp_path / "mc")])
    assert (len(report.added), report.messages) == (2, [])
    table = project.table().set_index("exposure")
    # the first frame was thrown away: its dose came before
    expected = describe_motion(shifts_of("a"), pixel_size=MOVIE_PIXEL, dose_per_frame=1.25, first=1)
    for name in ("drift", "motion_total", "motion_early", "motion_late"):
        assert table.loc["a_c", name] == pytest.approx(getattr(expected, name), rel=2e-3)
    a = table.loc["a_c"]
    assert (a.pixel_size, a.voltage, a.prior_dose, a.exposure_dose) == (PIXEL, 200, 1.75, 10.0)
    motion = read_motion(project.path(1, "motion"))
    assert (motion.start_frame, motion.shape, motion.pixel_size) == (2, (9, 256, 256), MOVIE_PIXEL)
    np.testing.assert_allclose(motion.shifts[1:], shifts_of("a") - shifts_of("a")[0], atol=2e-3)
    # by a log without options: the pixel size from the sum, the binning from the size of the movie
    assert table.loc["b", "drift"] == pytest.approx(
        describe_motion(shifts_of("b"), pixel_size=MOVIE_PIXEL).drift, rel=5e-3
    )
    assert project.path(2, "micrograph_dose_weighted").resolve() == tmp_path / "mc" / "b_DW.mrc"
    assert list(project.runs(exposure=1).version) == ["by MotionCor2 1.4.7"]


def test_logs_that_cannot_be_used(project: Project, tmp_path: Path) -> None:
    folder = write_motioncor(tmp_path / "mc")
    broken = write_output(folder / "c.log", "c", shifts_of("c"))
    broken.write_text(broken.read_text()[:-120])
    write_output(folder / "d.log", "d", shifts_of("a"))
    report = adopt(project, [folder])
    assert (len(report.added), report.left_out) == (2, 2)
    assert "It was left out" in told(report, "c.log")
    assert "d_c.mrc: is not there" in told(report, "is not there")
    with pytest.raises(FormatError, match=r"c\.log"):
        adopt(project, [broken])


def test_a_focus_project(project: Project, tmp_path: Path) -> None:
    report = adopt(project, [write_focus(tmp_path / "focus")])
    assert (len(report.added), report.left_out) == (3, 1)
    assert "0000000004" in told(report, "--without-files")
    table = project.table().set_index("exposure")
    first, second, third = (table.loc[f"000000000{number}"] for number in (1, 2, 3))
    assert (first.group, first.flag, first.comment) == ("grid1", "gold", "a good one")
    assert (second.group, pd.isna(second.flag), pd.isna(second.comment)) == ("grid2", True, True)
    assert (third.group, third.flag, third.status) == ("TRASH", "red", "new")
    # the project's values are its images'
    assert (first.voltage, first.spherical_aberration, first.pixel_size, first.magnification) == (200, 2, 1.06, 47170)
    assert first.amplitude_contrast == pytest.approx(0.0707, abs=1e-4)
    assert (first.tilt_angle, first.tilt_axis, first.specimen) == (-10.5, -53.2, "apo")
    assert str(first.recorded_at).startswith("2020-09-13 12:27:40")
    assert (first.defocus_u, first.defocus_v, first.astigmatism_angle) == (15120.5, 14800.25, -35.5)
    assert (first.ctf_fit_resolution, first.ctf_score, first.ctf_quality) == (3.9, 0.21, "ok")
    # U is the larger one here
    assert (second.defocus_u, second.defocus_v, second.astigmatism_angle) == (14500, 14000, -80)
    assert np.isnan(third.defocus_u)
    expected = describe_motion(shifts_of("a"), pixel_size=1.06, dose_per_frame=1.1)
    assert first.drift == pytest.approx(expected.drift, abs=1e-2)
    for identity in report.added:
        assert (project.path(identity) / "raw" / "2dx_image.cfg").is_file()
    assert len(list((project.folder / "references").glob("*/2dx_merge.cfg"))) == 1
    assert project.ids(group="TRASH") == [project.find("0000000003")]
    run(project)
    assert project.table().set_index("exposure").loc["0000000002", "defocus_u"] == 14500


def test_parts_of_a_focus_project(project: Project, tmp_path: Path) -> None:
    folder = write_focus(tmp_path / "focus")
    (folder / "grid2" / "0000000002" / "2dx_image.cfg").write_text('set defocus = "140')
    report = adopt(project, [folder / "grid2", folder / "grid1" / "0000000001"])
    assert (len(report.added), report.left_out) == (1, 2)
    assert "The image was left out" in told(report, "0000000002")
    row = project.table().iloc[0]
    assert (row.group, row.voltage) == ("grid1", 200)


def test_sources_that_are_none(project: Project, tmp_path: Path) -> None:
    write_relion(tmp_path / "relion")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ParameterError, match=r"is a RELION project; give the table to adopt: CtfFind/job003/micrographs"
    ):
        adopt(project, [tmp_path / "relion"])
    with pytest.raises(FormatError, match="holds nothing that can be adopted"):
        adopt(project, [tmp_path / "empty"])
    with pytest.raises(ParameterError, match="does not exist"):
        adopt(project, [tmp_path / "nowhere"])
    with pytest.raises(ParameterError, match="volts"):
        adopt(project, [tmp_path / "relion" / STAR], facts={"volts": 300})
    assert project.ids() == []


PLACES = {"products.link": 5, "files.write_json": 2, "storing.write_record": 3, "Writer._write": 2}
"""Where an adoption is killed, at which call."""

KILLED = """
import json, os, sys
import pandas, starfile  # once for all children
from pathlib import Path
from focusnb.project import adopting
from focusnb.project.adopting import writing
from focusnb.project.project import Project
writing.BATCH = 4

def die_at(place, at):
    owner, name = getattr(writing, place.split(".")[0]), place.split(".")[1]
    function, calls = getattr(owner, name), []
    def call(*arguments, **options):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), 9)
        return function(*arguments, **options)
    setattr(owner, name, call)

for place, at in json.loads(sys.argv[3]).items():
    child = os.fork()
    if child == 0:
        die_at(place, at)
        with Project.open(Path(sys.argv[1]) / place) as project:
            adopting.adopt(project, [Path(sys.argv[2])], pictures=False)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_killed_in_the_middle_it_goes_on(tmp_path: Path) -> None:
    fits = {name: (10_000.0 + n, 9_900.0, 10.0, 0.15, 4.0) for n, name in enumerate("abcdefg")}
    fitted = write_relion(tmp_path / "relion", fits=fits)
    for place in PLACES:
        make_project(tmp_path / place, steps=False).close()
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(fitted), json.dumps(PLACES)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=250, check=True)
    assert killed.stdout.split() == [str(-signal.SIGKILL)] * len(PLACES)
    for place in PLACES:
        with Project.open(tmp_path / place) as project:
            before = len(project.ids())
            assert before < 7
            report = adopt(project, [fitted], pictures=False)
            assert (len(report.added), report.known) == (7 - before, before)
            table = project.table()
            assert (list(table.exposure), table.defocus_u.tolist()) == (
                list("abcdefg"),
                [10_000.0 + n for n in range(7)],
            )
            folders = (project.folder / "exposures" / "Movies").iterdir()
            assert sorted(path.name for path in folders) == list("abcdefg")
        assert left_overs(tmp_path / place) == []
        assert rebuild_names(tmp_path / place) == list("abcdefg")


def rebuild_names(folder: Path) -> list[str]:
    """The exposures of a library made again from the records."""
    (folder / "library.sqlite").unlink()
    again, complaints = rebuild(folder)
    with again:
        assert complaints == []
        return list(again.table().exposure)


def test_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from focusnb.cli import main

    fitted = write_relion(tmp_path / "relion")
    make_project(tmp_path / "project", steps=False).close()
    arguments = [
        "focusnb",
        "adopt",
        str(tmp_path / "project"),
        str(fitted),
        "--set",
        "microscope=Titan",
        "--group",
        "old",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    for words in ("3 adopted", "0 adopted, 3 known already"):
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None)
        assert capsys.readouterr().err.rstrip().endswith(words)
    with Project.open(tmp_path / "project") as project:
        assert set(project.table().group) == {"old"}
        assert set(project.table().microscope) == {"Titan"}


def test_no_import_waits_while_files_are_copied_and_what_it_brings_meanwhile_comes_once(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = write_relion(tmp_path / "relion")
    real, came = files.copy_verified, []

    def copying(source: Path, target: Path, **options: Any) -> str:
        if not came:
            handle = os.open(project.folder / "exposures", os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(handle)
            came.append(source)
            with Project.open(project.folder) as other:
                other.add(source)
        return real(source, target, **options)

    monkeypatch.setattr(files, "copy_verified", copying)
    report = project.adopt(fitted, copy=True, pictures=False)
    assert (len(report.added), report.updated) == (2, [1])
    table = project.table()
    assert table.defocus_u.notna().tolist() == [True, True, False], "the third has none"
    assert not table.folder.duplicated().any()
    assert left_overs(project.folder) == []
