"""Several people change their minds at random while the queue is worked on: it never corrupts, and everything ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from focusnb.errors import ParameterError
from focusnb.processing.executors import InlineExecutor, LocalCluster
from focusnb.processing.processor import Event, Processor
from focusnb.processing.queue import Queue
from focusnb.project import schema, tasks
from focusnb.project.project import Project
from focusnb.steps import trust
from tests.projects import chain, left_overs, make_project, write_shots

FINAL = {"new", "done", "failed", "broken"}

SHOTS = {
    "a": "1\n",
    "b": "1\n2\n",
    "c": "fail scale\n",
    "d": "1\n2\n3\n",
    "e": "fault load\n",
    "f": "full scale\n",
}

IDS = list(range(1, len(SHOTS) + 1))

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"retry": True},
    {"everything": True},
    {"params": {"judge": {"limit": 9}}},
    {"trial": "strict"},
)


def states(project: Project) -> dict[str, str]:
    """State by task."""
    with project.library.read() as connection:
        rows = connection.execute(sa.select(schema.tasks.c.id, schema.tasks.c.state)).all()
    return {row.id: row.state for row in rows}


def check(project: Project) -> None:
    """What the queue says of itself and of the exposures agrees."""
    t, b, e = schema.tasks.c, schema.batches.c, schema.exposures.c
    with project.library.read() as connection:
        known = connection.execute(
            sa.select(t.id, t.state, t.exposure_id, b.trial).join(schema.batches, b.id == t.batch_id)
        ).all()
        exposures = connection.execute(sa.select(e.id, e.status, e.reason, e.current)).all()
    active = [row for row in known if row.state in tasks.ACTIVE]
    for exposure in exposures:
        under_way = {row.state for row in active if row.exposure_id == exposure.id and row.trial is None}
        assert (exposure.status, exposure.reason) == tasks.status_of(under_way, exposure.current or {})
    table = Queue(project).table()
    assert sorted(table.task) == sorted(row.id for row in active)
    assert dict(zip(table.task, table.state, strict=True)) == {row.id: row.state for row in active}
    # what is shown is what will be taken
    taken = [task.id for task in tasks.waiting(project.library, 1000)]
    assert taken == ([] if Queue(project).paused else table.task[table.state == "queued"].tolist())


def check_end(project: Project) -> None:
    """Nothing waits, nothing is under way, nothing is left behind."""
    check(project)
    assert set(Queue(project).counts()) <= {"done", "failed", "cancelled"}
    assert set(project.table().status) <= FINAL
    assert not set(project.runs().status) & {"running", "queued"}
    assert left_overs(project.folder) == []


class Change(NamedTuple):
    """What one of the clients does."""

    what: str
    client: int
    ids: tuple[int, ...] | None
    numbers: tuple[int, int]
    first: bool


CHANGES = (
    *("submit",) * 3,
    "put_first",
    *("move",) * 2,
    "hold",
    "hold_one",
    "release",
    "cancel",
    "cancel_batch",
    "clear",
    "pause",
    *("resume",) * 2,
    "order",
    "retry",
    "nonsense",
)

changes = st.builds(
    Change,
    what=st.sampled_from(CHANGES),
    client=st.integers(0, 1),
    ids=st.none() | st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True).map(tuple),
    numbers=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    first=st.booleans(),
)


def carry_out(change: Change, project: Project) -> None:
    """Do it; ParameterError only where the library says that there may be one."""
    line = Queue(project)
    one, other = change.numbers
    if change.what == "submit":
        options = OPTIONS[one % len(OPTIONS)]
        line.submit(chain(project), change.ids, first=change.first, **options)
    elif change.what in ("move", "hold_one"):
        names = list(states(project))  # those that ended as well
        if not names:
            return
        task, anchor = names[one % len(names)], names[other % len(names)]
        if change.what == "hold_one":
            line.hold(tasks=[task[:12]])
            return
        waits = states(project)[anchor] in tasks.WAITING
        place = {"before" if change.first else "after": anchor}
        if waits:
            assert line.move([task], **place) == (states(project)[task] in tasks.WAITING and task != anchor)
        else:
            with pytest.raises(ParameterError, match="does not wait any more"):
                line.move([task], **place)
    elif change.what in ("put_first", "hold", "release", "cancel"):
        getattr(line, change.what)(change.ids)
    elif change.what == "cancel_batch":
        present = line.batches().index
        if len(present):
            line.cancel(batch=int(present[one % len(present)]))
    elif change.what == "retry":
        line.retry(change.ids, first=change.first)
    elif change.what == "order":
        line.order = tasks.ORDERS[change.first]
    elif change.what == "nonsense":
        for ask in NONSENSE:
            with pytest.raises(ParameterError):
                ask(line)
    else:
        getattr(line, change.what)()


NONSENSE: tuple[Callable[[Queue], object], ...] = (
    lambda line: line.hold(tasks=["no-task"]),
    lambda line: line.cancel(batch=10_000),
    lambda line: setattr(line, "order", "sideways"),
    lambda line: line.move([], before=None),
)


class Clients(RuleBasedStateMachine):
    """Two clients with projects of their own on one folder, and a process that now and then works a little."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="focusnb-queue-"))
        shutil.copytree(self.template, self.folder, dirs_exist_ok=True)
        trust.trust(self.folder / "project")
        self.clients = [Project.open(self.folder / "project") for _ in range(2)]
        self.worker = Project.open(self.folder / "project")
        Queue(self.worker).submit(chain(self.worker))
        self.look()

    def look(self) -> None:
        """Remember how the queue stands: nobody but the processor changes it until the next look."""
        self.states, self.paused = states(self.worker), Queue(self.worker).paused

    @rule(change=changes)
    def change(self, change: Change) -> None:
        """One client changes something; a held task that was not released, and a cancelled one, stay what they are."""
        before = states(self.worker)
        carry_out(change, self.clients[change.client])
        self.look()
        for task, state in before.items():
            if state in ("cancelled", "done", "failed"):
                assert self.states[task] == state
            elif state == "held" and change.what not in ("release", "cancel", "cancel_batch", "clear"):
                assert self.states[task] == "held"

    @rule(
        count=st.integers(1, 6),
        meanwhile=st.lists(st.tuples(st.sampled_from(("started", "step", "stored")), changes), max_size=4),
        end=st.sampled_from(("finish", "finish", "abort", "interrupt")),
    )
    def work(self, count: int, meanwhile: list[tuple[str, Change]], end: str) -> None:
        """Another process begins with so many tasks; while it works the clients change their minds."""
        processor, left, begun = Processor(self.worker, InlineExecutor()), list(meanwhile), 0

        def tell(event: Event) -> None:
            nonlocal begun
            if event.kind == "started":
                begun += 1
                self.check_started(event.exposure)
                if begun == count:
                    if end == "interrupt":
                        raise KeyboardInterrupt
                    processor.cancel(now=end == "abort")
            if left and event.kind == left[0][0]:
                self.change(left.pop(0)[1])
                check(self.clients[0])

        try:
            processor.run(on_event=tell)
        except KeyboardInterrupt:
            assert end == "interrupt"
        assert begun <= count
        self.look()
        assert not {"running", "cancelling"} & set(self.states.values())

    def check_started(self, exposure: int) -> None:
        """What begins waited, was neither held nor cancelled, and there is no pause."""
        assert not self.paused, "something began during a pause"
        t = schema.tasks.c
        with self.worker.library.read() as connection:
            row = connection.execute(sa.select(t.id, t.exposure_id).where(t.state == "running")).one()
        assert row.exposure_id == exposure
        assert self.states[row.id] == "queued"

    @invariant()
    def agrees(self) -> None:
        self.clients.reverse()
        check(self.clients[0])

    def teardown(self) -> None:
        try:
            one, other = (Queue(client) for client in self.clients)
            one.resume()
            other.release()
            Processor(self.worker, InlineExecutor()).run()
            check_end(self.worker)
        finally:
            for project in (*self.clients, self.worker):
                project.close()
            shutil.rmtree(self.folder, ignore_errors=True)


