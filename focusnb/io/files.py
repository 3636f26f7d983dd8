"""Files written whole or not at all, hashed and copied; bytes read at a position."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from focusnb.errors import FocusError, FormatError

_BLOCK = 4 << 20
_FLUSHED = 1 << 30
"""Bytes after which a copy is flushed: a slow disk is waited for now and then, not at the end for minutes, which would
look like a source that does not answer."""

_LONGEST_NAME = 200  # file systems allow 255 bytes; the temporary name adds about 35


@contextmanager
def atomic_path(
    target: str | os.PathLike[str], *, size: int | None = None, about: tuple[Path, Path] | None = None
) -> Iterator[Path]:
    """Give a temporary path beside the target, renamed over the target when the block ends well.

    The temporary file is flushed to the disk before, the folder after the renaming, so that the target is at any time
    either the old or the new file. Any exception removes the temporary file and leaves the target as it was.

    target : the file to write
    size : bytes about to be written where known, told when the disk is full
    about : what is copied there and the folder it goes to, which messages name where the target is a temporary place

    Raises FocusError with one sentence where the disk is full or the folder cannot be written.
    """
    target = Path(target)
    part = temporary_path(target)
    try:
        yield part
        _flush(part)
        os.replace(part, target)
        _flush(target.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(part), str(target), str(target.parent)):
            reason = _writing_fault(target, error, size, about)
            if reason:
                raise FocusError(reason) from error
        raise


def temporary_path(target: Path) -> Path:
    """Name a temporary file beside the target: hidden, with the process in its name so that left-overs can be told."""
    name = os.fsdecode(os.fsencode(target.name)[:_LONGEST_NAME])
    return target.with_name(f".{name}.part-{os.getpid()}-{secrets.token_hex(4)}")


def is_left_over(path: Path) -> bool:
    """Whether a path is the temporary file of a process on this host that is gone."""
    found = re.fullmatch(r"\..*\.part-(\d+)-[0-9a-f]{8}", path.name)
    if found is None:
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write bytes to a file, atomically."""
    with atomic_path(path, size=len(content)) as part:
        part.write_bytes(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text to a file as UTF-8 with the line ends it has, atomically."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write data as indented JSON, atomically; NaN is refused because other readers would."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def move_into_place(part: Path, target: Path) -> None:
    """Rename a finished file or folder over its target, or where that is missing, and flush the target's folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(part, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_to_another_disk(part, target)
    _flush(target.parent)


def _move_to_another_disk(part: Path, target: Path) -> None:
    """The same where the target's folder is a link to another disk, or counts as one: each copy is verified."""
    beside = temporary_path(target)
    try:
        if part.is_dir() and not part.is_symlink():
            shutil.copytree(part, beside, symlinks=True, copy_function=copy_verified)
        elif part.is_symlink():
            shutil.copy2(part, beside, follow_symlinks=False)
        else:
            copy_verified(part, beside)
        os.replace(beside, target)
    except BaseException:
        if beside.is_dir() and not beside.is_symlink():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)
        raise
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part)
    else:
        part.unlink()


