"""What a worker tells and leaves behind, without a cluster."""

from __future__ import annotations

import json
import math
import os
import pickle
import socket
import stat
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.io import processes
from focusnb.ops import binning
from focusnb.processing import licence, warming, worker
from focusnb.steps.task import Outcome, Progress, StepOutcome
from tests.processing.conftest import told

CLAIM = licence.Claim("here", 1, 2.0)


class StandIn:
    """A dask worker that keeps what it is to send."""

    name = "7"
    address = "tcp://127.0.0.1:1234"

    class memory_manager:
        memory_limit = 10**12

    def __init__(self) -> None:
        self.events: list[Any] = []

    def log_event(self, topic: str, event: Any) -> None:
        assert topic == "topic"
        self.events.append(event)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The worker this process is for a test, which has told nothing for a while."""
    stand_in = StandIn()
    monkeypatch.setattr(worker, "get_worker", lambda: stand_in)
    monkeypatch.setattr(worker._here, "told", 0.0)
    return stand_in


def test_words_are_few_the_latest_counts_and_results_gather(
    tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MOST_EVENTS_PER_SECOND", 1 / 3600)
    worker._here.told = -math.inf
    watch = worker._Watch(told(tmp_path, "t"), "secret", stand_in, "topic", CLAIM)
    results = [StepOutcome(name, name, "done") for name in "abc"]
    for number, result in enumerate(results):
        watch.emit(Progress("t", 1, result.step, f"{number}", number / 4, finished=(result,)))
    assert [event[:6] for event in stand_in.events] == [("t", 1, "a", "0", 0.0, "7")]
    watch.tell()
    assert len(stand_in.events) == 1
    worker._here.told -= 1 / worker.MOST_EVENTS_PER_SECOND
    watch.tell()
    watch.tell()
    assert [event[:6] for event in stand_in.events[1:]] == [("t", 1, "c", "2", 0.5, "7")]
    assert [step for event in stand_in.events for step in pickle.loads(event[6])] == results
    watch.close()


def test_a_task_leaves_its_outcome_and_nothing_else(tmp_path: Path, stand_in: StandIn) -> None:
    task = told(tmp_path, "t", "assert any(work.folder.glob('.words-*')); raise ValueError('no')")
    outcome = worker.run_on_worker(task, "secret", "topic")
    assert isinstance(outcome, Outcome)
    assert [step.status for step in outcome.steps] == ["done", "broken"]
    claim = licence.Claim(socket.gethostname(), os.getpid(), processes.began())
    assert licence.read_answer(licence.answer_file(task, "secret")) == licence.Answer(claim, outcome)
    assert sorted(path.name for path in task.run_folder.iterdir()) == [".outcome-secret", "log.txt"]
    # the same task again, as dask does after a death
    assert worker.run_on_worker(task, "secret", "topic") is None


def test_without_its_folder_a_task_does_not_begin(tmp_path: Path, stand_in: StandIn) -> None:
    task = told(tmp_path, "t", prepared=False)
    said = worker.run_on_worker(task, "secret", "topic")
    assert isinstance(said, str)
    assert said.startswith("7 does not find ")
    assert not task.run_folder.exists()


def test_the_licence_must_be_missing_twice(tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(worker, "end_this_process", lambda: ended.append(True))
    monkeypatch.setattr(licence, "LOOK", 0.0)
    task = told(tmp_path, "t")
    watch = worker._Watch(task, "secret", stand_in, "topic", CLAIM)
    answer = licence.answer_file(task, "secret")
    answer.touch()
    watch.look()
    answer.rename(tmp_path / "away")
    watch.look()
    (tmp_path / "away").rename(answer)
    watch.look()
    assert ended == []
    answer.unlink()
    watch.look()
    watch.look()
    assert ended == [True]
    # also where it comes to its end first
    watch.write(Outcome("t", 1, "exposures/t", ()))
    assert ended == [True, True]
    watch.close()


def test_a_network_file_system_that_does_not_answer_takes_nothing_away(
    tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = worker._Watch(told(tmp_path, "t"), "secret", stand_in, "topic", CLAIM)
    monkeypatch.setattr(licence, "LOOK", 0.0)
    monkeypatch.setattr(worker, "end_this_process", lambda: pytest.fail("ended"))

    def stale(*_: Any) -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr("os.stat", stale)
        for _ in range(3):
            watch.look()
    watch.close()


def test_last_words_tell_the_place_in_the_thread_that_hung(tmp_path: Path) -> None:
    path = tmp_path / "words"
    assert licence.read_last_words(path) is None
    head = json.dumps({"step": "act", "seconds": 3.0, "thread": 0x7F12})
    path.write_text(head + "\n")
    assert licence.read_last_words(path) is None  # it died of something else
    trace = [
        "Timeout (0:00:03)!",
        "Thread 0x0000000000007f13 (most recent call first):",
        '  File "/usr/lib/python3.11/threading.py", line 320 in wait',
        '  File "/home/me/other.py", line 1 in loop',
        "",
        "Thread 0x0000000000007f12 [worker] (most recent call first):",
        '  File "/usr/lib/python3.11/selectors.py", line 468 in select',
        '  File "/home/me/steps/mine.py", line 12 in measure',
        '  File "/home/me/steps/mine.py", line 40 in run',
    ]
    path.write_text("\n".join([head, *trace]))
    assert licence.read_last_words(path) == licence.LastWords(
        "TimeOut", "act", 3.0, place="mine.py, line 12, in measure"
    )
    path.write_text("{")
    assert licence.read_last_words(path) is None


def test_a_claim_that_could_not_be_written_is_a_claim(tmp_path: Path) -> None:
    path = tmp_path / "answer"
    assert licence.read_answer(path) is None
    path.touch()
    assert licence.read_answer(path) == licence.UNREADABLE


class Evil:
    """Runs a program when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_an_answer_that_another_put_there_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answer"
    answer = licence.Answer(CLAIM, Outcome("t", 1, "exposures/t", (StepOutcome("a", "a", "done", values={"x": 1.5}),)))
    path.write_bytes(answer.packed())
    assert licence.read_answer(path) == answer
    (tmp_path / "link").symlink_to(path)
    assert licence.read_answer(tmp_path / "link") == licence.UNREADABLE
    for other in (
        pickle.dumps(Evil(tmp_path / "evil")),
        pickle.dumps((CLAIM, Evil(tmp_path / "evil"))),
        licence.Answer(CLAIM, replace(answer.outcome, worker=np.float64(1))).packed(),  # type: ignore[type-var]
        pickle.dumps(answer.outcome),
        b"no pickle",
    ):
        path.write_bytes(other)
        assert licence.read_answer(path) == licence.UNREADABLE
    assert not (tmp_path / "evil").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_answer_of_another_user_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "answer"
    path.write_bytes(licence.Answer(CLAIM).packed())
    assert licence.read_answer(path) == licence.Answer(CLAIM)
    os.chown(path, 4321, -1)
    assert licence.read_answer(path) == licence.UNREADABLE


