"""What happens in a worker process: it takes a task, is watched while it works on it, and tells how far it is."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pickle
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin, get_worker

from focusnb.io.processes import began as process_began
from focusnb.processing import licence
from focusnb.processing.heap import give_freed_memory_back, keep_freed_memory
from focusnb.processing.warming import Mark, keep_kernels, warm_up
from focusnb.steps.task import Outcome, Progress, StepCall, StepOutcome, Task, run_task

MOST_EVENTS_PER_SECOND = 2.0

LOOK = 0.1
"""Seconds between two looks at the memory."""

PROGRAMS = 1.0
"""Seconds of a task, and between two looks at the memory of the programs it runs."""

SLOW = 0.5
"""Seconds of a task after which memory is given back: it costs more than a small task itself."""

IDLE = 5.0
"""Seconds without a task after which memory is given back: the next movie would need the same again."""

LONGEST = 1e8
"""Seconds of a time-out that the interpreter can count."""

WARM_UP = 120.0
"""Seconds a task waits at most for the warm-up of its worker."""


# ---------------------------------------------------------------------------------------------- when a worker starts


class Station(WorkerPlugin):
    """Prepares a worker process; registered by the client, so that workers which were started by others have it too."""

    def __init__(self, steps: tuple[str, ...] = (), *, use_gpu: bool = False) -> None:
        """``steps`` : chain to warm up with; none where empty."""
        # by another name: a client that asks for no warm-up does not end that of another
        self.name = "focusnb-warm" if steps else "focusnb"
        self._steps = steps
        self._use_gpu = use_gpu

    def setup(self, worker: Any) -> None:
        """Leave Ctrl-C to the client, keep freed memory, switch dask's own care for it off, and warm up."""
        leave_interrupts_to_the_client()
        keep_freed_memory()
        # a paused worker would wait for ever: what fills its memory is no result that dask could spill
        worker.memory_manager.memory_pause_fraction = False
        worker.memory_manager.memory_spill_fraction = False
        keep_kernels()
        if self._steps and not _here.warming:
            # dask removes what a worker that was killed has left in its own folder
            _here.warm_up(self._steps, folder=worker.local_directory, use_gpu=self._use_gpu)

    def teardown(self, worker: Any) -> None:
        """A worker that is ended while it warms up did not die of that."""
        _here.mark.remove()


def leave_interrupts_to_the_client() -> None:
    """The process that works on the project gives back what is under way and ends the workers."""
    with contextlib.suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def dask_setup(worker: Any) -> None:
    """Called by dask before the client can register anything."""
    leave_interrupts_to_the_client()


# ------------------------------------------------------------------------------------------------ what a worker does


