"""Merge the running sums of all worker processes into the mean, the variance and the mean spectrum of a session.

What counts is told by the members alone; blocks only spare the reading of their files. Every block is taken as it is,
corrected, or left, and members that are in none are read from their files into new blocks. A *base* holds the sum of
the closed blocks merged before, so that a merge reads the base and what is new.

Files are written before others are deleted that they replace: wherever a merge is cut off, the next one finds each
member in some block or makes it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from focusnb.errors import FormatError, StepError
from focusnb.io import blocks
from focusnb.io.blocks import Entry, Geometry, Header, Owner
from focusnb.ops import preview
from focusnb.steps.base import Cost, Step
from focusnb.steps.statistics import SessionSums
from focusnb.steps.statistics.session_sums import (
    BLOCK,
    MICROGRAPH_FILE,
    SPECTRUM_FILE,
    BlockSums,
    Images,
    find_files,
    read_images,
)
from focusnb.steps.work import Member, Work

SETTLED = 600.0
"""Seconds after which an entry that is no member is not one whose outcome is still on its way."""

_NAMED = 10  # members told by name in the log


class MergeSession(Step):
    """Average the micrographs and spectra of all exposures, and show where they vary.

    A new exposure is added, not recomputed. Of images that differ in shape or pixel size, the largest group counts.
    """

    name = "merge_session"
    title = "Merge the session's sums"
    version = "1"
    category = "statistics"
    over = "set"
    member_step = "add_to_session"
    timeout = 21_600.0  # a session without blocks is read whole, at the speed of its disk

    Results = SessionSums

    def cost(self, facts: Mapping[str, object], params: object) -> Cost:
        """Sums in float64, a block and what is written of them: of 24 million pixels, for a set tells no shape."""
        return Cost(memory=1_500_000_000)

    def run(self, inputs: object, params: object, work: Work) -> SessionSums:
        """Merge."""
        if work.session is None or work.exposure_folder != work.session:
            raise StepError(f"{work.exposure}: is not the set of all exposures of a project, whose sums are kept")
        if not work.members:
            raise StepError(f"{work.exposure}: has no exposure yet; process some first")
        sums, left_out = merge(work.session, work.members, work.report)
        mean, pixel_size = sums.micrograph.average().astype(np.float32), sums.geometry.pixel_size
        spectrum = sums.spectrum.average().astype(np.float32)
        spectrum_pixel_size = sums.geometry.spectrum_pixel_size
        results = {
            "session_mean": work.save("session_mean", mean, pixel_size=pixel_size),
            "session_mean_preview": work.save(
                "session_mean_preview", preview.micrograph_preview(mean, pixel_size=pixel_size)
            ),
            "session_spectrum": work.save("session_spectrum", spectrum, pixel_size=spectrum_pixel_size),
            "session_spectrum_preview": work.save(
                "session_spectrum_preview", preview.spectrum_preview(spectrum, pixel_size=spectrum_pixel_size)
            ),
        }
        if sums.count > 1:
            variance = sums.micrograph.variance().astype(np.float32)
            results |= {
                "session_variance": work.save("session_variance", variance, pixel_size=pixel_size),
                "session_variance_preview": work.save(
                    "session_variance_preview", preview.micrograph_preview(variance, pixel_size=pixel_size)
                ),
            }
        return SessionSums(**results, session_count=sums.count, session_left_out=left_out)


def merge(session: Path, members: Sequence[Member], report: Callable[[str], None]) -> tuple[BlockSums, int]:
    """Bring the blocks of a session in line with its members; returns the sums and how many members are left out.

    Raises StepError where no member can be read.
    """
    useless: set[str] = set()
    while True:
        try:
            return _Merge(session, members, report, useless).run()
        except _CannotBeUsed as error:
            # what was made so far is kept in files, so that beginning again costs little
            report(f"{error}; made again")
            useless.add(error.path.name)
            if not blocks.is_added_to(error.path):
                error.path.unlink(missing_ok=True)


class _CannotBeUsed(Exception):
    """A block that promised to be whole is not."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path