def test_what_kills_a_worker_that_warms_up_is_left_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mark = warming.Mark()
    mark.make()
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not warming.Mark.of_a_death()  # it lives
    mark.remove()
    assert list(tmp_path.iterdir()) == []
    path.with_name(path.name.replace(str(os.getpid()), "99999999")).write_text("1.0")
    here = worker._Here()
    monkeypatch.setattr(worker, "warm_up", lambda *_, **__: pytest.fail("warmed up"))
    here.warm_up(("one",), folder="", use_gpu=False)
    here.wait_until_warm()
    assert list(tmp_path.iterdir()) == []
    assert not warming.Mark.of_a_death()


def test_a_task_waits_until_its_worker_is_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    here = worker._Here()
    go = threading.Event()
    seen: list[tuple[str, ...]] = []

    def warm_up(steps: tuple[str, ...], folder: str, use_gpu: bool) -> None:
        seen.append(steps)
        go.wait(10)
        raise RuntimeError("it cannot")

    monkeypatch.setattr(worker, "warm_up", warm_up)
    here.warm_up(("one",), folder="", use_gpu=False)
    waited = threading.Thread(target=here.wait_until_warm)
    waited.start()
    time.sleep(0.05)
    assert waited.is_alive()
    go.set()  # and one that cannot be warmed up works all the same
    waited.join(10)
    assert not waited.is_alive()
    assert seen == [("one",)]


def test_the_warm_up_goes_through_all_steps_of_the_standard_chain() -> None:
    outcome = warming.warm_up(warming.standard_chain())
    assert [(step.step, step.status, step.reason) for step in outcome.steps] == [
        (name, "done", "") for name in warming.standard_chain()
    ]
    # what only movies much larger than the one it runs would compile
    assert binning._add_halved.signatures


def test_kernels_are_kept_where_somebody_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(warming.CACHE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    warming.keep_kernels()
    assert warming.CACHE not in warming.os.environ  # beside the code
    access = warming.os.access
    monkeypatch.setattr(warming.os, "access", lambda path, mode: "__pycache__" not in str(path) and access(path, mode))
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv(warming.CACHE, "")
    warming.keep_kernels()
    assert warming.os.environ[warming.CACHE] == numba.config.CACHE_DIR == str(tmp_path / "cache" / "focusnb" / "numba")