def hash_file(path: str | os.PathLike[str], *, progress: Callable[[int], object] | None = None) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits.

    progress : called with the bytes read so far after each block of some megabytes
    """
    with _reading(path), open(path, "rb") as file:
        if progress is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest, done = hashlib.sha256(), 0
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            progress(done)
    return digest.hexdigest()


def copy_verified(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    progress: Callable[[int], object] | None = None,
    into: Path | None = None,
) -> str:
    """Copy a file, read the copy back from the disk and compare; returns the SHA-256 as 64 hexadecimal digits.

    progress : called with the bytes read so far, of the source and then of the copy
    into : the folder that messages name as where it is copied to, where the target is a temporary place

    The time of last change is copied too. Raises FormatError where the source changed while it was copied (it is still
    being written) and FocusError where the copy differs, the disk is full or the folder cannot be written.
    """
    source, target = Path(source), Path(target)
    with _reading(source):
        stream = open(source, "rb")  # noqa: SIM115
    with stream:
        before = os.fstat(stream.fileno())
        with atomic_path(target, size=before.st_size, about=None if into is None else (source, into)) as part:
            digest = hashlib.sha256()
            copied = 0
            with open(part, "wb") as copy:
                while block := _read_block(stream, source):
                    digest.update(block)
                    copy.write(block)
                    copied += len(block)
                    if copied % _FLUSHED < len(block):
                        copy.flush()
                        os.fsync(copy.fileno())
                    if progress is not None:
                        progress(copied)
                copy.flush()
                os.fsync(copy.fileno())
                _forget_cached(copy.fileno())
            with _reading(source):
                after = os.stat(source)
            if (copied, after.st_size, after.st_mtime_ns) != (before.st_size, before.st_size, before.st_mtime_ns):
                raise FormatError(
                    f"{source}: changed while it was copied ({before.st_size} bytes before, {after.st_size} after); "
                    "import it again when it is complete"
                )
            back = hash_file(part) if progress is None else hash_file(part, progress=progress)
            if part.stat().st_size != copied or back != digest.hexdigest():
                raise FocusError(
                    f"{into or target}: the copy of {copied} bytes differs from {source} when read back; "
                    "check the disk and copy again"
                )
            os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
    return digest.hexdigest()


class ByteSource:
    """A file, or bytes in memory, read at given positions by any number of threads."""

    def __init__(self, path: str | os.PathLike[str], content: bytes | None = None) -> None:
        """Open a file; with content, read that instead and use the path in messages only."""
        self.path = Path(path)
        self._content = content
        self._file: int | None = None
        if content is None:
            with _reading(self.path):
                self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                self.size = os.fstat(self._file).st_size
        else:
            self.size = len(content)

    def read(self, offset: int, count: int) -> bytes:
        """Return count bytes from offset, fewer where the file ends before."""
        if self._content is not None:
            return self._content[offset : offset + count]
        count = max(0, min(count, self.size - offset))
        with _reading(self.path):
            block = os.pread(self._handle(), count, offset)
            if len(block) == count or not block:
                return block
            blocks = [block]
            while count > (done := sum(map(len, blocks))) and (
                block := os.pread(self._handle(), count - done, offset + done)
            ):
                blocks.append(block)
        return b"".join(blocks)

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill a writable memoryview of bytes from offset; returns the bytes read, fewer where the file ends before."""
        if self._content is not None:
            block = self._content[offset : offset + len(target)]
            target[: len(block)] = block
            return len(block)
        done = 0
        with _reading(self.path):
            while done < len(target):
                count = os.preadv(self._handle(), [target[done:]], offset + done)
                if count == 0:
                    break
                done += count
        return done

    def close(self) -> None:
        """Close the file; closing twice is no fault."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._content = None if self._content is None else b""

    def _handle(self) -> int:
        if self._file is None:
            raise ValueError(f"{self.path} is closed")
        return self._file


def read_unpacked(path: str | os.PathLike[str]) -> bytes:
    """Return a file's bytes, unpacked where it is gzip."""
    with _reading(path):
        content = Path(path).read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(
            f"{path}: cannot be unpacked as gzip after {len(content)} bytes ({error}); copy it again"
        ) from error


def read_text(path: str | os.PathLike[str]) -> str:
    """Return a text file's content with line ends as ``\\n``: UTF-8 with or without mark, otherwise Latin-1.

    Raises FormatError for an empty file and for one that is no text.
    """
    with _reading(path):
        content = Path(path).read_bytes()
    if not content.strip():
        raise FormatError(f"{path}: is empty ({len(content)} bytes)")
    if b"\0" in content:
        raise FormatError(f"{path}: is not text: byte {content.index(bytes(1))} of {len(content)} is zero")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # camera PCs write 'µ' and '°' in the Western code page
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # some network file systems refuse to flush a folder, and have nothing to flush
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.EBADF, errno.ENOTSUP)):
            raise
    finally:
        os.close(handle)


def _forget_cached(handle: int) -> None:
    """Let the copy be read back from the disk, not from memory, where the system can do that."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def _read_block(stream: Any, source: Path) -> bytes:
    with _reading(source):
        block: bytes = stream.read(_BLOCK)
        return block


@contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says about a file that cannot be read into a sentence."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOENT: "there is no such file",
            errno.EISDIR: "is a folder, not a file",
            errno.EACCES: "may not be read by this user; change its permissions",
        }
        reason = reasons.get(error.errno or 0, f"cannot be read ({error.strerror})")
        raise FormatError(f"{path}: {reason}") from error


def _writing_fault(
    target: Path, error: OSError, size: int | None, about: tuple[Path, Path] | None = None
) -> str | None:
    """Say in one sentence why a file cannot be written; None where the system's own words must do."""
    target, folder = about or (target, target.parent)
    done = "written" if about is None else "copied"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            needed = "" if size is None else f"{size} bytes needed, "
            free = ""
            with suppress(OSError):
                free = f"{shutil.disk_usage(folder).free} bytes free in {folder}"
            what = "the disk is full" if error.errno == errno.ENOSPC else "the user's quota is used up"
            return f"{target}: {what} ({needed}{free}); free space and run again"
        case errno.EROFS:
            return f"{target}: cannot be {done}, {folder} is mounted read-only; choose a folder that can be written"
        case errno.EACCES | errno.EPERM:
            return f"{target}: cannot be {done}, this user may not write in {folder}; change its permissions"
        case errno.ENOENT | errno.ENOTDIR:
            return f"{target}: cannot be {done}, there is no folder {folder}; make it first"
        case errno.EISDIR:
            return f"{target}: cannot be {done}, a folder has this name; remove or rename it"
        case errno.ENAMETOOLONG:
            return f"{target}: cannot be {done}, its name of {len(target.name)} characters is too long; shorten it"
    return None