def run_on_worker(task: Task, secret: str, topic: str) -> Outcome | str | None:
    """Work on a task.

    Returns its outcome, which the answer's file holds as well; None where another worker has begun with it; a
    sentence where its run folder is not there.
    """
    worker = get_worker()
    _here.wait_until_warm()
    with _here.alone:
        answer = licence.answer_file(task, secret)
        claim = licence.Claim(socket.gethostname(), os.getpid(), process_began())
        for wait in (0.1, 0.4, 1.0, None):
            try:
                descriptor = os.open(answer, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
                break
            except FileExistsError:
                return None
            except FileNotFoundError:
                # a network file system may show a new folder late
                if wait is None or not Path(task.project).exists():
                    return f"{_name(worker)} does not find {task.run_folder}"
                time.sleep(wait)
            except OSError as error:
                return f"{_name(worker)} cannot write {answer}: {error.strerror}"
        with os.fdopen(descriptor, "wb") as file, contextlib.suppress(OSError):
            file.write(licence.Answer(claim).packed())
        began = time.monotonic()
        watch = _Watch(task, secret, worker, topic, claim)
        _here.begin(watch)
        try:
            outcome = replace(run_task(task, watch.emit, watch), worker=watch.worker_name)
        finally:
            _here.end(kept_memory=time.monotonic() - began > SLOW)
            watch.close()
        watch.write(outcome)
        return outcome


def _name(worker: Any) -> str:
    local = worker.address.startswith(("tcp://127.", "inproc:"))
    return str(worker.name) if local else f"{worker.name} ({socket.gethostname()})"


class _Watch:
    """Follows one task, step by step: arms the time-out, keeps what was done, sends word of the progress."""

    def __init__(self, task: Task, secret: str, worker: Any, topic: str, claim: licence.Claim) -> None:
        self.task = task
        self.claim = claim
        self.secret = secret
        self.worker_name = _name(worker)
        self.limit = licence.MEMORY_SHARE * (worker.memory_manager.memory_limit or float("inf"))
        self._worker = worker
        self._topic = topic
        self._answer = licence.answer_file(task, secret)
        self._words = licence.words_file(task, secret)
        try:
            self._file = open(self._words, "w+b", buffering=0)  # noqa: SIM115 - open as long as the task runs
        except OSError:  # a full disk: it is ended all the same, without an explanation
            self._file = open(os.devnull, "wb", buffering=0)  # noqa: SIM115
        self._step = ""
        self._gone = 0
        self._looked = self._counted = time.monotonic()
        self._programs = 0
        self._lock = threading.Lock()
        self._untold: Progress | None = None
        self._finished: tuple[StepOutcome, ...] = ()

    def begins(self, call: StepCall, timeout: float) -> None:
        """Arm the time-out: a thread without Python in it ends the process, also where the GIL is held."""
        self._step = call.step
        self._write_words(step=call.step, seconds=timeout, thread=threading.get_ident())
        faulthandler.dump_traceback_later(min(max(timeout, 0.01), LONGEST), exit=True, file=self._file)

    def ended(self, so_far: Outcome) -> None:
        """Keep what was done, should a later step end this process."""
        faulthandler.cancel_dump_traceback_later()
        if len(so_far.steps) < len(self.task.calls):  # the complete outcome follows at once
            self.write(replace(so_far, worker=self.worker_name))

    def write(self, outcome: Outcome) -> None:
        """Replace the answer; where the disk is full the complete outcome still goes through dask."""
        if self._is_taken_away():  # to write would be to take the licence back
            end_this_process()
        part = self._answer.with_name(f"{self._answer.name}.part")
        try:
            part.write_bytes(licence.Answer(self.claim, outcome).packed())
            os.replace(part, self._answer)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()

    def close(self) -> None:
        """Nothing went wrong: there are no last words."""
        faulthandler.cancel_dump_traceback_later()
        self._file.close()
        with contextlib.suppress(OSError):
            self._words.unlink()

    def emit(self, progress: Progress) -> None:
        """Send word of the progress, at most twice a second; the latest word waits, results of steps gather."""
        with self._lock:
            self._finished += progress.finished
            self._untold = progress
        self.tell()

    def tell(self) -> None:
        """Send what waits if it is time to."""
        with self._lock:
            progress, now = self._untold, time.monotonic()
            if progress is None or now - _here.told < 1 / MOST_EVENTS_PER_SECOND:
                return
            finished = pickle.dumps(self._finished) if self._finished else b""
            self._untold, self._finished, _here.told = None, (), now
        event = (progress.task, progress.exposure, progress.step, progress.message, progress.fraction)
        # no dict: dask would add a key to it
        self._worker.log_event(self._topic, (*event, self.worker_name, finished))

    def look(self) -> None:
        """End this process where it takes too much memory or has no licence any more."""
        used = self._used()
        if used > self.limit:
            # memory that was freed is held for the next arrays; another program may need it instead
            give_freed_memory_back()
            used = self._used()
        if used > self.limit and self._programs:
            # a program that is just being started is seen with all that this process holds
            time.sleep(LOOK)
            self._counted = 0.0
            used = self._used()
        if used > self.limit:
            self._write_words(step=self._step, used=used, allowed=int(self.limit))
            end_this_process()
        now = time.monotonic()
        if now - self._looked >= licence.LOOK:
            self._looked = now
            self._gone = self._gone + 1 if self._is_taken_away() else 0
            if self._gone > 1:
                end_this_process()
        self.tell()

    def _used(self) -> int:
        """Bytes held by this process and, looked at once a second, by the programs that its step runs."""
        now = time.monotonic()
        if now - self._counted >= PROGRAMS:
            self._counted, self._programs = now, _resident_programs()
        return _resident() + self._programs

    def _is_taken_away(self) -> bool:
        try:
            os.stat(self._answer)
        except FileNotFoundError:
            return True
        except OSError:  # a network file system that does not answer has not taken anything away
            return False
        return False

    def _write_words(self, **words: Any) -> None:
        with contextlib.suppress(OSError):
            self._file.seek(0)
            self._file.truncate()
            self._file.write(json.dumps(words).encode() + b"\n")


def end_this_process() -> None:
    """End at once; its nanny starts another, and the external programs of its step end with it."""
    os.kill(os.getpid(), signal.SIGKILL)


_PAGE = os.sysconf("SC_PAGESIZE")


def _resident() -> int:
    """Bytes of memory this process holds; read by hand, as this happens ten times a second."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:  # not Linux
        import psutil

        return int(psutil.Process().memory_info().rss)


def _resident_programs() -> int:
    """Bytes held by the descendants of this process."""
    with contextlib.suppress(OSError):
        # psutil looks at every process of the host: only where there is any child
        if not any(path.read_bytes() for path in Path("/proc/self/task").glob("*/children")):
            return 0
    import psutil

    held = 0
    with contextlib.suppress(psutil.Error):
        for program in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                held += program.memory_info().rss
    return held


class _Here:
    """The state of this process: what it works on, and the thread that watches."""

    def __init__(self) -> None:
        self.alone = threading.Lock()  # a worker of several threads works on one task at a time: it ends as a whole
        self.watch: _Watch | None = None
        self.told = 0.0  # when word was sent last, of whatever task
        self.warming = False
        self.mark = Mark()
        self._warm = threading.Event()
        self._warm.set()
        self._begun = threading.Event()
        self._keeps_memory = False
        self._thread: threading.Thread | None = None

    def begin(self, watch: _Watch) -> None:
        self.watch = watch
        self._begun.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="focusnb-watch", daemon=True)
            self._thread.start()

    def end(self, *, kept_memory: bool) -> None:
        self.watch = None
        self._keeps_memory |= kept_memory
        self._begun.clear()

    def _look(self) -> None:
        while True:
            if not self._begun.wait(IDLE if self._keeps_memory else None):
                self._keeps_memory = False
                give_freed_memory_back()
                continue
            time.sleep(LOOK)
            watch = self.watch
            if watch is not None:
                watch.look()

    def warm_up(self, steps: tuple[str, ...], *, folder: str, use_gpu: bool) -> None:
        """Begin to run a chain on a tiny movie; once in a process."""

        if Mark.of_a_death():
            print("the worker before this one died while it was warmed up: this one is not", file=sys.stderr)
            self.warming = True
            return

        def run() -> None:
            try:
                self.mark.make()
                has_gpu = bool(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
                warm_up(steps, folder=folder, use_gpu=use_gpu and has_gpu)
            except Exception as error:  # the first movie pays then, and tells what is wrong
                print(f"the worker could not be warmed up: {type(error).__name__}: {error}", file=sys.stderr)
            finally:
                self.mark.remove()
                self._warm.set()

        self.warming = True
        self._warm.clear()
        threading.Thread(target=run, name="focusnb-warm-up", daemon=True).start()

    def wait_until_warm(self) -> None:
        # both at once would share one core, and the movie would pay for what it waits for in any case
        self._warm.wait(WARM_UP)


_here = _Here()
