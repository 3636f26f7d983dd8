"""The processor: order, one at a time, workers that die, interruption, the same results everywhere."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from focusnb.errors import ProjectError
from focusnb.processing.executors import InlineExecutor, LocalCluster
from focusnb.processing.processor import Event, Processor
from focusnb.processing.queue import Queue
from focusnb.processing.workflow import Workflow
from focusnb.project import lease, schema
from focusnb.project.project import Project
from focusnb.steps import trust
from focusnb.steps.base import Cost
from tests.projects import chain, left_overs, make_project, process, statuses, write_shots
from tests.waiting import wait_until


@pytest.fixture
def shots(project: Project, tmp_path: Path) -> Project:
    """Four exposures, the last of which fails."""
    project.add(write_shots(tmp_path / "camera", a="1\n", b="1\n2\n", c="1\n2\n3\n", d="fail scale\n"))
    return project


def started(processor: Processor, **options: Any) -> list[str]:
    """Names in the order in which they are started."""
    names: list[str] = []
    processor.run(on_event=lambda event: names.append(event.name) if event.kind == "started" else None, **options)
    return names


def test_first_come_first_served_unless_put_first(shots: Project) -> None:
    processor = Processor(shots, InlineExecutor())
    workflow = chain(shots)
    assert processor.submit(workflow, [3]) == 1
    assert processor.submit(workflow, [1]) == 1
    assert processor.submit(workflow, [4, 2], first=True) == 2
    assert processor.queue() == {"queued": 4}
    assert set(statuses(shots).values()) == {"queued"}
    assert started(processor) == ["d", "b", "c", "a"]
    assert processor.queue() == {"done": 3, "failed": 1}


def test_what_waits_already_is_not_queued_twice_but_other_choices_are(shots: Project) -> None:
    processor = Processor(shots, InlineExecutor())
    processor.submit(chain(shots))
    processor.submit(chain(shots))
    assert processor.queue() == {"queued": 4}
    processor.submit(chain(shots), [1], everything=True)
    processor.submit(chain(shots), [2], params={"judge": {"limit": 9}})
    assert processor.queue() == {"queued": 6}
    processor.run()
    assert shots.runs(exposure=1).step.tolist() == ["load", "scale", "judge"] * 2
    assert shots.runs(exposure=2).params.iloc[-1] == '{"limit": 9.0}'


def test_events_come_in_order_and_the_summary_counts(shots: Project) -> None:
    events: list[Event] = []
    summary = process(shots, on_event=events.append)
    kinds = [(event.kind, event.name) for event in events if event.kind not in ("begun", "ready", "progress", "step")]
    assert kinds == [(kind, name) for name in "abcd" for kind in ("started", "stored")]
    assert [e.progress.message for e in events if e.progress and e.name == "a"] == ["loaded"]
    assert [(e.step.step, e.step.status) for e in events if e.step and e.name == "d"] == [
        ("load", "done"),
        ("scale", "failed"),
        ("judge", "skipped"),
    ]
    assert all(event.outcome is not None for event in events if event.kind == "stored")
    assert (summary.done, summary.failed, summary.broken, summary.lost, summary.exposures) == (3, 1, 0, 0, 4)
    assert summary.reasons == {"d": "d: scale cannot"}
    assert statuses(shots) == {"a": "done", "b": "done", "c": "done", "d": "failed"}


def test_nothing_is_queued_that_is_up_to_date_or_in_the_trash(shots: Project) -> None:
    shots.move([2], "TRASH")
    assert process(shots).exposures == 3
    processor = Processor(shots, InlineExecutor())
    assert processor.submit(chain(shots)) == 0
    shots.move([2], "camera")
    assert processor.submit(chain(shots)) == 1
    # up to date by the time its turn comes: nothing runs
    assert processor.submit(chain(shots), [2], params={}) == 1
    processor.run()
    assert len(shots.runs(exposure=2)) == 3


def test_here_and_on_a_cluster_are_the_same(shots: Project, tmp_path: Path, cluster: LocalCluster) -> None:
    events: list[str] = []
    with make_project(tmp_path / "other") as other:
        other.add(tmp_path / "camera")
        here = process(shots)
        there = process(other, executor=cluster, on_event=lambda event: events.append(event.kind))
        assert (here.done, here.failed, here.reasons) == (there.done, there.failed, there.reasons)
        left, right = shots.table(), other.table()
        same = [name for name in left.columns if name not in ("imported_at", "processed_at", "source")]
        assert left[same].equals(right[same])
        assert left_overs(other.folder) == left_overs(shots.folder) == []
    assert events.count("started") == events.count("stored") == 4


def test_a_worker_that_dies_is_tried_three_times_and_told(
    project: Project, tmp_path: Path, cluster: LocalCluster
) -> None:
    died = tmp_path / "died"
    project.add(
        write_shots(tmp_path / "camera", a="1\n", b="die scale\n", c=f"once judge\nonce scale {died}\n", d="1\n")
    )
    summary = process(project, executor=cluster)
    assert statuses(project) == {"a": "done", "b": "failed", "c": "done", "d": "done"}
    assert (summary.done, summary.failed, summary.lost) == (3, 1, 4)
    runs = project.runs()
    lost = runs[runs.exposure == "b"]
    # an attempt is repeated where a worker died before it came to it
    early = lost[lost.attempt < 3]
    assert (set(early.status), set(early.attempt)) == ({"lost"}, {1, 2})
    lost = lost.drop_duplicates(["step", "attempt"], keep="last")
    # what it had done before its worker died for the last time is kept
    assert dict(zip(lost.step[lost.attempt == 3], lost.status[lost.attempt == 3], strict=True)) == {
        "load": "done",
        "scale": "failed",
        "judge": "skipped",
    }
    assert project.table().level[2] == 5.0
    # one that waits behind another that dies is not blamed
    assert runs[(runs.exposure == "c") & (runs.status == "done")].attempt.tolist() == [2] * 3
    assert runs[(runs.exposure == "d") & (runs.status == "done")].attempt.tolist() == [1] * 3
    reason = project.table().reason[2]
    assert reason == "b: its worker died while it was processed (the worker died 3 times with this exposure)"
    assert left_overs(project.folder) == []
    # it is not tried again by itself, but on request
    assert process(project, executor=cluster).exposures == 0
    (project.path(2) / "raw" / "b.tif").write_text("1\n")
    assert process(project, retry=True).done == 1


def test_an_interruption_gives_everything_back(project: Project, tmp_path: Path) -> None:
    project.add(write_shots(tmp_path / "camera", a="1\n", b="interrupt scale\n", c="1\n"))
    with pytest.raises(KeyboardInterrupt):
        process(project)
    assert statuses(project) == {"a": "done", "b": "queued", "c": "queued"}
    runs = project.runs()
    assert runs[runs.exposure == "b"].status.tolist() == ["lost"] * 3
    assert set(runs[runs.exposure == "b"].reason) == {"processing was stopped"}
    assert left_overs(project.folder) == []
    (project.path(2) / "raw" / "b.tif").write_text("1\n")
    assert Processor(project, InlineExecutor()).run().done == 2
    # being stopped does not count against the exposure
    assert project.runs(exposure=2).attempt.tolist() == [1] * 6


def test_an_interruption_while_what_a_run_left_is_removed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add(write_shots(tmp_path / "camera", a="1\n", b="1\n"))
    interrupted = []

    def rmtree(path: Path, **options: Any) -> None:
        if ".gone-" in path.name and not interrupted:
            interrupted.append(path)
            raise KeyboardInterrupt
        remove(path, **options)

    remove = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with pytest.raises(KeyboardInterrupt):
        process(project)
    assert len(interrupted) == 1
    assert left_overs(project.folder) == []
    assert statuses(project) == {"a": "done", "b": "queued"}
    assert process(project).done == 1


def test_an_interruption_while_a_cluster_works(project: Project, tmp_path: Path, cluster: LocalCluster) -> None:
    project.add(write_shots(tmp_path / "camera", **{f"s{n}": "sleep scale 0.3\n" for n in range(6)}))

    def interrupt(event: Event) -> None:
        if event.kind == "stored":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process(project, executor=cluster, on_event=interrupt)
    assert left_overs(project.folder) == []
    assert sorted(statuses(project).values()) == ["done"] + ["queued"] * 5
    assert Processor(project, cluster).run().done == 5
    runs = project.runs()
    assert runs[runs.status == "done"].groupby(["exposure", "step"]).size().tolist() == [1] * 18
    assert set(runs.status) == {"done", "lost"}
    assert left_overs(project.folder) == []


def test_cancel_stops_after_what_is_under_way(shots: Project) -> None:
    processor = Processor(shots, InlineExecutor())
    processor.submit(chain(shots))
    processor.run(on_event=lambda event: processor.cancel() if event.name == "b" else None)
    assert statuses(shots) == {"a": "done", "b": "done", "c": "queued", "d": "queued"}


def test_a_queue_that_runs_empty_is_refilled(shots: Project) -> None:
    processor = Processor(shots, InlineExecutor())
    waiting = [[3], [1]]
    assert started(processor, refill=lambda: processor.submit(chain(shots), waiting.pop()) if waiting else 0) == [
        "a",
        "c",
    ]


def test_a_second_processor_is_refused_naming_the_first(shots: Project) -> None:
    second = Processor(shots, InlineExecutor())
    told = []

    def start_another(event: Event) -> None:
        if not told:
            with pytest.raises(ProjectError) as caught:
                second.run()
            told.append(str(caught.value))

    process(shots, on_event=start_another)
    host = os.uname().nodename
    since = rf"process {os.getpid()} on {re.escape(host)} works on this project since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.search(since, told[0])
    assert told[0].endswith("stop it first")
    assert process(shots, everything=True).exposures == 4


HOLD = """
import sys, time
from focusnb import open_project
from focusnb.project import lease, tasks
project = open_project(sys.argv[1])
lease.take_lease(project.library)
print("held", flush=True)
time.sleep(60)
"""


def test_another_process_is_respected_while_it_lives_and_succeeded_when_it_is_dead(shots: Project) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(shots.folder)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(ProjectError, match=rf"process {holder.pid} on .* works on this project since"):
        process(shots)
    holder.kill()  # not waited for: its number is still taken, by a zombie
    wait_until(lambda: psutil.Process(holder.pid).status() == psutil.STATUS_ZOMBIE)
    assert process(shots).exposures == 4
    holder.wait()
    holder.stdout.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life every 0.2 s, and death after 2 s."""
    monkeypatch.setattr(lease, "HEARTBEAT", 0.2)
    monkeypatch.setattr(lease, "SILENCE", 2.0)


