"""External programs: found, asked for their version, run, and gone when the worker is gone.

Every program runs in a process group together with a small watcher. The watcher holds one end of a pipe whose other
end only the worker has: when the worker dies, however it dies, the pipe closes and the watcher kills the group with
all the program has started. (PR_SET_PDEATHSIG would end the program but not its children, and needs code between
fork and exec, which is unsafe in a process with threads.)
"""

from __future__ import annotations

import hashlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from focusnb.errors import FocusError, ProgramMissing, ResourceError, StepError

KEPT_OUTPUT = 1_000_000
"""Bytes of a program's output that are kept: the last ones."""

TIMEOUT = 3600.0
"""Seconds a program or script of a step may take where nothing else is said."""

_WATCHER = "trap '' HUP INT TERM; read -r line; kill -KILL -$$"
_VERSION_TIMEOUT = 20.0
_VERSION = re.compile(r"\d+(?:\.\d+)+[\w.+-]*")


@dataclass(frozen=True)
class ProgramResult:
    """What a program said (standard output and error together, the last 1 MB), how it ended and how long it took.

    errors : standard error alone, where it was asked for with ``separate``
    """

    output: str
    returncode: int
    seconds: float
    errors: str = ""
    program: str = ""

    def check(self) -> None:
        """Raise StepError for a program that failed, ResourceError where the machine was the cause."""
        if self.returncode == 0:
            return
        said = last_lines(self.errors or self.output)
        if "no space left on device" in said.lower() or "disk quota exceeded" in said.lower():
            raise ResourceError(f"{self.program}: the disk is full ({said}); make room and run again")
        if self.returncode == -signal.SIGKILL:
            raise ResourceError(
                f"{self.program}: was killed after {self.seconds:.0f} s, as Linux does when memory runs out; "
                "run with fewer workers"
            )
        raise StepError(f"{self.program}: {_ending(self.returncode)}; {_said(said)}")


@dataclass(frozen=True)
class Program:
    """An external program that is there."""

    name: str
    path: str
    version: str


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    folder: str | os.PathLike[str] | None = None,
    stdin: str | None = None,
    environment: Mapping[str, str | None] | None = None,
    timeout: float | None = None,
    check: bool = True,
    separate: bool = False,
    name: str | None = None,
) -> ProgramResult:
    """Run a program to its end; whatever it has started is killed with it.

    command : program (a name or a path) and its arguments
    folder : where it runs
    stdin : text it reads from standard input; nothing where None
    environment : variables added to those of the worker; None removes one. The locale is C.
    timeout : seconds until it is killed
    check : raise for an exit status other than 0
    separate : keep standard error apart as well; its order with standard output is then approximate
    name : what messages call it; the command's own name where None

    Raises StepError after the timeout or a failure, ResourceError where disk or memory was the cause, ProgramMissing
    where it cannot be started.
    """
    arguments = [os.fspath(item) for item in command]
    started = time.monotonic()
    merged, errors = _Tail(KEPT_OUTPUT), _Tail(KEPT_OUTPUT)
    with _group() as group, _text_file(stdin) as input_file:
        process = _start(arguments, group, folder, input_file, _environment(environment), separate)
        try:
            in_time = _follow(process, merged, errors, None if timeout is None else started + timeout)
        finally:
            _kill(group)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)  # one that hangs in the kernel is left to the kernel
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
    seconds = time.monotonic() - started
    name = name or Path(arguments[0]).name
    if not in_time:
        said = _said(last_lines(merged.text()))
        raise StepError(f"{name}: was not done after {timeout:g} s and was stopped; give it a longer timeout; {said}")
    result = ProgramResult(merged.text(), process.returncode, seconds, errors.text(), name)
    if check:
        result.check()
    return result


def find(name: str, *, arguments: Sequence[str] = ("--version",)) -> Program:
    """Find a program and its version: by the environment variable FOCUSNB_<NAME>, else on the PATH.

    Raises ProgramMissing saying where it was looked for and what to do.
    """
    variable = variable_of(name)
    given = os.environ.get(variable)
    path = shutil.which(given or name)
    if path is None and given:
        raise ProgramMissing(
            f"{name}: {variable} names {given}, which is no program that can be run; correct or unset it"
        )
    if path is None:
        folders = os.environ.get("PATH", "").replace(os.pathsep, ", ")
        raise ProgramMissing(
            f"{name}: is not installed: not found on the PATH ({folders}), and {variable} is not set; "
            f"install it, or set {variable} to its full path"
        )
    path = os.path.abspath(path)
    return Program(name, path, version(path, arguments))


def variable_of(name: str) -> str:
    """Return the environment variable that stands for a name: FOCUSNB_CTFFIND for ctffind."""
    return "FOCUSNB_" + re.sub(r"\W", "_", name).upper()


_versions: dict[tuple[str, int, int, tuple[str, ...]], str] = {}


