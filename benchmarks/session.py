"""Cost of the session's sums: one micrograph more, and a merge with 1,000 members merged before and 20 new."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _common
import numpy as np

from focusnb.io import blocks
from focusnb.io.blocks import Entry, Geometry, Owner
from focusnb.steps.statistics import add_to_session, merge_session
from focusnb.steps.statistics.add_to_session import Accumulator
from focusnb.steps.statistics.merge_session import merge
from focusnb.steps.statistics.session_sums import BLOCK, BlockSums, Images
from focusnb.steps.work import Member

SHAPE, BOX = (3838, 3710), 512
WORKERS = 4


def main() -> None:
    """Measure, print and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=1_000)
    count = parser.parse_args().members
    folder = Path(tempfile.mkdtemp(prefix="focusnb-benchmark-"))
    try:
        rows = [*add_one(folder / "add"), *merge_many(folder / "small", count), *merge_large(folder / "large")]
    finally:
        shutil.rmtree(folder)
    _common.table(rows)
    _common.save("session", {"members": count, "block": BLOCK, "rows": rows})


def row(what: str, wall: float, cpu: float, floor: float | None = None, note: str = "") -> dict[str, Any]:
    """One line of the table; floor : seconds that moving the bytes takes here."""
    return {
        "what": what,
        "wall s": wall,
        "cpu s": cpu,
        "floor s": floor,
        "times floor": None if floor is None else wall / floor,
        "note": note,
    }


def median(function: Callable[[], Any], times: int = 7) -> tuple[float, float]:
    """Median wall and CPU seconds of several calls after a first."""
    function()
    walls, cpus = [], []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return sorted(walls)[times // 2], sorted(cpus)[times // 2]


class Bandwidth:
    """Bytes a second of memory and of files in a folder (through the system's cache), measured here."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        size = 128 << 20
        source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
        self.memory = 2 * size / median(lambda: np.copyto(target, source))[0]
        path = folder / "bytes"

        def write() -> None:
            with open(folder / "part", "wb") as file:
                file.write(source.data)
            (folder / "part").replace(path)

        def read() -> None:
            with open(path, "rb") as file:
                file.readinto(target.data)  # type: ignore[attr-defined]

        self.write = size / median(write)[0]
        self.read = size / median(read)[0]
        path.unlink()


def an_image(identity: int, shape: tuple[int, int] = SHAPE, box: int = BOX) -> Images:
    """An exposure of noise."""
    draw = np.random.default_rng(identity)
    image = draw.standard_normal(shape, np.float32) * np.float32(5) + np.float32(20)
    spectrum = draw.random((box, box), np.float32)
    return Images(Entry(identity, f"{identity:064x}"), Geometry(shape, 0.83, (box, box), 1.4), image, spectrum)


def a_worker(number: int) -> Accumulator:
    """A worker of another host, which counts as living as long as its file changes."""
    return Accumulator(Owner(f"node{number}", 1, 1))


def members(count: int, session: Path) -> list[Member]:
    """Members whose files are not there: none of them may be read."""
    return [Member(identity, str(identity), session, f"{identity:064x}", {}) for identity in range(1, count + 1)]


def add_one(session: Path) -> list[dict[str, Any]]:
    """What a task pays: the sums, their file, and both."""
    speed = Bandwidth(session)
    images = an_image(1)
    pixels, spectrum = images.micrograph.size, images.spectrum.size
    sums = BlockSums.begin_with(images)
    # image, mean and deviations are read, the latter two written
    summing = row(
        "sum one 3838×3710", *median(lambda: sums.add(images)), 4 * (5 * pixels + 3 * spectrum) / speed.memory
    )
    path = session / "one.open"
    stored = 4 * (2 * pixels + spectrum)
    writing = row("write its block", *median(lambda: blocks.write(path, sums.block())), stored / speed.write)
    worker = Accumulator(Owner.this())
    waiting = iter([an_image(identity) for identity in range(2, 11)])
    both = row(
        "add to the session, per task",
        *median(lambda: worker.add(next(waiting), session)),
        summing["floor s"] + writing["floor s"],
        f"{stored / 1e6:.0f} MB written, {8 * pixels / 1e6:.0f} MB held",
    )
    return [summing, writing, both]


def merge_many(session: Path, count: int) -> list[dict[str, Any]]:
    """Number of blocks read, with images so small that all else shows."""
    workers = [a_worker(number) for number in range(WORKERS)]

    def add(identities: range) -> None:
        for identity in identities:
            workers[identity % WORKERS].add(an_image(identity, (64, 62), 32), session)

    def merging(total: int, note: str) -> dict[str, Any]:
        read: list[Path] = []
        plain = blocks.read
        blocks.read = lambda path: (read.append(path), plain(path))[1]  # type: ignore[assignment]
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            sums, left_out = merge(session, members(total, session), lambda _: None)
        finally:
            blocks.read = plain
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert (sums.count, left_out) == (total, 0)
        return row(f"merge {note}", wall, cpu, note=f"{len(read)} files of sums read, 0 micrographs")

    add(range(1, count + 1))
    first = merging(count, f"{count} for the first time, small images")
    add(range(count + 1, count + 21))
    return [first, merging(count + 20, f"{count} merged before and 20 new, small images")]


def merge_large(session: Path) -> list[dict[str, Any]]:
    """A merge of a base, a block that was closed since, and those of the workers."""
    speed = Bandwidth(session)
    pixels = SHAPE[0] * SHAPE[1]
    block, base = 4 * (2 * pixels + BOX**2), 8 * (2 * pixels + BOX**2)
    count = 0
    add_to_session.BLOCK = 2
    worker = a_worker(0)

    def add(by: Accumulator) -> None:
        nonlocal count
        count += 1
        by.add(an_image(count), session)

    def merging(what: str, read: int, written: int) -> dict[str, Any]:
        wall, cpu = time.perf_counter(), time.process_time()
        sums, _ = merge(session, members(count, session), lambda _: None)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert sums.count == count
        # what is read is added to sums in float64, which are read and written
        moved = read + 2 * base * (read // block)
        floor = read / speed.read + written / speed.write + moved / speed.memory
        return row(f"{what}, 3838×3710", wall, cpu, floor, f"{read / 1e6:.0f} MB read, {written / 1e6:.0f} MB written")

    for _ in range(4):
        add(worker)
    merge_session.BLOCK = 2
    merge(session, members(count, session), lambda _: None)
    for by in [worker, worker, *(a_worker(number + 1) for number in range(WORKERS))]:
        add(by)
    opened = base + WORKERS * block
    rows = [
        merging(f"merge base, {WORKERS} open blocks and 1 closed since", opened + block, base),
        merging(f"merge base and {WORKERS} open blocks", opened, 0),
    ]
    merge_session.BLOCK = add_to_session.BLOCK = BLOCK
    rows.append(merging("the same, putting 3 small blocks together", opened + 3 * block, base + block))
    return rows


if __name__ == "__main__":
    main()
