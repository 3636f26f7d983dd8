"""What both steps of the session's sums share: sums of micrographs, spectra and windows, as blocks keep them."""

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
from focusnb.quantities import Micrograph, PowerSpectrum, UnalignedWindows

BLOCK = 64
"""Members of a full block: so many files are read at most when one of them has to go."""


class _Files(Declared):
    micrograph: Micrograph
    power_spectrum: PowerSpectrum
    unaligned_windows: UnalignedWindows


MICROGRAPH_FILE = str(_Files.spec("micrograph").file)
SPECTRUM_FILE = str(_Files.spec("power_spectrum").file)
WINDOWS_FILE = str(_Files.spec("unaligned_windows").file)


@dataclass(frozen=True)
class Images:
    """What one exposure adds: micrograph and spectrum (y, x) on the host, their geometry, and where they are from.

    windows : those of the unaligned sum where the exposure is a movie; windows_pixel_size : of the movie's frames
    """

    entry: Entry
    geometry: Geometry
    micrograph: np.ndarray
    spectrum: np.ndarray
    windows: np.ndarray | None = None
    windows_pixel_size: float | None = None

    @property
    def sampling(self) -> str:
        """What windows must share to be of the same pixels of the camera, beside the geometry."""
        if self.windows is None or self.windows_pixel_size is None:
            return ""
        height, width = self.windows.shape
        return f"{self.geometry.pixel_size / self.windows_pixel_size:.2f} {width}x{height}"


class Halves:
    """Means of the windows of exposures of even and of odd number: what is in both is of the camera."""

    def __init__(self, even: Sums, odd: Sums) -> None:
        self.even = even
        self.odd = odd

    @classmethod
    def begin(cls, like: np.ndarray, dtype: Any) -> Halves:
        """Begin without any."""
        return cls(*(Sums.empty(like, dtype=dtype, deviations=False) for _ in range(2)))

    def merge(self, other: Halves) -> None:
        """Add all exposures of others."""
        self.even.merge(other.even)
        self.odd.merge(other.odd)

    def remove(self, other: Halves) -> None:
        """Take exposures out."""
        self.even.remove(other.even)
        self.odd.remove(other.odd)


class BlockSums:
    """Sums over exposures of one geometry, with the list of them; float32 in blocks, float64 where blocks are merged.

    The spectrum has a mean only, which needs no level: its amplitudes begin at zero. So have the windows, which are
    near one; there are as many of them as movies were sampled differently.
    """

    def __init__(
        self,
        geometry: Geometry,
        entries: tuple[Entry, ...],
        micrograph: Sums,
        spectrum: Sums,
        windows: dict[str, Halves] | None = None,
    ) -> None:
        self.geometry = geometry
        self.entries = entries
        self.micrograph = micrograph
        self.spectrum = spectrum
        self.windows = windows or {}

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
        windows = {
            name: Halves(*(Sums(count, mean, None) for count, mean in zip(header.windows[name], means, strict=True)))
            for name, means in block.windows.items()
        }
        return cls(header.geometry, header.entries, micrograph, Sums(header.count, block.spectrum, None), windows)

    @property
    def count(self) -> int:
        """Exposures in the sums."""
        return self.micrograph.count

    def add(self, images: Images) -> None:
        """Add an exposure."""
        self.micrograph.add(images.micrograph)
        self.spectrum.add(images.spectrum)
        if images.sampling:
            halves = self._halves(images.sampling, images.windows)
            (halves.odd if images.entry.id % 2 else halves.even).add(images.windows)
        self.entries += (images.entry,)

    def merge(self, other: BlockSums) -> None:
        """Add all exposures of others."""
        self.micrograph.merge(other.micrograph)
        self.spectrum.merge(other.spectrum)
        for name, halves in other.windows.items():
            self._halves(name, halves.even.mean).merge(halves)
        self.entries += other.entries

    def remove(self, other: BlockSums) -> None:
        """Take exposures out."""
        self.micrograph.remove(other.micrograph)
        self.spectrum.remove(other.spectrum)
        for name, halves in other.windows.items():
            self.windows[name].remove(halves)
        gone = {entry.what for entry in other.entries}
        self.entries = tuple(entry for entry in self.entries if entry.what not in gone)

    def _halves(self, name: str, like: Any) -> Halves:
        return self.windows.setdefault(name, Halves.begin(like, self.micrograph.mean.dtype))

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
            {name: (halves.even.count, halves.odd.count) for name, halves in self.windows.items()},
        )
        windows = {name: (halves.even.mean, halves.odd.mean) for name, halves in self.windows.items()}
        return blocks.Block(header, self.micrograph.mean, self.micrograph.deviations, self.spectrum.mean, windows)


def relative(folder: Path, session: Path) -> str:
    """Name a folder of the project from the session's folder, so that the project may be moved."""
    return os.path.relpath(folder, session)


def find_files(entry: Entry, session: Path) -> tuple[Path, ...] | None:
    """Where the very files lie that were added: micrograph, spectrum, and windows where there were any.

    None if one of them is not there any more.
    """
    named = [(entry.micrograph, MICROGRAPH_FILE), (entry.spectrum, SPECTRUM_FILE)]
    found = []
    for stamp, name in [*named, (entry.windows, WINDOWS_FILE)] if entry.windows else named:
        paths = (session / folder / name for folder in entry.folders)
        path = next((path for path in paths if stamp is not None and stamp.fits(path)), None)
        if path is None:
            return None
        found.append(path)
    return tuple(found)


def read_images(identity: int, key: str, paths: tuple[Path, ...], session: Path) -> Images:
    """Read the images of an exposure from their files; FormatError if one cannot be read or is being replaced.

    paths : of micrograph, spectrum, and windows where there are any
    """
    read = [_read_stamped(path) for path in paths]
    for path, (found, _) in zip(paths, read, strict=True):
        if found.pixel_size is None:
            raise FormatError(f"{path}: does not tell its pixel size; run the step again that makes it")
    folders = tuple(dict.fromkeys(relative(path.parent, session) for path in paths))
    (image, amplitudes, *others), stamps = zip(*read, strict=True)
    windows = others[0] if others else None
    return Images(
        Entry(identity, key, folders, *stamps),
        Geometry(image.data.shape, image.pixel_size, amplitudes.data.shape, amplitudes.pixel_size),
        image.data,
        amplitudes.data,
        None if windows is None else windows.data,
        None if windows is None else windows.pixel_size,
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
