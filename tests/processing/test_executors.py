"""Executors: the same outcome here and in another process, what dies there, what is told meanwhile."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from focusnb.errors import ParameterError
from focusnb.io import processes
from focusnb.processing import executors, licence, memory
from focusnb.processing.clusters import open_cluster
from focusnb.processing.executors import InlineExecutor, LocalCluster, Lost
from focusnb.steps.base import Cost
from focusnb.steps.task import Outcome, Task
from tests.conftest import REPOSITORY
from tests.processing.conftest import HOLD, Waiting, await_file, begun, told
from tests.waiting import has_ended, wait_until

GIGABYTE = 1_000_000_000


def run(executor: Any, *tasks: Task) -> dict[str, Any]:
    """Run tasks; returns their results by name."""
    waiting = Waiting()
    for task in tasks:
        executor.submit(task, waiting.done, waiting.progress.append)
    return dict(waiting.wait(len(tasks)))


def process_of(task: Task) -> int:
    """The process that works on a task."""
    answer = licence.read_answer(next(task.run_folder.glob(".outcome-*[!t]")))
    assert answer is not None
    return answer.claim.process


def test_a_task_gives_the_same_here_and_there(tmp_path: Path, cluster: LocalCluster) -> None:
    results = []
    for executor, name in ((InlineExecutor(), "here"), (cluster, "there")):
        code = "work.report('half', 0.5); open(work.folder / 'made.txt', 'w').write('1')"
        task = told(tmp_path, name, code)
        outcome = run(executor, task)[name]
        assert isinstance(outcome, Outcome)
        results.append([(s.step, s.status, dict(s.values), dict(s.products)) for s in outcome.steps])
        assert sorted(path.name for path in task.run_folder.iterdir()) == ["log.txt", "made.txt"]
        assert outcome.worker == "inline" if executor is not cluster else outcome.worker in ("1", "2")
    assert results[0] == results[1]
    assert results[0][0] == ("begin", "done", {"one": 1}, {})


def test_workers_that_are_slow_to_end_end_no_run_with_an_error() -> None:
    from focusnb.processing.processes import CLOSES, end_processes

    class Slow:
        waited = 0.0

        def close(self, timeout: float) -> None:
            self.waited = timeout
            raise TimeoutError

    slow: Any = Slow()
    end_processes(slow)
    assert slow.waited == CLOSES


def test_a_worker_that_dies_is_told_and_replaced(tmp_path: Path, cluster: LocalCluster) -> None:
    die = told(tmp_path, "die", "import os; os.kill(os.getpid(), 9)")
    lost = run(cluster, die)["die"]
    assert (lost.reason, lost.blame, lost.final, lost.error) == (executors.LOST_WORKER, True, False, "Lost")
    # what it had done before is kept
    assert [(step.step, step.status) for step in lost.so_far.steps] == [("begin", "done")]
    assert list(die.run_folder.iterdir()) == []
    assert isinstance(run(cluster, told(tmp_path, "next"))["next"], Outcome)


def test_one_that_waits_behind_another_that_dies_is_not_blamed(tmp_path: Path, cluster: LocalCluster) -> None:
    wait_until(lambda: cluster.slots == 2)
    code = await_file(tmp_path / "all") + "import os; time.sleep(1); os.kill(os.getpid(), 9)"
    waiting = Waiting()
    for task in (*(told(tmp_path, name, code) for name in "ab"), *(told(tmp_path, name) for name in "cdef")):
        cluster.submit(task, waiting.done)
    (tmp_path / "all").touch()  # a second for the scheduler to hand them on
    results = waiting.wait(6)
    assert [results[name].blame for name in "ab"] == [True, True]
    others = [results[name] for name in "cdef"]
    assert any(isinstance(result, Lost) for result in others)
    assert not any(isinstance(result, Lost) and result.blame for result in others)


def test_a_step_that_hangs_is_ended_and_told_where(tmp_path: Path, cluster: LocalCluster) -> None:
    task = told(tmp_path, "hang", HOLD, timeout=0.5)
    lost = run(cluster, task)["hang"]
    assert (lost.blame, lost.final, lost.error) == (True, True, "TimeOut")
    assert lost.reason.startswith(
        "act was not done after 0.5 s and was stopped; give it more time with --timeout or look at told.py, line "
    )
    assert [step.step for step in lost.so_far.steps] == ["begin"]
    assert list(task.run_folder.iterdir()) == []


def test_a_step_that_takes_too_much_memory_is_ended_with_both_numbers(tmp_path: Path, cluster: LocalCluster) -> None:
    task = told(tmp_path, "hog", "held = []\nwhile True: held.append(b'1' * 3_000_000); import time; time.sleep(0.01)")
    lost = run(cluster, task)["hog"]
    assert (lost.blame, lost.final, lost.error) == (True, True, "Memory")
    assert re.match(r"act took \d+\.\d GB", lost.reason)
    assert "its worker may take 0.5 GB; run with fewer workers, or give them more" in lost.reason
    assert [step.step for step in lost.so_far.steps] == ["begin"]
    assert list(task.run_folder.iterdir()) == []


def test_what_a_program_takes_counts(tmp_path: Path, cluster: LocalCluster) -> None:
    program = "import time; x = bytearray(900_000_000); x[::4096] = b'1' * len(x[::4096]); time.sleep(30)"
    task = told(tmp_path, "program", f"import sys; work.run([sys.executable, '-c', {program!r}])")
    lost = run(cluster, task)["program"]
    assert (lost.blame, lost.final, lost.error) == (True, True, "Memory")
    assert re.match(r"act took (0\.[5-9]|1\.\d) GB of memory, and its worker may take 0\.5 GB; run with", lost.reason)


def test_workers_that_die_again_and_again_before_they_begin_are_told(cluster: LocalCluster) -> None:
    death = Lost(executors.LOST_WORKER, blame=False)
    success = Outcome("t", 1, "exposures/t", ())
    cluster._counted(success)
    assert [cluster._counted(death) for _ in range(6)] == [death] * 6
    told = cluster._counted(death)
    assert told == Lost(
        "its worker died before it began, as 6 before it: look at the cluster's log, the terminal", blame=True
    )
    assert cluster._counted(success) == success
    assert cluster._counted(death) == death
    cluster._counted(success)


def test_only_the_very_process_of_a_claim_is_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        claim = licence.Claim(socket.gethostname(), process.pid, processes.began(process.pid))
        for other in (replace(claim, began=claim.began + 1), replace(claim, host="elsewhere"), replace(claim, began=0)):
            assert not executors._kill_here(other)
        assert process.poll() is None
        assert executors._kill_here(claim)
        assert process.wait(60) == -signal.SIGKILL
    assert not executors._kill_here(licence.UNREADABLE.claim)


def test_one_task_can_be_withdrawn(tmp_path: Path, cluster: LocalCluster) -> None:
    waiting = Waiting()
    wait_until(lambda: cluster.slots == 2)
    code = await_file(tmp_path / "enough")
    tasks = [told(tmp_path, name, code) for name in ("gone", "stays")]
    for task in tasks:
        cluster.submit(task, waiting.done)
    wait_until(lambda: begun(tasks[0]) and begun(tasks[1]))
    process = psutil.Process(process_of(tasks[0]))
    cluster.withdraw("gone")
    assert waiting.wait(1) == {"gone": Lost("it was cancelled", blame=False)}
    # the folder was the licence: what still works there ends
    process.wait(60)
    (tmp_path / "enough").touch()
    assert isinstance(waiting.wait(2)["stays"], Outcome)
    assert [path.name for path in (tmp_path / "exposures" / "gone").iterdir()] == []
    cluster.withdraw("unknown")


def test_a_task_without_its_folder_or_that_another_has_begun_does_not_run(
    tmp_path: Path, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never").mkdir()
    task = told(tmp_path / "never", "never", "1 / 0", prepared=False)
    lost = run(cluster, task)["never"]
    assert lost == Lost("its run folder was taken away", blame=False)
    assert not task.run_folder.exists()

    monkeypatch.setattr("secrets.token_hex", lambda size: "twice")
    task = told(tmp_path, "twice", "open(work.folder / 'made.txt', 'w')")
    licence.answer_file(task, "twice").touch()
    lost = run(cluster, task)["twice"]
    assert lost == Lost(executors.LOST_WORKER)
    assert list(task.run_folder.iterdir()) == []


def test_what_is_under_way_can_be_given_up(tmp_path: Path, cluster: LocalCluster) -> None:
    waiting = Waiting()
    task = told(tmp_path, "slow", HOLD)
    cluster.submit(task, waiting.done)
    wait_until(lambda: begun(task))
    process = psutil.Process(process_of(task))
    cluster.give_up()
    wait_until(lambda: has_ended(process), 30)
    assert isinstance(run(cluster, told(tmp_path, "next"))["next"], Outcome)
    assert waiting.results == {}
    assert cluster.revive() is False


def test_a_chain_larger_than_any_worker_is_refused_with_both_numbers(cluster: LocalCluster) -> None:
    wait_until(lambda: cluster.slots == 2)
    assert cluster.refuse(Cost(memory=GIGABYTE // 2)) == ""
    assert cluster.refuse(Cost(memory=7 * GIGABYTE)) == (
        "needs up to 7.0 GB of memory, and the largest worker may take 0.5 GB; run with fewer workers"
    )
    assert "needs up to 1000000.0 GB of memory, and this machine has" in InlineExecutor().refuse(Cost(memory=10**15))


OWNER = """
import sys
from pathlib import Path
from focusnb.processing.executors import LocalCluster
from tests.processing.conftest import begun, told
from tests.waiting import wait_until
if __name__ == "__main__":
    cluster = LocalCluster(1)
    task = told(Path(sys.argv[1]), "long", "import time; time.sleep(600)")
    cluster.submit(task, print)
    wait_until(lambda: begun(task))
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_workers_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"begun\n"
        children = psutil.Process(owner.pid).children(recursive=True)
        assert children
        owner.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive


def test_the_number_of_workers_chooses_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_cluster(None, workers=0), InlineExecutor)
    with pytest.raises(ParameterError, match="-1 workers cannot work"):
        open_cluster(None, workers=-1)

    monkeypatch.setattr(memory, "machine_memory", lambda: 7 * GIGABYTE)
    monkeypatch.setattr("dask.system.cpu_count", lambda: 16)
    assert memory.default_workers() == 1
    monkeypatch.setattr(memory, "machine_memory", lambda: 14 * GIGABYTE)
    assert memory.default_workers() == 3
    assert memory.default_workers(Cost(memory=100)) == 3
    assert memory.default_workers(Cost(memory=6 * GIGABYTE)) == 1
    monkeypatch.setattr(memory, "machine_memory", lambda: GIGABYTE)
    assert memory.default_workers() == 1