def hold_elsewhere(project: Project, *, heartbeat: float) -> int:
    """Let a process on another host, whose clock may be wrong, hold the lease."""
    epoch = lease.take_lease(project.library)
    with project.library.write() as transaction:
        transaction.execute(schema.lease.update().values(host="elsewhere", process=1, heartbeat=heartbeat))
    return epoch


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_a_holder_elsewhere_that_gives_a_sign_of_life_is_respected(
    shots: Project, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    # it is watched for at least a minute, and for as long as it takes to see the next sign
    monkeypatch.setattr(lease, "HEARTBEAT", 30.0)
    monkeypatch.setattr(lease, "SILENCE", 60.0)
    hold_elsewhere(shots, heartbeat=time.time() + ahead)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.2):
            with shots.library.write() as transaction:
                transaction.execute(schema.lease.update().values(heartbeat=time.time() + ahead))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(ProjectError, match="process 1 on elsewhere works on this project since"):
            process(shots)
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_a_holder_elsewhere_is_succeeded_after_it_fell_silent(shots: Project, quick: None, ahead: float) -> None:
    epoch = hold_elsewhere(shots, heartbeat=time.time() + ahead)
    events: list[Event] = []
    began = time.monotonic()
    assert process(shots, on_event=events.append).exposures == 4
    assert time.monotonic() - began > 1, "it was watched first"
    assert "process 1 on elsewhere" in events[0].reason
    with pytest.raises(lease.LeaseLost):
        lease.beat(shots.library, epoch)


