"""Trees of folders polled for files: on local disks and on mounts that are slow, coarse of time, or gone for a while.

Only polling works everywhere: a network file system tells nobody of what another host writes. A folder is listed again
where its time of last change says so, and every file that is not settled is looked at each time; a full pass now and
then finds what times do not tell.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from focusnb.errors import ParameterError

FULL_INTERVAL = 60.0
"""Seconds between two full passes, at least."""

FULL_SHARE = 30
"""A full pass is not begun before so many times its own duration have gone by."""

COARSE = 3.0
"""Seconds for which a folder is listed again after its time of last change: file systems keep whole seconds, or two."""

PATIENCE = 5.0
"""Seconds until a tree that does not answer counts as blocked."""


Answer = TypeVar("Answer")


class Stand(NamedTuple):
    """How a file stands: two observations that agree show the same content, as far as a file system tells."""

    size: int
    changed_ns: int
    inode: int


@dataclass
class Look:
    """What a look at a tree found.

    there : whether the root can be listed
    files : the files that are not settled, and settled ones that have changed
    gone : files seen before that are not there any more
    faults : what is told of the root and of folders in it, each once until it is mended
    mended : what was told before and is well again
    """

    there: bool = True
    files: dict[str, Stand] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)


@dataclass
class _Folder:
    """A folder as it was listed last; its files by name, and which of them are not settled."""

    inode: int
    changed_ns: int
    since: float
    files: dict[str, Stand | None] = field(default_factory=dict)
    loose: set[str] = field(default_factory=set)
    folders: list[str] = field(default_factory=list)


def make_filter(patterns: Iterable[str], ignore: Iterable[str]) -> Callable[[str, str], bool]:
    """Return a function (name, path within the tree) that tells whether a file is wanted.

    patterns : shell patterns such as ``*.tif``, of which one must fit the name; with a ``/`` in it, the path
    ignore : texts that may not occur in the name of the file or of a folder on its path, or shell patterns that may not
        fit one; case does not matter

    Raises ParameterError for an empty one.
    """
    wanted, unwanted = list(patterns), list(ignore)
    for text in (*wanted, *unwanted):
        if not text.strip():
            raise ParameterError("a pattern or ignore rule is empty; leave it out")
    names = _any_of(text for text in wanted if "/" not in text)
    paths = _any_of(text.lstrip("/") for text in wanted if "/" in text)
    ignored = make_ignore(unwanted)

    def is_wanted(name: str, path: str) -> bool:
        if any(map(ignored, path.split("/"))):
            return False
        return names(name) or paths(path)

    return is_wanted


def make_ignore(rules: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that tells whether the name of a file or folder is to be left out."""
    globs: list[str] = []
    parts: list[str] = []
    for rule in rules:
        (globs if re.search(r"[*?\[]", rule) else parts).append(rule.casefold())
    fits = _any_of(globs)

    def ignored(name: str) -> bool:
        folded = name.casefold()
        return any(part in folded for part in parts) or fits(folded)

    return ignored


def _any_of(patterns: Iterable[str]) -> Callable[[str], bool]:
    texts = [fnmatch.translate(pattern) for pattern in patterns]
    if not texts:
        return lambda name: False
    expression = re.compile("|".join(texts), re.IGNORECASE)
    return lambda name: expression.match(name) is not None


