"""Files that could not be read: tried again ever less often, and read only where that may help."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from focusnb.monitoring.unread import FIRST, LONGEST, Unread, mark_of


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def reads(unread: Unread[str], clock: Clock, path: Path, *, seconds: float, unchanging: bool) -> list[float]:
    """When a file that is never read was due, looked at every ten seconds."""
    began, found = clock.now, []
    while clock.now < began + seconds:
        clock.now += 10.0
        for key in unread.due(None):
            found.append(clock.now - began)
            unread.note(key, path, mark_of(path), unchanging=unchanging)
    return found


def test_one_that_is_not_reached_is_tried_ever_less_often(tmp_path: Path, clock: Clock) -> None:
    unread, path = Unread[str](clock=clock), tmp_path / "there"
    path.write_bytes(b"whole")
    unread.note("a", path, mark_of(path), unchanging=False)
    found = reads(unread, clock, path, seconds=12 * 3600, unchanging=False)
    waits = [after - before for before, after in itertools.pairwise([0.0, *found])]
    assert waits[:4] == pytest.approx([FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST], abs=10)
    assert max(waits) == pytest.approx(LONGEST, abs=10)
    assert len(found) < 20, "a night costs some tries and not thousands"


def test_one_that_makes_no_sense_is_read_again_only_when_its_file_changed(tmp_path: Path, clock: Clock) -> None:
    unread, path = Unread[str](clock=clock), tmp_path / "half"
    for change in (lambda: path.write_bytes(b"half"), path.unlink, lambda: path.write_bytes(b"whole")):
        unread.note("a", path, mark_of(path), unchanging=True)
        assert reads(unread, clock, path, seconds=6 * 3600, unchanging=True) == []
        change()
        clock.now += LONGEST
        assert unread.due(None) == ["a"]


def test_what_was_written_while_it_was_read_is_seen(tmp_path: Path, clock: Clock) -> None:
    unread, path = Unread[str](clock=clock), tmp_path / "grows"
    path.write_bytes(b"ha")
    mark = mark_of(path)
    path.write_bytes(b"half and more")
    unread.note("a", path, mark, unchanging=True)
    clock.now += FIRST
    assert unread.due(None) == ["a"]


def test_what_was_read_or_is_wanted_no_more_is_forgotten(tmp_path: Path, clock: Clock) -> None:
    unread, path = Unread[str](clock=clock), tmp_path / "gone"
    for key in "abc":
        unread.note(key, path, None, unchanging=False)
    unread.forget("a")
    unread.keep({"b"})
    # forgotten and noted again it has one time only, the new one
    clock.now += FIRST - 1
    unread.forget("b")
    unread.note("b", path, None, unchanging=False)
    clock.now += 2
    assert not unread.is_due
    clock.now += FIRST
    assert unread.due(None) == ["b"]
    assert len(unread) == 1


def test_few_are_looked_at_together(tmp_path: Path, clock: Clock) -> None:
    unread = Unread[int](clock=clock)
    for key in range(10):
        unread.note(key, tmp_path / "gone", None, unchanging=key % 2 == 0)
    clock.now += FIRST
    found = []
    while unread.is_due:
        found.append(unread.due(4))
        for key in found[-1]:
            unread.forget(key)
    assert found == [[1, 3], [5, 7], [9]]


def test_whatever_a_path_is_it_has_a_mark_or_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert mark_of(tmp_path / "pipe") == mark_of(tmp_path / "pipe") is not None
    assert mark_of(tmp_path / "gone") is None
    assert mark_of(Path("with\0zero")) is None