def test_one_that_was_stopped_is_succeeded_and_writes_nothing_when_it_goes_on(shots: Project) -> None:
    command = [sys.executable, "-c", RUN, str(shots.folder)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    first = subprocess.Popen(command, text=True, **pipes)
    assert first.stdout is not None
    assert first.stdout.readline() == "started\n"
    os.kill(first.pid, signal.SIGSTOP)
    with pytest.raises(ProjectError, match=rf"process {first.pid} on .* works on this project"):
        process(shots)
    with shots.library.write() as transaction:  # an hour later
        transaction.execute(schema.lease.update().values(heartbeat=time.time() - 3600))
    assert Processor(shots, InlineExecutor()).run().exposures == 4
    revision, runs = shots.revision, len(shots.runs())
    os.kill(first.pid, signal.SIGCONT)
    _, errors = first.communicate("go on\n", timeout=120)
    assert first.returncode == 1
    assert "succeeded by another one" in errors
    assert (shots.revision, len(shots.runs())) == (revision, runs)
    assert left_overs(shots.folder) == []


RUN = """
import sys
from focusnb import Processor, open_project
from focusnb.processing.executors import InlineExecutor
from tests.projects import chain
project = open_project(sys.argv[1])
processor = Processor(project, InlineExecutor())
processor.submit(chain(project))

def tell(event):
    if event.kind == "started" and event.name == "a":
        print("started", flush=True)
        sys.stdin.readline()

processor.run(on_event=tell)
"""


def test_a_step_that_was_taken_away_does_not_stop_the_queue(shots: Project) -> None:
    processor = Processor(shots, InlineExecutor())
    processor.submit(chain(shots), [1])
    with shots.library.write() as transaction:
        transaction.execute(schema.tasks.update().values(steps=["load", "gone"]))
    processor.submit(chain(shots), [2])
    summary = processor.run()
    assert (summary.done, summary.failed) == (1, 1)
    assert "there is no step gone" in summary.reasons["load, gone"]
    assert statuses(shots)["a"] == "new"
    assert processor.queue() == {"done": 1, "failed": 1}


def test_a_trial_that_is_lost_leaves_the_exposure_as_it_was(
    project: Project, tmp_path: Path, cluster: LocalCluster
) -> None:
    project.add(write_shots(tmp_path / "camera", a="1\n"))
    process(project)
    before = project.table()
    (project.path(1) / "raw" / "a.tif").write_text("die scale\n")
    summary = process(project, trial="wild", executor=cluster)
    assert (summary.lost, summary.failed) == (3, 1)
    assert project.table().equals(before)
    assert project.stale(chain(project)) == {}


def test_a_workflow_of_one_step_is_a_trial_beside_the_adopted_results(shots: Project) -> None:
    process(shots, [2])
    processor = Processor(shots, InlineExecutor())
    processor.submit(Workflow.named(shots, ["judge"]), [2], trial="strict", params={"judge": {"limit": 5000}})
    assert processor.run().done == 1
    assert shots.table(trial="strict").verdict[2] == "bad"
    assert shots.table().verdict[2] == "good"


def test_what_is_held_or_cancelled_is_left_alone_by_what_nobody_asked_for(project: Project, tmp_path: Path) -> None:
    project.add(write_shots(tmp_path / "camera", a="1\n", b="1\n", c="1\n"))
    line, processor = Queue(project), Processor(project, InlineExecutor())
    workflow = Workflow.of(project, "movie")
    line.submit(workflow)
    line.hold([1])
    line.cancel([2])
    assert line.submit_stale(asked=False) == 0
    assert line.submit_stale() == 3  # asked for: the one cancelled is queued again, the held one stays held
    assert processor.queue() == {"queued": 2, "held": 1, "cancelled": 1}
    processor.run()
    assert statuses(project)["a"] == "queued"
    line.release([1])
    processor.run()
    assert not {"queued", "running"} & set(statuses(project).values())


def test_progress_and_results_of_each_step_are_there_while_the_chain_goes_on(
    project: Project, tmp_path: Path, cluster: LocalCluster
) -> None:
    enough = tmp_path / "enough"
    text = f"await scale {enough}\n"
    project.add(write_shots(tmp_path / "camera", a=text))
    seen: list[Any] = []

    def look() -> None:
        with Project.open(project.folder) as other:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not seen:
                table = Queue(other).table()
                seen.extend(row for row in table.itertuples() if row.state == "running" and row.finished)
                time.sleep(0.1)
        enough.touch()

    thread = threading.Thread(target=look)
    thread.start()
    process(project, executor=cluster)
    thread.join()
    (row,) = seen
    assert row.exposure == "a"
    assert row.worker
    ((step, status, level),) = [(step["step"], step["status"], step["values"]["level"]) for step in row.finished]
    assert (step, status, level) == ("load", "done", len(text) / 2)
    assert Queue(project).table().empty


def test_a_running_exposure_can_be_cancelled(project: Project, tmp_path: Path, cluster: LocalCluster) -> None:
    project.add(write_shots(tmp_path / "camera", a="sleep scale 600\n", b="1\n", c="1\n"))
    other = Project.open(project.folder)
    line = Queue(other)

    def cancel() -> None:
        wait_until(lambda: statuses(other)["a"] == "running")
        time.sleep(0.5)
        assert line.cancel([1]) == 1

    thread = threading.Thread(target=cancel)
    thread.start()
    summary = process(project, executor=cluster)
    thread.join()
    other.close()
    assert (summary.done, summary.cancelled, summary.failed) == (2, 1, 0)
    assert statuses(project) == {"a": "new", "b": "done", "c": "done"}
    assert Processor(project).queue() == {"done": 2, "cancelled": 1}
    assert set(project.runs(exposure=1).reason) == {"it was cancelled"}
    assert left_overs(project.folder) == []


def test_a_later_task_of_an_exposure_waits_for_the_earlier_and_counts(
    project: Project, tmp_path: Path, cluster: LocalCluster
) -> None:
    project.add(write_shots(tmp_path / "camera", a="sleep scale 1\n"))
    processor = Processor(project, cluster)
    processor.submit(chain(project), everything=True)
    processor.submit(Workflow.named(project, ["judge"]), params={"judge": {"limit": -1.0}}, everything=True)
    processor.run()
    runs = project.runs().sort_values("started_at")
    assert runs.step.tolist() == ["load", "scale", "judge", "judge"]
    assert project.table().verdict[1] == "good"


def test_choices_made_while_an_exposure_runs_are_not_lost(shots: Project) -> None:
    line, asked = Queue(shots), []

    def ask(event: Event) -> None:
        if event.kind == "started" and not asked:
            asked.append(event.name)
            shots.set_params("judge", limit=9)
            line.submit(chain(shots), [1])

    processor = Processor(shots, InlineExecutor())
    processor.submit(chain(shots), [1])
    processor.run(on_event=ask)
    assert shots.stale(chain(shots), [1]) == {}
    assert shots.runs(exposure=1).params.iloc[-1] == '{"limit": 9.0}'


def rewrite_steps(project: Project, old: str, new: str, *, trusted: bool = True) -> None:
    """Change the text of the small steps."""
    path = project.folder / "steps" / "chain.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if trusted:
        trust.trust(project.folder)


def test_a_step_whose_cost_cannot_be_told_is_broken_and_the_others_go_on(shots: Project) -> None:
    rewrite_steps(
        shots,
        '    name = "scale"\n',
        '    name = "scale"\n\n    def cost(self, facts, params):\n        return 1 / 0\n\n',
    )
    processor = Processor(shots, InlineExecutor())
    processor.submit(chain(shots), [1])
    processor.submit(Workflow.named(shots, ["load"]), [2])
    processor.run()
    assert statuses(shots)["a"] == "broken"
    assert "ZeroDivisionError" in shots.table().reason[1]
    assert statuses(shots)["b"] == "done"


def test_a_step_edited_while_it_serves_is_waited_for(shots: Project) -> None:
    told: list[str] = []
    processor = Processor(shots, InlineExecutor())

    def tell(event: Event) -> None:
        if event.kind == "waiting":
            told.append(event.reason)
            trust.trust(shots.folder)
        if event.kind == "begun":
            rewrite_steps(shots, "Judge the scaled number.", "Judge it.", trusted=False)
        if event.kind == "stored" and event.name == "d":
            processor.cancel()

    processor.run(until_idle=False, on_event=tell, refill=processor.refill)
    assert "not trusted yet, or changed since" in told[0]
    assert "queued" not in statuses(shots).values()


def test_a_host_that_was_started_again_has_no_holder_left(shots: Project) -> None:
    lease.take_lease(shots.library)
    with shots.library.write() as transaction:
        transaction.execute(
            schema.lease.update().values(machine="another-boot pid:[1]", process=4242, heartbeat=time.time())
        )
    assert lease.holder(shots.library) is None
    assert process(shots).exposures == 4


class Small(InlineExecutor):
    """An executor for chains of so many bytes."""

    def __init__(self, allowed: int) -> None:
        super().__init__()
        self.allowed = allowed

    def refuse(self, cost: Cost) -> str:
        return f"needs {cost.memory} and has {self.allowed}" if cost.memory > self.allowed else ""


def test_larger_workers_are_made_for_larger_movies_and_too_large_ones_fail_with_both_numbers(shots: Project) -> None:
    made: list[int] = []

    def make(cost: Cost) -> InlineExecutor:
        made.append(cost.memory)
        return Small(min(cost.memory, 3_000_000_000))

    rewrite_steps(
        shots,
        '    name = "scale"\n',
        '    name = "scale"\n\n    def cost(self, facts, params):\n        from focusnb.steps.base import Cost\n'
        "        return Cost(memory=int(params.factor * 1_000_000_000))\n\n",
    )
    processor = Processor(shots, make)
    line = Queue(shots)

    def more(event: Event) -> None:
        if event.kind == "stored" and event.name == "a":
            line.submit(chain(shots), [2], params={"scale": {"factor": 2.5}})
            line.submit(chain(shots), [3], params={"scale": {"factor": 7.0}})

    processor.submit(chain(shots), [1], params={"scale": {"factor": 1.0}})
    processor.run(on_event=more)
    assert made == [1_000_000_000, 7_000_000_000]  # for the largest of what waits
    assert statuses(shots) == {"a": "done", "b": "done", "c": "failed", "d": "new"}
    assert "needs 7000000000 and has 3000000000" in shots.table().reason[3]