class Tree:
    """A folder and all below it, looked at again and again by one thread.

    Hidden files and folders are passed by, and so are links to folders, which may lead in a circle.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        patterns: Iterable[str],
        ignore: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
        scandir: Callable[[str], Any] = os.scandir,
    ) -> None:
        """Remember what to look for; nothing is looked at yet.

        patterns, ignore : see :func:`make_filter`; ignore rules hold for folders below the root as well
        clock : seconds that never jump
        scandir : lists a folder as os.scandir does
        """
        ignore = list(ignore)
        self.root = os.path.abspath(root)
        self._wanted = make_filter(patterns, ignore)
        self._ignored = make_ignore(ignore)
        self._clock, self._scandir = clock, scandir
        self._folders: dict[str, _Folder] = {}
        self._told: dict[str, str] = {}
        self._full_at = -float("inf")
        self._full_took = 0.0

    def settle(self, path: str) -> None:
        """Look at a file in full passes only from now on: it is done with unless it changes."""
        folder = self._folders.get(os.path.dirname(path))
        name = os.path.basename(path)
        if folder is not None and folder.files.get(name) is not None:
            folder.loose.discard(name)

    def unsettle(self, path: str) -> None:
        """Look at a file each time again; with the root, at every file once."""
        if path == self.root:
            for held in self._folders.values():
                held.loose.update(held.files)
            return
        folder = self._folders.get(os.path.dirname(path))
        name = os.path.basename(path)
        if folder is not None and name in folder.files:
            folder.loose.add(name)

    def look(self) -> Look:
        """Look at the tree; costs a look at each folder and at each file that is not settled."""
        found = Look()
        began = self._clock()
        full = began - self._full_at >= max(FULL_INTERVAL, FULL_SHARE * self._full_took)
        seen: set[str] = set()
        faults: dict[str, str] = {}
        left = [self.root]
        while left:
            path = left.pop()
            try:
                folder = self._look_at(path, found, full=full)
            except OSError as error:
                if path == self.root:
                    self._lose_root(error, found)
                    return found
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    # what is in it may be there still: nothing of it is gone
                    faults[path] = _reason(path, error)
                    seen.update(held for held in self._folders if held == path or held.startswith(path + os.sep))
                continue
            seen.add(path)
            left.extend(os.path.join(path, name) for name in folder.folders)
        for path in self._folders.keys() - seen:
            found.gone += [os.path.join(path, name) for name in self._folders.pop(path).files]
        self._tell(faults, found)
        if full:
            self._full_at, self._full_took = self._clock(), self._clock() - began
        return found

    def _look_at(self, path: str, found: Look, *, full: bool) -> _Folder:
        stat = os.stat(path)
        now = self._clock()
        folder = self._folders.get(path)
        if folder is None or folder.inode != stat.st_ino:
            folder = self._folders[path] = _Folder(stat.st_ino, stat.st_mtime_ns, now)
            listing = True
        elif folder.changed_ns != stat.st_mtime_ns:
            folder.changed_ns, folder.since, listing = stat.st_mtime_ns, now, True
        else:
            # within the same tick of the server's clock another file may have come
            listing = full or now - folder.since <= COARSE
        if listing:
            try:
                self._list(path, folder, found)
            except BaseException:
                folder.changed_ns = -1  # it counts as not listed
                raise
        for name in list(folder.files if full else folder.loose):
            self._look_at_file(path, name, folder, found)
        return folder

    def _list(self, path: str, folder: _Folder, found: Look) -> None:
        within = os.path.relpath(path, self.root)
        prefix = "" if within == "." else within.replace(os.sep, "/") + "/"
        with self._scandir(path) as entries:
            listed = {entry.name: entry for entry in entries}
        known = folder.files
        for name in known.keys() - listed.keys():
            del known[name]
            folder.loose.discard(name)
            found.gone.append(os.path.join(path, name))
        folders = set(folder.folders) & listed.keys()
        for name in listed.keys() - known.keys():
            if name.startswith("."):
                continue
            entry = listed[name]
            if name in folders or entry.is_dir(follow_symlinks=False):
                if not self._ignored(name):
                    folders.add(name)
                else:
                    folders.discard(name)
            elif self._wanted(name, prefix + name) and _is_file(entry):
                known[name] = None
                folder.loose.add(name)
        folder.folders = sorted(folders)

    def _look_at_file(self, path: str, name: str, folder: _Folder, found: Look) -> None:
        whole = os.path.join(path, name)
        try:
            stat = os.stat(whole)
        except FileNotFoundError:
            del folder.files[name]
            folder.loose.discard(name)
            found.gone.append(whole)
            return
        except OSError:
            # a link in a circle, a bad block: this file is passed by, not all that lies beside it
            os.stat(path)
            folder.loose.add(name)
            return
        stand = Stand(stat.st_size, stat.st_mtime_ns, stat.st_ino)
        if name not in folder.loose:
            if stand == folder.files[name]:
                return
            folder.loose.add(name)
        folder.files[name] = stand
        found.files[whole] = stand

    def _lose_root(self, error: OSError, found: Look) -> None:
        """Nothing of it counts as gone: a mount that comes back holds what it held, and is shown anew then.

        What was done with, as metadata without an exposure, may have been wanted meanwhile.
        """
        for folder in self._folders.values():
            folder.loose.update(folder.files)
        found.there = False
        self._tell({**self._told, self.root: _reason(self.root, error)}, found)
        self._full_at = -float("inf")

    def _tell(self, faults: dict[str, str], found: Look) -> None:
        found.faults += [text for path, text in faults.items() if self._told.get(path) != text]
        found.mended += [f"{path}: is there again" for path in self._told if path not in faults]
        self._told = faults


def _reason(path: str, error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"{path}: is not there; it is waited for"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path}: may not be read by this user; change its permissions. What is in it is left out until then"
    return f"{path}: cannot be listed ({error.strerror}); it is tried again"


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or a link to one that can be reached."""
    try:
        return entry.is_file()
    except OSError:
        return False


