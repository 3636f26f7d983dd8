"""Where the files of an exposure go: a folder that is its own, filled while no other process fills one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from focusnb.errors import FormatError, ProjectError
from focusnb.io import files
from focusnb.io.complete import read_structure
from focusnb.project import records, schema
from focusnb.project.finding import SUFFIXES

if TYPE_CHECKING:
    from focusnb.project.project import Project

TIME_KEPT = 2.0
"""Seconds by which the time of a copy may differ from its source's where a file system keeps whole ones, or two."""

_BLOCK = 4 << 20

LOCK = ".lock"
"""File among the exposures that is locked where folders cannot be."""

_THREADS = threading.Lock()


@contextlib.contextmanager
def filling(project: Project) -> Iterator[None]:
    """Choose and fill a folder while no other process, and no other thread, does."""
    folder = project.folder / "exposures"
    with contextlib.ExitStack() as held:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        held.callback(os.close, handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            # a network file system locks no folders, and files for processes only, not for threads
            held.enter_context(_THREADS)
            with contextlib.suppress(OSError):  # it may be mounted without any locks
                handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                held.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def check_name(path: Path) -> None:
    """FormatError for a path that cannot be written down."""
    try:
        str(path.resolve()).encode()
    except UnicodeEncodeError:
        raise FormatError(f"{str(path)!r}: its name is not UTF-8; rename it and import it again.") from None


@contextlib.contextmanager
def staging(project: Project) -> Iterator[Path]:
    """A folder in which files are made ready, gone when the block ends: to read a source may take for ever.

    What is ready is moved to its place at one stroke (:func:`filling`, :func:`files.move_into_place`), so that nobody
    waits for a source that does not answer.
    """
    exposures = project.folder / "exposures"
    folder = files.temporary_path(exposures / f"{_STAGE}{socket.gethostname()}")
    try:
        folder.mkdir()
    except OSError as error:
        raise ProjectError(
            f"{exposures}: nothing can be written there ({error.strerror}); make room, or give this user write access"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_STAGE = "incoming-"

FORSAKEN = 86_400.0
"""Seconds without a change after which a folder counts as left by a process of another host that is gone."""


def sweep_stages(project: Project, tell: Callable[[str], object] = lambda text: None) -> None:
    """Remove the folders in which killed processes made files ready; nothing in them is more than a copy.

    Of a process of this host it is known whether it is gone; one of another host counts as gone when it has changed
    nothing for a day (:data:`FORSAKEN`). A folder is renamed before it is removed: an owner that lives after all finds
    none and begins its file again, and never moves half of one into place.

    tell : is told what cannot be removed
    """
    exposures = project.folder / "exposures"
    own = f".{_STAGE}{socket.gethostname()}.part-"
    found = [folder for folder in exposures.glob(f".{_STAGE}*.part-*") if folder.is_dir() and not folder.is_symlink()]
    others = [folder for folder in found if not folder.name.startswith(own)]
    gone = [folder for folder in found if folder not in others and files.is_left_over(folder)]
    present = _time_there(exposures) if others else None
    if present is not None:
        gone += [folder for folder in others if present - _last_change(folder) > FORSAKEN]
    if not gone:
        return
    with filling(project):
        for folder in gone:
            taken = files.temporary_path(exposures / f"{_STAGE}{socket.gethostname()}")
            try:
                folder.rename(taken)
                shutil.rmtree(taken)
            except FileNotFoundError:
                continue  # another import was faster
            except OSError as error:
                tell(
                    f"{folder}: was left by an import that is gone and cannot be removed ({error.strerror}); it holds "
                    "copies only: remove it yourself"
                )


def _time_there(folder: Path) -> float | None:
    """The time by the clock of the server that a folder lies on; None where nothing can be written there."""
    probe = files.temporary_path(folder / f"{_STAGE}{socket.gethostname()}")
    try:
        probe.mkdir()
        try:
            return probe.stat().st_ctime
        finally:
            probe.rmdir()
    except OSError:
        return None


def _last_change(folder: Path) -> float:
    """When anything in a folder was written or renamed last, by its server's clock; times of copies are not that.

    Infinite where that is not known: its owner lives and removes it meanwhile, or this user may not look.
    """

    def fault(error: OSError) -> None:
        raise error

    try:
        return max(
            os.lstat(path).st_ctime
            for place, _, names in os.walk(folder, onerror=fault)
            for path in (place, *(os.path.join(place, name) for name in names))
        )
    except OSError:
        return float("inf")


def place(
    source: Path,
    target: Path,
    *,
    link: bool,
    progress: Callable[[int], object] | None = None,
    into: Path | None = None,
) -> str:
    """Copy or link a file to its place; returns the SHA-256 of its content.

    progress : called with the bytes read so far
    into : the folder that messages name, where the target lies in one in which files are made ready
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not link:
        return files.copy_verified(source, target, progress=progress, into=into)
    digest = files.hash_file(source, progress=progress)
    part = files.temporary_path(target)
    try:
        part.symlink_to(source.resolve())
        note_time(part, source)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return digest


def beside(role: str, path: Path) -> Path:
    """Where a file lies in an exposure's folder that is not its first: names may be those of the movie."""
    return Path("raw", role, path.name)


def note_time(placed: Path, source: Path) -> None:
    """Keep a source's time of last change on its copy, or on the link to it: by it a changed source is told."""
    changed = os.stat(source).st_mtime_ns
    with contextlib.suppress(OSError, NotImplementedError):
        os.utime(placed, ns=(changed, changed), follow_symlinks=False)


@contextlib.contextmanager
def untimed(ready: Path, placed: Path) -> Iterator[None]:
    """Let a copy that replaces another have no time until its row is written as well: else it is taken up again."""
    changed = os.lstat(ready).st_mtime_ns
    with contextlib.suppress(OSError, NotImplementedError):
        os.utime(ready, ns=(0, 0), follow_symlinks=False)
    yield
    with contextlib.suppress(OSError, NotImplementedError):
        os.utime(placed, ns=(changed, changed), follow_symlinks=False)


def is_untimed(placed: Path) -> bool:
    """Whether a copy was moved to its place, and its row not written then."""
    try:
        return os.lstat(placed).st_mtime_ns == 0
    except OSError:
        return False


def is_as_placed(source: Path, placed: Path) -> bool:
    """Whether a source still stands as it was copied or linked, by size and time; what was removed since counts."""
    try:
        held, present = os.lstat(placed), os.stat(source)
    except OSError:
        return True
    if not placed.is_symlink() and held.st_size != present.st_size:
        return False
    coarse = held.st_mtime_ns % 1_000_000_000 == 0
    return abs(held.st_mtime_ns - present.st_mtime_ns) <= (TIME_KEPT * 1e9 if coarse else 0)


_ALIKE = 0.01
"""Part of its bytes by which a file may differ from what it was before frames were added: its head and directories."""


def has_grown(placed: Path, source: Path) -> bool:
    """Whether a source is what was copied from it once with frames added, and not another recording.

    A movie that is written frame by frame is whole after each of them.
    """
    try:
        length = os.stat(placed).st_size
        if not 0 < length < os.stat(source).st_size:
            return False
        allowed, different = 64 + int(_ALIKE * length), 0
        with open(placed, "rb") as before, open(source, "rb") as now:
            while different <= allowed and (block := before.read(_BLOCK)):
                other = now.read(len(block))
                if len(other) < len(block):
                    return False
                different += int(np.count_nonzero(np.frombuffer(block, np.uint8) != np.frombuffer(other, np.uint8)))
    except OSError:
        return False
    return different <= allowed and read_structure(source).frames > read_structure(placed).frames


def sweep(folder: Path) -> None:
    """Remove what killed processes of this host left while they wrote into a folder of raw files."""
    for path in folder.rglob(".*.part-*"):
        if files.is_left_over(path):
            path.unlink(missing_ok=True)


def move_folder(folder: Path, target: Path) -> None:
    """Move the raw files of an exposure to be to their place; what an interrupted import left there is removed."""
    if target.is_dir():
        shutil.rmtree(target)
    files.move_into_place(folder, target)


def stem(path: Path) -> str:
    """A file's name without its suffix, as the name of an exposure."""
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return as_name(name)


def as_name(text: str) -> str:
    """A text as the name of a folder: never hidden, never a path."""
    return re.sub(r"[^\w.\-+]", "_", text).lstrip(".") or "exposure"


def free_folder(project: Project, group: str, stem: str, content: str) -> tuple[str, str]:
    """A folder that no exposure has, and its name; one left by an interrupted import is used again.

    content : SHA-256 of the file that is to lie there
    """
    e = schema.exposures.c
    folder_name = as_name(group)
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}_{number}"
        folder = f"exposures/{folder_name}/{name}"
        with project.library.read() as connection:
            taken = connection.execute(sa.select(e.id).where(e.folder == folder)).first() is not None
        if not taken and _may_be_used(project.folder / folder, content):
            return folder, name
        number += 1


def _may_be_used(folder: Path, content: str) -> bool:
    """Whether a folder that no exposure owns holds nothing but what an interrupted import left, or this very file.

    What a library was rebuilt without is not overwritten by another file of the same name.
    """
    try:
        record = json.loads((folder / records.FILE_NAME).read_text())
        return bool(record["content"] == content)
    except (OSError, ValueError, TypeError, KeyError):
        return not folder.exists() or all(path.name == "raw" or files.is_left_over(path) for path in folder.iterdir())
