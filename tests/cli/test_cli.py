"""The command line: what scripts rely on."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from focusnb.cli import main
from focusnb.io.mrc import write_mrc
from focusnb.project.exports.tables import encode_exposures
from focusnb.project.project import Project
from focusnb.quantities import IMPORTED, Acquisition
from tests.unprivileged import run_as_nobody

MAIN = "from focusnb.cli import main; main()"


@dataclass
class Ended:
    status: int
    out: bytes
    err: str


def shell(*arguments: object) -> Ended:
    """Run the command line as a script does, in a process of its own."""
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True)
    return Ended(ended.returncode, ended.stdout, ended.stderr.decode())


def focusnb(*arguments: object) -> Ended:
    """Run the command line in this process."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    status = 0
    with (
        mock.patch.object(sys, "argv", ["focusnb", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    out.flush()
    return Ended(status, out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project of two images processed on the command line, one of which is broken."""
    folder = tmp_path_factory.mktemp("cli")
    camera = folder / "camera"
    camera.mkdir()
    image = np.random.default_rng(0).normal(10, 3, (256, 256)).astype(np.float32)
    write_mrc(camera / "good.mrc", image, pixel_size=1.5)
    write_mrc(camera / "cut.mrc", image, pixel_size=1.5)
    (camera / "cut.mrc").write_bytes((camera / "cut.mrc").read_bytes()[:5000])
    made = shell("new", folder / "project", "--mode", "single-particle")
    assert (made.status, made.out) == (0, b""), made.err
    assert "Single particle project made" in made.err
    added = focusnb(
        "import", folder / "project", camera, "--kind", "image", "--set", "voltage=300", "--set", "tilt_angle=-3.5",
        "--delay", 0,
    )  # fmt: skip
    assert (added.status, added.out) == (0, b""), added.err
    assert "2 imported" in added.err
    ran = shell("run", folder / "project", "--until-idle", "--workers", 0)
    assert (ran.status, ran.out) == (0, b""), ran.err
    assert "1 done, 1 failed in" in ran.err
    assert "cut.mrc" in ran.err
    again = focusnb("run", folder / "project", "--until-idle", "--workers", 0)
    assert (again.status, again.err) == (0, "Nothing to do; 1 failed before: --retry tries them again\n")
    return folder


def test_the_table_is_all_that_comes_out(work: Path) -> None:
    ended = shell("table", work / "project", "--format", "csv")
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.decode().splitlines()
    assert lines[0].startswith("exposure,group,status,reason,id,")
    names = lines[0].split(",")
    for name in ("defocus_u", "defocus_v", "astigmatism_angle", "ctf_score", "ctf_quality", "drift", "iciness"):
        assert name in names
    assert not any("(" in name or " " in name for name in names)
    table = pd.read_csv(io.BytesIO(ended.out), keep_default_na=False)
    assert list(table.exposure) == ["cut", "good"]
    assert list(table.status) == ["failed", "done"]
    assert list(table.drift) == ["", ""]
    assert list(table.micrograph_pixel_size) == ["", "1.5"]
    assert list(table.tilt_angle) == [-3.5, -3.5]
    assert "cut.mrc" in table.reason[0]
    assert table.reason[1] == ""


def test_json_and_parquet_hold_the_same(work: Path, tmp_path: Path) -> None:
    rows = json.loads(focusnb("table", work / "project", "--format", "json").out)
    with Project.open(work / "project") as project:
        table = project.table()
    assert [row["exposure"] for row in rows] == ["cut", "good"]
    assert rows[0]["drift"] is None
    assert rows[1]["iciness"] == table.iciness[2]
    assert rows[1]["imported_at"].startswith(table.imported_at[2].strftime("%Y-%m-%dT%H:%M:%S"))
    assert (rows[1]["width"], type(rows[1]["width"])) == (256, int)
    parquet = focusnb("table", work / "project", "--format", "parquet").out
    back = pd.read_parquet(io.BytesIO(parquet)).set_index("id")
    pd.testing.assert_frame_equal(back[table.columns], table)
    out = tmp_path / "table.csv"
    ended = focusnb("table", work / "project", "--format", "csv", "--out", out, "--group", "camera")
    assert (ended.status, ended.out) == (0, b"")
    assert out.read_bytes() == focusnb("table", work / "project", "--format", "csv").out


def test_a_number_is_never_shortened() -> None:
    value = 1.2345678901234567e-12
    frame = pd.DataFrame(
        {"exposure": ["a"], "group": ["g"], "status": ["done"], "reason": [None], "x": [value]},
        index=pd.Index([1], name="id"),
    )
    assert json.loads(encode_exposures(frame, "json"))[0]["x"] == value
    assert pd.read_csv(io.BytesIO(encode_exposures(frame, "csv"))).x[0] == value


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("new", "{new}", "--mode", "crystal"), 1, "2D electron crystallography projects cannot be made yet"),
        (("new", "{new}", "--mode", "tomography"), 1, "Electron tomography projects cannot be made yet"),
        (("new", "{new}", "--mode", "movies"), 2, "'movies' is not one of"),
        (("new", "{new}"), 2, "--mode"),
        (("new", "{project}", "--mode", "drift"), 1, "is a project already"),
        (("new", "{camera}", "--mode", "drift"), 1, "exists and is not empty"),
        (("run", "{new}", "--until-idle"), 1, "is no focusnb project; make one with 'focusnb new"),
        (
            ("run", "{project}", "--until-idle", "--workers", "-1"),
            2,
            "'--workers': Input should be greater than or equal to 0",
        ),
        (("table", "{project}", "--format", "xml"), 2, "xml"),
        (("table", "{project}", "--trial", "none"), 2, "there is no trial none"),
        (("import", "{project}", "{new}"), 2, "does not exist; check the path"),
        (("import", "{project}", "{camera}", "--set", "voltage"), 2, "'voltage' is not NAME=VALUE"),
        (("import", "{project}", "{camera}", "--set", "voltage=5"), 2, "greater than or equal to 20 kV"),
        (("import", "{project}", "{camera}", "--set", "volts=300"), 2, "did you mean voltage"),
        (("import", "{project}", "{camera}", "--gain", "{new}"), 2, "the gain reference does not exist"),
        (("step", "set", "{project}", "align_frames", "--b-factor", "many"), 2, "unable to parse string"),
        (("step", "show", "fit_tea"), 2, "there is no step fit_tea"),
        (("frobnicate",), 2, "frobnicate"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_one_sentence_and_a_status(
    work: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    places = {"new": tmp_path / "new", "project": work / "project", "camera": work / "camera"}
    ended = focusnb(*(argument.format(**places) for argument in arguments))
    assert ended.out == b""
    assert message in " ".join(ended.err.replace("│", " ").split())
    assert ended.status == status
    assert "Traceback" not in ended.err
    assert not (tmp_path / "new").exists()


def test_every_command_explains_itself() -> None:
    top = focusnb("--help")
    assert top.status == 0
    for command in ("new", "import", "run", "table", "rebuild", "step", "simulate", "demo", "doctor"):
        assert f"\n│ {command} " in top.out.decode() or f" {command} " in top.out.decode()
    text = " ".join(focusnb("import", "--help").out.decode().replace("│", " ").split())
    for spec in Acquisition.specs():
        assert spec.name in text or spec.name in IMPORTED


def test_options_and_descriptions_come_from_the_declarations(work: Path) -> None:
    shown = focusnb("step", "show", "align_frames")
    assert shown.status == 0
    assert "Target pixel size (Å/px)" in shown.out.decode()
    assert "micrograph_dose_weighted" in shown.out.decode()
    for verb in ("set", "run"):
        ended = focusnb("step", verb, work / "project", "align_frames", "--help")
        text = " ".join((ended.out.decode() + ended.err).replace("│", " ").split())
        assert ended.status == 0
        assert "--target-pixel-size" in text
        assert "--no-dose-weighting" in text
        assert "Target pixel size (Å/px). Crop in Fourier space" in text
        assert "> 0." in text
    listed = focusnb("step", "list").out.decode()
    assert "align_frames" in listed
    assert "Align the frames" in listed


def test_a_step_is_tuned_run_as_a_trial_and_used(work: Path) -> None:
    ended = focusnb(
        "step", "set", work / "project", "align_frames", "--target-pixel-size", "2.5", "--no-dose-weighting"
    )
    assert ended.status == 0, ended.err
    assert "target_pixel_size = 2.5 (project)" in ended.err
    assert "dose_weighting = False (project)" in ended.err
    assert focusnb("step", "set", work / "project", "align_frames", "--target-pixel-size", "-1").status == 2
    ended = focusnb("step", "run", work / "project", "measure_image", "good", "--trial", "look")
    assert ended.status == 0, ended.err
    assert "1 done" in ended.err
    rows = json.loads(focusnb("table", work / "project", "--format", "json", "--trial", "look").out)
    assert [row["exposure"] for row in rows] == ["good"]
    steps = work / "project" / "steps"
    (steps / "gold.py").write_text(
        textwrap.dedent('''
        from typing import Annotated
        from focusnb.parameters import quantity
        from focusnb.steps.base import Step, StepInputs, StepResults

        class CountGold(Step):
            """Count gold beads."""
            name = "count_gold"
            title = "Count gold"
            category = "statistics"
            class Results(StepResults):
                beads: Annotated[int, quantity("Gold beads", unit="")] | None = None
            def run(self, inputs, params, work):
                return self.Results(beads=7)
        ''')
    )
    refused = focusnb("step", "use", work / "project", "count_gold")
    assert refused.status == 2
    assert "focusnb step trust" in refused.err
    trusted = focusnb("step", "trust", work / "project", "--yes")
    assert trusted.status == 0
    assert "gold.py" in trusted.err
    used = focusnb("step", "use", work / "project", "count_gold")
    assert used.status == 0, used.err
    assert used.err.startswith("Movies: prepare_movie → align_frames →")
    assert "count_gold" in used.err
    ran = focusnb("run", work / "project", "--until-idle", "--workers", 0)
    assert ran.status == 0, ran.err
    rows = json.loads(focusnb("table", work / "project", "--format", "json").out)
    assert [row["beads"] for row in rows] == [7, 7]


def test_doctor_says_what_is_there_and_what_to_do(work: Path) -> None:
    ended = focusnb("doctor")
    text = ended.out.decode()
    assert ended.status == 0, text + ended.err
    for name in ("Python", "focusnb", "GPU", "CTFFIND", "browser", "memory", "disk"):
        assert name in text
    for line in text.splitlines():
        assert line.startswith("ok") or "→" in line


def test_a_library_is_rebuilt(work: Path) -> None:
    before = focusnb("table", work / "project", "--format", "csv").out
    (work / "project" / "library.sqlite").write_bytes(b"damage" * 1000)
    refused = focusnb("table", work / "project", "--format", "csv")
    assert (refused.status, refused.out) == (1, b"")
    assert "focusnb rebuild" in refused.err
    rebuilt = focusnb("rebuild", work / "project")
    assert rebuilt.status == 0, rebuilt.err
    assert "2 exposures are in the new library" in rebuilt.err
    assert focusnb("table", work / "project", "--format", "csv").out == before


def test_a_read_only_project_can_be_looked_at(work: Path) -> None:
    folder = work / "project"
    paths = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def look() -> list[Ended]:
        return [
            focusnb("table", folder, "--format", "csv"),
            focusnb("run", folder, "--until-idle"),
            focusnb("import", folder, work / "camera"),
            focusnb("step", "set", folder, "align_frames", "--b-factor", "10"),
        ]

    try:
        table, *refused = run_as_nobody(look)
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert table.status == 0, table.err
    assert len(table.out.splitlines()) == 3
    for ended in refused:
        assert (ended.status, ended.out) == (1, b"")
        assert ended.err.count("\n") == 1
        assert str(folder) in ended.err
        assert "cannot be written; give this user write access" in ended.err
