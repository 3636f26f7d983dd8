"""What every registered step keeps, whoever wrote it. A step added in one file is tested here without a line more."""

from __future__ import annotations

import json
import math
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.io.images import read_image
from focusnb.io.mrc import write_mrc
from focusnb.ops.simulate import DetectorSettings, MovieSpec, simulate_micrograph, simulate_movie
from focusnb.parameters import PRODUCTS, Spec
from focusnb.quantities import Acquisition
from focusnb.steps.base import CATEGORIES, FACTS, NAME, Cost, Step, built_in_steps
from focusnb.steps.task import Outcome, StepCall, Task, run_task
from focusnb.steps.work import MEMBERS_FILE, SESSION
from tests.conftest import REPOSITORY

STEPS = built_in_steps()
MODELS = ("Inputs", "Params", "Results")

every_step = pytest.mark.parametrize("step", [pytest.param(step, id=name) for name, step in sorted(STEPS.items())])


@every_step
def test_it_is_named_explained_and_in_its_place(step: type[Step]) -> None:
    assert NAME.fullmatch(step.name)
    assert step.title[:1].isupper()
    assert not step.title.endswith(".")
    assert step.version
    assert step.category in CATEGORIES
    assert step.__module__ == f"focusnb.steps.{step.category}.{step.name}"
    first = (step.__doc__ or "").strip().splitlines()[0]
    assert first.endswith(".")
    assert len(first) <= 120
    assert not step.origin


@every_step
def test_each_value_has_label_unit_and_documentation(step: type[Step]) -> None:
    for model in MODELS:
        for spec in getattr(step, model).specs():
            assert NAME.fullmatch(spec.name)
            assert spec.label[:1].isupper() or not spec.label[:1].isalpha(), f"{spec.name}: no label"
            assert not spec.label.endswith(".")
            if spec.type == "float":
                told = f"{spec.name}: give its unit, or unit='' if it has none on purpose"
                assert bool(spec.unit) != spec.unitless, told
            if spec.kind in PRODUCTS:
                assert re.fullmatch(r"[a-z0-9_]+\.(mrc|png|star|json)", spec.file or ""), spec.name
            assert not spec.help or spec.help.endswith("."), f"{spec.name}: help is a sentence"


@every_step
def test_specs_survive_json(step: type[Step]) -> None:
    for model in MODELS:
        for spec in getattr(step, model).specs():
            assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@every_step
def test_parameters_have_defaults_and_survive_json(step: type[Step]) -> None:
    params = step.Params()
    assert step.Params.make(json.loads(params.model_dump_json())) == params
    for spec in step.Params.specs():
        assert spec.kind in ("value", "file")
        if spec.type != "str" or spec.choices:
            continue
        assert spec.default is None or isinstance(spec.default, str)


@every_step
def test_results_may_all_be_missing(step: type[Step]) -> None:
    assert set(step.Results().model_dump().values()) <= {None}


@every_step
def test_inputs_are_facts_or_made_by_a_step(step: type[Step]) -> None:
    made = {spec.name for other in STEPS.values() if other is not step for spec in other.makes()}
    for spec in step.needs():
        assert spec.name in made, f"nothing makes {spec.name}"
    assert step.makes()


@every_step
def test_cost_needs_no_fact_and_grows_with_the_movie(step: type[Step]) -> None:
    params = step.Params()
    unknown = step().cost({}, params)
    small = step().cost({"width": 1000, "height": 1000, "frame_count": 10}, params)
    large = step().cost({"width": 10_000, "height": 10_000, "frame_count": 100}, params)
    assert isinstance(unknown, Cost)
    assert 0 < small.memory <= large.memory
    assert small.gpu_memory <= large.gpu_memory
    assert step.gpu != "needs" or large.gpu_memory > 0


def test_a_name_means_the_same_everywhere() -> None:
    def meaning(spec: Spec) -> Spec:
        return replace(spec, default=None, required=False, optional=False)

    known = {spec.name: (meaning(spec), "Acquisition") for spec in Acquisition.specs()}
    for step in STEPS.values():
        for spec in [*step.Inputs.specs(), *step.makes()]:
            first, where = known.setdefault(spec.name, (meaning(spec), step.name))
            assert meaning(spec) == first, f"{spec.name} differs in {where} and {step.name}"


