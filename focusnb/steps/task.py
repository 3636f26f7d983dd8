"""One exposure through its whole chain on one worker: the task that goes out and the outcome that comes back.

Both are plain data that pickle small; pixels stay in files and in the worker's memory.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
import time
import traceback as traceback_module
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from focusnb.errors import FocusError, ResourceError, StepError
from focusnb.parameters import Spec
from focusnb.quantities import FILE_FACTS
from focusnb.steps.base import FACTS, Step, StepResults, find_step
from focusnb.steps.work import SESSION, Work

Status = Literal["done", "failed", "broken", "skipped"]
Emit = Callable[["Progress"], None]

LONGEST_TEXT = 40_000
"""Characters of logs and tracebacks an outcome carries in all; the whole log is a file."""

LONGEST_VALUE = 2_000
"""Characters of a value or a reason."""


@dataclass(frozen=True)
class StepCall:
    """One step of a chain, with everything resolved."""

    step: str
    run: str
    params: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    attempt: int = 1
    timeout: float | None = None
    """Seconds after which it counts as hanging; None: those of the step."""


@dataclass(frozen=True)
class Task:
    """An exposure, the steps to run on it, their parameters and the facts.

    A task over a set has its id in ``set`` and 0 for the exposure; its members are listed in a file beside its run.
    """

    id: str
    exposure: int
    name: str
    project: str
    folder: str
    calls: tuple[StepCall, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    specs: tuple[Spec, ...] = ()
    steps_folder: str | None = None
    trial: str | None = None
    epoch: int = 0
    use_gpu: bool = False
    set: int | None = None
    attempt: str = ""
    """Names this attempt among those of the task: the id of its first run."""

    @property
    def run_folder(self) -> Path:
        """Where everything is written before it is adopted."""
        return Path(self.project) / self.folder / run_folder_name(self.id, self.epoch, self.attempt)


def run_folder_name(task: str, epoch: int, attempt: str = "") -> str:
    """Name the folder of an attempt: a worker that goes on after its task was given to another one, or whose process
    was succeeded, writes into a folder of its own.
    """
    return "-".join([f".run-{task}", *([str(epoch)] if epoch else []), *([attempt] if attempt else [])])


@dataclass(frozen=True)
class StepOutcome:
    """What became of one step."""

    step: str
    run: str
    status: Status
    version: str = ""
    fingerprint: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    products: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    error: str = ""
    traceback: str = ""
    log: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    started: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    attempt: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of a task: numbers and names of files, below 100 kB."""

    task: str
    exposure: int
    folder: str
    steps: tuple[StepOutcome, ...]
    trial: str | None = None
    epoch: int = 0
    host: str = ""
    process: int = 0
    started: float = 0.0
    finished: float = 0.0
    set: int | None = None
    worker: str = ""
    attempt: str = ""


@dataclass(frozen=True)
class Progress:
    """A step's word while it runs, and the results of the steps that have ended since the last one."""

    task: str
    exposure: int
    step: str
    message: str
    fraction: float | None = None
    worker: str = ""
    finished: tuple[StepOutcome, ...] = ()


class Watch(Protocol):
    """Is told of each step of a chain, so that it can end one that hangs and keep what was done before it."""

    def begins(self, call: StepCall, timeout: float) -> None:
        """A step begins, and counts as hanging after so many seconds."""

    def ended(self, so_far: Outcome) -> None:
        """A step has ended; what the chain has come to so far."""


def run_task(task: Task, emit: Emit | None = None, watch: Watch | None = None) -> Outcome:
    """Run the chain of one task; failures are part of the outcome, never raised."""
    started = time.time()
    try:
        if watch is None:  # on a worker the folder is the licence to run, and not the worker's to make
            task.run_folder.mkdir(parents=True, exist_ok=True)
        chain = _Chain(task, emit)
    except Exception as exception:
        return not_begun(task, exception)
    steps: tuple[StepOutcome, ...] = ()
    for call in task.calls:
        if watch is not None:
            step = chain.steps[call.step]
            watch.begins(call, (step.timeout if call.timeout is None else call.timeout) + step.grace)
        steps += (chain.run(call),)
        if watch is not None:
            watch.ended(_outcome(task, steps, started))
        if emit is not None:
            emit(_finished(task, steps[-1]))
    chain.write_log(steps)
    return _outcome(task, steps, started)


