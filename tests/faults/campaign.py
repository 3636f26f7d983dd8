"""Faults injected into a real session of tiny movies, and what the library holds in the end.

Processes of their own work on a project through the shared cluster of this host, as ``focusnb serve`` does, while
workers, the processor and the scheduler are killed, the processor is stopped and goes on later, the library is locked
and the disk fills. Some movies kill their worker, hang or eat memory every time. In the end everything must have been
done once, with the right results, and nothing may be left.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrcfile
import psutil
import sqlalchemy as sa

from focusnb.processing import shared
from focusnb.processing.workflow import Workflow
from focusnb.project import lease, schema, tasks
from focusnb.project.project import Project
from focusnb.steps import trust

CHAIN = ("take", "double", "finish")

STEPS = '''
    """Take a number, double it, finish; a line of the movie "WHAT STEP" says what becomes of a step."""

    import re
    import time
    from pathlib import Path
    from typing import Annotated

    import numpy as np

    from focusnb.errors import StepError
    from focusnb.parameters import image, quantity
    from focusnb.quantities import MovieFile
    from focusnb.steps.base import Step, StepInputs, StepResults

    Taken = Annotated[int, quantity("Taken", unit="")]
    Doubled = Annotated[int, quantity("Doubled", unit="")]


    def behave(movie, step, work):
        number, *lines = Path(movie).read_text().splitlines()
        time.sleep(0.01)
        if f"fail {step}" in lines:
            raise StepError(f"{work.exposure}: {step} cannot")
        if f"die {step}" in lines:
            import os

            os.kill(os.getpid(), 9)
        if f"hang {step}" in lines:
            time.sleep(3600)
        if f"hold {step}" in lines:
            re.match("(a+)+$", "a" * 64 + "b")  # never lets another thread of the process run
        held = []
        while f"eat {step}" in lines:
            held.append(np.ones(1_000_000))
            time.sleep(0.002)
        return int(number)


    class Take(Step):
        """Take the number."""

        name, title, version, category, timeout = "take", "Take", "1", "prepare", 30.0

        class Inputs(StepInputs):
            movie: MovieFile

        class Results(StepResults):
            taken: Taken | None = None
            plane: Annotated[str, image("Plane", file="plane.mrc")] | None = None

        def run(self, inputs, params, work):
            number = behave(inputs.movie, "take", work)
            plane = work.save("plane", np.full((32, 64), number, np.float32), pixel_size=1.0)
            return self.Results(taken=number, plane=plane)


    class Double(Step):
        """Double the number."""

        name, title, version, category, timeout = "double", "Double", "1", "align", 5.0

        class Inputs(StepInputs):
            movie: MovieFile
            taken: Taken

        class Results(StepResults):
            doubled: Doubled | None = None

        def run(self, inputs, params, work):
            behave(inputs.movie, "double", work)
            return self.Results(doubled=2 * inputs.taken)


    class Finish(Step):
        """Finish."""

        name, title, version, category, timeout = "finish", "Finish", "1", "ctf", 5.0

        class Inputs(StepInputs):
            movie: MovieFile
            doubled: Doubled

        class Results(StepResults):
            finished: Annotated[int, quantity("Finished", unit="")] | None = None

        def run(self, inputs, params, work):
            behave(inputs.movie, "finish", work)
            return self.Results(finished=inputs.doubled + 1)
'''

RUNNER = """
import sys
from focusnb.project import lease, library
lease.HEARTBEAT, lease.SILENCE, library.BUSY_TIMEOUT = 0.3, 2.0, float(sys.argv[2])
from focusnb.errors import FocusError
from focusnb.processing.clusters import open_cluster
from focusnb.processing.processor import Processor
from focusnb.processing.workflow import Workflow
from focusnb.project.project import Project
try:
    project = Project.open(sys.argv[1])
    processor = Processor(project, lambda cost: open_cluster("local", warm=False))
    workflow = Workflow.named(project, ("take", "double", "finish"))
    processor.run(begin=lambda: processor.submit(workflow))
