"""Projects for tests: a chain of three small steps over text files whose lines say what goes wrong."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import sqlite3
import tempfile
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor, Summary
from focusnb.processing.workflow import Workflow
from focusnb.project.project import Project
from focusnb.steps import trust

CHAIN = ("load", "scale", "judge")

STEPS = '''
    """Load, scale and judge; a line of the movie "WHAT STEP" says what becomes of a step."""

    import errno
    import os
    import time
    from pathlib import Path
    from typing import Annotated, Literal

    import numpy as np
    from pydantic import model_validator

    from focusnb.errors import StepError
    from focusnb.parameters import image, quantity, table, transient
    from focusnb.quantities import GainReference, MovieFile, Voltage
    from focusnb.steps.base import Step, StepInputs, StepParams, StepResults

    Stack = Annotated[str, transient("Lines")]
    Level = Annotated[float, quantity("Level", unit="counts", precision=1)]
    Size = Annotated[int, quantity("Size", unit="", ge=0, le=1000)]
    Plane = Annotated[str, image("Plane", file="plane.mrc", unit="counts")]
    Scaled = Annotated[float, quantity("Scaled", unit="counts")]
    Verdict = Annotated[Literal["good", "bad"], quantity("Verdict")]
    Sure = Annotated[bool, quantity("Sure")]


    def behave(text, step, work):
        for line in text.splitlines():
            what, _, where = line.partition(" ")
            where, _, argument = where.partition(" ")
            if where != step:
                continue
            if what == "fail":
                raise StepError(f"{work.exposure}: {step} cannot")
            if what == "fault":
                raise ZeroDivisionError(f"in {step}")
            if what == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(work.folder / "plane.mrc"))
            if what == "die":
                os.kill(os.getpid(), 9)
            if what == "interrupt":
                raise KeyboardInterrupt
            if what == "once":
                died = Path(argument)
                if not died.exists():
                    died.touch()
                    os.kill(os.getpid(), 9)
            if what == "sleep":
                time.sleep(float(argument))
            if what == "await":
                while not Path(argument).exists():
                    time.sleep(0.02)


    class Load(Step):
        """Read the lines."""

        name = "load"
        title = "Load"
        version = "1"
        category = "prepare"

        class Inputs(StepInputs):
            movie: MovieFile
            gain_reference: GainReference | None = None

        class Results(StepResults):
            stack: Stack | None = None
            level: Level | None = None
            size: Size | None = None
            plane: Plane | None = None

        def run(self, inputs, params, work):
            text = Path(inputs.movie).read_text()
            behave(text, "load", work)
            work["stack"] = text
            plane = np.full((4, 6), len(text), np.float32)
            name = None if "none load" in text else work.save("plane", plane, pixel_size=1.5)
            work.report("loaded", 1.0)
            return self.Results(stack="stack", level=len(text) / 2, size=len(text), plane=name)


    class Scale(Step):
        """Scale the number of lines."""

        name = "scale"
        title = "Scale"
        version = "1"
        category = "align"

        class Inputs(StepInputs):
            stack: Stack
            voltage: Voltage | None = None

        class Params(StepParams):
            factor: Annotated[float, quantity("Factor", unit="", gt=0)] = 2.0
            low: Annotated[int, quantity("Low", unit="")] = 0
            high: Annotated[int, quantity("High", unit="")] = 10

            @model_validator(mode="after")
            def _ordered(self):
                if self.low >= self.high:
                    raise ValueError(f"low {self.low} is not below high {self.high}")
                return self

        class Results(StepResults):
            scaled: Scaled | None = None

        def run(self, inputs, params, work):
            behave(work["stack"], "scale", work)
            return self.Results(scaled=params.factor * len(work["stack"].splitlines()) * (inputs.voltage or 1))


    class Judge(Step):
        """Judge the scaled number."""

        name = "judge"
        title = "Judge"
        version = "1"
        category = "ctf"

        class Inputs(StepInputs):
            scaled: Scaled
            plane: Plane | None = None

        class Params(StepParams):
            limit: Annotated[float, quantity("Limit", unit="counts")] = 3.0

        class Results(StepResults):
            verdict: Verdict | None = None
            sure: Sure | None = None

        def run(self, inputs, params, work):
            return self.Results(verdict="good" if inputs.scaled > params.limit else "bad", sure=inputs.scaled != 3)
'''


@cache
def _template(steps: bool) -> Path:
    """A project made once; each test's project is a copy, which takes a quarter of the time."""
    folder = Path(tempfile.mkdtemp(prefix="focusnb-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with Project.create(folder / "project", mode="drift") as project:
        if steps:
            (project.folder / "steps" / "chain.py").write_text(textwrap.dedent(STEPS).lstrip())
            trust.trust(project.folder)
            project.declare()
            project.use_steps(*CHAIN)
    return folder / "project"


def make_project(folder: Path, *, steps: bool = True) -> Project:
    """A project in a folder, with the small steps, which the user of the tests trusts."""
    template = _template(steps)
    folder.mkdir(parents=True)
    for path in template.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
    trust.trust(folder)
    return Project.open(folder)


def write_shots(folder: Path, **texts: str) -> Path:
    """Text files named as movies, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.tif").write_text(text)
    return folder


def chain(project: Project) -> Workflow:
    """The workflow of the small steps."""
    return Workflow.named(project, CHAIN)


def process(project: Project, ids: Iterable[int] | None = None, *, executor: Any = None, **options: Any) -> Summary:
    """Queue the small steps and work until the queue is empty."""
    run = {name: options.pop(name) for name in ("on_event", "refill") if name in options}
    processor = Processor(project, executor or InlineExecutor())
    processor.submit(chain(project), ids, **options)
    return processor.run(**run)


def statuses(project: Project) -> dict[str, str]:
    """Status by exposure."""
    table = project.table()
    return dict(zip(table["exposure"], table["status"], strict=True))


def exposure_names(folder: Path, where: str = "TRUE") -> list[str]:
    """Names of a project's exposures, read at little cost: for who asks again and again while others write.

    where : a condition of SQL
    """
    library = f"file:{folder / 'library.sqlite'}?mode=ro"
    with contextlib.closing(sqlite3.connect(library, uri=True, timeout=30)) as connection:
        found = connection.execute(f"SELECT exposure FROM exposures WHERE {where}").fetchall()
    return sorted(name for (name,) in found)


def left_overs(folder: Path) -> list[str]:
    """Temporary files and folders below a folder."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob(".*") if ".part-" in path.name or ".run-" in path.name
    )
