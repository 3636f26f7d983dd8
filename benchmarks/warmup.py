"""What the first movie of a worker waits for: fresh workers, with and without warm-up, hot and cold kernel cache.

    python benchmarks/warmup.py [--movie small]

Seconds of the first and the second movie in the steps themselves, the seconds a task waited before it began (for the
warm-up, where there is one), and the seconds from the start of the cluster until the first movie was done. A worker
that has been idle for a while is warm by then: its first movie does not wait.
"""

from __future__ import annotations

import argparse
import queue
import tempfile
import time
from pathlib import Path
from typing import Any

import _common
from pipeline import write_movie

IDLE = 15.0
"""Seconds a worker is left alone in the runs that ask what an idle one has gained."""


def measure(facts: dict[str, Any], folder: Path, *, cache: Path, warm: bool, idle: bool) -> dict[str, Any]:
    """Start a cluster of one worker and give it two movies."""
    from focusnb.processing.clusters import ClusterConfig, worker_specs
    from focusnb.processing.executors import LocalCluster
    from focusnb.processing.processes import WorkerSpec
    from focusnb.processing.warming import CACHE, standard_chain
    from focusnb.steps.task import Outcome, StepCall, Task

    started = time.time()
    (spec,) = worker_specs(ClusterConfig("local", "local"), workers=1)
    spec = WorkerSpec(spec.memory, environment={CACHE: str(cache)})
    cluster = LocalCluster.of([spec], gpu=False, warm=standard_chain() if warm else ())
    row: dict[str, Any] = {}
    try:
        ready = time.time()
        if idle:
            time.sleep(IDLE)
        results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for number in ("first", "second"):
            calls = tuple(StepCall(name, f"{number}-{name}") for name in standard_chain())
            task = Task(f"{number}{time.time_ns()}", 1, number, str(folder), f"exposure-{number}", calls, facts=facts)
            task.run_folder.mkdir(parents=True)
            submitted = time.time()
            cluster.submit(task, lambda _, result: results.put(result))
            outcome = results.get(timeout=300)
            assert isinstance(outcome, Outcome), outcome
            assert all(step.status == "done" for step in outcome.steps), outcome
            row[f"{number}_s"] = outcome.finished - outcome.started
            row[f"{number}_waited_s"] = outcome.started - submitted
            if number == "first":
                row["start_to_first_s"] = None if idle else time.time() - started
        row["cluster_s"] = ready - started
    finally:
        cluster.close()
    return row


def main() -> None:
    """Measure all combinations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--movie", default="small")
    movie = parser.parse_args().movie
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts = write_movie(movie, folder)
        for warm in (False, True):
            cache = folder / f"cache-{warm}"
            for state, idle in (("cold", False), ("hot", False), ("hot", True)):
                row = measure(facts, folder, cache=cache, warm=warm, idle=idle)
                rows.append({"warm_up": warm, "cache": state, "idle_before": idle, **row})
        # an idle worker with a cold cache: what a worker on a new machine has gained when its first movie comes
        row = measure(facts, folder, cache=folder / "cache-new", warm=True, idle=True)
        rows.append({"warm_up": True, "cache": "cold", "idle_before": True, **row})
    _common.table(rows)
    _common.save("warmup", {"movie": movie, "idle_s": IDLE, "rows": rows})


if __name__ == "__main__":
    main()
