"""What the queue costs, what a hundred thousand exposures cost, and what a second worker brings.

    python benchmarks/processor.py [overhead many workers ...]

overhead : 1,000 exposures with a step that does nothing, through queue, cluster and store; and the process at rest
many : a library of 100,000 processed exposures of which 1,000 wait
workers : the standard movies *small* with one and with two single-threaded workers, by turns
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _common
import library
import pipeline
import psutil
import sqlalchemy as sa

from focusnb.processing.executors import Executor, LocalCluster
from focusnb.processing.processor import Processor
from focusnb.processing.queue import Queue
from focusnb.processing.workflow import Workflow
from focusnb.project import schema, tasks
from focusnb.project.project import Project
from focusnb.steps import trust

NOTHING = '''
"""A step that does nothing."""

from typing import Annotated

from focusnb.parameters import quantity
from focusnb.quantities import MovieFile
from focusnb.steps.base import Step, StepInputs, StepResults


class Rest(Step):
    """Do nothing."""

    name = "rest"
    title = "Rest"
    version = "1"
    category = "prepare"

    class Inputs(StepInputs):
        movie: MovieFile

    class Results(StepResults):
        rested: Annotated[int, quantity("Rested", unit="")] | None = None

    def run(self, inputs, params, work):
        return self.Results(rested=1)
'''

ALLOWED = {"rate": 50.0, "share at 500/h": 0.05, "queue()": 1.0, "changes()": 1.0, "stale()": 1.0, "speed-up": 1.5}
"""What the issue of the processor asks for: exposures per second, shares of a core, seconds, ratio."""


@contextmanager
def project_of(count: int) -> Iterator[Project]:
    """A project with small text files as movies, and the step that does nothing."""
    folder = Path(tempfile.mkdtemp(prefix="focusnb-benchmark-"))
    try:
        with Project.create(folder / "project", mode="drift") as project:
            (project.folder / "steps" / "rest.py").write_text(NOTHING)
            trust.trust(project.folder)
            project.declare()
            camera = folder / "camera"
            camera.mkdir()
            for number in range(count):
                (camera / f"m{number:05d}.tif").write_text(f"{number}\n")
            project.add(camera, kind="movie")
            yield project
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def overhead(count: int = 1000) -> dict[str, float]:
    """Exposures per second, CPU of the process that works by exposure, and of one at rest."""
    with project_of(count) as project:
        cluster = LocalCluster(2)
        try:
            processor = Processor(project, cluster)
            workflow = Workflow.named(project, ["rest"])
            processor.submit(workflow, project.ids()[:20])
            processor.run()  # the workers have loaded the step
            start = time.perf_counter()
            processor.submit(workflow)
            submitted = time.perf_counter() - start
            start, cpu = time.perf_counter(), time.process_time()
            summary = processor.run()
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            assert summary.done == count - 20, summary
            rest = at_rest(project, cluster)
        finally:
            cluster.close()
    each = cpu / summary.done
    return {
        "exposures": count,
        "submit all, s": submitted,
        "rate": summary.done / seconds,
        "CPU ms each": 1e3 * each,
        "share at rest": rest,
        "share at 500/h": rest + each * 500 / 3600,
    }


def at_rest(project: Project, executor: Executor, seconds: float = 20.0) -> float:
    """Share of a core that a process takes which has nothing to do."""
    processor = Processor(project, executor)
    thread = threading.Timer(seconds, processor.cancel)
    thread.start()
    start, cpu = time.perf_counter(), time.process_time()
    processor.run(until_idle=False, begin=lambda: 0)
    thread.join()
    return (time.process_time() - cpu) / (time.perf_counter() - start)


def many(count: int = 100_000, waiting: int = 1000) -> dict[str, float]:
    """Seconds of what people and the processor ask of a large library."""
    folder = Path(tempfile.mkdtemp(prefix="focusnb-benchmark-"))
    try:
        project = Project.create(folder / "project", mode="single-particle")
        workflow = Workflow.of(project, "movie")
        start = time.perf_counter()
        for first in range(1, count + 1, 10_000):
            library.fill(project, workflow, min(10_000, count + 1 - first), first=first)
        print(f"filled in {time.perf_counter() - start:.0f} s", flush=True)
        start = time.perf_counter()
        project.settle(workflow, project.ids())
        settled = time.perf_counter() - start
        some = project.ids()[:: count // waiting][:waiting]
        with project.library.write() as transaction:
            # as after an import: nothing is known of them yet
            for identity in some:
                transaction.update_exposure(identity, {"current": {}, "status": "new"})
        queue = Queue(project)
        revision = project.revision
        results = {
            "exposures": count,
            "first look at all": settled,
            "stale()": library.median(lambda: project.stale(workflow), times=5),
        }
        start = time.perf_counter()
        assert queue.submit_stale() == waiting
        results["submit_stale()"] = time.perf_counter() - start
        results["queue()"] = library.median(Processor(project).queue)
        results["queue table"] = library.median(queue.table)
        results["take the next"] = library.median(lambda: tasks.waiting(project.library, 1))
        results["changes()"] = library.median(lambda: project.changes(revision))
        results["put on top"] = library.median(lambda: queue.put_first(some[:1]))
        results["move one"] = library.median(lambda: _move(queue))
        results["log"] = library.median(queue.log)
        with project.library.read() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(schema.exposures)).scalar() == count
        project.close()
    finally:
        shutil.rmtree(folder)
    return results


def _move(queue: Queue) -> None:
    table = queue.table()
    queue.move(table["task"].iloc[-1], before=table["task"].iloc[10])


def workers(movies: int = 16) -> dict[str, float]:
    """Movies per second with one and with two workers, the middle of three turns each."""
    folder = Path(tempfile.mkdtemp(prefix="focusnb-benchmark-"))
    try:
        facts = pipeline.write_movie("small", folder)
        camera = folder / "camera"
        camera.mkdir()
        for number in range(movies):
            shutil.copy(facts["movie"], camera / f"m{number:03d}.tif")
        given = {name: facts[name] for name in ("pixel_size", "voltage", "dose_per_frame")}
        with Project.create(folder / "project", mode="single-particle") as project:
            project.add(
                camera, gain_reference=Path(facts["gain_reference"]), defects=Path(facts["defects"]), facts=given
            )
            rates: dict[int, list[float]] = {1: [], 2: []}
            for turn in range(6):
                number = 1 + turn % 2
                cluster = LocalCluster(number)
                try:
                    processor = Processor(project, cluster)
                    workflow = Workflow.of(project, "movie")
                    processor.submit(workflow, project.ids()[: 2 * number], everything=True)
                    processor.run()
                    processor.submit(workflow, everything=True)
                    start = time.perf_counter()
                    summary = processor.run()
                    rates[number].append(movies / (time.perf_counter() - start))
                    assert summary.done == movies, summary
                finally:
                    cluster.close()
    finally:
        shutil.rmtree(folder)
    one, two = (sorted(rates[number])[1] for number in (1, 2))
    return {"movies": movies, "one, per s": one, "two, per s": two, "speed-up": two / one}


PARTS = {"overhead": overhead, "many": many, "workers": workers}


def main() -> None:
    """Measure, print and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    results: dict[str, Any] = {}
    late = []
    for name in parser.parse_args().parts:
        load = psutil.getloadavg()[0]
        results[name] = {key: round(value, 4) for key, value in PARTS[name]().items()}
        results[name]["load before"] = round(load, 2)
        rows = [{"what": key, "measured": value, "asked": ALLOWED.get(key)} for key, value in results[name].items()]
        print(f"\n{name}")
        _common.table(rows)
        for key, bound in ALLOWED.items():
            value = results[name].get(key)
            if value is not None and (value < bound if key in ("rate", "speed-up") else value > bound):
                late.append(f"{key} {value:g} (asked {bound:g})")
    _common.save("processor", results)
    if late:
        sys.exit(f"worse than asked: {', '.join(late)}")


if __name__ == "__main__":
    main()
