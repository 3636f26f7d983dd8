"""Sums of a session: whatever several workers leave behind, what is merged is the direct mean and variance."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.errors import StepError
from focusnb.io import blocks, mrc
from focusnb.io.blocks import Owner
from focusnb.io.images import read_image, read_png
from focusnb.steps.statistics import add_to_session, merge_session, session_sums
from focusnb.steps.statistics.add_to_session import Accumulator, AddToSession
from focusnb.steps.statistics.merge_session import MergeSession
from focusnb.steps.task import StepCall, StepOutcome, Task, run_task
from focusnb.steps.testing import run_step
from focusnb.steps.work import MEMBERS_FILE, Member
from tests.conftest import REPOSITORY

PIXEL_SIZE, SPECTRUM_PIXEL_SIZE = 1.06, 1.4
SPECS = tuple(AddToSession.Inputs.specs())
ENDED = Owner(Owner.this().host, 2**22 + 5, 1)
"""A process there cannot be: beyond the largest number."""


def micrograph(identity: int, key: str, shape: tuple[int, int] = (11, 7)) -> np.ndarray:
    """An image that is neither symmetric nor flat, of this exposure and content."""
    draw = np.random.default_rng([identity, *key.encode()])
    ramp = np.add.outer(np.arange(shape[0]) * 2.0, np.arange(shape[1]) ** 2)
    return (1000 + ramp + draw.normal(0, 5, shape)).astype(np.float32)


def write_windows(path: Path, values: np.ndarray) -> None:
    mrc.write_mrc(path, values, pixel_size=PIXEL_SIZE / 2)


def spectrum(identity: int, key: str) -> np.ndarray:
    return micrograph(identity, key + "s", (32, 32)) / 10


def windows(identity: int, key: str) -> np.ndarray:
    return micrograph(identity, key + "w", (16, 4)) / 1000


@dataclass
class Session:
    """A project folder, its members, and what workers do in it; movies : whether exposures have windows."""

    project: Path
    members: dict[int, str] = field(default_factory=dict)
    shapes: dict[int, tuple[int, int]] = field(default_factory=dict)
    movies: bool = False

    @property
    def folder(self) -> Path:
        return self.project / "sets/session"

    def blocks(self, suffix: str = "*") -> list[Path]:
        return sorted((self.folder / "blocks").glob(f"*.{suffix}"))

    def exposure(self, identity: int) -> str:
        return f"exposures/a/{identity:04d}"

    def work(self, identity: int, key: str = "k", *, store: bool = True, by: Accumulator | None = None) -> StepOutcome:
        """Do the exposure's last step as a worker does, and store what came of it; by : a simulated process."""
        task = Task(
            id=f"{identity}{key}",
            exposure=identity,
            name=f"exposure {identity}",
            project=str(self.project),
            folder=self.exposure(identity),
            calls=(StepCall("add_to_session", run="1", fingerprint=key),),
            known={
                "micrograph_pixel_size": PIXEL_SIZE,
                "power_spectrum_pixel_size": SPECTRUM_PIXEL_SIZE,
                "movie_pixel_size": PIXEL_SIZE / 2,
            },
            specs=SPECS,
        )
        task.run_folder.mkdir(parents=True, exist_ok=True)
        image = micrograph(identity, key, self.shapes.get(identity, (11, 7)))
        mrc.write_mrc(task.run_folder / "micrograph.mrc", image, pixel_size=PIXEL_SIZE)
        mrc.write_mrc(task.run_folder / "power_spectrum.mrc", spectrum(identity, key), pixel_size=SPECTRUM_PIXEL_SIZE)
        if self.movies:
            write_windows(task.run_folder / "unaligned_windows.mrc", windows(identity, key))
        with pytest.MonkeyPatch.context() as patch:
            if by is not None:
                patch.setattr(add_to_session, "accumulator", lambda: by)
            (step,) = run_task(pickle.loads(pickle.dumps(task))).steps
        if store:
            self.store(identity, key)
        return step

    def store(self, identity: int, key: str = "k") -> None:
        """Adopt the files of a run and count the exposure as done."""
        folder = self.project / self.exposure(identity)
        for path in (folder / f".run-{identity}{key}").glob("*.mrc"):
            path.rename(folder / path.name)
        self.members[identity] = key

    def listed(self) -> list[Member]:
        """The members as a step on the set sees them."""
        return [
            Member(identity, f"exposure {identity}", self.project / self.exposure(identity), key, {})
            for identity, key in sorted(self.members.items())
        ]

    def merge(self) -> StepOutcome:
        """Run the step over the set of all exposures."""
        task = Task(
            id="m",
            exposure=0,
            name="session",
            project=str(self.project),
            folder="sets/session",
            calls=(StepCall("merge_session", run="1"),),
            set=1,
        )
        task.run_folder.mkdir(parents=True, exist_ok=True)
        rows = [{**vars(member), "folder": self.exposure(member.id)} for member in self.listed()]
        (task.run_folder / MEMBERS_FILE).write_text(json.dumps({"project": str(self.project), "members": rows}))
        (step,) = run_task(pickle.loads(pickle.dumps(task))).steps
        return step

    def check(self, *, left_out: tuple[int, ...] = ()) -> str:
        """Merge and compare with the direct mean and variance in float64 of the members; returns the log."""
        log: list[str] = []
        sums, others = merge_session.merge(self.folder, self.listed(), log.append)
        assert (sums.count, others) == (len(self.members) - len(left_out), len(left_out))
        images, spectra = self.direct(left_out)
        # a few units in the last place of 1000 where a single image was taken out of a small block
        np.testing.assert_allclose(sums.micrograph.average(), images.mean(0), rtol=2e-7)
        np.testing.assert_allclose(sums.spectrum.average(), spectra.mean(0), rtol=1e-6)
        if sums.count > 1:
            np.testing.assert_allclose(sums.micrograph.variance(), images.var(0, ddof=1), rtol=1e-5, atol=1e-5)
        if self.movies:
            ((sampling, halves),) = sums.windows.items()
            assert sampling == "2.00 4x16"
            for rest, half in enumerate((halves.even, halves.odd)):
                of_half = [windows(*one) for one in self.members.items() if one[0] % 2 == rest]
                assert half.count == len(of_half)
                np.testing.assert_allclose(half.average(), np.mean(of_half, 0), rtol=1e-6)
        return "\n".join(log)

    def direct(self, left_out: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
        """All micrographs and spectra that count, float64."""
        counted = [(identity, key) for identity, key in self.members.items() if identity not in left_out]
        images = [micrograph(*one, self.shapes.get(one[0], (11, 7))) for one in counted]
        return np.array(images, np.float64), np.array([spectrum(*one) for one in counted], np.float64)

    def age(self) -> None:
        """Let an hour pass for what is there."""
        before = time.time() - 3600
        for path in self.blocks():
            os.utime(path, (before, before))


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A project with blocks of six members."""
    for module in (session_sums, add_to_session, merge_session):
        monkeypatch.setattr(module, "BLOCK", 6)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    # a test's project is not to be gone on with by the next one
    monkeypatch.setattr(add_to_session, "_accumulators", {})
    return Session(tmp_path / "project")


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that a merge reads from files."""
    read: list[str] = []

    def counting(path: Path) -> Any:
        read.append(path.name)
        return read_image(path)

    monkeypatch.setattr(session_sums, "read_image", counting)
    return read


@pytest.fixture
def blocks_read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Blocks whose arrays are read."""
    read: list[Path] = []
    plain = blocks.read

    def counting(path: Path) -> blocks.Block:
        read.append(path)
        return plain(path)

    monkeypatch.setattr(blocks, "read", counting)
    return read


def test_the_mean_of_a_session_is_the_direct_one(session: Session) -> None:
    workers = [Accumulator(Owner.this()), Accumulator(ENDED), Accumulator(Owner("elsewhere", 7, 7))]
    for identity in range(1, 26):
        step = session.work(identity, by=workers[identity % 3])
        assert (step.status, dict(step.values)) == ("done", {"in_session_sums": True})
    session.check()
    step = session.merge()
    assert (step.status, step.reason, step.traceback) == ("done", "", "")
    assert (step.values["session_count"], step.values["session_left_out"]) == (25, 0)
    assert "25 of 25 exposures" in step.log
    images, spectra = session.direct()
    folder = session.folder / ".run-m"
    for name, expected, pixel_size in (
        ("session_mean", images.mean(0), PIXEL_SIZE),
        ("session_variance", images.var(0, ddof=1), PIXEL_SIZE),
        ("session_spectrum", spectra.mean(0), SPECTRUM_PIXEL_SIZE),
    ):
        found = read_image(folder / step.products[name])
        assert found.pixel_size == pytest.approx(pixel_size)
        np.testing.assert_allclose(found.data, expected, rtol=1e-5)
        assert max(read_png(folder / step.products[f"{name}_preview"]).shape) == 512


def test_nothing_that_is_in_a_block_is_read_again(session: Session, files_read: list[str]) -> None:
    for identity in range(1, 21):
        session.work(identity)
    session.check()
    for path in session.project.glob("exposures/a/*/*.mrc"):
        path.unlink()
    session.work(21)
    session.check()
    assert files_read == []


def test_blocks_merged_before_are_not_read_again(session: Session, blocks_read: list[Path]) -> None:
    for identity in range(1, 20):
        session.work(identity)
    session.check()
    assert len(session.blocks("block")) == 3
    blocks_read.clear()
    session.work(20)
    session.check()
    assert {path.name for path in blocks_read} == {"base", session.blocks("open")[0].name}


def test_members_that_no_worker_added_are_read_once(session: Session, files_read: list[str]) -> None:
    for identity in range(1, 12):
        session.work(identity)
    for path in session.blocks():
        path.unlink()
    session.check()
    assert len(files_read) == 22
    session.check()
    assert len(files_read) == 22
    assert [blocks.read_header(path).count for path in session.blocks("block")] in ([5, 6], [6, 5])


def test_small_blocks_of_many_processes_become_few(session: Session, files_read: list[str]) -> None:
    for identity in range(1, 18):
        session.work(identity, by=Accumulator(Owner(ENDED.host, ENDED.process, identity)))
        if identity % 4 == 0:
            session.check()
    session.check()
    counts = sorted(blocks.read_header(path).count for path in session.blocks())
    assert sum(counts) == 17
    assert counts[0] + counts[1] > 6
    assert files_read == []


def test_an_exposure_on_its_way_is_taken_out_by_its_own_image(session: Session, files_read: list[str]) -> None:
    for identity in range(1, 6):
        session.work(identity)
    session.work(6, store=False)
    assert len(session.blocks("block")) == 1
    session.work(7)
    session.work(8)
    session.work(9, store=False)
    session.check()
    assert sorted(files_read) == ["micrograph.mrc"] * 2 + ["power_spectrum.mrc"] * 2
    files_read.clear()
    session.store(6)
    session.store(9)
    session.check()
    assert files_read == []
    assert [blocks.read_header(path).count for path in session.blocks()] == [6, 3]


def test_a_worker_that_died_after_adding_counts_once(session: Session, files_read: list[str]) -> None:
    died, lives = Accumulator(ENDED), Accumulator(Owner.this())
    for identity in (1, 2, 3):
        session.work(identity, by=died)
    session.work(4, by=died, store=False)
    for identity in (4, 5, 6):
        session.work(identity, by=lives)
    session.check()
    for identity in (7, 8, 9):
        session.work(identity, by=lives)
    session.check()
    session.age()
    session.check()
    files_read.clear()
    session.check()
    assert files_read == []
    assert sum(blocks.read_header(path).count for path in session.blocks()) == 9


def test_an_exposure_of_new_content_replaces_its_old(session: Session) -> None:
    first, second = Accumulator(Owner.this()), Accumulator(ENDED)
    for identity in range(1, 15):
        session.work(identity, by=first)
    session.check()
    for identity in (2, 3, 13):
        session.work(identity, "new", by=second)
    session.check()
    session.work(14, "new", by=first)
    session.check()
    session.age()
    session.check()
    for identity in range(1, 15):
        session.work(identity, "newest", by=first)
        if identity % 4 == 0:
            session.check()
    session.check()
    session.age()
    session.check()
    assert sum(blocks.read_header(path).count for path in session.blocks("block")) <= 16


def test_windows_of_even_and_odd_movies_are_summed_apart_whatever_happens(session: Session) -> None:
    session.movies = True
    first, second = Accumulator(Owner.this()), Accumulator(ENDED)
    for identity in range(1, 16):
        session.work(identity, by=first if identity % 3 else second)
    session.check()
    for identity in (2, 3, 13):
        session.work(identity, "new", by=second)
    del session.members[4], session.members[7]
    session.check()
    session.age()
    session.check()
    for path in session.blocks()[:2]:
        path.write_bytes(path.read_bytes()[:-9])
    session.check()
    for path in (session.folder / "blocks").iterdir():
        path.unlink()
    session.check()


@pytest.mark.parametrize(
    ("left", "noise", "told"),
    [
        (0.0, 0.1, "8 movies are too few to see"),
        (0.2, 0.04, "(8 movies): below 0.5 % is good"),
        (0.8, 0.04, "(8 movies): below 0.5 % is good; make a new gain reference"),
        (3.0, 0.1, "(8 movies): that is as much as the specimen shows; is the gain reference turned, flipped, or"),
    ],
)
def test_a_session_tells_what_its_gain_reference_leaves(left: float, noise: float, told: str) -> None:
    draw = np.random.default_rng(3)
    pattern = draw.normal(0, left / 100, (256, 128))
    sums = session_sums.BlockSums.begin(blocks.Geometry((9, 9), 1.0, (4, 4), 1.0), dtype=np.float64)
    log: list[str] = []
    assert merge_session.measure_residual_gain(sums, log.append) is None
    assert log == []
    halves = sums.windows.setdefault("1.00", session_sums.Halves.begin(pattern, np.float64))
    for number in range(8):
        (halves.odd if number % 2 else halves.even).add(1 + pattern + draw.normal(0, noise, pattern.shape))
    found = merge_session.measure_residual_gain(sums, log.append)
    assert told in log[0]
    assert log[0].endswith("is good") == (left == 0.2)
    assert found == (None if left == 0 else pytest.approx(left, rel=0.25, abs=0.1))


def test_movies_sampled_differently_are_summed_apart() -> None:
    sums = session_sums.BlockSums.begin(blocks.Geometry((9, 9), 1.0, (4, 4), 1.0), dtype=np.float64)
    for identity, pixel_size in ((1, 1.0), (2, 0.5), (3, 0.5)):
        entry = blocks.Entry(identity, "k")
        sums.add(
            session_sums.Images(
                entry, sums.geometry, np.ones((9, 9)), np.ones((4, 4)), windows(identity, "k"), pixel_size
            )
        )
    counts = {name: (halves.even.count, halves.odd.count) for name, halves in sums.windows.items()}
    assert counts == {"1.00 4x16": (0, 1), "2.00 4x16": (1, 1)}


def test_the_same_again_changes_nothing(session: Session) -> None:
    session.work(1)
    session.work(2)
    (path,) = session.blocks()
    before = path.read_bytes()
    session.work(1)
    assert path.read_bytes() == before
    session.check()


def test_an_exposure_that_goes_takes_few_readings(session: Session, files_read: list[str]) -> None:
    for identity in range(1, 22):
        session.work(identity)
    session.check()
    del session.members[2], session.members[19]
    session.check()
    session.age()
    session.check()
    assert len(files_read) == 2 * (2 + 2)
    files_read.clear()
    session.check()
    assert len(files_read) == 2  # of the block that is still added to
    session.members[2] = "k"
    session.check()


def test_where_its_files_are_gone_what_counts_is_read(session: Session, files_read: list[str]) -> None:
    for identity in range(1, 14):
        session.work(identity)
    session.check()
    del session.members[2]
    for path in (session.project / session.exposure(2)).glob("*.mrc"):
        path.unlink()
    session.check()
    assert len(files_read) == 2 * 5
    session.age()
    session.check()
    assert len(files_read) == 2 * 5
    assert sum(blocks.read_header(path).count for path in session.blocks()) == 12


def test_what_is_merely_cut_off_is_made_again(session: Session, files_read: list[str]) -> None:
    for identity in range(1, 15):
        session.work(identity)
    session.check()
    closed, _, still_open = session.blocks()
    for path in (closed, still_open):
        path.write_bytes(path.read_bytes()[:-9])
    assert session.check().count("it is made again") == 2
    assert len(files_read) == 2 * (6 + 2)
    session.work(15)
    session.check()


@pytest.mark.parametrize("damage", ["cut", "changed", "none of ours", "gone", "older"])
def test_a_damaged_base_is_made_again(session: Session, files_read: list[str], damage: str) -> None:
    for identity in range(1, 10):
        session.work(identity)
    session.check()
    base = session.folder / "blocks/base"
    old = base.read_bytes()
    for identity in range(10, 15):
        session.work(identity)
    session.check()
    content = base.read_bytes()
    if damage == "gone":
        base.unlink()
    else:
        changed = content[:-20] + bytes(20)
        base.write_bytes({"cut": content[:-8], "changed": changed, "none of ours": b"ours", "older": old}[damage])
    for identity in range(15, 22):
        session.work(identity)
    session.check()
    assert files_read == []


def test_the_largest_group_of_equal_geometry_counts(session: Session) -> None:
    for identity in (3, 7, 8, 9):
        session.shapes[identity] = (7, 11)
    for identity in range(1, 10):
        session.work(identity)
    log = session.check(left_out=(3, 7, 8, 9))
    assert "4 left out, whose shape or pixel size is not 7×11 at 1.06 Å/px" in log
    for path in session.blocks():
        path.unlink()
    session.check(left_out=(3, 7, 8, 9))
    for identity in range(10, 14):
        session.shapes[identity] = (7, 11)
        session.work(identity)
    session.check(left_out=(1, 2, 4, 5, 6))


def test_a_member_without_its_files_is_left_out_and_told(session: Session) -> None:
    for identity in range(1, 5):
        session.work(identity)
    for path in session.blocks():
        path.unlink()
    (session.project / session.exposure(2) / "micrograph.mrc").unlink()
    (session.project / session.exposure(3) / "power_spectrum.mrc").write_bytes(b"cut")
    log = session.check(left_out=(2, 3))
    assert "2 left out: exposure 2: " in log
    assert "micrograph.mrc: there is no such file; run the step again that makes it; exposure 3: " in log
    session.members = {2: "k"}
    step = session.merge()
    assert (step.status, step.error) == ("failed", "StepError")
    assert "none of the 1 exposures can be averaged" in step.reason


def test_one_exposure_has_a_mean_and_no_variance(session: Session) -> None:
    session.work(5)
    session.check()
    step = session.merge()
    assert (step.status, step.values["session_count"]) == ("done", 1)
    assert set(step.products) == {name for name in step.values if name.startswith(("session_mean", "session_spec"))}
    np.testing.assert_array_equal(read_image(session.folder / ".run-m/session_mean.mrc").data, micrograph(5, "k"))


def test_no_exposure_is_told(session: Session) -> None:
    step = session.merge()
    assert (step.status, step.reason) == ("failed", "session: has no exposure yet; process some first")


def test_a_trial_and_a_step_by_itself_are_not_added(session: Session, tmp_path: Path) -> None:
    values = {"micrograph_pixel_size": 1.0, "power_spectrum_pixel_size": 1.0}
    images = {"micrograph": micrograph(1, "k"), "power_spectrum": spectrum(1, "k")}
    assert run_step(AddToSession, tmp_path, **values, **images).in_session_sums is None
    with pytest.raises(StepError, match="not the set of all exposures"):
        run_step(MergeSession, tmp_path, exposure="other")
    assert not session.folder.exists()


def test_two_projects_by_turns_share_a_process(session: Session, tmp_path: Path) -> None:
    other = Session(tmp_path / "other")
    for identity in range(1, 5):
        session.work(identity)
        other.work(identity, "another")
    assert len(session.blocks()) == len(other.blocks()) == 1
    session.check()
    other.check()


def test_a_block_lost_under_its_process_is_begun_anew(session: Session) -> None:
    other = Session(session.project.with_name("other"))
    session.work(1)
    other.work(1)
    session.blocks()[0].unlink()
    session.work(2)
    session.check()
    (session.folder / "blocks").rename(session.folder / "elsewhere")
    session.work(3)
    session.check()


def test_what_a_killed_process_was_writing_is_deleted(session: Session) -> None:
    session.work(1)
    names = [ENDED.name(3), Owner.this().name(9), f"{ENDED.host}-{ENDED.process}-1-0-0123abcd.block"]
    parts = [session.folder / f"blocks/.{name}.part-1-0123abcd" for name in names]
    for part in parts:
        part.write_bytes(b"cut")
    session.check()
    assert [part.exists() for part in parts] == [False, True, False]


def test_threads_of_a_process_share_its_block(session: Session) -> None:
    threads = [threading.Thread(target=session.work, args=(identity,)) for identity in range(1, 5)]
    worker = Accumulator(Owner.this())
    add_to_session._accumulators[os.getpid()] = worker
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [blocks.read_header(path).count for path in session.blocks()] == [4]
    session.check()


def test_a_full_disk_fails_the_step_until_there_is_room(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.work(1)
    with monkeypatch.context() as patch:

        def full(path: Path, block: blocks.Block) -> str:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        patch.setattr(blocks, "write", full)
        failed = session.work(2, store=False)
        assert (failed.status, failed.error) == ("failed", "ResourceError")
        assert "the disk is full" in failed.reason
        assert ".open" in failed.reason
    assert session.work(2).status == "done"
    assert [blocks.read_header(path).count for path in session.blocks()] == [2]
    session.check()
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "write", full)
        for path in session.blocks():
            path.unlink()
        failed = session.merge()
        assert (failed.status, failed.error) == ("failed", "ResourceError")
    session.check()


def prepared(session: Session) -> None:
    """Closed, open, small, corrected, replaced and missing blocks, some of them in a base."""
    first, second = Accumulator(Owner.this()), Accumulator(ENDED)
    for identity in range(1, 15):
        session.work(identity, by=first)
    merge_session.merge(session.folder, session.listed(), print)
    session.age()
    for identity in (2, 15, 16):
        session.work(identity, "new", by=second)
    del session.members[8]
    session.work(17, by=Accumulator(Owner(ENDED.host, ENDED.process, 2)))
    session.work(18)
    session.blocks("open")[-1].write_bytes(b"")


class Ended(BaseException):
    """What ends a process between two of its steps."""


def test_wherever_a_merge_is_ended_the_next_is_right(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each operation that changes a name on the disk."""
    calls = {name: getattr(os, name) for name in ("replace", "rename", "unlink")}
    place = done = 0

    def ending(name: str) -> Any:
        def call(*arguments: Any, **choices: Any) -> Any:
            nonlocal done
            if "blocks" not in str(arguments[0]):
                return calls[name](*arguments, **choices)
            done += 1
            if done == place:
                raise Ended
            result = calls[name](*arguments, **choices)
            done += 1
            if done == place:
                raise Ended
            return result

        return call

    for place in range(1, 100):
        current = Session(tmp_path / f"project_{place}")
        prepared(current)
        done = 0
        with monkeypatch.context() as patch:
            for name in calls:
                patch.setattr(os, name, ending(name))
            try:
                merge_session.merge(current.folder, current.listed(), print)
                break
            except Ended:
                pass
        current.check()
        current.age()
        current.check()
    assert place > 12


def test_a_worker_ended_between_its_steps_loses_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(4)
    plain = os.replace

    def ending(source: Any, target: Any) -> None:
        if str(target).endswith(blocks.OPEN):
            moment = draw.choice(("before", "after", "not"))
            if moment == "before":
                raise Ended
            plain(source, target)
            if moment == "after":
                raise Ended
        else:
            plain(source, target)

    worker = Accumulator(ENDED)
    for identity in range(1, 15):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", ending)
            try:
                session.work(identity, by=worker)
            except Ended:
                worker = Accumulator(Owner(ENDED.host, ENDED.process, identity))
        session.work(identity, by=worker)
        session.check()
    session.age()
    session.check()


WORKER = """
import os, signal, sys
from pathlib import Path
from tests.steps.test_session_sums import Session
session, number = Session(Path(sys.argv[1])), int(sys.argv[2])
for identity in range(number, 12, 3):
    session.work(identity)
if number == 1:
    session.work(20, store=False)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_real_processes_one_of_them_killed(session: Session) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(session.project), str(number)], cwd=REPOSITORY)
        for number in (1, 2, 3)
    ]
    session.work(20)
    while any(worker.poll() is None for worker in workers):
        if session.members:
            session.check()
    assert [worker.wait() for worker in workers] == [-9, 0, 0]
    for identity in range(1, 12):
        session.store(identity)
    session.check()
    session.age()
    session.check()
    # that of the killed process counts; the present process still has its own
    assert sum(blocks.read_header(path).count for path in session.blocks("block")) == 12
