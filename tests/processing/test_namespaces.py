"""Two hosts as the kernel can stand in for them: the scheduler in one network namespace, the workers in another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import REPOSITORY
from tests.waiting import kill_all

NETWORK = "10.213.77"
SCHEDULER = f"tcp://{NETWORK}.1:8786"

CLIENT = """
import json, sys
from pathlib import Path
from distributed import Client
from focusnb.processing.executors import DaskExecutor
from tests.processing.conftest import Waiting, begun, told
from tests.waiting import wait_until

folder = Path(sys.argv[2])


def say(**words):
    print(json.dumps(words), flush=True)


executor = DaskExecutor(Client(sys.argv[1], timeout=60, set_as_default=False))
waiting = Waiting()
wait_until(lambda: executor.slots == 2)
for number in range(4):
    executor.submit(told(folder, f"first{number}"), waiting.done, waiting.progress.append)
say(first=[step.status for result in waiting.wait(4).values() for step in result.steps])
slow = [told(folder, f"slow{number}", "import time; time.sleep(60)") for number in range(2)]
for task in slow:
    executor.submit(task, waiting.done)
wait_until(lambda: all(begun(task) for task in slow))
say(begun=2)
wait_until(lambda: executor.slots == 0)
say(slots=0)
lost = waiting.wait(6)
say(lost=[[lost[task.id].reason, lost[task.id].blame, lost[task.id].final] for task in slow])
executor.submit(told(folder, "last"), waiting.done)
say(last=[step.status for step in waiting.wait(7)["last"].steps], worker=waiting.results["last"].worker)
executor.close()
"""


def ip(*arguments: str) -> None:
    """Run ip; skip where it is refused."""
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not permitted here: ip {' '.join(arguments)}: {error.stderr.strip()}")


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two namespaces that see each other and nothing else; they are removed in any case."""
    if shutil.which("ip") is None:
        pytest.skip("ip is not installed")
    names = (f"focusnb-{os.getpid()}-1", f"focusnb-{os.getpid()}-2")
    with ExitStack() as stack:
        for name in names:
            ip("netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
        ends = (f"fnb{os.getpid()}a"[:15], f"fnb{os.getpid()}b"[:15])
        ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
        for number, (name, end) in enumerate(zip(names, ends, strict=True), 1):
            ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", end)
            for device in ("lo", end):
                ip("-n", name, "link", "set", device, "up")
        yield names


@contextmanager
def within(namespace: str, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run Python in a namespace; it is gone afterwards, with what it started."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        text=True,
        **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_all(psutil.Process(process.pid).children(recursive=True))
            process.kill()
            process.wait()


def test_tasks_survive_the_loss_of_all_workers_on_another_host(hosts: tuple[str, str], tmp_path: Path) -> None:
    here, there = hosts
    worker = ["-m", "distributed.cli.dask_worker", SCHEDULER, "--host", f"{NETWORK}.2", "--nthreads", "1"]
    worker += ["--nworkers", "2", "--memory-limit", "600MB", "--no-dashboard"]
    scheduler = ["-m", "distributed.cli.dask_scheduler", "--host", SCHEDULER, "--no-dashboard"]
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    with (
        within(here, *scheduler),
        within(there, *worker) as workers,
        within(here, str(script), SCHEDULER, str(tmp_path), stdout=subprocess.PIPE, stderr=None) as client,
    ):

        def heard() -> Any:
            assert client.stdout is not None
            return json.loads(client.stdout.readline() or '"nothing"')

        assert heard() == {"first": ["done"] * 8}
        assert heard() == {"begun": 2}
        kill_all(psutil.Process(workers.pid).children(recursive=True))
        workers.kill()
        workers.wait()
        assert heard() == {"slots": 0}
        with within(there, *worker):
            assert heard() == {"lost": [["its worker died while it was processed", True, False]] * 2}
            last = heard()
            assert last["last"] == ["done", "done"]
            # the host is told where it is another
            assert last["worker"].endswith(f"({os.uname().nodename})")
            assert client.wait(60) == 0