def _finished(task: Task, step: StepOutcome) -> Progress:
    # logs stay with the outcome: words on the way are small
    slim = replace(step, log="", traceback="", params={}, versions={})
    return Progress(task.id, task.exposure, step.step, "", 1.0, finished=(slim,))


def not_begun(task: Task, exception: Exception) -> Outcome:
    """The outcome of a task that could not begin."""
    started = time.time()
    return _outcome(task, tuple(_not_begun(task, exception, started)), started)


def ended_early(task: Task, so_far: Outcome | None, reason: str, error: str) -> Outcome:
    """The outcome of a task whose worker was ended: the steps before are done, the one it was at has failed.

    so_far : what the worker left; None where it left nothing
    reason, error : why, and the name of the fault
    """
    steps = () if so_far is None else so_far.steps
    left = task.calls[len(steps) :]
    told = tuple(
        StepOutcome(
            call.step,
            call.run,
            "skipped" if place else "failed",
            fingerprint=call.fingerprint,
            params=call.params,
            reason=f"{left[0].step} was ended before it" if place else reason[:LONGEST_VALUE],
            error="" if place else error,
            started=time.time(),
            attempt=call.attempt,
        )
        for place, call in enumerate(left)
    )
    base = so_far or _outcome(task, (), time.time())
    return replace(base, steps=(*steps, *told), finished=time.time())