def version(program: str | os.PathLike[str], arguments: Sequence[str] = ("--version",)) -> str:
    """Ask a program for its version, once per file; one that does not tell is known by the hash of its file."""
    path = Path(program).resolve()
    status = path.stat()
    # the name counts: one file can be many programs, told apart by the link they are called through
    key = (os.fspath(program), status.st_mtime_ns, status.st_size, tuple(arguments))
    if key not in _versions:
        _versions[key] = _ask_version(os.fspath(program), arguments) or _file_hash(path)
    return _versions[key]


def _ask_version(program: str, arguments: Sequence[str]) -> str | None:
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = run([program, *arguments], folder=folder, timeout=_VERSION_TIMEOUT, check=False)
    except FocusError:
        return None
    if result.returncode != 0:
        return None
    lines = [line for line in result.output.splitlines() if line.strip()][:10]
    # a program that takes no notice of the question may print any number: only one said to be a version counts
    for line in lines:
        found = _VERSION.search(line)
        told = len(lines) == 1 or "version" in line.lower() or Path(program).name.lower() in line.lower()
        if found and told:
            return found.group()
    return None


def _file_hash(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except PermissionError:
        return f"changed {path.stat().st_mtime_ns}"  # may be run but not read


def last_lines(text: str, count: int = 5) -> str:
    """Return the last lines that are not empty, in one line, for a message."""
    lines = [line.strip()[-300:] for line in re.split(r"[\r\n]+", text[-20_000:]) if line.strip()]
    return " | ".join(lines[-count:])


def without_overwritten(text: str) -> str:
    """Drop what a terminal would have overwritten: progress bars printed with carriage returns."""
    return re.sub(r"[^\n]*\r(?!\n)", "", text.replace("\r\n", "\n"))


def _said(said: str) -> str:
    return f"its last lines: {said}" if said else "it printed nothing"


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    with suppress(ValueError):
        return f"was ended by signal {-returncode} ({signal.Signals(-returncode).name})"
    return f"was ended by signal {-returncode}"


class _Tail:
    """The end of a stream, in bounded memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._blocks: deque[bytes] = deque()
        self._held = 0
        self._dropped = 0

    def add(self, block: bytes) -> None:
        self._blocks.append(block)
        self._held += len(block)
        while self._held - len(self._blocks[0]) >= self._limit:
            dropped = len(self._blocks.popleft())
            self._held -= dropped
            self._dropped += dropped

    def text(self) -> str:
        text = b"".join(self._blocks).decode("utf-8", "replace")
        return f"[the first {self._dropped} bytes are left out]\n{text}" if self._dropped else text


@contextmanager
def _group() -> Iterator[int]:
    """Open a process group that dies with this process; gives its id."""
    reading, writing = os.pipe()
    try:
        watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            process_group=0,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    try:
        yield watcher.pid
    finally:
        _kill(watcher.pid)
        watcher.wait()
        os.close(writing)


def _kill(group: int) -> None:
    # the watcher is not waited for before this, so that its number cannot belong to anybody else
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


@contextmanager
def _text_file(text: str | None) -> Iterator[IO[bytes] | int]:
    """Give text as an open file: a program that does not read it all cannot block the worker as with a pipe."""
    if text is None:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        yield file


def _environment(changes: Mapping[str, str | None] | None) -> dict[str, str]:
    environment: dict[str, str | None] = {**os.environ, "LC_ALL": "C", **(changes or {})}
    return {name: value for name, value in environment.items() if value is not None}


def _start(
    arguments: list[str],
    group: int,
    folder: str | os.PathLike[str] | None,
    stdin: IO[bytes] | int,
    environment: dict[str, str],
    separate: bool,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            arguments,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if separate else subprocess.STDOUT,
            cwd=folder,
            env=environment,
            process_group=group,
            bufsize=0,
        )
    except OSError as error:
        if folder is not None and not Path(folder).is_dir():
            raise
        raise ProgramMissing(
            f"{arguments[0]}: cannot be started ({error.strerror}); check that it is installed, made for this machine, "
            "and that this user may run it"
        ) from error


def _follow(process: subprocess.Popen[bytes], merged: _Tail, errors: _Tail, deadline: float | None) -> bool:
    """Read what a program prints until it has ended; False when the deadline came first."""
    ended: float | None = None
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(0.1)
            for key, _ in ready:
                block = os.read(key.fd, 1 << 16)
                if not block:
                    selector.unregister(key.fileobj)
                    continue
                merged.add(block)
                if key.fileobj is process.stderr:
                    errors.add(block)
            now = time.monotonic()
            if ended is None and process.poll() is not None:
                ended = now
            # something it left running in the background may hold the streams open, even write to them
            if ended is not None and (not ready or now - ended > 1.0):
                return True
            if ended is None and deadline is not None and now > deadline:
                return False
    try:
        process.wait(None if deadline is None else max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        return False
    return True
