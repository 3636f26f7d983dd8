"""Add an exposure to the running sums of its session."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from focusnb.errors import FormatError
from focusnb.io import blocks
from focusnb.io.blocks import Entry, Geometry, Owner, Stamp
from focusnb.ops.backend import to_numpy
from focusnb.quantities import (
    Micrograph,
    MicrographPixelSize,
    MoviePixelSize,
    PowerSpectrum,
    PowerSpectrumPixelSize,
    UnalignedWindows,
)
from focusnb.steps.base import Cost, Step, StepInputs
from focusnb.steps.statistics import AddedToSession
from focusnb.steps.statistics.session_sums import BLOCK, BlockSums, Images, relative
from focusnb.steps.work import Work


class Accumulator:
    """The blocks that one process adds to: one for each session, the last one used in memory as well as on disk."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self._files: dict[Path, Path] = {}
        self._held: tuple[Path, BlockSums] | None = None
        self._number = 0
        self._lock = threading.Lock()

    def add(self, images: Images, session: Path) -> None:
        """Add an exposure to the open block of its session, unless it is in it, and write the block."""
        with self._lock:
            sums = self._open(session)
            if sums is not None and images.entry.what in {entry.what for entry in sums.entries}:
                return
            # a block with an exposure's old and new content could never be merged as it is
            if sums is not None and (
                images.entry.id in {entry.id for entry in sums.entries} or not sums.geometry.fits(images.geometry)
            ):
                self._close(session)
                sums = None
            if sums is None:
                sums = BlockSums.begin_with(images)
            self._held = None  # until it is written: memory must not know more than the file
            sums.add(images)
            self._write(session, sums)

    def _open(self, session: Path) -> BlockSums | None:
        path = self._files.get(session)
        if path is None:
            return None
        if self._held is not None and self._held[0] == path:
            return self._held[1]
        try:
            return BlockSums.of(blocks.read(path))
        except FormatError:
            self._files.pop(session)
            return None

    def _write(self, session: Path, sums: BlockSums) -> None:
        folder = session / blocks.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = self._files.get(session)
        if path is None:
            self._number += 1
            path = folder / self.owner.name(self._number)
        blocks.write(path, sums.block())
        self._files[session] = path
        self._held = path, sums
        if sums.count >= BLOCK:
            self._close(session)

    def _close(self, session: Path) -> None:
        path = self._files.pop(session)
        self._held = None
        # one that stays open is closed by whoever merges, once this process has ended
        with suppress(OSError):
            path.rename(blocks.closed_name(path))


_accumulators: dict[int, Accumulator] = {}
_beginning = threading.Lock()


def accumulator() -> Accumulator:
    """The accumulator of this process; one that was forked begins its own."""
    process = os.getpid()
    with _beginning:
        if process not in _accumulators:
            _accumulators.clear()
            _accumulators[process] = Accumulator(Owner.this())
        return _accumulators[process]


class AddToSession(Step):
    """Add the micrograph and its spectrum to the running means of the session, in a file of this worker process.

    The set of all exposures merges these files. A trial is not added.
    """

    name = "add_to_session"
    title = "Add to the session's sums"
    version = "1"
    category = "statistics"

    class Inputs(StepInputs):
        """The micrograph and its spectrum, and windows of the unaligned sum, which show what the gain leaves."""

        micrograph: Micrograph
        micrograph_pixel_size: MicrographPixelSize
        power_spectrum: PowerSpectrum
        power_spectrum_pixel_size: PowerSpectrumPixelSize
        unaligned_windows: UnalignedWindows | None = None
        movie_pixel_size: MoviePixelSize | None = None

    Results = AddedToSession

    def cost(self, facts: Mapping[str, Any], params: object) -> Cost:
        """The image, mean and deviations in float32; the latter two are held until the process ends."""
        pixels = int(facts.get("width") or 6000) * int(facts.get("height") or 6000)
        return Cost(memory=200_000_000 + 12 * pixels)

    def run(self, inputs: Inputs, params: object, work: Work) -> AddedToSession:
        """Add."""
        if work.session is None:
            return AddedToSession()
        micrograph, spectrum = to_numpy(work["micrograph"]), to_numpy(work["power_spectrum"])
        geometry = Geometry(
            (micrograph.shape[0], micrograph.shape[1]),
            inputs.micrograph_pixel_size,
            (spectrum.shape[0], spectrum.shape[1]),
            inputs.power_spectrum_pixel_size,
        )
        entry = Entry(
            work.identity,
            work.fingerprint,
            # where the files are now, and where they are once they are adopted
            (relative(work.exposure_folder, work.session), relative(work.folder, work.session)),
            Stamp.of(work.file("micrograph")),
            Stamp.of(work.file("power_spectrum")),
            Stamp.of(work.file("unaligned_windows")) if inputs.unaligned_windows else None,
        )
        windows = to_numpy(work["unaligned_windows"]) if inputs.unaligned_windows else None
        images = Images(entry, geometry, micrograph, spectrum, windows, inputs.movie_pixel_size)
        accumulator().add(images, work.session)
        return AddedToSession(in_session_sums=True)
