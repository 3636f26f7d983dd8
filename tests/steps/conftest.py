"""A project folder with steps of its own, and tasks over one exposure of it."""

from __future__ import annotations

import pickle
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from focusnb.parameters import Spec
from focusnb.steps.base import find_step, steps_in
from focusnb.steps.task import Outcome, StepCall, StepOutcome, Task, run_task


@dataclass
class Bench:
    """A project folder and the exposure ``grid_07`` in it."""

    project: Path
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> Path:
        return self.project / "steps"

    @property
    def exposure(self) -> Path:
        return self.project / "exposures/import_1/grid_07"

    def write(self, name: str, text: str) -> Path:
        path = self.steps / name
        path.write_text(textwrap.dedent(text).lstrip())
        return path

    def task(
        self,
        *steps: str,
        params: Mapping[str, Mapping[str, Any]] | None = None,
        known: Mapping[str, Any] | None = None,
        id: str = "1",
    ) -> Task:
        calls = tuple(
            StepCall(step, run=f"{id}-{step}", params=(params or {}).get(step, {}), fingerprint=f"print of {step}")
            for step in steps
        )
        specs: list[Spec] = [spec for step in steps_in(self.steps).values() for spec in step.makes()]
        return Task(
            id=id,
            exposure=7,
            name="grid_07",
            project=str(self.project),
            folder=str(self.exposure.relative_to(self.project)),
            calls=calls,
            facts=self.facts,
            known=known or {},
            specs=tuple(specs),
            steps_folder=str(self.steps),
        )

    def run(self, *steps: str, **choices: Any) -> dict[str, StepOutcome]:
        """Run steps as a worker does, the task and its outcome pickled both ways; outcomes by step."""
        task = pickle.loads(pickle.dumps(self.task(*steps, **choices)))
        outcome: Outcome = pickle.loads(pickle.dumps(run_task(task)))
        return {step.step: step for step in outcome.steps}

    def adopt(self, id: str = "1") -> None:
        """Move what a task wrote into the exposure's folder, as a project does."""
        for path in (self.exposure / f".run-{id}").iterdir():
            path.rename(self.exposure / path.name)

    def find(self, name: str) -> Any:
        return find_step(name, self.steps)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    project = tmp_path / "project"
    bench = Bench(project)
    bench.steps.mkdir(parents=True)
    bench.exposure.mkdir(parents=True)
    return bench
