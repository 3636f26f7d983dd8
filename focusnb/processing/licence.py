"""A task's licence: what lies in its run folder while a worker is at it, and can be read when that has died.

The licence is a file, ``.outcome-<secret>``. The worker makes it (only one can), keeps in it what the chain has come to
so far, and ends its own process when the file has vanished: so a task can be ended on any cluster by taking its run
folder away. Beside it lies ``.words-<secret>``, which tells what a worker was ended for.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from focusnb.steps.task import Outcome, Task

LOOK = 0.5
"""Seconds between two looks of a worker for its licence, which must be missing twice."""

ENDS = 2.5
"""Seconds after which a worker whose licence was taken away has ended."""

MEMORY_SHARE = 0.9
"""Share of a worker's memory limit at which it is ended with a word of explanation; dask's net lies beneath."""


@dataclass(frozen=True)
class Claim:
    """Who works on a task: it stands in the answer's file until the first step has ended."""

    host: str
    process: int
    began: float


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


def process_began(process: int | None = None) -> float:
    """When a process of this host began (s since 1970), to tell it from another of the same number; 0 if gone."""
    import psutil

    try:
        return psutil.Process(process).create_time()
    except psutil.Error:
        return 0.0


def read_answer(path: Path) -> Claim | Outcome | None:
    """Read what a worker left; None where none has begun (or the disk was full before a word was written)."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    try:
        answer = pickle.loads(content)
    except Exception:
        return Claim("", 0, 0.0)  # it was claimed, and no more could be written
    return answer if isinstance(answer, (Claim, Outcome)) else None


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
