"""A campaign of faults: tiny movies are processed by real processes while these are killed, stopped and starved.

The campaign imports a few movies, waits until one of them is done, does something terrible, imports more, and so on:
whatever happens, happens while there is work. Thereafter everything has to be as if nothing had happened: each step
of each exposure done once, those that cannot be done failed with the right reason, and nothing left behind. The
processors are those of the command line, with workers of their own, at a scheduler by address or of the shared cluster;
``campaign`` works through the library and the shared cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mrcfile
import psutil
import sqlalchemy as sa

from focusnb.modes import MODES, Mode
from focusnb.processing import shared
from focusnb.processing.queue import Queue
from focusnb.project import lease, records, schema, tasks
from focusnb.project.project import Project
from focusnb.steps import trust
from tests.projects import left_overs

REPOSITORY = Path(__file__).resolve().parents[2]

TIMEOUT = 3
"""Seconds a step may take."""

MEMORY = 600_000_000
"""Bytes a worker may take."""

PATIENCE = 90.0
"""Seconds without any progress after which the campaign gives up."""

STEPS = f'''
    """Three quick steps; a line "WHAT STEP" of a movie says what goes wrong in a step, each time."""

    import os
    import time
    import zlib
    from pathlib import Path
    from typing import Annotated

    import numpy as np

    from focusnb.errors import StepError
    from focusnb.parameters import image, quantity
    from focusnb.quantities import MovieFile
    from focusnb.steps.base import Cost, Step, StepInputs, StepResults

    Checksum = Annotated[int, quantity("Checksum", unit="")]
    Plane = Annotated[str, image("Plane", file="plane.mrc", unit="counts")]
    Doubled = Annotated[int, quantity("Doubled", unit="")]
    Signed = Annotated[int, quantity("Signed", unit="")]
    Seal = Annotated[str, image("Seal", file="seal.mrc", unit="counts")]


    def behave(movie, step, work):
        time.sleep(0.01)
        text = Path(movie).read_text()
        for line in text.splitlines():
            what, _, where = line.partition(" ")
            if where != step:
                continue
            if what == "fail":
                raise StepError(f"{{work.exposure}}: {{step}} cannot")
            if what == "fault":
                raise ZeroDivisionError(f"in {{step}}")
            if what == "die":
                os.kill(os.getpid(), 9)
            if what == "hang":
                time.sleep(1e6)
            if what == "hold":
                sum(range(10**15))  # the interpreter is not given back in between
            if what == "eat":
                eaten = [np.ones(25_000_000)]
                while True:
                    eaten.append(np.ones(250_000))
                    time.sleep(0.01)
        return text


    class Quick(Step):
        timeout = {TIMEOUT}

        class Inputs(StepInputs):
            movie: MovieFile

        def cost(self, facts, params):
            return Cost(50_000_000)


    class Digest(Quick):
        """Sum the movie up."""

        name = "digest"
        title = "Digest"
        category = "prepare"

        class Results(StepResults):
            checksum: Checksum | None = None
            plane: Plane | None = None

        def run(self, inputs, params, work):
            checksum = zlib.crc32(behave(inputs.movie, "digest", work).encode()) % 10007
            plane = work.save("plane", np.full((4, 6), checksum, np.float32), pixel_size=1.5)
            return self.Results(checksum=checksum, plane=plane)


    class Double(Quick):
        """Double the sum."""

        name = "double"
        title = "Double"
        category = "align"

        class Inputs(StepInputs):
            movie: MovieFile
            checksum: Checksum

        class Results(StepResults):
            doubled: Doubled | None = None

        def run(self, inputs, params, work):
            behave(inputs.movie, "double", work)
            return self.Results(doubled=2 * inputs.checksum)


    class Seals(Quick):
        """Seal what was doubled."""

        name = "seals"
        title = "Seal"
        category = "ctf"

        class Inputs(StepInputs):
            movie: MovieFile
            plane: Plane
            doubled: Doubled

        class Results(StepResults):
            signed: Signed | None = None
            seal: Seal | None = None

        def run(self, inputs, params, work):
            behave(inputs.movie, "seals", work)
            signed = inputs.doubled + int(work["plane"][0, 0])
            return self.Results(signed=signed, seal=work.save("seal", work["plane"] * 3, pixel_size=1.5))
'''

CHAIN = ("digest", "double", "seals")

MODE = Mode("drift", "Nothing but the quick steps", {"movie": (), "image": ()})
"""Stands in for the mode of that name."""

RUN = """
import sys
from focusnb.cli import main
from focusnb.modes import MODES
from focusnb.processing import clusters, executors, warming
from focusnb.project import lease, library
from tests.faults.harness import MODE