except FocusError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(1)
"""

BAD = {
    "fail double": "cannot",
    "die double": "its worker died while it was processed (the worker died 3 times with this exposure)",
    "hang double": "double was not done after 5 s and was stopped",
    "hold finish": "finish was not done after 5 s and was stopped",
    "eat take": "GB",
}
"""Lines of movies that cannot be processed, and words of the reason they must be given."""

KINDS = (
    "worker killed",
    "processor killed",
    "processor and workers killed",
    "processor stopped and continued",
    "scheduler killed",
    "library locked",
    "disk full",
)


@dataclass
class Figures:
    """What was done to the session and what came of it; all but the first four must be 0."""

    exposures: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    done: int = 0
    failed_as_they_should: int = 0
    lost: int = 0
    wrong: int = 0
    done_twice: int = 0
    stuck: int = 0
    temporary_files: int = 0
    processes_left: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def faultless(self) -> bool:
        """Whether nothing was lost, doubled, wrong or left."""
        zeros = (self.lost, self.wrong, self.done_twice, self.stuck, self.temporary_files, self.processes_left)
        return not any(zeros) and self.done + self.failed_as_they_should == self.exposures

    def row(self) -> dict[str, Any]:
        """As plain data."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**data, "faults": dict(sorted(self.faults.items())), "seconds": round(self.seconds, 1)}


