"""Movies opened by content, read frame by frame: TIFF, EER, MRC and Digital Micrograph files, also single images."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from focusnb.errors import FormatError
from focusnb.io.dm import DmFrames
from focusnb.io.eer import EerFrames, EerOptions, is_eer
from focusnb.io.files import ByteSource, read_unpacked
from focusnb.io.formats import Array, Facts, Frames, check_content, is_dm, is_tiff
from focusnb.io.mrc import MrcFrames, is_mrc
from focusnb.io.tiff import TiffFrames

_AHEAD = 2  # frames read and waiting for a thread, beside those that are decoded


class Movie:
    """An open movie: frames are read when they are asked for.

    path : the file
    shape : (t, y, x)
    dtype : number type of the frames
    pixel_size : Å/px, None where the file does not say
    header_facts : what the header says, by the names of facts: frame_count, width, height, pixel_size, voltage ...
    """

    def __init__(self, path: Path, frames: Frames) -> None:
        """Take over a reader of frames; :func:`open_movie` finds the right one."""
        self._frames = frames
        self.path = path
        self.shape = frames.shape
        self.dtype = frames.dtype
        self.pixel_size = frames.pixel_size
        self.header_facts: Facts = _facts(frames)

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.shape[0]

    def __enter__(self) -> Self:
        """Return the movie itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def read_frame(self, index: int, out: Array | None = None) -> Array:
        """Read one frame.

        index : from 0
        out : (y, x), filled and returned where given; values are converted to its type

        Returns (y, x) of the file's type with row 0 at the bottom of the picture. Several threads may read at once.
        """
        if not 0 <= index < self.shape[0]:
            raise IndexError(f"{self.path} has {self.shape[0]} frames, there is no frame {index} (counted from 0)")
        if out is not None and out.shape != self.shape[1:]:
            raise ValueError(f"{self.path}: frames are {self.shape[1:]}, out is {out.shape}")
        return self._frames.read_frame(index, out)

    def read(self, start: int = 0, stop: int | None = None, out: Array | None = None, threads: int = 1) -> Array:
        """Read frames start to stop (exclusive, default all) as (t, y, x), into out where given.

        threads : frames decoded at the same time
        """
        stop = self._checked(start, stop)
        shape = (stop - start, *self.shape[1:])
        stack = np.empty(shape, self.dtype) if out is None else out
        if stack.shape != shape:
            raise ValueError(f"{self.path}: frames {start} to {stop} are {shape}, out is {stack.shape}")
        if stop - start > 1 and (threads > 1 or isinstance(self._frames, TiffFrames)):
            deque(self._ahead(start, stop, threads, stack), maxlen=0)
        else:
            for index in range(start, stop):
                self._frames.read_frame(index, stack[index - start])
        return stack

    def stream(
        self, start: int = 0, stop: int | None = None, threads: int = 1
    ) -> Generator[tuple[int, Array], None, None]:
        """Yield (index, frame) from start to stop (exclusive, default all) while later frames are made ready.

        Frames are read by one thread and decoded by others, a few ahead of the one that is used. Closing the generator
        ends the threads.

        threads : frames decoded at the same time

        Raises FormatError at a frame that cannot be read.
        """
        return self._ahead(start, self._checked(start, stop), threads, None)

    def remarks(self) -> list[str]:
        """Say what of the file is in no frame, as far as frames were read: a sentence each, none for a whole file."""
        return self._frames.remarks() if isinstance(self._frames, EerFrames) else []

    def _checked(self, start: int, stop: int | None) -> int:
        stop = self.shape[0] if stop is None else stop
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"{self.path} has {self.shape[0]} frames, {start} to {stop} was asked for")
        return stop

    def _ahead(
        self, start: int, stop: int, threads: int, stack: Array | None
    ) -> Generator[tuple[int, Array], None, None]:
        frames = self._frames
        reader = ThreadPoolExecutor(1, "frames read")
        decoders = ThreadPoolExecutor(threads, "frames decoded")

        def begin(index: int) -> Future[Array]:
            out = None if stack is None else stack[index - start]
            if not isinstance(frames, TiffFrames):
                return decoders.submit(frames.read_frame, index, out)
            packed = reader.submit(frames.fetch, index)
            return decoders.submit(lambda: frames.unpack(index, packed.result(), out))

        begun, following = deque[Future[Array]](), start
        try:
            for index in range(start, stop):
                while following < min(stop, index + threads + _AHEAD):
                    begun.append(begin(following))
                    following += 1
                yield index, begun.popleft().result()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
            decoders.shutdown(cancel_futures=True)
            reader.shutdown()

    def close(self) -> None:
        """Close the file; closing twice is no fault."""
        self._frames.close()


def decoding_threads(default: int = 1) -> int:
    """Return how many frames may be decoded at the same time: FOCUSNB_THREADS, which a worker's cluster sets."""
    given = os.environ.get("FOCUSNB_THREADS", "")
    return max(1, int(given)) if given.isdecimal() else default


def usable_cores() -> int:
    """Return the cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_movie(path: str | os.PathLike[str], *, flip: bool | None = None, eer: EerOptions | None = None) -> Movie:
    """Open a movie, a stack or a single image (one frame) for reading; use it in a ``with`` statement.

    The format is told by the content, the suffix is used in messages only; a packed ``.gz`` is unpacked in memory.

    flip : whether TIFF is flipped vertically; default for all but ``.gain`` files, which EER frames share the order of
    eer : how the electrons of an EER movie become frames; default 40 frames of the detector's grid

    Raises FormatError with the reason where the file cannot be a movie or does not hold what it says.
    """
    path = Path(path)
    source = ByteSource(path)
    try:
        if source.read(0, 2) == b"\x1f\x8b" and path.suffix.lower() == ".gz":
            source.close()
            source = ByteSource(path, read_unpacked(path))
        return Movie(path, _open_frames(source, path.suffix.lower() != ".gain" if flip is None else flip, eer))
    except BaseException:
        source.close()
        raise


def _open_frames(source: ByteSource, flip: bool, eer: EerOptions | None) -> Frames:
    head = source.read(0, 16)
    if is_tiff(head) and is_eer(source):
        return EerFrames(source, eer)
    if is_tiff(head):
        return TiffFrames(source, flip=flip)
    if is_dm(head) and not is_mrc(source):
        return DmFrames(source)
    if is_mrc(source):
        return MrcFrames(source)
    check_content(source)
    raise FormatError(
        f"{source.path}: is neither TIFF, MRC nor Digital Micrograph ({source.size} bytes, beginning "
        f"{head[:8].hex(' ')}); was it copied while being written?"
    )


def _facts(frames: Frames) -> Facts:
    count, height, width = frames.shape
    facts: Facts = {"frame_count": count, "width": width, "height": height}
    facts |= frames.facts
    if frames.pixel_size is not None:
        facts["pixel_size"] = frames.pixel_size
    return facts
