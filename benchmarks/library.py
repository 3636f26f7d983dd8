"""Speed of the library with 10,000 exposures: opening, the table, storing, flags, planning."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _common
import sqlalchemy as sa

from focusnb.parameters import Spec
from focusnb.processing.workflow import Workflow
from focusnb.project import facts, schema, tasks
from focusnb.project.library import now
from focusnb.project.project import Project
from focusnb.steps.task import Outcome, StepOutcome

LIMITS = {"open": 1.0, "table": 0.5, "store": 0.020}
"""Seconds that the issue of the library allows."""

_OPEN = """
import sys, time
from focusnb.project.project import Project
import focusnb.steps.base as base
base.built_in_steps()
import adbc_driver_sqlite.dbapi, pandas
start = time.perf_counter()
project = Project.open(sys.argv[1])
print(time.perf_counter() - start)
"""


def main() -> None:
    """Make the library, measure, print and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exposures", type=int, default=10_000)
    count = parser.parse_args().exposures
    folder = Path(tempfile.mkdtemp(prefix="focusnb-benchmark-"))
    try:
        results = measure(folder / "project", count)
    finally:
        shutil.rmtree(folder)
    rows = [{"what": name, "median s": value, "allowed s": LIMITS.get(name)} for name, value in results.items()]
    _common.table(rows)
    _common.save("library", {"exposures": count, "seconds": results})
    late = [name for name, limit in LIMITS.items() if count <= 10_000 and results[name] > limit]
    if late:
        sys.exit(f"slower than allowed: {', '.join(late)}")


