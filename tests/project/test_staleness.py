"""The real steps on one movie: what a change makes stale, what it leaves alone, and that no short cut hides it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from focusnb.io.mrc import write_mrc
from focusnb.ops.simulate import DetectorSettings, MovieSpec, simulate_movie
from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.processing.workflow import Workflow
from focusnb.project.project import Project
from focusnb.steps import trust
from focusnb.steps.base import find_step

OWN_STEP = '''
"""A step of the user's."""

from typing import Annotated

from focusnb.parameters import quantity
from focusnb.quantities import DefocusU, Iciness
from focusnb.steps.base import Step, StepInputs, StepResults

Doubled = Annotated[float, quantity("Doubled defocus", unit="Å")]


class Double(Step):
    """Double the defocus."""

    name = "double"
    title = "Double"
    category = "ctf"

    class Inputs(StepInputs):
        defocus_u: DefocusU
        iciness: Iciness | None = None

    class Results(StepResults):
        doubled: Doubled | None = None

    def run(self, inputs, params, work):
        return self.Results(doubled=2 * inputs.defocus_u)
'''

PREPARE, ALIGN, SPECTRUM, IMAGE, ADD, FIT, JUDGE, DOUBLE = ALL = (
    "prepare_movie",
    "align_frames",
    "measure_spectrum",
    "measure_image",
    "add_to_session",
    "fit_ctf",
    "judge_exposure",
    "double",
)

GAIN, OTHER_GAIN, SAME_GAIN, MOVIE = "gain.mrc", "other.mrc", "copy.mrc", "movie.mrc"


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a camera's files, and a project in which two exposures, in two groups, are processed."""
    folder = tmp_path_factory.mktemp("staleness")
    spec = MovieSpec((600, 540), 6, dose_per_frame=4.0, detector=DetectorSettings(hot=2, dead=2))
    movie = simulate_movie(spec, 1)
    camera = folder / "camera"
    camera.mkdir()
    for group in ("near", "far"):
        (camera / group).mkdir()
        write_mrc(camera / group / f"{group}.mrc", movie.frames.astype(np.int16), pixel_size=1.06, dtype="int16")
    write_mrc(folder / GAIN, movie.gain, pixel_size=1.06)
    write_mrc(folder / OTHER_GAIN, movie.gain * 1.01, pixel_size=1.06)
    shutil.copy(folder / GAIN, folder / SAME_GAIN)
    facts = {"pixel_size": 1.06, "voltage": 300, "dose_per_frame": 4.0}
    with Project.create(folder / "project", mode="single-particle") as project:
        (project.folder / "steps" / "double.py").write_text(textwrap.dedent(OWN_STEP).lstrip())
        trust.trust(project.folder)
        project.declare()
        project.use_steps(DOUBLE)
        report = project.add(camera / "near", camera / "far", gain_reference=folder / GAIN, facts=facts)
        assert report.added == [1, 2]
        processor = Processor(project, InlineExecutor())
        processor.submit_stale()
        summary = processor.run()
        assert summary.reasons == {}
        assert summary.done == 2
    return folder


@pytest.fixture
def project(processed: Path, tmp_path: Path) -> Iterator[Project]:
    """A copy of it for one test."""
    shutil.copytree(processed, tmp_path / "session")
    trust.trust(tmp_path / "session" / "project")
    with Project.open(tmp_path / "session" / "project") as project:
        yield project


Stale = dict[int, list[str]]


def settled(project: Project) -> list[int]:
    """Exposures that are marked as up to date, rightly or not."""
    with project.library.read() as connection:
        return list(connection.execute(sa.text("SELECT id FROM exposures WHERE settled_for IS NOT NULL")).scalars())


def stale(project: Project) -> Stale:
    """What is stale by the library's answer, which is the same when it has to look at every exposure."""
    workflow = Workflow.of(project, "movie")
    quick = project.stale(workflow)
    one_by_one = {identity: steps for number in (1, 2) for identity, steps in project.stale(workflow, [number]).items()}
    with project.library.read() as connection:
        marks = connection.execute(sa.text("SELECT id, settled_for FROM exposures")).all()
    _write(project, "UPDATE exposures SET settled_for = NULL")
    slow = project.stale(workflow)
    for row in marks:
        _write(project, "UPDATE exposures SET settled_for = :mark WHERE id = :id", mark=row.settled_for, id=row.id)
    assert quick == one_by_one == slow
    return quick


def _write(project: Project, statement: str, **values: object) -> None:
    """Write behind the library's back: no revision is raised."""
    with project.library.write() as transaction:
        transaction.execute(sa.text(statement), values)


def both(*steps: str) -> Stale:
    return {1: list(steps), 2: list(steps)}


Patch = pytest.MonkeyPatch
Act = Callable[[Project, Patch], object]


@dataclass(frozen=True)
class Row:
    """A change, what it must make stale, and how it is taken back, where it can be."""

    name: str
    change: Act
    stale: Stale
    back: Act | None = None


def choose(step: str, **values: object) -> Act:
    """Change choices: of the project, or of the level and key named."""
    return lambda project, patch: project.set_params(step, **values)  # type: ignore[arg-type]


def facts(ids: tuple[int, ...] = (1, 2), **values: object) -> Act:
    """Set facts by hand; names of files are those beside the project."""

    def act(project: Project, patch: Patch) -> None:
        files = {n: str(project.folder.parent / str(v)) for n, v in values.items() if n == "gain_reference" and v}
        project.set_facts(ids, **{**values, **files})

    return act


def version(step: str, to: str) -> Act:
    """Let a step be of another version."""
    return lambda project, patch: patch.setattr(project.step(step), "version", to)


def script(old: str, new: str) -> Act:
    """Change the text of the user's step; the user trusts it."""

    def act(project: Project, patch: Patch) -> None:
        path = project.folder / "steps" / "double.py"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
        trust.trust(project.folder)
        project.declare()

    return act


def raw_content(exposure: int, content: str | None) -> Act:
    """Let the raw file of an exposure have another content, as a fresh import of it would find; None: its own."""

    def act(project: Project, patch: Patch) -> None:
        own = next(e.content for e in project.exposures([3 - exposure]))  # both movies are the same
        with project.library.write() as transaction:
            transaction.update_exposure(exposure, {"content": content or own})

    return act


def nothing(project: Project, patch: Patch) -> None:
    pass


ROWS = (
    Row("nothing", nothing, {}),
    Row("comment", lambda project, patch: project.comment([1], "pretty"), {}),
    Row("flag", lambda project, patch: project.flag([1], "red"), {}),
    # choices
    Row("ctf", choose("fit_ctf", defocus_max=30_000), both(FIT, JUDGE, DOUBLE), choose("fit_ctf", defocus_max=None)),
    Row("default", choose("fit_ctf", resolution_low=30.0), {}),
    Row(
        "alignment",
        choose("align_frames", b_factor=250),
        both(PREPARE, ALIGN, SPECTRUM, IMAGE, ADD, FIT, JUDGE, DOUBLE),
        choose("align_frames", b_factor=None),
    ),
    Row(
        "spectrum",
        choose("measure_spectrum", finest_pixel_size=1.5),
        both(SPECTRUM, ADD, FIT, JUDGE, DOUBLE),
        choose("measure_spectrum", finest_pixel_size=None),
    ),
    Row(
        "preparation",
        choose("prepare_movie", find_hot_pixels=False),
        both(*ALL),
        choose("prepare_movie", find_hot_pixels=None),
    ),
    Row(
        "group",
        choose("fit_ctf", level="group", key="near", resolution_low=25),
        {1: [FIT, JUDGE, DOUBLE]},
        choose("fit_ctf", level="group", key="near", resolution_low=None),
    ),
    Row(
        "exposure",
        choose("align_frames", level="exposure", key=2, b_factor=250),
        {2: list(ALL)},
        choose("align_frames", level="exposure", key=2, b_factor=None),
    ),
    Row("exposure as all", choose("fit_ctf", level="exposure", key=2, resolution_low=30), {}),
    # facts
    Row("gain", facts(gain_reference=OTHER_GAIN), both(*ALL), facts(gain_reference=GAIN)),
    Row("gain of one", facts((2,), gain_reference=OTHER_GAIN), {2: list(ALL)}, facts((2,), gain_reference=None)),
    Row("gain under another name", facts(gain_reference=SAME_GAIN), {}),
    Row("pixel size", facts(pixel_size=1.1), both(*ALL), facts(pixel_size=1.06)),
    Row("pixel size taken back", facts(pixel_size=1.1), both(*ALL), facts(pixel_size=None)),
    Row(
        "spherical aberration",
        facts(spherical_aberration=2.0),
        both(FIT, JUDGE, DOUBLE),
        facts(spherical_aberration=2.7),
    ),
    Row(
        "voltage",
        facts(voltage=200),
        both(PREPARE, ALIGN, SPECTRUM, IMAGE, ADD, FIT, JUDGE, DOUBLE),
        facts(voltage=300),
    ),
    Row("tilt angle", facts(tilt_angle=10), {}),
    Row("raw file", raw_content(1, "0" * 64), {1: list(ALL)}, raw_content(1, None)),
    # code
    *(
        Row(f"version of {step}", version(step, "1 and a half"), both(*after), version(step, find_step(step).version))
        for step, after in (
            (PREPARE, ALL),
            (ALIGN, ALL),
            (SPECTRUM, (SPECTRUM, ADD, FIT, JUDGE, DOUBLE)),
            (IMAGE, (PREPARE, IMAGE, JUDGE, DOUBLE)),  # it reads a sum that lives in memory only
            (ADD, (ADD,)),
            (FIT, (FIT, JUDGE, DOUBLE)),
        )
    ),
    Row(
        "script",
        script("2 * inputs", "inputs.defocus_u + inputs"),
        both(DOUBLE),
        script("inputs.defocus_u + inputs", "2 * inputs"),
    ),
    Row(
        "a comment in the script",
        script("return", "# twice\n        return"),
        both(DOUBLE),
        script("# twice\n        return", "return"),
    ),
    # values by hand
    Row(
        "override",
        lambda project, patch: project.override(1, defocus_u=12_000.0),
        {1: [JUDGE, DOUBLE]},
        lambda project, patch: project.clear_override(1),
    ),
    Row(
        "override of what nothing reads",
        lambda project, patch: project.override(1, ctf_score=0.5),
        {},
        lambda project, patch: project.clear_override(1),
    ),
    Row(
        "override of a pixel size",
        lambda project, patch: project.override(2, power_spectrum_pixel_size=1.5),
        {2: [ADD, FIT, JUDGE, DOUBLE]},
        lambda project, patch: project.clear_override(2, "power_spectrum_pixel_size"),
    ),
)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_a_change_makes_just_these_steps_stale(project: Project, monkeypatch: Patch, row: Row) -> None:
    assert stale(project) == {}
    project.settle(Workflow.of(project, "movie"), [1, 2])
    assert sorted(settled(project)) == [1, 2]
    row.change(project, monkeypatch)
    assert stale(project) == row.stale
    # what is up to date is marked by the new configuration, and found stale by the old one and the other way round
    project.settle(Workflow.of(project, "movie"), [1, 2])
    assert stale(project) == row.stale
    if row.back is not None:
        row.back(project, monkeypatch)
        assert stale(project) == {}
        project.settle(Workflow.of(project, "movie"), [1, 2])
        row.change(project, monkeypatch)
        assert stale(project) == row.stale


def test_a_move_between_groups_with_choices_counts(project: Project) -> None:
    project.set_params(FIT, level="group", key="near", resolution_low=25)
    assert stale(project) == {1: [FIT, JUDGE, DOUBLE]}
    project.move([1], "far")
    assert stale(project) == {}
    project.settle(Workflow.of(project, "movie"), [1, 2])
    project.move([1, 2], "near")
    assert stale(project) == both(FIT, JUDGE, DOUBLE)


def test_a_changed_ctf_parameter_runs_the_ctf_and_what_depends_on_it(project: Project) -> None:
    before = project.runs()
    products = {path: path.stat().st_mtime_ns for path in project.path(1).rglob("*") if path.is_file()}
    project.set_params(FIT, defocus_max=30_000)
    processor = Processor(project, InlineExecutor())
    assert processor.submit_stale() == 2
    assert processor.run().done == 2
    after = project.runs()
    again = after[~after.run.isin(before.run)]
    assert again.groupby("exposure").step.apply(list).to_dict() == {
        "near": [FIT, JUDGE, DOUBLE],
        "far": [FIT, JUDGE, DOUBLE],
    }
    assert set(again.status) == {"done"}
    assert stale(project) == {}
    # nothing but their files was written
    changed = {path.name for path, at in products.items() if path.stat().st_mtime_ns != at}
    written = {spec.file for name in (FIT, JUDGE, DOUBLE) for spec in project.step(name).makes() if spec.file}
    assert changed <= written | {"exposure.json", "log.txt"}
    # the steps before count as they did: going back needs these two again, and no others
    project.set_params(FIT, defocus_max=None)
    assert stale(project) == both(FIT, JUDGE, DOUBLE)


def test_judging_again_leaves_the_flag_set_by_hand_alone(project: Project) -> None:
    table = project.table()
    assert str(table.dtypes["quality_flags"]) == "str"
    assert table["quality_flags"].notna().all()  # no rule broken is a finding as well
    project.flag([1], "gold")
    project.set_params(JUDGE, ctf_fit_resolution_max=0.1)
    processor = Processor(project, InlineExecutor())
    assert processor.submit_stale() == 2
    assert processor.run().done == 2
    table = project.table()
    assert table["quality_flags"].str.split(",").map(lambda rules: "ctf" in rules).all()
    assert table["quality_remark"].str.contains(r"not 0\.1 Å").all()
    assert table["flag"].tolist()[0] == "gold"
    assert table["flag"].isna().tolist() == [False, True]