lease.HEARTBEAT, lease.SILENCE, library.BUSY_TIMEOUT = {heartbeat}, {silence}, {busy}
for module in (clusters, executors):
    module.machine_memory = lambda: {memory}
warming.standard_chain = lambda: ()  # these steps have nothing to compile
MODES["drift"] = MODE
main()
"""


@dataclass(frozen=True)
class Wrong:
    """What a movie may do to a step: how its exposure must end, and the words of the reason."""

    line: str
    status: str
    words: str


WRONG = {
    "movie that fails": Wrong("fail", "failed", "double cannot"),
    "movie with a fault in its step": Wrong("fault", "broken", "ZeroDivisionError: in double"),
    "movie that kills its worker every time": Wrong(
        "die", "failed", "its worker died while it was processed (the worker died 3 times with this exposure)"
    ),
    "movie whose step hangs": Wrong("hang", "failed", f"double was not done after {TIMEOUT} s and was stopped"),
    "movie whose step hangs with the interpreter": Wrong(
        "hold", "failed", f"double was not done after {TIMEOUT} s and was stopped"
    ),
    "movie whose step eats memory": Wrong("eat", "failed", "GB of memory, and its worker may take"),
}

NOTHING = "nothing"

OWN, SCHEDULER, SHARED = "own workers", "a scheduler by address", "the shared cluster"
"""Where the processor of a leg has its workers."""


@dataclass(frozen=True)
class Pace:
    """Seconds: how long the library waits for its lock, a processor gives signs of life, and faults last."""

    busy: float = 1.0
    heartbeat: float = 0.3
    silence: float = 1.5
    locked: float = 3.0
    full: float = 2.0


@dataclass(frozen=True)
class Leg:
    """A part of the campaign: where the workers are, and the faults in their order."""

    workers: str
    faults: tuple[str, ...]


class GivenUp(Exception):
    """There was no progress for so long that waiting on makes no sense."""


class Campaign:
    """A project, the processes that work on it, and what is done to them.

    folder : for everything but the project
    disk : where the project lies; a small disk where it is to be filled
    """

    def __init__(
        self, folder: Path, disk: Path, *, legs: Sequence[Leg], movies: int, wrong: int, seed: int, pace: Pace
    ) -> None:
        self.folder, self.disk, self.legs, self.pace = folder, disk, legs, pace
        self.draw = random.Random(seed)
        self.injected: Counter[str] = Counter()
        self.faults: list[str] = []
        """What must not happen, in words."""
        self._token = secrets.token_hex(8)
        self._environment = {**os.environ, "FOCUSNB_SOAK": self._token, "PYTHONPATH": str(REPOSITORY)}
        self._address = _free_address()
        self._lives = 0
        self._present: subprocess.Popen[bytes] | None = None
        self._dask: dict[str, subprocess.Popen[bytes]] = {}
        self._imported = 0
        self.expected = self._make_movies(movies, wrong)
        with patch.dict(MODES, drift=MODE):
            self.project = self._make_project()

    # ------------------------------------------------------------------------------------------------------ beginning

    def _make_movies(self, count: int, wrong: int) -> dict[str, tuple[str, str]]:
        """Names of movies in their order, with the text of each and what is wrong with it; ``wrong`` of each kind."""
        kinds = [kind for kind in WRONG for _ in range(wrong)]
        kinds += [NOTHING] * (count - len(kinds))
        self.draw.shuffle(kinds)
        movies = {}
        for number, kind in enumerate(kinds, 1):
            text = f"movie {number} {self.draw.random()}\n"
            if kind != NOTHING:
                text += f"{WRONG[kind].line} double\n"
                self.injected[kind] += 1
            movies[f"m{number:04}"] = (text, kind)
        return movies

    def _make_project(self) -> Project:
        project = Project.create(self.disk / "project", mode="drift")
        (project.folder / "steps" / "quick.py").write_text(textwrap.dedent(STEPS).lstrip())
        trust.trust(project.folder)
        project.declare()
        project.use_steps(*CHAIN)
        clusters = Path(os.environ["XDG_CONFIG_HOME"]) / "focusnb" / "clusters.toml"
        clusters.parent.mkdir(parents=True, exist_ok=True)
        clusters.write_text(
            f'[far]\nkind = "scheduler"\naddress = "{self._address}"\n'
            f'[together]\nkind = "local"\nworkers = 2\nmemory_per_worker = "{MEMORY} B"\nlinger = 3\n'
        )
        return project

    def _import(self, until: int) -> None:
        """Let the microscope record until there are so many movies."""
        camera = self.folder / "camera"
        camera.mkdir(exist_ok=True)
        names = list(self.expected)[self._imported : until]
        for name in names:
            (camera / f"{name}.tif").write_text(self.expected[name][0])
        if names:
            self.project.add(*(camera / f"{name}.tif" for name in names), facts={"pixel_size": 1.5})
            Queue(self.project).submit_stale(asked=False)
        self._imported += len(names)

    # --------------------------------------------------------------------------------------------------------- running

    def run(self) -> dict[str, Any]:
        """Do it all; returns the figures."""
        with patch.dict(MODES, drift=MODE):
            return self._run()

    def _run(self) -> dict[str, Any]:
        began = time.monotonic()
        count = len(self.expected)
        number = sum(len(leg.faults) for leg in self.legs)
        place = 0
        try:
            for leg in self.legs:
                with self._workers_of(leg):
                    self._begin(leg)
                    for fault in leg.faults:
                        # always a portion more than is needed, so that the queue does not run empty
                        self._import(count * min(place + 2, number) // number)
                        self._wait_for_progress()
                        time.sleep(self.draw.uniform(0, 0.2))
                        self.injected[fault] += 1
                        print(f"{time.monotonic() - began:6.1f} s  {self._ended():4} ended  {fault}", flush=True)
                        FAULTS[fault](self, leg)
                        place += 1
                    if leg is self.legs[-1]:
                        self._import(count)
                    self._wait_for_progress()
                    self._end()
            self._finish()
        except GivenUp as error:
            self.faults.append(str(error))
        finally:
            left = self._end_everything()
        figures = self._examine()
        self.project.close()
        return {
            "faults injected": dict(sorted(self.injected.items())),
            **figures,
            "processes left behind": left,
            "processors started": self._lives,
            "other faults": self.faults,
            "seconds": round(time.monotonic() - began),
        }

    @contextlib.contextmanager
    def _workers_of(self, leg: Leg) -> Iterator[None]:
        if leg.workers == SCHEDULER:
            self._start_dask("scheduler")
            self._start_dask("worker")
        try:
            yield
        finally:
            self._end_dask()

    def _start_dask(self, kind: str) -> None:
        """Start a scheduler at its address, or two workers of it, as somebody else would."""
        options = {
            "scheduler": ["--host", self._address],
            "worker": [self._address, "--nworkers", "2", "--nthreads", "1", "--memory-limit", f"{MEMORY}B"],
        }
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options[kind], "--no-dashboard"]
        with open(self.folder / f"dask-{kind}.log", "ab") as log:
            self._dask[kind] = subprocess.Popen(command, env=self._environment, cwd=self.folder, stdout=log, stderr=log)

    def _tend_dask(self) -> None:
        """Start the workers again when they have ended, as without a scheduler they do."""
        worker = self._dask.get("worker")
        if worker is not None and worker.poll() is not None:
            self._start_dask("worker")

    def _end_dask(self) -> None:
        for process in self._dask.values():
            _kill_with_children(process)
        self._dask.clear()

    def _launch(self, leg: Leg | None, *more: str) -> subprocess.Popen[bytes]:
        """Start a processor as a user does, from the command line."""
        self._lives += 1
        pace = self.pace
        script = RUN.format(
            heartbeat=pace.heartbeat, silence=pace.silence, busy=pace.busy, memory=int(2 * MEMORY / 0.9)
        )
        where = {OWN: ["--workers", "2"], SCHEDULER: ["--cluster", "far"], SHARED: ["--cluster", "together"]}
        options = [*where[leg.workers if leg is not None else OWN], *more]
        with open(self._log(self._lives), "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-c", script, "run", str(self.project.folder), *options],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _log(self, life: int) -> Path:
        return self.folder / f"processor-{life}.log"

    def _said(self, life: int) -> str:
        return self._log(life).read_text("utf-8", "replace")

    def _begin(self, leg: Leg) -> None:
        self._present = self._launch(leg)

    def _end(self) -> None:
        """Ask the processor to stop, as the system does."""
        assert self._present is not None
        self._present.terminate()
        code = self._present.wait(60)
        if code != 0:
            self.faults.append(f"asked to stop, processor {self._lives} ended with {code}: {self._said(self._lives)}")
        self._present = None

    def _finish(self) -> None:
        """Let the rest be done in good order; whoever comes then finds nothing to do."""
        for _ in range(2):
            ended = self._launch(None, "--until-idle")
            code = ended.wait(300)
            if code != 0:
                self.faults.append(f"undisturbed, processor {self._lives} ended with {code}: {self._said(self._lives)}")
        if "Nothing to do" not in self._said(self._lives):
            self.faults.append(f"the last processor still found work: {self._said(self._lives)}")

    def _end_everything(self) -> int:
        """End what still runs; returns how many processes were left that nobody needs any more."""
        if self._present is not None:
            _kill_with_children(self._present)
        deadline = time.monotonic() + 20
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in left:
            with contextlib.suppress(psutil.Error):
                self.faults.append(f"left behind: {process.pid} {' '.join(process.cmdline())[:200]}")
                process.kill()
        return len(left)

    # -------------------------------------------------------------------------------------------------------- watching

    def _ask(self, query: str) -> Any:
        """One number from the library, read as another program would."""
        path = self.project.folder / "library.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(query).fetchone()[0]

    def _ended(self) -> int:
        return int(self._ask("SELECT count(*) FROM tasks WHERE state IN ('done', 'failed')"))

    def _wait_until(self, condition: Callable[[], Any], told: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise GivenUp(f"{told}, for {PATIENCE:g} s; the processor said: {self._said(self._lives)}")
            self._tend_dask()
            time.sleep(0.02)
        return value

    def _wait_for_progress(self) -> None:
        """Wait until the present processor has ended a task, or has nothing to do."""
        before, process = self._ended(), self._present
        assert process is not None

        def progress() -> bool:
            if process.poll() is not None:
                raise GivenUp(f"by itself processor {self._lives} ended: {self._said(self._lives)}")
            waiting = self._ask("SELECT count(*) FROM tasks WHERE state IN ('queued', 'running')")
            return self._ended() > before or not waiting

        self._wait_until(progress, "nothing was done")

    def _processes(self) -> list[psutil.Process]:
        """All that this campaign has started, directly or not."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("FOCUSNB_SOAK") == self._token and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _workers(self, root: int | None = None) -> list[psutil.Process]:
        """Worker processes: all, or those that one process has started."""
        found = []
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                mine = root is None or any(parent.pid == root for parent in process.parents())
                if mine and any("spawn_main" in word for word in command) and "resource_tracker" not in str(command):
                    found.append(process)
        return found

    # ---------------------------------------------------------------------------------------------------------- faults

    def _kill_processor(self, leg: Leg) -> None:
        assert self._present is not None
        self._present.kill()
        self._present.wait()
        self._begin(leg)

    def _kill_processor_with_workers(self, leg: Leg) -> None:
        assert self._present is not None
        for process in self._workers():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._kill_processor(leg)

    def _kill_worker(self, leg: Leg) -> None:
        workers = self._workers()
        if workers:  # all may just be starting again
            with contextlib.suppress(psutil.Error):
                self.draw.choice(workers).kill()

    def _kill_scheduler(self, leg: Leg) -> None:
        if leg.workers == SHARED:
            # the processor starts another when it finds it gone
            entry = self._wait_until(lambda: shared.find("together"), "the shared cluster did not start")
            os.kill(entry.process, signal.SIGKILL)
            return
        self._dask["scheduler"].kill()
        self._dask["scheduler"].wait()
        time.sleep(self.draw.uniform(0, 1.5))
        self._start_dask("scheduler")

    def _lock_library(self, leg: Leg) -> None:
        path = self.project.folder / "library.sqlite"
        with contextlib.closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(self.pace.locked)
            connection.execute("ROLLBACK")

    def _is_locked(self) -> bool:
        path = self.project.folder / "library.sqlite"
        with contextlib.closing(sqlite3.connect(path, timeout=0.3, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.execute("ROLLBACK")
            return False

    def _fill_disk(self, leg: Leg) -> None:
        state = os.statvfs(self.disk)
        filling = self.disk / "filling"
        with open(filling, "wb") as file, contextlib.suppress(OSError):
            file.write(bytes(max(0, state.f_bavail * state.f_frsize - self.draw.randrange(150_000))))
        time.sleep(self.pace.full)
        filling.unlink()

    def _stop_and_continue(self, leg: Leg) -> None:
        """Stop a processor; let another one take over; let the first go on, which must write nothing."""
        first, first_life = self._present, self._lives
        assert first is not None
        first.send_signal(signal.SIGSTOP)
        while self._is_locked():
            # a process that is stopped in the middle of a write keeps the lock, and SQLite can take it from nobody
            first.send_signal(signal.SIGCONT)
            time.sleep(0.05)
            first.send_signal(signal.SIGSTOP)
        own = [process.pid for process in self._workers(first.pid)] if leg.workers == OWN else []
        epoch = self._ask("SELECT epoch FROM lease")
        time.sleep(self.pace.silence + 2 * self.pace.heartbeat)
        self._begin(leg)
        self._wait_until(lambda: self._ask("SELECT epoch FROM lease") > epoch, "nobody took the lease over")
        self._wait_for_progress()
        revision = self._ask("SELECT value FROM meta WHERE key = 'revision'")
        first.send_signal(signal.SIGCONT)
        try:
            code = first.wait(60)
        except subprocess.TimeoutExpired:
            self.faults.append("a processor that was succeeded did not end")
            _kill_with_children(first)
            return
        said = self._said(first_life)
        if code != 1 or "succeeded by another one" not in said.splitlines()[-1]:
            self.faults.append(f"a processor that was succeeded ended with {code}: {said}")
        workers = ", ".join(map(str, own)) or "-1"
        late = self._ask(f"SELECT count(*) FROM runs WHERE process IN ({workers}) AND revision > {revision}")
        if late:
            self.faults.append(f"a processor that was succeeded stored {late} runs")

    # ------------------------------------------------------------------------------------------------------- examining

    def _examine(self) -> dict[str, Any]:
        """Compare the project with what must have become of it."""
        project, folder = self.project, self.project.folder
        told = self.faults.append
        table = project.table()
        with project.library.read() as connection:
            if (intact := connection.exec_driver_sql("PRAGMA integrity_check").scalar()) != "ok":
                told(f"the library is damaged: {intact}")
            stuck = connection.execute(
                sa.select(sa.func.count()).select_from(schema.tasks).where(schema.tasks.c.state.in_(tasks.ACTIVE))
            ).scalar_one()
            r = schema.runs.c
            runs = connection.execute(sa.select(r.exposure_id, r.step, r.status, r.fingerprint)).all()
            current = {row.id: row for row in connection.execute(sa.select(schema.exposures))}
        open_runs = sum(run.status in ("queued", "running") for run in runs)
        done = Counter((run.exposure_id, run.step, run.fingerprint) for run in runs if run.status == "done")
        ends: Counter[str] = Counter()
        lost = []
        for name, (text, kind) in self.expected.items():
            rows = table[table.exposure == name]
            row = rows.iloc[0] if len(rows) == 1 else None
            fault = "it is not there" if row is None else self._fault_of(row, text, kind, project.path(int(row.name)))
            if fault:
                lost.append(f"{name} ({kind}): {fault}")
            ends["failed as they should" if kind != NOTHING else "done"] += not fault
        for identity, row in current.items():
            if (row.status, row.reason) != tasks.status_of(set(), row.current or {}):
                told(f"{row.exposure} is {row.status}, and its results say {tasks.status_of(set(), row.current or {})}")
            record = json.loads((project.path(identity) / records.FILE_NAME).read_text())
            if (record["current"], record["status"]) != (row.current, row.status):
                told(f"{row.exposure}: its record says {record['status']}, the library {row.status}")
        if lease.holder(project.library) is not None:
            told("somebody still holds the lease")
        for life in range(1, self._lives + 1):
            if "/focusnb/" in self._said(life):  # dask tells of its own connections
                told(f"processor {life}: {self._said(life)}")
        self.faults += lost
        hidden = left_overs(folder) + [str(path) for path in folder.rglob(".*.gone-*")]
        self.faults += [f"left over: {path}" for path in hidden]
        return {
            "exposures": len(self.expected),
            "exposures done": ends["done"],
            "exposures failed as they should": ends["failed as they should"],
            "exposures lost": len(lost),
            "steps done twice": sum(count - 1 for count in done.values()),
            "tasks stuck": stuck + open_runs,
            "attempts lost and made again": len({r.exposure_id for r in runs if r.status == "lost"}),
            "temporary files left": len(hidden),
        }

    @staticmethod
    def _fault_of(row: Any, text: str, kind: str, folder: Path) -> str:
        """What is not as it must be with an exposure; empty where all is right."""
        checksum = zlib.crc32(text.encode()) % 10007
        wrong = WRONG.get(kind)
        status, words = ("done", "") if wrong is None else (wrong.status, wrong.words)
        reason = "" if row.isna()["reason"] else row.reason
        if row.status != status or words not in reason:
            return f"it is {row.status}: {reason}"
        products = {"plane.mrc": checksum}
        values = {"checksum": checksum}
        if wrong is None:
            products["seal.mrc"] = 3 * checksum
            values |= {"doubled": 2 * checksum, "signed": 3 * checksum}
        for name, value in values.items():
            if row[name] != value:
                return f"{name} is {row[name]} instead of {value}"
        for name, value in products.items():
            if not (folder / name).exists():
                return f"{name} is not there"
            with mrcfile.open(folder / name) as mrc:
                if not (mrc.data == value).all():
                    return f"{name} holds {mrc.data.flat[0]} instead of {value}"
        return ""


KILL, KILL_ALL, STOP, WORKER, RESTART, LOCK, FULL = FAULT_NAMES = (
    "processor killed",
    "processor and its workers killed",
    "processor stopped, succeeded, continued",
    "worker killed",
    "scheduler killed and started again",
    "library locked by another process",
    "disk full",
)

FAULTS: Mapping[str, Callable[[Campaign, Leg], None]] = {
    KILL: Campaign._kill_processor,
    KILL_ALL: Campaign._kill_processor_with_workers,
    STOP: Campaign._stop_and_continue,
    WORKER: Campaign._kill_worker,
    RESTART: Campaign._kill_scheduler,
    LOCK: Campaign._lock_library,
    FULL: Campaign._fill_disk,
}

ZEROS = ("exposures lost", "steps done twice", "tasks stuck", "temporary files left", "processes left behind")
"""Figures that must be zero; and there must be no other faults."""


def verdict(figures: Mapping[str, Any]) -> list[str]:
    """What went wrong, in words."""
    return [f"{name}: {figures[name]}" for name in ZEROS if figures[name]] + list(figures["other faults"])


def _free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def _kill_with_children(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                child.kill()
    process.wait()