class Campaign:
    """A session of tiny movies under faults.

    folder : where the project lies
    movies : how many; about one in twelve cannot be processed, of all kinds
    state : where the cluster keeps its registry and configuration
    small_disk : whether the folder lies on a small disk of its own, which may be filled
    patience, lock : seconds that a process waits for the library, and for which it is kept locked
    """

    def __init__(
        self,
        folder: Path,
        state: Path,
        *,
        movies: int,
        seed: int,
        small_disk: bool = False,
        patience: float = 1.0,
        lock: float = 3.0,
    ) -> None:
        self.patience, self.lock = patience, lock
        self.draw = random.Random(seed)
        self.folder, self.state, self.small_disk = folder / "project", state, small_disk
        self.figures = Figures(exposures=movies)
        self.environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(state / "config"),
            "XDG_STATE_HOME": str(state / "state"),
            "XDG_DATA_HOME": str(state / "data"),
        }
        (state / "config" / "focusnb").mkdir(parents=True)
        (state / "config" / "focusnb" / "clusters.toml").write_text(
            '[local]\nworkers = 2\nmemory_per_worker = "700 MB"\nlinger = 2\n'
        )
        self.expected = self._write(folder / "camera", movies)
        self._make(folder / "camera")
        self.running: subprocess.Popen[str] | None = None

    def _write(self, camera: Path, movies: int) -> dict[str, tuple[int, str]]:
        camera.mkdir()
        bad = list(BAD) * max(1, movies // (12 * len(BAD)))
        lines = bad + [""] * (movies - len(bad))
        self.draw.shuffle(lines)
        expected = {}
        for place, line in enumerate(lines):
            name, number = f"m{place:04d}", 7 * place + 3
            (camera / f"{name}.tif").write_text(f"{number}\n{line}\n")
            expected[name] = (number, line)
        return expected

    def _make(self, camera: Path) -> None:
        with self._at_home():
            project = Project.create(self.folder, mode="drift")
            (self.folder / "steps" / "soak.py").write_text(textwrap.dedent(STEPS))
            trust.trust(self.folder)
            project.declare()
            project.use_steps(*CHAIN)
            project.add(camera, kind="movie")
            project.close()

    @contextlib.contextmanager
    def _at_home(self) -> Any:
        """What this process looks up in its own folders is that of the session."""
        names = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")
        before = {name: os.environ.get(name) for name in names}
        os.environ.update({name: self.environment[name] for name in names})
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    # The session

    def run(self, faults: list[str], *, limit: float) -> Figures:
        """Work until all is final, with faults at random moments; raises TimeoutError after so many seconds."""
        began = time.monotonic()
        waiting = [name for name in faults if name != "disk full" or self.small_disk]
        self.draw.shuffle(waiting)
        total = len(waiting)
        while True:
            self._work_on()
            done = self._final()
            if waiting and done * (total + 1) >= (total - len(waiting)) * self.figures.exposures:
                self._inject(waiting.pop())
                continue
            running = self.running
            assert running is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(0.2)
            if running.poll() is not None:
                self._ended(running)
                self.running = None
                if not waiting and not self._left():
                    break
            if time.monotonic() - began > limit:
                raise TimeoutError(f"{done} of {self.figures.exposures} after {limit:.0f} s")
        self.figures.seconds = time.monotonic() - began
        self._judge()
        return self.figures

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", RUNNER, str(self.folder), str(self.patience)]
        return subprocess.Popen(
            command, env=self.environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def _work_on(self) -> None:
        if self.running is None or self.running.poll() is not None:
            self.running = self._start()

    def _ended(self, running: subprocess.Popen[str]) -> str:
        _, errors = running.communicate()
        words = errors.strip()
        if "Traceback" in words:
            self.figures.notes.append(words[-2000:])
        return words

    def _read(self, query: str) -> list[Any]:
        path = self.folder / "library.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query).fetchall()

    def _final(self) -> int:
        return int(self._read("SELECT count(*) FROM exposures WHERE status IN ('done', 'failed', 'broken')")[0][0])

    def _left(self) -> bool:
        """Whether something is still to be done: the machine may have refused it for a while."""
        with self._at_home(), Project.open(self.folder) as project:
            return bool(project.stale(Workflow.named(project, CHAIN)))

    # Faults

    def _inject(self, kind: str) -> None:
        time.sleep(self.draw.uniform(0.0, 0.6))
        actions: dict[str, Callable[[], bool]] = {
            "worker killed": self._kill_worker,
            "processor killed": lambda: self._kill_processor(),
            "processor and workers killed": lambda: self._kill_processor(cluster=True),
            "processor stopped and continued": self._stop_processor,
            "scheduler killed": self._kill_cluster,
            "library locked": self._lock,
            "disk full": self._fill_disk,
        }
        deadline = time.monotonic() + 120
        while not actions[kind]():
            # there is nothing to kill yet
            time.sleep(0.1)
            self._work_on()
            if time.monotonic() > deadline:
                self.figures.notes.append(f"{kind}: there was nothing to do it to")
                return
        self.figures.faults[kind] += 1

    def _cluster(self) -> int | None:
        with self._at_home():
            entry = shared.find("local")
        return None if entry is None else entry.process

    def _workers(self) -> list[psutil.Process]:
        process = self._cluster()
        with contextlib.suppress(psutil.NoSuchProcess):
            if process is not None:
                return [c for c in psutil.Process(process).children() if "spawn_main" in " ".join(c.cmdline())]
        return []

    def _kill_worker(self) -> bool:
        workers = self._workers()
        if not workers:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            self.draw.choice(workers).kill()
        return True

    def _kill_cluster(self) -> bool:
        process = self._cluster()
        if process is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        return True

    def _holds(self) -> bool:
        """Whether the process that was started has become the one that works."""
        assert self.running is not None
        with contextlib.suppress(sqlite3.Error):
            held = self._read("SELECT process FROM lease")
            return bool(held) and held[0][0] == self.running.pid and self.running.poll() is None
        return False

    def _kill_processor(self, *, cluster: bool = False) -> bool:
        if not self._holds() or (cluster and not self._kill_cluster()):
            return False
        assert self.running is not None
        self.running.kill()
        self.running.communicate()
        self.running = None
        return True

    def _stop_processor(self) -> bool:
        """Stop one, let another take over, let the first go on: it must find that it was succeeded, and end."""
        if not self._holds():
            return False
        first = self.running
        assert first is not None
        os.kill(first.pid, signal.SIGSTOP)
        time.sleep(2.3)  # until it counts as dead
        self.running = self._start()
        deadline = time.monotonic() + 60
        while not self._holds() and self.running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        taken = self._holds()
        time.sleep(self.draw.uniform(0.0, 1.0))
        os.kill(first.pid, signal.SIGCONT)
        if not taken:
            # it was stopped in the middle of a write, which keeps the library locked: it stays the one that works
            self.running.kill()
            self.running.communicate()
            self.running = first
            return True
        try:
            first.wait(120)
        except subprocess.TimeoutExpired:
            first.kill()
            self.figures.notes.append("a process that was stopped and succeeded went on working")
        words = self._ended(first)  # told that it was succeeded, unless the disk was full
        if first.returncode == 0:
            self.figures.notes.append(f"a process that was succeeded ended with {first.returncode}: {words[-300:]}")
        return True

    def _lock(self) -> bool:
        """Keep the library locked."""
        if not self._holds():
            return False
        with contextlib.closing(sqlite3.connect(self.folder / "library.sqlite", timeout=30)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(self.lock)
            connection.execute("ROLLBACK")
        return True

    def _fill_disk(self) -> bool:
        if not self._holds():
            return False
        filling = self.folder.parent / "filling"
        with contextlib.suppress(OSError), open(filling, "wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        time.sleep(2.0)
        filling.unlink()
        return True

    # The end

    def _judge(self) -> None:
        figures = self.figures
        with self._at_home(), Project.open(self.folder) as project:
            table, runs = project.table(), project.runs()
            states = tasks.counts(project.library)
            with project.library.read() as connection:
                assert connection.execute(sa.text("PRAGMA integrity_check")).scalar() == "ok"
                rows = connection.execute(sa.select(schema.exposures.c.status, schema.exposures.c.current)).all()
            assert lease.holder(project.library) is None
        for status, current in rows:
            assert (status, None) == (tasks.status_of(set(), current)[0], None)
        figures.stuck = sum(states.get(state, 0) for state in tasks.ACTIVE)
        for row in table.itertuples():
            self._judge_row(row, *self.expected[row.exposure])
        done = runs[runs.status == "done"].groupby(["exposure", "step"]).size()
        figures.done_twice = int((done > 1).sum())
        left = [path for path in self.folder.rglob(".*") if ".part-" in path.name or path.name.startswith(".run-")]
        figures.temporary_files = len(left)
        figures.notes += [f"left: {path.relative_to(self.folder)}" for path in left[:10]]
        figures.processes_left = self._wait_for_the_end()

    def _judge_row(self, row: Any, number: int, line: str) -> None:
        figures = self.figures
        if line:
            if row.status == "failed" and BAD[line] in str(row.reason):
                figures.failed_as_they_should += 1
            else:
                figures.wrong += 1
                figures.notes.append(f"{row.exposure} ({line}): {row.status}, {row.reason}")
            return
        if row.status != "done":
            figures.lost += 1
            figures.notes.append(f"{row.exposure}: {row.status}, {row.reason}")
            return
        with mrcfile.open(self.folder / row.folder / str(row.plane)) as plane:
            right = bool((plane.data == number).all())
        right &= (row.taken, row.doubled, row.finished) == (number, 2 * number, 2 * number + 1)
        record = json.loads((self.folder / row.folder / "exposure.json").read_text())
        right &= (record["status"], record["findings"]["finished"]) == ("done", row.finished)
        figures.done += right
        figures.wrong += not right

    def _wait_for_the_end(self) -> int:
        """Processes of the session that are still there when the cluster should have ended."""
        deadline = time.monotonic() + 120
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.figures.notes += [f"still there: {' '.join(process.cmdline())[:200]}" for process in left]
        return len(left)

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("XDG_STATE_HOME") == self.environment["XDG_STATE_HOME"]:
                    found.append(process)
        return found

    def close(self) -> None:
        """End whatever is left, whatever happened."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