def _not_begun(task: Task, exception: Exception, started: float) -> Iterator[StepOutcome]:
    """What to tell of a chain whose folder cannot be made or whose steps cannot be loaded."""
    if isinstance(exception, OSError):
        exception = ResourceError(describe_os_error(exception, task.run_folder))
    status, reason, error, trace = classify(exception, task.name)
    for call in task.calls:
        yield StepOutcome(
            call.step,
            call.run,
            status,
            fingerprint=call.fingerprint,
            params=call.params,
            reason=reason[:LONGEST_VALUE],
            error=error,
            traceback=trace[-LONGEST_TEXT // len(task.calls) :],
            started=started,
            attempt=call.attempt,
        )
        status, reason, error, trace = "skipped", f"{call.step} could not begin", "", ""


def _outcome(task: Task, steps: tuple[StepOutcome, ...], started: float) -> Outcome:
    return Outcome(
        task=task.id,
        exposure=task.exposure,
        folder=task.folder,
        steps=steps,
        trial=task.trial,
        epoch=task.epoch,
        host=socket.gethostname(),
        process=os.getpid(),
        started=started,
        finished=time.time(),
        set=task.set,
        attempt=task.attempt,
    )


class _Chain:
    """The state that goes from step to step within one task."""

    def __init__(self, task: Task, emit: Emit | None) -> None:
        self.task = task
        self.emit = emit
        self.values: dict[str, Any] = dict(task.known)
        self.unmade: dict[str, str] = {}  # by steps that failed, or that wait for one that did
        self.absent: dict[str, str] = {}  # by steps that are done and found none
        self.logs: dict[str, str] = {}
        specs = {spec.name: spec for spec in task.specs}
        # once: the user may change the files while the chain runs
        self.steps = {call.step: find_step(call.step, task.steps_folder) for call in task.calls}
        for step in self.steps.values():
            specs.update({spec.name: spec for spec in [*step.Inputs.specs(), *step.makes()]})
        self.work = Work(
            task.run_folder,
            exposure_folder=Path(task.project) / task.folder,
            specs=specs,
            exposure=task.name,
            identity=task.exposure,
            seed=zlib.crc32(f"{task.exposure}".encode()),
            xp=_gpu() if task.use_gpu else None,
            session=None if task.trial is not None else Path(task.project) / "sets" / SESSION,
        )

    def run(self, call: StepCall) -> StepOutcome:
        step = self.steps[call.step]
        made = {spec.name for spec in step.makes()}
        required = [spec.name for spec in step.Inputs.specs() if spec.required]
        missing = [name for name in required if name in self.unmade and name not in self.task.overrides]
        if missing:
            reason = f"needs {missing[0]}, which {self.unmade[missing[0]]} did not make"
            self._without(made, call.step, self.unmade)
            return StepOutcome(
                call.step,
                call.run,
                "skipped",
                version=step.version,
                fingerprint=call.fingerprint,
                params=call.params,
                reason=reason,
                started=time.time(),
                attempt=call.attempt,
            )
        work = self.work
        work.begin(self._emitter(call), call.fingerprint)
        wall, cpu = time.time(), _cpu_seconds()
        status: Status = "done"
        values: dict[str, Any] = {}
        reason = error = trace = ""
        try:
            results = self._run(step, call)
            values = results.model_dump()
        except (Exception, SystemExit) as exception:
            status, reason, error, trace = classify(exception, self.task.name)
            if error != "ResourceError":
                reason = self._shorten(reason)
            work.log.append(reason)
            work.forget(made)
            self._without(made, call.step, self.unmade)
        else:
            for name in made:
                self.unmade.pop(name, None)
                self.absent.pop(name, None)
            self.values.update({**values, **self.task.overrides})
            self._without((name for name, value in values.items() if value is None), call.step, self.absent)
        self.logs[call.run] = "\n".join(filter(None, [*work.log, trace]))
        longest = LONGEST_TEXT // len(self.task.calls) // 2
        return StepOutcome(
            step=call.step,
            run=call.run,
            status=status,
            version=step.version,
            fingerprint=call.fingerprint,
            params=call.params,
            values={name: value for name, value in values.items() if value is not None},
            products=dict(work.products),
            reason=reason[:LONGEST_VALUE],
            error=error,
            traceback=trace[-longest:],
            log="\n".join(work.log)[-longest:],
            versions=dict(work.versions),
            started=wall,
            seconds=time.time() - wall,
            cpu_seconds=_cpu_seconds() - cpu,
            attempt=call.attempt,
        )

    def _without(self, names: Iterable[str], step: str, why: dict[str, str]) -> None:
        """What an earlier run left under these names is out of date from here on."""
        for name in names:
            if name not in self.task.overrides:
                self.values.pop(name, None)
            why[name] = step

    def _run(self, step: type[Step], call: StepCall) -> StepResults:
        inputs = step.Inputs.make(self._inputs(step))
        params, dropped = step.Params.read(call.params)
        for name in dropped:
            self.work.report(f"{name} is not a parameter of {step.name} any more and was not used")
        instance = step()
        results = instance.run(inputs, params, self.work)
        if not isinstance(results, step.Results):
            raise TypeError(f"{step.name}.run returned {type(results).__name__}, not its Results")
        for spec in step.makes():
            value = getattr(results, spec.name)
            if spec.file is not None and value and spec.name not in self.work.products:
                raise FileNotFoundError(f"{step.name} names {spec.name} but did not write {self.work.path(spec.name)}")
            if isinstance(value, str) and len(value) > LONGEST_VALUE:
                raise ValueError(
                    f"{step.name}: {spec.name} has {len(value)} characters; a value may have {LONGEST_VALUE}, "
                    "longer text belongs into the log"
                )
        return results

    def _inputs(self, step: type[Step]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        missing: list[Spec] = []
        for spec in step.Inputs.specs():
            if spec.name in FACTS:
                value = self._fact(spec.name)
            elif spec.kind == "transient":
                value = spec.name if spec.name in self.work else None
            elif spec.file is not None:
                gone = spec.name in self.unmade or spec.name in self.absent
                value = spec.file if not gone and spec.name in self.work else None
            else:
                value = self.values.get(spec.name)
            if value is not None:
                found[spec.name] = value
            elif spec.required:
                missing.append(spec)
        if missing:
            # what is unknown because its file cannot be read is told by the file
            step.check_files({spec.name: found[spec.name] for spec in step.facts() if spec.name in found})
            raise StepError(_missing(self.task.name, step, missing[0], self.absent.get(missing[0].name)))
        return found

    def _fact(self, name: str) -> Any:
        value = self.task.facts.get(name)
        if value is None or name not in FILE_FACTS:
            return value
        path = Path(str(value))
        if path.is_absolute():
            return str(path)
        base = Path(self.task.project)
        return str(base / path if path.parts[0] == "references" else base / self.task.folder / path)

    def _shorten(self, text: str) -> str:
        """Name files of the project by their own name: a reason is read in a table."""
        project = Path(self.task.project)
        for folder in (project / self.task.folder / "raw", project / self.task.folder, project):
            text = text.replace(f"{folder}/", "")
        return text

    def _emitter(self, call: StepCall) -> Callable[[str, float | None], None] | None:
        if self.emit is None:
            return None
        emit = self.emit

        def tell(message: str, fraction: float | None) -> None:
            emit(Progress(self.task.id, self.task.exposure, call.step, message, fraction))

        return tell

    def write_log(self, steps: tuple[StepOutcome, ...]) -> None:
        lines = []
        for step in steps:
            lines.append(f"== {step.step} {step.version}: {step.status} ({step.seconds:.2f} s)")
            lines.extend(filter(None, (self.logs.get(step.run), step.reason if step.status == "skipped" else "")))
        try:
            (self.task.run_folder / "log.txt").write_text("\n".join(lines) + "\n", "utf-8", "backslashreplace")
        except OSError as error:
            # the outcome carries the end of the log as well: a full disk must not lose the results
            self.work.log.append(describe_os_error(error, self.task.run_folder))


def _missing(exposure: str, step: type[Step], spec: Spec, maker: str | None) -> str:
    label = _within(spec.label)
    if spec.name in ("movie", "image"):
        other = "an image" if spec.name == "movie" else "a movie"
        return f"{exposure}: was imported as {other}, and {_within(step.title)} needs {spec.name}s; leave it out"
    if spec.name in FACTS:
        return (
            f"{exposure}: {label} is not known, and {_within(step.title)} needs it; "
            f"import it again with --set {spec.name}=VALUE"
        )
    if maker is not None:
        return f"{exposure}: {label} ({spec.name}) is missing: {maker} found none for this exposure"
    return f"{exposure}: {label} ({spec.name}) is not there; run the step that makes it first"


def _within(label: str) -> str:
    """A label in the middle of a sentence: "pixel size", but "CTF score"."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


def _cpu_seconds() -> float:
    """CPU time of this process and of the programs it has run."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _gpu() -> Any:
    from focusnb.ops.backend import gpu_module

    return gpu_module()


def classify(exception: BaseException, exposure: str) -> tuple[Status, str, str, str]:
    """Sort an exception into failed (this exposure cannot) or broken (a fault): status, reason, error, traceback."""
    resource = as_resource_error(exception, exposure)
    if resource is not None:
        return "failed", str(resource), "ResourceError", ""
    if isinstance(exception, FocusError):
        return "failed", str(exception), type(exception).__name__, ""
    trace = "".join(traceback_module.format_exception(exception))
    if isinstance(exception, ValidationError):
        faults = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in exception.errors())
        reason = f"{exception.title} do not hold what they declare: {faults}"
        return "broken", reason, type(exception).__name__, trace
    return "broken", f"{type(exception).__name__}: {exception}", type(exception).__name__, trace


def as_resource_error(exception: BaseException, where: str | Path) -> ResourceError | None:
    """Return the exception as a ResourceError in plain words if disk, rights or memory caused it, else None."""
    if isinstance(exception, ResourceError):
        return exception
    if isinstance(exception, MemoryError):
        return ResourceError(
            f"{where}: not enough memory ({exception or 'allocation refused'}); run with fewer workers"
        )
    if isinstance(exception, OSError) and exception.errno in _DISK:
        return ResourceError(describe_os_error(exception, where))
    cause = exception.__cause__
    if type(exception) is FocusError and isinstance(cause, OSError) and cause.errno in _DISK:
        return ResourceError(str(exception))
    return None


_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def describe_os_error(error: OSError, where: str | Path) -> str:
    """Say in one sentence what the operating system refused, with numbers and the cure."""
    path = Path(str(error.filename or where))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        try:
            usage = shutil.disk_usage(next(p for p in [path, *path.parents] if p.exists()))
            numbers = f" ({usage.free / 1e6:.1f} MB free of {usage.total / 1e6:.1f} MB)"
        except (OSError, StopIteration):
            numbers = ""
        return f"{path}: the disk is full{numbers}; make room and run again"
    if error.errno in (errno.EACCES, errno.EPERM) and path.exists() and not os.access(path, os.R_OK):
        return f"{path}: cannot be read ({os.strerror(error.errno)}); give this user the right to read and run again"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{path}: cannot be written ({os.strerror(error.errno)}); give this user write access and run again"
    return f"{path}: {error.strerror or error}; check the disk and run again"