def measure(folder: Path, count: int) -> dict[str, float]:
    """Fill a project with processed exposures and time what people and panels do with it."""
    project = Project.create(folder, mode="single-particle")
    workflow = Workflow.of(project, "movie")
    fill(project, workflow, count)
    ids = project.ids()
    some = ids[:: max(1, count // 50)][:50]
    revision = project.revision
    results = {
        "open": median(lambda: float(_python(_OPEN, str(folder))), times=3, own=True),
        "table": median(project.table),
        "table to parquet": median(lambda: project.table().to_parquet(folder / "table.parquet"), times=3),
        "runs": median(project.runs, times=3),
        "stale, all": median(lambda: project.stale(workflow), times=3),
        "plan, one": median(lambda: project.plan(workflow, some[:1], everything=True)),
        "store": store_some(project, workflow, some),
        "flag all": median(lambda: project.flag(ids, "red"), times=3),
        "move all": median(lambda: project.move(ids, random.choice("abcdefgh")), times=3),
    }
    revision = project.revision
    project.flag(some[:10], "gold")
    results["changes of 10 rows"] = median(lambda: project.changes(revision))
    results["submit all"] = median(
        lambda: tasks.submit(project.library, dict.fromkeys(ids, workflow.names), everything=True), times=1
    )
    results["library MB"] = project.library.path.stat().st_size / 1e6  # type: ignore[union-attr]
    project.close()
    return results


def median(function: Callable[[], Any], *, times: int = 5, own: bool = False) -> float:
    """Median seconds of several calls; ``own``: the function tells its time itself."""
    measured = []
    for _ in range(times):
        start = time.perf_counter()
        value = function()
        measured.append(value if own else time.perf_counter() - start)
    return sorted(measured)[len(measured) // 2]


def _python(text: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", text, *arguments], capture_output=True, text=True, check=True).stdout


def fill(project: Project, workflow: Workflow, count: int, first: int = 1) -> None:
    """Write exposures with the facts, findings and runs of a processed session."""
    draw = random.Random(first)
    planned: dict[int, Any] = {}
    with project.library.write() as transaction:
        for number in range(first, first + count):
            candidates = _facts(number, draw)
            name = f"grid_{number:06d}"
            row = {
                "id": number,
                "exposure": name,
                "group": f"square_{number % 12}",
                "status": "new",
                "folder": f"exposures/camera/{name}",
                "source": f"/data/camera/{name}.tif",
                "content": f"{number:064x}",
                "imported_at": now(),
                "facts": candidates,
                "current": {},
                "revision": transaction.revision,
            }
            transaction.execute(schema.exposures.insert().values(**row))
            resolved = {key: value for key, (value, _) in facts.resolve(candidates).items()}
            transaction.update_exposure(number, resolved)
    planned = project.plan(workflow, range(first, first + count))
    with project.library.write() as transaction:
        runs = []
        for identity, calls in planned.items():
            outcome = make_outcome(workflow, identity, calls, draw)
            current: dict[str, Any] = {}
            values: dict[str, Any] = {}
            for step, made in zip(outcome.steps, workflow.steps, strict=True):
                values |= {spec.name: step.values[spec.name] for spec in made.makes() if spec.kind != "transient"}
                current[step.step] = {
                    "run": step.run,
                    "status": "done",
                    "fingerprint": step.fingerprint,
                    "version": step.version,
                    "attempt": 1,
                    "params": dict(step.params),
                    "makes": [spec.name for spec in made.makes()],
                    "started_at": now(),
                    "finished_at": now(),
                }
                runs.append(
                    {
                        "id": step.run,
                        "task_id": outcome.task,
                        "exposure_id": identity,
                        "step": step.step,
                        "status": "done",
                        "fingerprint": step.fingerprint,
                        "params": dict(step.params),
                        "values": dict(step.values),
                        "products": dict(step.products),
                        "started_at": now(),
                        "seconds": 1.0,
                        "log": step.log,
                        "revision": transaction.revision,
                    }
                )
            done = {**values, "current": current, "status": "done", "processed_at": now()}
            transaction.update_exposure(identity, done)
        transaction.execute(sa.insert(schema.runs), runs)


def _facts(number: int, draw: random.Random) -> facts.Candidates:
    candidates = facts.add_origin({}, "default", facts.DEFAULTS)
    header = {"width": 5760, "height": 4092, "frame_count": 40, "pixel_size": 0.83, "kind": "movie"}
    candidates = facts.add_origin(candidates, "header", {**header, "movie": f"raw/grid_{number:06d}.tif"})
    metadata = {
        "voltage": 300.0,
        "exposure_time": 2.0,
        "recorded_at": f"2026-01-{1 + number % 28:02d}T12:00:00",
        "stage_x": draw.gauss(0, 300),
        "stage_y": draw.gauss(0, 300),
        "magnification": 105_000.0,
        "defocus_target": -15_000.0,
        "camera": "K3",
    }
    candidates = facts.add_origin(candidates, "metadata", metadata)
    return facts.add_origin(candidates, "set", {"dose_per_frame": 1.25, "gain_reference": "references/0123456789.mrc"})


def make_outcome(workflow: Workflow, identity: int, planned: Any, draw: random.Random) -> Outcome:
    """An outcome as a worker gives it, with plausible values for everything that is declared."""
    steps = tuple(
        StepOutcome(
            step=step.name,
            run=uuid.uuid4().hex,
            status="done",
            version=step.version,
            fingerprint=call.fingerprint,
            params=dict(call.params),
            values={spec.name: _value(spec, draw) for spec in step.makes()},
            products={spec.name: spec.file for spec in step.makes() if spec.file},
            log="12:00:00  Reading the movie\n" * 5,
            started=time.time(),
            seconds=2.0,
            cpu_seconds=1.5,
        )
        for step, call in zip(workflow.steps, planned, strict=True)
    )
    folder = f"exposures/camera/grid_{identity:06d}"
    return Outcome(uuid.uuid4().hex, identity, folder, steps, host="bench", process=1, finished=time.time())


def _value(spec: Spec, draw: random.Random) -> Any:
    if spec.choices:
        return draw.choice(spec.choices)
    if spec.file is not None:
        return spec.file
    if spec.type == "int":
        return draw.randint(1, 200)
    return draw.uniform(0.1, 20_000) if spec.type == "float" else spec.name


def store_some(project: Project, workflow: Workflow, ids: list[int]) -> float:
    """Median seconds to store one outcome of the whole chain with its files."""
    draw = random.Random(1)
    planned = project.plan(workflow, ids, everything=True)
    outcomes = [make_outcome(workflow, identity, planned[identity], draw) for identity in ids]
    for outcome in outcomes:
        run = project.folder / outcome.folder / f".run-{outcome.task}"
        run.mkdir(parents=True)
        for step in outcome.steps:
            for file in step.products.values():
                (run / file).write_text(json.dumps({"in place of": "pixels"}))
        (run / "log.txt").write_text("log")
    waiting = iter(outcomes)
    return median(lambda: project.store(next(waiting)), times=len(outcomes))


if __name__ == "__main__":
    main()