def test_the_queue_never_corrupts_and_everything_ends(tmp_path: Path) -> None:
    with make_project(tmp_path / "template" / "project") as project:
        project.add(write_shots(tmp_path / "camera", **SHOTS))

    class Copies(Clients):
        template = tmp_path / "template"

    run_state_machine_as_test(
        Copies,
        settings=settings(
            max_examples=12,
            stateful_step_count=12,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],  # a failure is told as it was found: shrinking it takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_pause_holds_back_what_was_about_to_begin(tmp_path: Path) -> None:
    with make_project(tmp_path / "project") as project, Project.open(project.folder) as other:
        project.add(write_shots(tmp_path / "camera", a="1\n", b="1\n", c="1\n"))
        Queue(project).submit(chain(project))
        started: list[str] = []

        def pause(event: Event) -> None:
            if event.kind == "started":
                started.append(event.name)
                Queue(other).pause()

        Processor(project, InlineExecutor()).run(on_event=pause)
        assert started == ["a"]
        assert Queue(project).counts() == {"done": 1, "queued": 2}
        check(project)


def test_what_is_asked_for_again_while_it_is_being_stopped_is_done(tmp_path: Path) -> None:
    """Cancelled while it runs, queued again, and only then stopped: the later wish counts."""
    with make_project(tmp_path / "project") as project, Project.open(project.folder) as other:
        project.add(write_shots(tmp_path / "camera", a="1\n"))
        line = Queue(other)
        Queue(project).submit(chain(project))

        def change(event: Event) -> None:
            if event.kind == "started":
                assert line.cancel([1]) == 1
                line.submit(chain(other))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Processor(project, InlineExecutor()).run(on_event=change)
        assert line.counts() == {"cancelled": 1, "queued": 1}
        check(project)


HAMMER = """
import contextlib, pathlib, random, sys

from focusnb.errors import ParameterError
from focusnb.processing.queue import Queue
from focusnb.project.project import Project
from tests.processing.test_queue_machine import Change, carry_out

OFTEN = ["submit"] * 6 + ["put_first", "hold", "release", "release", "order", "retry", "resume", "resume", "move"]
SELDOM = ["cancel", "pause", "clear"]

folder, seed, enough = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
draw, done = random.Random(seed), 0
with Project.open(folder) as project:
    ids = project.ids()
    print("ready", flush=True)
    sys.stdin.readline()
    while not enough.exists():
        what = draw.choice(SELDOM if draw.random() < 0.1 else OFTEN)
        some = tuple(draw.sample(ids, 1 if what == "cancel" else 4))
        first = draw.random() < 0.5
        if what == "move":
            waiting = list(Queue(project).table().task) or ["none"]
            with contextlib.suppress(ParameterError):  # it has begun, or ended, meanwhile
                Queue(project).move(draw.choice(waiting), before=draw.choice(waiting))
        else:
            carry_out(Change(what, 0, some, (draw.randrange(3), 0), first), project)
        done += 1
print(done)
"""


def test_two_processes_change_the_queue_while_a_cluster_works(tmp_path: Path) -> None:
    texts = list(SHOTS.values())
    with make_project(tmp_path / "project") as project:
        project.add(write_shots(tmp_path / "camera", **{f"s{n:02d}": texts[n % len(texts)] for n in range(30)}))
        line = Queue(project)
        clients = [
            subprocess.Popen(
                [sys.executable, "-c", HAMMER, str(project.folder), str(seed), str(tmp_path / "enough")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for seed in (1, 2)
        ]
        try:
            cluster = LocalCluster(2, memory_limit="600 MB")
            try:
                for client in clients:
                    assert client.stdout is not None
                    assert client.stdout.readline() == "ready\n"
                for client in clients:
                    assert client.stdin is not None
                    client.stdin.write("go\n")
                    client.stdin.flush()
                worked, began = 0, time.monotonic()
                while any(client.poll() is None for client in clients):
                    worked += Processor(project, cluster).run().exposures
                    gone_on = time.monotonic() - began
                    if gone_on > 3 and (worked > 0 or gone_on > 60):
                        (tmp_path / "enough").touch()
                    time.sleep(0.02)
                for client in clients:
                    told, errors = client.communicate(timeout=60)
                    assert client.returncode == 0, errors
                    assert int(told) > 0
                assert worked > 0
                check(project)
                line.resume()
                line.release()
                line.submit(chain(project), retry=True)
                worked += Processor(project, cluster).run().exposures
                check_end(project)
                assert "new" not in set(project.table().status)
            finally:
                cluster.close()
        finally:
            for client in clients:
                client.kill()
                client.wait()
                for stream in (client.stdin, client.stdout, client.stderr):
                    if stream is not None:
                        stream.close()
