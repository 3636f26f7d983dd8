"""What both steps of the session's sums share: sums of micrographs and spectra, as they are kept in blocks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.errors import FormatError
from focusnb.io import blocks
from focusnb.io.blocks import Entry, Geometry, Stamp
from focusnb.io.images import read_image
from focusnb.ops.sums import Sums
from focusnb.parameters import Declared
from focusnb.quantities import Micrograph, PowerSpectrum

BLOCK = 64
"""Members of a full block: so many files are read at most when one of them has to go."""


class _Files(Declared):
    micrograph: Micrograph
    power_spectrum: PowerSpectrum


MICROGRAPH_FILE = str(_Files.spec("micrograph").file)
SPECTRUM_FILE = str(_Files.spec("power_spectrum").file)


@dataclass(frozen=True)
class Images:
    """What one exposure adds: micrograph and spectrum (y, x) on the host, their geometry, and where they are from."""

    entry: Entry
    geometry: Geometry
    micrograph: np.ndarray
    spectrum: np.ndarray


class BlockSums:
    """Sums over exposures of one geometry, with the list of them; float32 in blocks, float64 where blocks are merged.

    The spectrum has a mean only, which needs no level: its amplitudes begin at zero.
    """

    def __init__(self, geometry: Geometry, entries: tuple[Entry, ...], micrograph: Sums, spectrum: Sums) -> None:
        self.geometry = geometry
        self.entries = entries
        self.micrograph = micrograph
        self.spectrum = spectrum

    @classmethod
    def begin(cls, geometry: Geometry, *, dtype: Any, level: float | None = None) -> BlockSums:
        """Begin without any; level : near the mean of the micrographs to come."""
        micrograph = Sums.empty(np.empty(geometry.shape, np.bool_), dtype=dtype, level=level)
        spectrum = Sums.empty(np.empty(geometry.spectrum_shape, np.bool_), dtype=dtype, deviations=False)
        return cls(geometry, (), micrograph, spectrum)

    @classmethod
    def begin_with(cls, images: Images) -> BlockSums:
        """Begin a block for images like these."""
        return cls.begin(images.geometry, dtype=np.float32, level=float(images.micrograph.mean(dtype=np.float64)))

    @classmethod
    def of(cls, block: blocks.Block) -> BlockSums:
        """Go on with what a file holds."""
        header = block.header
        micrograph = Sums(header.count, block.mean, block.deviations, header.offset)
        return cls(header.geometry, header.entries, micrograph, Sums(header.count, block.spectrum, None))

    @property
    def count(self) -> int:
        """Exposures in the sums."""
        return self.micrograph.count

    def add(self, images: Images) -> None:
        """Add an exposure."""
        self.micrograph.add(images.micrograph)
        self.spectrum.add(images.spectrum)
        self.entries += (images.entry,)

    def merge(self, other: BlockSums) -> None:
        """Add all exposures of others."""
        self.micrograph.merge(other.micrograph)
        self.spectrum.merge(other.spectrum)
        self.entries += other.entries

    def remove(self, other: BlockSums) -> None:
        """Take exposures out."""
        self.micrograph.remove(other.micrograph)
        self.spectrum.remove(other.spectrum)
        gone = {entry.what for entry in other.entries}
        self.entries = tuple(entry for entry in self.entries if entry.what not in gone)

    def astype(self, dtype: Any) -> BlockSums:
        """The same in another number type."""
        if self.micrograph.mean.dtype == dtype:
            return self
        other = BlockSums.begin(self.geometry, dtype=dtype, level=self.micrograph.offset)
        other.merge(self)
        return other

    def block(self, parts: dict[str, str] | None = None) -> blocks.Block:
        """What is written; parts : of a base, which lists its blocks in place of the exposures."""
        assert self.micrograph.deviations is not None
        header = blocks.Header(
            self.geometry,
            self.count,
            self.entries if parts is None else (),
            self.micrograph.offset,
            parts or {},
        )
        return blocks.Block(header, self.micrograph.mean, self.micrograph.deviations, self.spectrum.mean)


def relative(folder: Path, session: Path) -> str:
    """Name a folder of the project from the session's folder, so that the project may be moved."""
    return os.path.relpath(folder, session)


def find_files(entry: Entry, session: Path) -> tuple[Path, Path] | None:
    """Where the very files lie that were added; None if they are not there any more."""
    found = []
    for stamp, name in ((entry.micrograph, MICROGRAPH_FILE), (entry.spectrum, SPECTRUM_FILE)):
        paths = (session / folder / name for folder in entry.folders)
        path = next((path for path in paths if stamp is not None and stamp.fits(path)), None)
        if path is None:
            return None
        found.append(path)
    return found[0], found[1]


def read_images(identity: int, key: str, micrograph: Path, spectrum: Path, session: Path) -> Images:
    """Read the images of an exposure from their files; FormatError if one cannot be read or is being replaced."""
    image, image_stamp = _read_stamped(micrograph)
    amplitudes, amplitudes_stamp = _read_stamped(spectrum)
    for path, found in ((micrograph, image), (spectrum, amplitudes)):
        if found.pixel_size is None:
            raise FormatError(f"{path}: does not tell its pixel size; run the step again that makes it")
    folders = tuple(dict.fromkeys(relative(path.parent, session) for path in (micrograph, spectrum)))
    return Images(
        Entry(identity, key, folders, image_stamp, amplitudes_stamp),
        Geometry(image.data.shape, image.pixel_size, amplitudes.data.shape, amplitudes.pixel_size),
        image.data,
        amplitudes.data,
    )


def _read_stamped(path: Path) -> tuple[Any, Stamp]:
    try:
        stamp = Stamp.of(path)
    except FileNotFoundError:
        raise FormatError(f"{path}: there is no such file; run the step again that makes it") from None
    image = read_image(path)
    if not stamp.fits(path):
        raise FormatError(f"{path}: changed while it was read; it is added the next time")
    return image, stamp
