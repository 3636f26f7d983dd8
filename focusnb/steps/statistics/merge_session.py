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
from focusnb.ops.gain import residual_gain
from focusnb.steps.base import Cost, Step
from focusnb.steps.statistics import SessionSums
from focusnb.steps.statistics.session_sums import (
    BLOCK,
    MICROGRAPH_FILE,
    SPECTRUM_FILE,
    WINDOWS_FILE,
    BlockSums,
    Images,
    find_files,
    read_images,
)
from focusnb.steps.work import Member, Work

SETTLED = 600.0
"""Seconds after which an entry that is no member is not one whose outcome is still on its way."""

GOOD_GAIN, STRONG_GAIN = 0.5, 2.0
"""Residual gain in %: below the first it does not disturb; above the second it correlates from frame to frame as a
specimen does (2.1-2.5 % in simulated movies)."""

_NAMED = 10  # members told by name in the log


class MergeSession(Step):
    """Average the micrographs and spectra of all exposures, and show where they vary.

    A new exposure is added, not recomputed. Of images that differ in shape or pixel size, the largest group counts.
    What the unaligned sums of even and of odd movies have in common is the pattern that the gain reference leaves.
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
        """Sums in float64, a block and what is written of them; of 24 million pixels where no shape is told."""
        width, height = facts.get("width"), facts.get("height")
        pixels = int(str(width)) * int(str(height)) if width and height else 24_000_000
        return Cost(memory=300_000_000 + 40 * pixels)

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
        return SessionSums(
            **results,
            residual_gain=measure_residual_gain(sums, work.report),
            session_count=sums.count,
            session_left_out=left_out,
        )


def measure_residual_gain(sums: BlockSums, report: Callable[[str], None]) -> float | None:
    """Return the pattern in both halves of a session's unaligned movies, in % of the mean, and say what it means.

    None where there are no movies in one of the halves, or too few to tell a pattern that matters.
    """
    both = [halves for halves in sums.windows.values() if halves.even.count and halves.odd.count]
    if not both:
        return None
    halves = max(both, key=lambda one: one.even.count + one.odd.count)
    movies = halves.even.count + halves.odd.count
    found = residual_gain(halves.even.average(), halves.odd.average())
    percent, limit = 100 * found.fraction, 100 * found.limit
    if limit > GOOD_GAIN and found.covariance < 3 * found.uncertainty:
        report(f"{movies} movies are too few to see what the gain reference leaves: it may be up to {limit:.1f} %")
        return None
    advice = (
        f"below {GOOD_GAIN:g} % is good"
        if percent < GOOD_GAIN
        else f"below {GOOD_GAIN:g} % is good; make a new gain reference"
        if percent < STRONG_GAIN
        else "that is as much as the specimen shows; is the gain reference turned, flipped, or of another day?"
    )
    report(f"The gain reference leaves {percent:.2f} % of pattern in the images ({movies} movies): {advice}")
    return percent


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
            report(f"not used: {error}")
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
    """A closed block on the disk. settled : what is in it without being a member will not become one any more"""

    path: Path
    header: Header
    settled: bool = True

    @property
    def name(self) -> str:
        return self.path.name


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
        self.passing: list[BlockSums] = []
        """Sums of what is merged this time only, one for each geometry: blocks that are not in the base."""
        self.corrected = 0
        self.missing: list[str] = []
        self.owner = Owner.this()

    def run(self) -> tuple[BlockSums, int]:
        """Take, correct and add blocks, merge them, and last delete what was replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        base = self._base_header()
        found, still_open = self._find()
        closed, spent = self._take(found, still_open, {} if base is None else base.parts)
        waiting = len(self.left)
        closed += self._from_files()
        geometry = self._largest(closed, base)
        same = [one for one in closed if one.header.geometry.fits(geometry)]
        sums, parts = self._merged(geometry, same, found, base)
        spent |= self._combine(closed, parts)
        if parts and (base is None or base.parts != parts):
            blocks.write(self.folder / blocks.BASE, sums.block(parts))
        for path in sorted(spent):
            path.unlink(missing_ok=True)
        in_base = sums.count
        for passing in self.passing:
            if passing.geometry.fits(geometry):
                sums.merge(passing)
        self.report(
            f"{sums.count} of {self.members} exposures: {in_base} in {len(parts)} closed blocks, "
            f"{sums.count - in_base} in others; {waiting - len(self.missing)} were read from their files, "
            f"{self.corrected} blocks corrected, {len(spent)} replaced"
        )
        self._tell_left_out(sums)
        return sums, self.members - sums.count

    # What there is

    def _base_header(self) -> Header | None:
        path = self.folder / blocks.BASE
        try:
            return blocks.read_header(path) if path.exists() else None
        except FormatError as error:
            self.report(f"not used: {error}")
            return None

    def _find(self) -> tuple[list[_Found], list[Path]]:
        """The closed blocks, those of processes that ended among them, and the paths of those still added to."""
        closed, still_open = [], []
        for path in sorted(self.folder.iterdir()):
            if path.name in self.useless or path.name == blocks.BASE:
                continue
            if blocks.is_added_to(path):
                if path.suffix == blocks.OPEN:
                    still_open.append(path)
            elif path.suffix not in (blocks.OPEN, blocks.CLOSED):
                path.unlink(missing_ok=True)  # left over by a process that was ended
            else:
                closed.append(self._close(path))
        return closed, still_open

    def _close(self, path: Path) -> _Found:
        try:
            header = blocks.read_header(path)
            settled = time.time() - path.stat().st_mtime > SETTLED
            if path.suffix == blocks.OPEN:
                path = path.rename(blocks.closed_name(path))
        except (FormatError, FileNotFoundError) as error:
            raise _CannotBeUsed(path, str(error)) from error
        return _Found(path, header, settled)

    # What is taken of it

    def _take(
        self, found: list[_Found], still_open: list[Path], parts: Mapping[str, str]
    ) -> tuple[list[_Found], set[Path]]:
        """Choose blocks so that each member is in one of them at most; returns the closed ones, and those replaced.

        Of a member that is in two, because its worker died after adding it, the closed block counts, and of those the
        one in the base.
        """
        order = sorted(found, key=lambda one: (one.name not in parts, one.name))
        closed = [one for one in order if self._take_whole(one.header.entries)]
        whole = {one.name for one in closed}
        for path in still_open:
            try:
                block = blocks.read(path)
            except FormatError as error:
                raise _CannotBeUsed(path, str(error)) from error
            if self._take_whole(block.header.entries):
                self._pass(BlockSums.of(block))
            elif (unwanted := self._take_part(block.header.entries)) is not None:
                self._pass(self._without(unwanted, BlockSums.of(block), path))
        spent = set()
        for one in order:
            if one.name in whole:
                continue
            unwanted = self._take_part(one.header.entries)
            if unwanted is not None:
                sums = self._without(unwanted, self._read(one), one.path)
                if one.settled:
                    closed.append(self._write(sums))
                else:
                    self._pass(sums)
            if one.settled:
                spent.add(one.path)
        return closed, spent

    def _take_whole(self, entries: tuple[Entry, ...]) -> bool:
        if not all(entry.what in self.left for entry in entries):
            return False
        for entry in entries:
            del self.left[entry.what]
        return True

    def _take_part(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...] | None:
        """Take what counts of a block, if the rest, returned, can be taken out at less cost than reading it anew."""
        wanted = [entry for entry in entries if entry.what in self.left]
        unwanted = tuple(entry for entry in entries if entry.what not in self.left)
        if len(unwanted) >= len(wanted) or any(find_files(entry, self.session) is None for entry in unwanted):
            return None
        for entry in wanted:
            del self.left[entry.what]
        return unwanted

    def _without(self, unwanted: tuple[Entry, ...], block: BlockSums, path: Path) -> BlockSums:
        """A block without the entries that do not count, by the very images that were added."""
        sums = block.astype(np.float64)
        for entry in unwanted:
            gone = BlockSums.begin(sums.geometry, dtype=np.float64)
            gone.add(self._read_again(entry, path))
            sums.remove(gone)
        self.corrected += 1
        return sums

    def _read_again(self, entry: Entry, path: Path) -> Images:
        reason = f"{path}: the files of exposure {entry.id}, which was to be taken out, are gone"
        for _ in range(2):  # they move once, when they are adopted
            files = find_files(entry, self.session)
            try:
                if files is not None:
                    return read_images(entry.id, entry.key, files, self.session)
            except FormatError as error:
                reason = str(error)
        raise _CannotBeUsed(path, reason)

    def _pass(self, block: BlockSums) -> None:
        sums = next((sums for sums in self.passing if sums.geometry.fits(block.geometry)), None)
        if sums is None:
            sums = BlockSums.begin(block.geometry, dtype=np.float64)
            self.passing.append(sums)
        sums.merge(block)

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
            windows = member.folder / WINDOWS_FILE
            try:
                images = read_images(
                    member.id, member.key, (*paths, windows) if windows.is_file() else paths, self.session
                )
            except FormatError as error:
                self.missing.append(f"{member.name}: {error}")
                continue
            sums = next((sums for sums in begun if sums.geometry.fits(images.geometry)), None)
            if sums is None:
                sums = BlockSums.begin_with(images)
                begun.append(sums)
            sums.add(images)
            if sums.count >= BLOCK:
                made.append(self._write(sums))
                begun.remove(sums)
        return made + [self._write(sums) for sums in begun]

    def _write(self, sums: BlockSums) -> _Found:
        path = blocks.closed_name(self.folder / self.owner.name(0))
        blocks.write(path, sums.astype(np.float32).block())
        return _Found(path, blocks.read_header(path))

    def _read(self, one: _Found) -> BlockSums:
        try:
            return BlockSums.of(blocks.read(one.path))
        except FormatError as error:
            raise _CannotBeUsed(one.path, str(error)) from error

    # What comes of it

    def _largest(self, closed: list[_Found], base: Header | None) -> Geometry:
        """The geometry of most exposures; where two are even, that of the base."""
        counts: list[tuple[Geometry, int]] = []
        for geometry, count in [
            *((one.header.geometry, one.header.count) for one in closed),
            *((passing.geometry, passing.count) for passing in self.passing),
        ]:
            place = next((i for i, (other, _) in enumerate(counts) if other.fits(geometry)), None)
            if place is None:
                counts.append((geometry, count))
            else:
                counts[place] = (counts[place][0], counts[place][1] + count)
        if not counts:
            raise StepError(
                f"none of the {self.members} exposures can be averaged ({self.missing[0]}); run their steps again"
            )
        return max(counts, key=lambda one: (one[1], base is not None and base.geometry.fits(one[0])))[0]

    def _merged(
        self, geometry: Geometry, closed: list[_Found], found: list[_Found], base: Header | None
    ) -> tuple[BlockSums, dict[str, str]]:
        """The sum of these closed blocks, from the base where that helps, and their tokens by name."""
        parts = {one.name: one.header.token for one in closed}
        there = {one.name: one for one in found}
        old = {} if base is None or not base.geometry.fits(geometry) else dict(base.parts)
        gone = [name for name, token in old.items() if parts.get(name) != token]
        known = all(name in there and there[name].header.token == old[name] for name in gone)
        sums = None
        if old and known and 2 * len(gone) <= len(old):  # else it is less to begin anew
            try:
                sums = BlockSums.of(blocks.read(self.folder / blocks.BASE))
            except FormatError as error:
                self.report(f"not used: {error}")
        if sums is None:
            sums, old, gone = BlockSums.begin(geometry, dtype=np.float64), {}, []
        for name in gone:
            sums.remove(self._read(there[name]))
        for one in closed:
            if one.name not in old:
                sums.merge(self._read(one))
        return sums, parts

    def _combine(self, closed: list[_Found], parts: dict[str, str]) -> set[Path]:
        """Put small blocks together, in the list of the base too; returns the files that are replaced."""
        spent: set[Path] = set()
        small = sorted((one for one in closed if one.header.count < BLOCK), key=lambda one: one.header.count)
        while small:
            first, *others = small
            pack, count = [first], first.header.count
            for one in others:
                if one.header.geometry.fits(first.header.geometry) and count + one.header.count <= BLOCK:
                    pack.append(one)
                    count += one.header.count
            packed = {one.path for one in pack}
            small = [one for one in small if one.path not in packed]
            if len(pack) == 1:
                continue
            sums = self._read(first).astype(np.float64)
            for one in pack[1:]:
                sums.merge(self._read(one))
            made = self._write(sums)
            if first.name in parts:
                parts[made.name] = made.header.token
            for one in pack:
                parts.pop(one.name, None)
            spent |= packed
        return spent

    def _tell_left_out(self, sums: BlockSums) -> None:
        others = self.members - sums.count - len(self.missing)
        if others:
            self.report(f"{others} left out, whose shape or pixel size is not {sums.geometry}")
        if self.missing:
            more = f"; and {len(self.missing) - _NAMED} more" if len(self.missing) > _NAMED else ""
            self.report(f"{len(self.missing)} left out: {'; '.join(self.missing[:_NAMED])}{more}")
