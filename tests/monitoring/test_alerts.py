"""The book of alerts: nothing is lost, nothing is told twice, whatever happens to a process."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from focusnb.errors import ParameterError, ProjectError
from focusnb.monitoring.alerts import AGAIN, CLAIM, EVERYTHING, AlertBook
from focusnb.monitoring.quantities import Limit
from focusnb.monitoring.rules import Check, CountsRule, DriftRule, Rule
from tests.unprivileged import run_as_nobody
from tests.waiting import wait_until

NOW = 1_790_000_000.0
DRIFT = Check("drift.far", True, "12 of the last 15 images drifted", "the stage", "drift", 77.0, Limit(None, 50.0))
COUNTS = Check("counts.fall", True, "Counts fell", "the beam", "mean_counts", 0.2, Limit(0.4, None))


@pytest.fixture
def book(tmp_path: Path) -> AlertBook:
    return AlertBook(tmp_path)


def open_one(book: AlertBook, at: float = NOW, check: Check = DRIFT, rule: Rule | None = None) -> str:
    return book.open(rule or DriftRule(), check, at)[0].id


def test_an_alert_from_its_beginning_to_its_end(book: AlertBook) -> None:
    identity = open_one(book)
    [alert] = book.all(NOW)
    assert (alert.state, alert.rule, alert.key, alert.began) == ("new", "drift", "drift.far", NOW)
    assert (alert.limit, alert.value, alert.hint) == (Limit(None, 50.0), 77.0, "the stage")
    assert book.open(DriftRule(), DRIFT, NOW + 30) == (alert, False)
    book.acknowledge(identity[-4:], now=NOW + 60)
    assert book.all(NOW)[0].state == "acknowledged"
    assert "@" in (book.all(NOW)[0].by or "")
    book.recover(identity, NOW + 90)
    book.recover(identity, NOW + 95)
    [alert] = book.all(NOW)
    assert (alert.state, alert.recovered) == ("recovered", NOW + 90)
    # another process sees the same
    [other] = AlertBook(book.folder.parent).all(NOW)
    assert other == alert


def test_what_comes_again_soon_goes_on_and_later_is_new(book: AlertBook) -> None:
    first = open_one(book)
    book.recover(first, NOW + 10)
    again, is_new = book.open(DriftRule(), DRIFT, NOW + 10 + AGAIN - 1)
    assert (again.id, is_new, again.times, again.open) == (first, False, 2, True)
    book.recover(first, NOW + 5000)
    later, is_new = book.open(DriftRule(), DRIFT, NOW + 5000 + AGAIN + 1)
    assert is_new
    assert later.id != first
    assert len(book.all(NOW)) == 2


def test_muting_holds_back_and_keeps(book: AlertBook) -> None:
    open_one(book)
    book.mute("counts", NOW + 600, now=NOW)
    assert book.all(NOW)[0].state == "new"
    book.mute(EVERYTHING, NOW + 300, now=NOW)
    assert (book.all(NOW)[0].state, book.all(NOW)[0].muted_until) == ("muted", NOW + 300)
    assert book.all(NOW + 301)[0].state == "new"
    book.mute(EVERYTHING, NOW, now=NOW)
    assert book.muted_until("drift", NOW + 1) is None
    assert book.muted_until("counts", NOW + 1) == NOW + 600


def test_only_one_process_sends_a_message(book: AlertBook) -> None:
    identity = open_one(book)
    other = AlertBook(book.folder.parent)
    assert book.claim(identity, "opened", NOW)
    assert not other.claim(identity, "opened", NOW + 1)
    # the first died before it could tell: another one may after a while
    assert other.claim(identity, "opened", NOW + CLAIM + 1)
    other.delivered(identity, "opened", NOW + CLAIM + 2)
    assert not book.claim(identity, "opened", NOW + 10 * CLAIM)
    assert book.claim(identity, "reminder 1", NOW + 10 * CLAIM)


def test_lines_that_are_torn_or_foreign_are_passed_over(book: AlertBook) -> None:
    first = open_one(book)
    with open(book.path, "ab") as stream:
        stream.write(b'{"event": "recovered", "alert": "' + first.encode())  # died in the middle of a line
    assert [alert.open for alert in AlertBook(book.folder.parent).all(NOW)] == [True]
    second = open_one(book, check=COUNTS, rule=CountsRule())
    with open(book.path, "ab") as stream:
        stream.write(b'[]\n{"event": "sent"}\n\xff\xfe\nnull\n{"event":"sent","alert":"no such","at":1,"what":"x"}\n')
    fresh = AlertBook(book.folder.parent)
    assert [alert.id for alert in fresh.all(NOW)] == [first, second] == [alert.id for alert in book.all(NOW)]


@pytest.mark.parametrize("part", range(0, 100, 7))
def test_the_file_may_end_anywhere(book: AlertBook, part: int) -> None:
    ids = [open_one(book), open_one(book, check=COUNTS, rule=CountsRule())]
    content = book.path.read_bytes()
    book.path.write_bytes(content[: len(content) * part // 100])
    left = [alert.id for alert in AlertBook(book.folder.parent).all(NOW)]
    assert left == ids[: len(left)]
    again, is_new = AlertBook(book.folder.parent).open(CountsRule(), COUNTS, NOW + 1)
    assert is_new
    assert again.id in [alert.id for alert in AlertBook(book.folder.parent).all(NOW)]


def _open_many(folder: Path, number: int) -> None:
    book = AlertBook(folder)
    for turn in range(10):
        alert, is_new = book.open(DriftRule(), Check(f"drift.{turn}", True, "text"), NOW)
        if is_new and book.claim(alert.id, "opened", NOW):
            book.delivered(alert.id, "opened", NOW)
        book.not_delivered(alert.id, f"from {number}", "because", NOW)


def test_several_processes_write_at_once(book: AlertBook) -> None:
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=_open_many, args=(book.folder.parent, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    alerts = book.all(NOW)
    assert sorted(alert.key for alert in alerts) == [f"drift.{turn}" for turn in range(10)]
    assert all(len(alert.undelivered) == 4 for alert in alerts)
    events = [json.loads(line)["event"] for line in book.path.read_text().splitlines()]
    assert (events.count("opened"), events.count("sent")) == (10, 10)


def _write_until_killed(folder: Path) -> None:
    book = AlertBook(folder)
    for turn in range(100_000):
        book.open(DriftRule(), Check(f"key.{turn}", True, "a sentence " * 50), NOW)


def test_a_process_that_is_killed_leaves_a_book_that_can_be_written(book: AlertBook) -> None:
    worker = multiprocessing.get_context("fork").Process(target=_write_until_killed, args=(book.folder.parent,))
    worker.start()
    wait_until(lambda: len(book.all(NOW)) >= 5)
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join()
    count = len(book.all(NOW))
    open_one(book)
    assert len(AlertBook(book.folder.parent).all(NOW)) == count + 1


def test_pictures_are_kept_with_their_alert(book: AlertBook) -> None:
    alert, _ = book.open(DriftRule(), DRIFT, NOW, lambda: b"PNG")
    assert book.picture(alert) == b"PNG"
    other, _ = book.open(CountsRule(), COUNTS, NOW)
    assert book.picture(other) is None
    assert other.severe
    # nothing is drawn for what is open already
    assert not book.open(CountsRule(), COUNTS, NOW, lambda: 1 / 0)[1]  # type: ignore[arg-type, return-value]


def test_what_the_outside_is_told_names_nobody(book: AlertBook) -> None:
    identity = open_one(book)
    book.not_delivered(identity, "opened to mail", "mail://secret refused", NOW)
    book.acknowledge(identity, now=NOW)
    told = book.all(NOW)[0].public()
    assert told["undelivered"] is True
    assert "secret" not in json.dumps(told)
    assert "by" not in told


def test_one_that_is_not_there_is_told(book: AlertBook) -> None:
    with pytest.raises(ParameterError, match="names no alerts"):
        book.find("beef")
    with pytest.raises(ParameterError, match="names no alerts"):
        book.acknowledge("beef")
    assert book.all(NOW) == []


def test_a_folder_that_cannot_be_written_is_told(book: AlertBook) -> None:
    open_one(book)
    book.folder.chmod(0o555)
    (book.folder / ".alerts.lock").unlink()
    try:
        with pytest.raises(ProjectError, match="cannot be written"):
            run_as_nobody(open_one, AlertBook(book.folder.parent), NOW, COUNTS)
    finally:
        book.folder.chmod(0o755)
    assert len(book.all(NOW)) == 1


def test_a_claim_holds_for_who_looked_at_the_clock_a_moment_before(book: AlertBook) -> None:
    identity = open_one(book)
    assert book.claim(identity, "opened", NOW + 0.01)
    assert not AlertBook(book.folder.parent).claim(identity, "opened", NOW)
    # but not for a month where the clock was put back
    assert book.claim(identity, "opened", NOW - 30 * 86400)


def test_a_server_that_may_be_slow_is_waited_for(book: AlertBook) -> None:
    identity = open_one(book)
    assert book.claim(identity, "opened", NOW, 600)
    assert not book.claim(identity, "opened", NOW + CLAIM + 1, 600)
    assert book.claim(identity, "opened", NOW + 601, 600)


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_on_a_full_disk_alerts_are_kept_and_sent_once(small_disk: Callable[[float], Path]) -> None:
    folder = small_disk(0.4)
    book = AlertBook(folder)
    book.keep_reserve()
    filling = folder / "movies.tif"
    fill(filling)
    alert, is_new = book.open(DriftRule(), DRIFT, NOW, lambda: bytes(5000))
    assert is_new
    # the picture is given up, and no part of it is left
    assert book.picture(alert) is None
    for number in range(40):
        assert book.claim(alert.id, f"opened to {number}", NOW)
        book.delivered(alert.id, f"opened to {number}", NOW)
    assert not book.claim(alert.id, "opened to 7", NOW + CLAIM + 1)
    assert AlertBook(folder).all(NOW) == book.all(NOW)
    told = None
    for number in range(10_000):
        try:
            book.delivered(alert.id, f"reminder {number}", NOW)
        except ProjectError as error:
            told = str(error)
            break
    assert told == f"{book.path}: cannot be written (No space left on device); make room or give access"
    # what was not written to its end is passed over
    assert len(book.all(NOW)) == 1
    book.keep_reserve()
    filling.unlink()
    book.recover(alert.id, NOW + 60)
    assert not AlertBook(folder).all(NOW)[0].open
    book.keep_reserve()
    assert sorted(path.name for path in book.folder.iterdir()) == [
        ".alerts.lock",
        ".reserve",
        "alerts",
        "alerts.jsonl",
    ]
    assert list((book.folder / "alerts").iterdir()) == []


def test_on_a_disk_that_others_fill_again_at_once_alerts_are_kept(small_disk: Callable[[float], Path]) -> None:
    """Movies go on coming: whatever room is made is theirs a moment later."""
    folder = small_disk(0.4)
    book = AlertBook(folder)
    book.keep_reserve()

    def fill() -> None:
        with contextlib.suppress(OSError), open(folder / "movies.tif", "ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    fill()
    alert, _ = book.open(DriftRule(), DRIFT, NOW)
    fill()
    for number in range(100):
        assert book.claim(alert.id, f"opened to {number}", NOW)
        fill()
        book.delivered(alert.id, f"opened to {number}", NOW)
        fill()
        book.keep_reserve()
    assert len(AlertBook(folder).all(NOW)[0].sent) == 100
    # no line was begun that was not ended
    for line in book.path.read_text().splitlines():
        json.loads(line)
    (folder / "movies.tif").unlink()
    book.keep_reserve()
    assert (book.folder / ".reserve").stat().st_size == 65536