def test_two_results_share_neither_file_nor_star_name() -> None:
    files: dict[str, str] = {}
    stars: dict[str, str] = {spec.star: spec.name for spec in Acquisition.specs() if spec.star}
    for step in STEPS.values():
        for spec in step.makes():
            if spec.file:
                assert files.setdefault(spec.file, spec.name) == spec.name
            if spec.star:
                assert stars.setdefault(spec.star, spec.name) == spec.name


def test_a_process_with_all_steps_has_loaded_neither_tables_nor_widgets() -> None:
    code = (
        "from focusnb.steps import base, scripts, task, trust; base.built_in_steps(); import sys; print(*sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = set(ended.stdout.split())
    assert "focusnb.steps.task" in loaded
    assert not loaded & {"pandas", "ipywidgets", "distributed", "dask", "sqlalchemy", "bokeh"}


# Every step, run on a small recording of each kind, in memory and from disk


class Recording:
    """A project of one exposure, its whole chain run and adopted."""

    def __init__(self, project: Path, facts: dict[str, Any]) -> None:
        self.project = project
        self.facts = facts
        self.folder = project / "exposures/a/one"
        self.steps = order(facts)
        self.outcome = self.run([step.name for step in self.steps], known={}, id="all")
        self.values: dict[str, Any] = {}
        self.products: dict[str, str] = {}
        for step in self.outcome.steps:
            self.values.update(step.values)
            self.products.update(step.products)
        for path in (self.folder / ".run-all").iterdir():
            path.rename(self.folder / path.name)

    def run(self, names: list[str], *, known: dict[str, Any], id: str) -> Outcome:
        task = Task(
            id=id,
            exposure=3,
            name="one",
            project=str(self.project),
            folder="exposures/a/one",
            calls=tuple(StepCall(name, run=f"{id}-{name}") for name in names),
            facts=self.facts,
            known=known,
            specs=tuple(spec for step in STEPS.values() for spec in step.makes()),
        )
        return run_task(pickle.loads(pickle.dumps(task)))


def order(facts: dict[str, Any]) -> list[type[Step]]:
    """The steps that can run with these facts, makers first."""
    chosen: dict[str, type[Step]] = {}
    made: set[str] = set()
    while True:
        ready = [
            step
            for name, step in STEPS.items()
            if name not in chosen
            and step.over == "exposure"
            and all(spec.name in made or spec.name in facts for spec in step.Inputs.specs() if spec.required)
        ]
        if not ready:
            break
        for step in ready:
            chosen[step.name] = step
            made |= {spec.name for spec in step.makes()}
    makers = {spec.name: step.name for step in chosen.values() for spec in step.makes()}
    graph = {name: {makers[spec.name] for spec in step.needs() if spec.name in makers} for name, step in chosen.items()}
    return [chosen[name] for name in TopologicalSorter(graph).static_order()]


OPTICS: dict[str, Any] = {
    "pixel_size": 1.06,
    "voltage": 300.0,
    "spherical_aberration": 2.7,
    "amplitude_contrast": 0.1,
}
RECORDED: dict[str, dict[str, Any]] = {
    "movie": {
        "kind": "movie",
        "movie": "raw/one_movie.mrc",
        "gain_reference": "references/gain.mrc",
        "dose_per_frame": 2.0,
        "exposure_time": 2.0,
        **OPTICS,
    },
    "image": {"kind": "image", "image": "raw/one_image.mrc", **OPTICS},
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    spec = MovieSpec((600, 540), 10, dose_per_frame=2.0, detector=DetectorSettings(hot=5, dead=5))
    found = {}
    for kind, facts in RECORDED.items():
        project = tmp_path_factory.mktemp(kind)
        raw = project / "exposures/a/one/raw"
        raw.mkdir(parents=True)
        if kind == "movie":
            movie = simulate_movie(spec, 1)
            (project / "references").mkdir()
            write_mrc(raw / "one_movie.mrc", movie.frames.astype(np.int16), pixel_size=1.06, dtype="int16")
            write_mrc(project / "references/gain.mrc", movie.gain, pixel_size=1.06)
        else:
            write_mrc(raw / "one_image.mrc", simulate_micrograph(spec, 1)[0], pixel_size=1.06)
        found[kind] = Recording(project, facts)
    return found


@pytest.mark.parametrize("kind", RECORDED)
def test_the_whole_chain_is_done_and_its_outcome_small(recordings: dict[str, Recording], kind: str) -> None:
    recording = recordings[kind]
    assert [(step.status, step.reason, step.traceback) for step in recording.outcome.steps] == [("done", "", "")] * len(
        recording.steps
    )
    assert len(pickle.dumps(recording.outcome)) < 100_000
    for outcome, step in zip(recording.outcome.steps, recording.steps, strict=True):
        assert outcome.values, f"{step.name} found nothing"
        assert set(outcome.values) <= {spec.name for spec in step.makes()}
        json.dumps(dict(outcome.values), allow_nan=False)
        for name, file in outcome.products.items():
            assert step.Results.spec(name).file == file
            assert (recording.folder / file).stat().st_size > 0


def test_every_step_is_run_here() -> None:
    ran = {step.name for facts in RECORDED.values() for step in order(facts)}
    assert ran >= {name for name, step in STEPS.items() if step.over == "exposure"}


@pytest.mark.parametrize(
    ("kind", "step"),
    [pytest.param(kind, step, id=f"{kind}-{step.name}") for kind, facts in RECORDED.items() for step in order(facts)],
)
def test_a_step_gives_the_same_from_memory_and_from_disk(
    recordings: dict[str, Recording], step: type[Step], kind: str
) -> None:
    recording = recordings[kind]
    names = [step.name]
    makers = {spec.name: other for other in recording.steps for spec in other.makes()}
    pending = [step]
    while pending:
        for spec in pending.pop().needs():
            if spec.kind == "transient" and spec.name in makers and makers[spec.name].name not in names:
                names.insert(0, makers[spec.name].name)
                pending.append(makers[spec.name])
    own = {spec.name for spec in step.makes()}
    known = {name: value for name, value in recording.values.items() if name not in own}
    outcome = recording.run(names, known=known, id=step.name)
    alone = next(found for found in outcome.steps if found.step == step.name)
    together = next(found for found in recording.outcome.steps if found.step == step.name)
    assert (alone.status, alone.reason) == ("done", "")
    assert alone.products == together.products
    assert set(alone.values) == set(together.values)
    for name, value in together.values.items():
        if isinstance(value, float):
            assert math.isclose(alone.values[name], value, rel_tol=1e-6, abs_tol=1e-9), name
        else:
            assert alone.values[name] == value
    for name, file in together.products.items():
        _assert_same_file(
            step.Results.spec(name), recording.folder / f".run-{step.name}" / file, recording.folder / file
        )


@pytest.mark.parametrize(
    "step", [pytest.param(step, id=name) for name, step in sorted(STEPS.items()) if step.over == "set"]
)
def test_a_step_over_a_set_is_done_on_recorded_exposures(recordings: dict[str, Recording], step: type[Step]) -> None:
    assert STEPS[step.member_step].over == "exposure"
    recording = recordings["movie"]
    folder = f"sets/{SESSION}"
    task = Task(step.name, 0, SESSION, str(recording.project), folder, (StepCall(step.name, run="1"),), set=1)
    task.run_folder.mkdir(parents=True)
    one = {"id": 3, "name": "one", "folder": "exposures/a/one", "key": "", "values": {}}
    (task.run_folder / MEMBERS_FILE).write_text(json.dumps({"project": task.project, "members": [one]}))
    outcome = run_task(pickle.loads(pickle.dumps(task)))
    (done,) = outcome.steps
    assert (done.status, done.reason, done.traceback) == ("done", "", "")
    assert len(pickle.dumps(outcome)) < 100_000
    assert done.values
    assert set(done.values) <= {spec.name for spec in step.makes()}
    for name, file in done.products.items():
        assert step.Results.spec(name).file == file
        assert (task.run_folder / file).stat().st_size > 0


def _assert_same_file(spec: Spec, alone: Path, together: Path) -> None:
    if spec.kind == "image":
        np.testing.assert_allclose(read_image(alone).data, read_image(together).data, rtol=1e-5, atol=1e-6)
    else:
        assert alone.read_bytes() == together.read_bytes(), spec.name


def test_facts_are_never_made(recordings: dict[str, Recording]) -> None:
    for recording in recordings.values():
        assert not set(recording.values) & FACTS