LOCAL = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "nilfs2", "bcachefs", "ufs", "hfsplus"),
    *("tmpfs", "ramfs", "overlay", "aufs", "squashfs", "erofs", "iso9660", "udf", "vfat", "msdos", "exfat", "ntfs"),
    *("ntfs3", "fuseblk"),
}
"""Types of file systems on disks of this host. To any other another host may write: of the many there are for that
(nfs, cifs, lustre, fuse.sshfs, virtiofs ...) no list is complete, and autofs stands for whatever it will mount."""


def is_shared(kind: str) -> bool:
    """Whether another host may write to a file system of this type; taken to be so where the type is unknown."""
    return kind not in LOCAL


def mount_of(path: str | os.PathLike[str]) -> tuple[str, str]:
    """Where the file system of a path is mounted and its type, by the kernel's list alone: a dead server is not asked.

    path : absolute; links in it are not followed. Both are empty where there is no such list.
    """
    try:
        with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split(" ") for line in file]
    except OSError:
        return "", ""
    where = os.path.abspath(path)
    found = ("", "")
    for fields in mounts:
        # the kernel writes blanks, line ends and backslashes of names as \040, \011, \012, \134
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1])
        if (where == point or where.startswith(point.rstrip("/") + "/")) and len(point) >= len(found[0]):
            found = point, fields[2]
    return found


_silent: dict[str, threading.Thread] = {}
"""Mounts that did not answer, with the thread that still waits for them."""


def ask(
    path: str | os.PathLike[str], question: Callable[[], Answer], otherwise: Answer, patience: float = 0.0
) -> Answer:
    """Ask something of the file system a path lies on, in a thread of its own; the other answer where it is silent.

    patience : seconds to wait, by default those of :data:`PATIENCE`
    A mount that did not answer is not waited for again before it has.
    """
    mount = mount_of(path)[0]
    held = _silent.get(mount)
    if held is not None and held.is_alive():
        return otherwise
    answers: list[Answer] = []

    def answer() -> None:
        with contextlib.suppress(OSError):
            answers.append(question())

    thread = threading.Thread(target=answer, name=f"ask {path}", daemon=True)
    thread.start()
    thread.join(patience or PATIENCE)
    if thread.is_alive():
        _silent[mount] = thread
        return otherwise
    _silent.pop(mount, None)
    return answers[0] if answers else otherwise


class Watch:
    """Looks at a tree in a thread of its own, so that a mount that hangs holds up nothing else.

    The thread is a daemon: the system may keep it for ever in a call to a dead server.
    """

    def __init__(self, tree: Tree) -> None:
        """Take a tree; from now on only this may touch it."""
        self.tree = tree
        self.blocked_since: float | None = None
        self._asked: queue.SimpleQueue[list[tuple[str, bool]] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Look | BaseException] = queue.SimpleQueue()
        self._marks: list[tuple[str, bool]] = []
        self._thread: threading.Thread | None = None
        self._waiting = False

    def settle(self, path: str, on: bool = True) -> None:
        """Settle a file, or unsettle it, before the next look."""
        self._marks.append((path, on))

    def ask(self) -> None:
        """Begin a look unless one is under way."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"watch {self.tree.root}", daemon=True)
            self._thread.start()
        if not self._waiting:
            marks, self._marks = self._marks, []
            self._asked.put(marks)
            self._waiting = True

    def answer(self, timeout: float) -> Look | None:
        """Return the look under way when it has ended; None where it has not within so many seconds."""
        try:
            answer = self._answers.get(timeout=timeout) if timeout > 0 else self._answers.get_nowait()
        except queue.Empty:
            if self.blocked_since is None:
                self.blocked_since = time.monotonic()
            return None
        self._waiting, self.blocked_since = False, None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        """End the thread as soon as it is free."""
        self._asked.put(None)

    def _work(self) -> None:
        while (marks := self._asked.get()) is not None:
            try:
                for path, settled in marks:
                    (self.tree.settle if settled else self.tree.unsettle)(path)
                self._answers.put(self.tree.look())
            except BaseException as error:  # raised where the answer is taken
                self._answers.put(error)


def look_at_all(watches: Iterable[Watch], patience: float = PATIENCE) -> Iterator[tuple[Watch, Look | None]]:
    """Look at trees at the same time; None for one that does not answer within the patience, in seconds.

    One that was blocked before is not waited for again.
    """
    watches = list(watches)
    for watch in watches:
        watch.ask()
    deadline = time.monotonic() + patience
    for watch in watches:
        wait = 0.0 if watch.blocked_since is not None else max(0.0, deadline - time.monotonic())
        yield watch, watch.answer(wait)
