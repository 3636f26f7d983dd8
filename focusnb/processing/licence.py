"""A task's licence: what lies in its run folder while a worker is at it, and can be read when that has died.

The licence is a file, ``.outcome-<secret>``. The worker makes it (only one can), keeps in it what the chain has come to
so far, and ends its own process when the file has vanished: so a task can be ended on any cluster by taking its run
folder away. Beside it lies ``.words-<secret>``, which tells what a worker was ended for.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import pickle
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from focusnb.steps.task import Outcome, StepOutcome, Task

LOOK = 0.5
"""Seconds between two looks of a worker for its licence, which must be missing twice."""

ENDS = 2.5
"""Seconds after which a worker whose licence was taken away has ended."""

MEMORY_SHARE = 0.9
"""Share of a worker's memory limit at which it is ended with a word of explanation; dask's net lies beneath."""


@dataclass(frozen=True)
class Claim:
    """Who works on a task: a process of a host, and when it began, to tell it from another of the same number."""

    host: str
    process: int
    began: float


@dataclass(frozen=True)
class Answer:
    """What stands in the answer's file, from the first moment of a task to its end: who, and how far it is."""

    claim: Claim
    outcome: Outcome | None = None

    def packed(self) -> bytes:
        """As it is written."""
        return pickle.dumps((self.claim, self.outcome))


UNREADABLE = Answer(Claim("", 0, 0.0))
"""A task was claimed, and no more could be written or may be read."""


@dataclass(frozen=True)
class LastWords:
    """Why a worker ended itself: ``error`` is TimeOut or Memory; seconds, or bytes used and allowed."""

    error: str
    step: str
    seconds: float = 0.0
    used: int = 0
    allowed: int = 0
    place: str = ""


def answer_file(task: Task, secret: str) -> Path:
    """Name the file in which a task is claimed and answered; nobody else can have put one of that name there."""
    return task.run_folder / f".outcome-{secret}"


def words_file(task: Task, secret: str) -> Path:
    """Name the file of last words."""
    return task.run_folder / f".words-{secret}"


class _PlainData(pickle.Unpickler):
    """Reads what a worker tells and nothing else, so that a file somebody put there cannot run anything."""

    _KNOWN: ClassVar = {(kind.__module__, kind.__qualname__): kind for kind in (Claim, Outcome, StepOutcome)}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not what a worker tells") from None


def unpickle(content: bytes) -> Any:
    """Read what a worker told: claims, outcomes and plain data; raises UnpicklingError for anything else."""
    return _PlainData(io.BytesIO(content)).load()


def read_answer(path: Path) -> Answer | None:
    """Read what a worker left; None where none has begun (or the disk was full before a word was written)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return UNREADABLE if error.errno == errno.ELOOP else None
    with open(descriptor, "rb") as file:
        try:
            if os.fstat(descriptor).st_uid != os.geteuid():
                return UNREADABLE
            claim, outcome = unpickle(file.read())
        except Exception:
            return UNREADABLE
    fits = isinstance(claim, Claim) and (outcome is None or isinstance(outcome, Outcome))
    return Answer(claim, outcome) if fits else UNREADABLE


def read_last_words(path: Path) -> LastWords | None:
    """Read why a worker ended itself; None where it did not."""
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return None
    head, _, trace = text.partition("\n")
    try:
        words = json.loads(head)
    except ValueError:
        return None
    if "used" in words:
        return LastWords("Memory", words["step"], used=words["used"], allowed=words["allowed"])
    if "Timeout" not in trace:
        return None
    return LastWords("TimeOut", words["step"], words["seconds"], place=_place(trace, words["thread"]))


_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$')


def _place(trace: str, thread: int) -> str:
    """Where the code hung: the innermost place outside of Python's own and installed libraries."""
    own = re.split(r"\n(?=Thread 0x|Current thread 0x)", "\n" + trace)
    block = next((part for part in own if re.match(rf"(?:Current t|T)hread 0x0*{thread:x}\b", part)), trace)
    frames = [found for line in block.splitlines() if (found := _FRAME.match(line))]
    mine = [frame for frame in frames if not _is_library(frame["file"])]
    for frame in mine[:1] or frames[:1]:
        return f"{Path(frame['file']).name}, line {frame['line']}, in {frame['function']}"
    return ""


def _is_library(file: str) -> bool:
    return "site-packages" in file or f"{os.sep}lib{os.sep}python" in file or file.startswith("<")


def forget(paths: Iterable[Path]) -> None:
    """Remove files, which need not be there."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