@dataclass(frozen=True)
class _Found:
    """A block on the disk. settled : nobody adds to it, and its entries that are no members will not become any"""

    path: Path
    header: Header
    closed: bool
    settled: bool

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class _Partly:
    """A block of which some entries do not count, and the files by which they are taken out."""

    found: _Found
    unwanted: tuple[Entry, ...]


class _Merge:
    """One merge."""

    def __init__(
        self, session: Path, members: Sequence[Member], report: Callable[[str], None], useless: set[str]
    ) -> None:
        self.session = session
        self.folder = session / blocks.FOLDER
        self.report = report
        self.useless = useless
        self.members = len(members)
        self.left = {(member.id, member.key): member for member in members}
        """Members that are in no block taken so far."""
        self.missing: list[str] = []
        self.owner = Owner.this()

    def run(self) -> tuple[BlockSums, int]:
        """Take, correct, add, merge, and delete what is replaced, in this order."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.base = self._base_header()
        found = self._find()
        whole, partly = self._take(found)
        live = [entry for entry in whole if not entry.closed]
        closed = [entry for entry in whole if entry.closed]
        unsettled = [entry for entry in partly if not entry.found.settled]
        closed += [self._write(self._corrected(entry, np.float32)) for entry in partly if entry.found.settled]
        remade = len(self.left)
        closed += self._from_files()
        geometry = self._largest([*closed, *live], unsettled)
        if self.missing:
            self._tell(f"{len(self.missing)} left out, their files cannot be used", self.missing)
        sums, parts = self._merged([one for one in closed if one.header.geometry.fits(geometry)], found)
        spent = {one.path for one in found if one.closed} - {one.path for one in closed}
        spent |= self._combine(closed, parts)
        if self.base is None or self.base.parts != parts:
            blocks.write(self.folder / blocks.BASE, sums.block(parts))
        for path in sorted(spent):
            path.unlink(missing_ok=True)
        in_base = sums.count
        for one in live:
            if one.header.geometry.fits(geometry):
                sums.merge(self._read(one))
        for entry in unsettled:
            if entry.found.header.geometry.fits(geometry):
                sums.merge(self._corrected(entry, np.float64))
        self.report(
            f"{sums.count} of {self.members} exposures: {in_base} in {len(parts)} closed blocks, "
            f"{sums.count - in_base} in blocks still added to; {remade - len(self.missing)} read from their files, "
            f"{len(partly)} blocks corrected, {len(spent)} replaced"
        )
        return sums, self.members - sums.count

    # What there is

    def _base_header(self) -> Header | None:
        path = self.folder / blocks.BASE
        if not path.exists():
            return None
        try:
            return blocks.read_header(path)
        except FormatError as error:
            self.report(f"{error}")
            return None

    def _find(self) -> list[_Found]:
        """The blocks of the folder; those of processes that ended are closed, what cannot be used is deleted."""
        found = []
        for path in sorted(self.folder.iterdir()):
            if path.name in self.useless or path.name == blocks.BASE:
                continue
            live = blocks.is_added_to(path)
            if path.suffix not in (blocks.OPEN, blocks.CLOSED):
                if not live:
                    path.unlink(missing_ok=True)
                continue
            try:
                header = blocks.read_header(path)
                settled = not live and time.time() - path.stat().st_mtime > SETTLED
            except FileNotFoundError:
                continue
            except FormatError as error:
                raise _CannotBeUsed(path, str(error)) from error
            if path.suffix == blocks.OPEN and not live:
                path = path.rename(blocks.closed_name(path))
            found.append(_Found(path, header, path.suffix == blocks.CLOSED, settled))
        return found

    # What is taken of it

    def _take(self, found: list[_Found]) -> tuple[list[_Found], list[_Partly]]:
        """Choose blocks so that each member is in one of them at most: those that are right as they are first.

        Of a member that is in two, because its worker died after adding it, the closed block counts.
        """
        parts = {} if self.base is None else self.base.parts
        order = sorted(found, key=lambda one: (not one.closed, one.name not in parts, one.name))
        whole = [one for one in order if self._take_whole(one.header.entries)]
        chosen = {one.name for one in whole}
        partly = [self._take_part(one) for one in order if one.name not in chosen]
        return whole, [entry for entry in partly if entry is not None]

    def _take_whole(self, entries: tuple[Entry, ...]) -> bool:
        if not entries or not all(entry.what in self.left for entry in entries):
            return False
        for entry in entries:
            del self.left[entry.what]
        return True

    def _take_part(self, one: _Found) -> _Partly | None:
        """Take what counts of a block, if the rest can be taken out at less cost than reading what counts."""
        wanted = [entry for entry in one.header.entries if entry.what in self.left]
        unwanted = tuple(entry for entry in one.header.entries if entry.what not in self.left)
        cheap = len(unwanted) < len(wanted)
        if not cheap or any(find_files(entry, self.session) is None for entry in unwanted):
            return None
        for entry in wanted:
            del self.left[entry.what]
        return _Partly(one, unwanted)

    def _corrected(self, entry: _Partly, dtype: type[np.floating]) -> BlockSums:
        """A block without the entries that do not count, by the very images that were added."""
        sums = BlockSums.begin(entry.found.header.geometry, dtype=np.float64, level=entry.found.header.offset)
        sums.merge(self._read(entry.found))
        for unwanted in entry.unwanted:
            gone = BlockSums.begin(sums.geometry, dtype=np.float64)
            gone.add(self._read_again(entry.found, unwanted))
            sums.remove(gone)
        return sums if dtype is np.float64 else sums.astype(dtype)

    def _read_again(self, one: _Found, entry: Entry) -> Images:
        files = find_files(entry, self.session)
        try:
            if files is None:
                raise FormatError(f"{one.path}: the files of exposure {entry.id} are gone that was to be taken out")
            return read_images(entry.id, entry.key, *files, self.session)
        except FormatError as error:
            raise _CannotBeUsed(one.path, str(error)) from error

    # What is added to it

    def _from_files(self) -> list[_Found]:
        """Read the members that are in no block, in their order, into blocks of their own."""
        made: list[_Found] = []
        begun: list[BlockSums] = []
        waiting = list(self.left.values())
        for done, member in enumerate(waiting):
            if done and done % BLOCK == 0:
                self.report(f"{done} of {len(waiting)} exposures read from their files")
            paths = member.folder / MICROGRAPH_FILE, member.folder / SPECTRUM_FILE
            try:
                images = read_images(member.id, member.key, *paths, self.session)
            except FormatError as error:
                self.missing.append(f"{member.name} ({error})")
                continue
            sums = next((sums for sums in begun if sums.geometry.fits(images.geometry)), None)
            if sums is None:
                level = float(images.micrograph.mean(dtype=np.float64))
                sums = BlockSums.begin(images.geometry, dtype=np.float32, level=level)
                begun.append(sums)
            sums.add(images)
            if sums.count >= BLOCK:
                made.append(self._write(sums))
                begun.remove(sums)
        return made + [self._write(sums) for sums in begun]

    def _write(self, sums: BlockSums) -> _Found:
        block = sums.block()
        path = blocks.closed_name(self.folder / self.owner.name(0))
        blocks.write(path, block)
        return _Found(path, blocks.read_header(path), closed=True, settled=True)

    def _read(self, one: _Found) -> BlockSums:
        try:
            block = blocks.read(one.path)
        except FormatError as error:
            raise _CannotBeUsed(one.path, str(error)) from error
        if block.header.token != one.header.token:
            raise _Changed(one.path)
        return BlockSums.of(block)
