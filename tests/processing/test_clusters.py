"""Clusters: what may be written about them, who works there, sharing one, losing and finding them again."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from focusnb.errors import ParameterError, ProgramMissing, ProjectError
from focusnb.processing import clusters, executors, licence, memory, shared
from focusnb.processing.clusters import open_cluster, read_config, worker_specs
from focusnb.processing.executors import InlineExecutor, LocalCluster, Lost
from focusnb.steps.base import Cost
from focusnb.steps.task import Outcome
from tests.conftest import REPOSITORY
from tests.ports import free_port
from tests.processing.conftest import Waiting, await_file, begun, told
from tests.waiting import has_ended, kill_all, wait_until

GIGABYTE = 1_000_000_000


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings and state of this test alone, and a machine of 64 GB and 16 cores."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for module in (clusters, executors, memory):
        monkeypatch.setattr(module, "machine_memory", lambda: 64 * GIGABYTE)
    monkeypatch.setattr("dask.system.cpu_count", lambda: 16)


def describe(text: str) -> Path:
    """Write clusters.toml."""
    path = clusters.config_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


# ------------------------------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("workers = 2", "workers belongs to no cluster; write it below a line [name-of-the-cluster]"),
        ("[a]\nworkers = 2", '[a]: has no kind; write kind = "..." with one of local, gpu, scheduler, slurm'),
        ('[a]\nkind = "slrum"', "[a]: kind 'slrum' is unknown (did you mean slurm?)"),
        ("[local]\nworker = 2", "[local]: worker is no key of a cluster of kind local (did you mean workers?); there"),
        ("[local]\nworkers = 0", "[local]: workers = 0 is not a whole number of at least 1"),
        ("[local]\nworkers = true", "[local]: workers = True is not a whole number of at least 1"),
        (
            '[local]\nmemory_per_worker = "8"',
            "memory_per_worker = '8' is not an amount of memory; write it as \"8 GB\"",
        ),
        ("[local]\nmemory_per_worker = 8", 'memory_per_worker = 8 is not an amount of memory; write it as "8 GB"'),
        ("[gpu]\ndevices = [0, 0]", "devices = [0, 0] is not a list of different GPUs by number; write it as [0, 1]"),
        ('[a]\nkind = "scheduler"', "[a]: address is missing; a cluster of kind scheduler needs it"),
        ('[a]\nkind = "scheduler"\naddress = "host"', 'is not the address of a scheduler; write it as "tcp://host:87'),
        ('[slurm]\nmemory = "8 GB"\nminimum = 3', "[slurm]: minimum 3 is above maximum 1; lower it"),
        ('[slurm]\nmemory = "8 GB"\ndirectives = "x"', 'is not a list of texts; write it as ["...", "..."]'),
        ('[slurm]\nmemory = "8 GB"\ngpu = "yes"', "is neither true nor false"),
        ("[local]\nlinger = -1", "linger = -1 is not a number of seconds"),
        ('[slurm]\nmemory = "8 GB"\nqueue = 1', "queue = 1 is not a text; write it in quotes"),
        ('["../x"]\nkind = "local"', "name it with letters, digits, dots, dashes and underscores"),
        ("[local", "is not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_place_and_the_cure(text: str, says: str) -> None:
    path = describe(text)
    with pytest.raises(ParameterError, match=re.escape(says)) as caught:
        clusters.read_configs()
    assert str(caught.value).startswith(str(path))


def test_a_mistake_in_one_table_is_no_fault_of_another() -> None:
    describe('workers = 2\n[mine]\nkind = "local"\n[other]\nkind = "slrum"\n')
    assert read_config("mine").kind == "local"
    assert read_config("gpu").kind == "gpu"
    for name in ("other", "workers"):
        with pytest.raises(ParameterError, match=name):
            read_config(name)


def test_a_cluster_nobody_described_is_told_with_those_there_are() -> None:
    path = describe('[big]\nkind = "local"\nworkers = 3\n')
    assert read_config("big").values == {"workers": 3}
    assert read_config("local").values == read_config("gpu").values == {}
    with pytest.raises(
        ParameterError, match=r"no cluster bug \(did you mean big\?\); there are local, gpu, big"
    ) as told:
        open_cluster("bug")
    assert str(path) in str(told.value)


def test_the_example_of_the_documentation_holds() -> None:
    describe((REPOSITORY / "docs" / "clusters.toml").read_text())
    configs = clusters.read_configs()
    assert {config.kind for config in configs.values()} == set(clusters.KINDS)
    # every key is shown, and every kind explained
    guide = (REPOSITORY / "docs" / "clusters.md").read_text()
    for kind, keys in clusters.KINDS.items():
        assert set(keys) <= {key for config in configs.values() if config.kind == kind for key in config.values}, kind
        assert all(f"`{key}`" in guide for key in keys), kind


def test_options_that_do_not_fit_the_cluster_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    describe('[far]\nkind = "scheduler"\naddress = "tcp://127.0.0.1:9"\n')
    with pytest.raises(ParameterError, match=r"\[local\]: its workers have no GPU; choose a cluster of kind gpu"):
        open_cluster("local", gpu=True)
    with pytest.raises(ParameterError, match="leave --workers 2 out"):
        open_cluster("far", workers=2)
    monkeypatch.setattr(clusters, "CONNECT", 0.2)
    with pytest.raises(ProjectError, match=r"no scheduler answers at tcp://127.0.0.1:9 within 0.2 s; start it"):
        open_cluster("far")
    assert isinstance(open_cluster(None, workers=0), InlineExecutor)


# ---------------------------------------------------------------------------------------------- workers of one machine


def test_workers_of_this_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    local = clusters.ClusterConfig("local", "local")
    assert [spec.memory for spec in worker_specs(local)] == [int(57.6e9 / 14)] * 14
    assert len(worker_specs(local, cost=Cost(memory=9 * GIGABYTE))) == 5
    assert len(worker_specs(local, workers=3)) == 3
    describe('[local]\nmemory_per_worker = "10 GB"\nthreads = 2\n')
    specs = worker_specs(read_config("local"))
    assert [(spec.memory, spec.threads) for spec in specs] == [(10 * GIGABYTE, 2)] * 5
    with pytest.raises(ParameterError, match=r"6 workers of 10.0 GB are more than this machine has \(57.6 GB"):
        worker_specs(read_config("local"), workers=6)


def test_a_control_group_limits_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 0 < memory.machine_memory() <= psutil.virtual_memory().total
    limits = {"/sys/fs/cgroup/memory.max": "max\n", "/sys/fs/cgroup/job/memory.max": "5000\n"}
    limits["/proc/self/cgroup"] = "0::/job/step\n"

    def read(path: Path, *_: Any) -> str:
        if str(path) not in limits:
            raise FileNotFoundError(path)
        return limits[str(path)]

    monkeypatch.setattr(Path, "read_text", read)
    assert memory.machine_memory() == 5000


SMI = "0, GPU-aa11, 81559\n1, GPU-bb22, 81559\n2, GPU-cc33, 40960\n"


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of three GPUs, as nvidia-smi tells."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat <<'.'\n{SMI}.\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("devices")
def test_one_worker_for_each_gpu_and_some_without(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {0: 81559 * 2**20, 1: 81559 * 2**20, 2: 40960 * 2**20}
    assert clusters.find_devices() == memory
    specs = worker_specs(clusters.ClusterConfig("gpu", "gpu"))
    assert [spec.environment["CUDA_VISIBLE_DEVICES"] for spec in specs] == ["0", "1", "2"]
    assert [spec.threads for spec in specs] == [5, 5, 5]
    assert specs[2].resources == {"GPU": 1, "gpu_memory": memory[2]}
    describe("[gpu]\ndevices = [2, 0]\ncpu_workers = 2\ndecoder_threads = 6\n")
    specs = worker_specs(read_config("gpu"))
    assert [(spec.environment["CUDA_VISIBLE_DEVICES"], spec.threads) for spec in specs] == [
        ("2", 6),
        ("0", 6),
        ("", 1),
        ("", 1),
    ]
    assert specs[3].resources == {"CPU": 1}
    describe("[gpu]\ndevices = [3]\n")
    with pytest.raises(ParameterError, match=r"\[gpu\]: there is no GPU 3; there are 0, 1, 2; correct devices"):
        worker_specs(read_config("gpu"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-cc,1")
    assert set(clusters.find_devices()) == {1, 2}
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ParameterError, match="no GPU was found"):
        worker_specs(clusters.ClusterConfig("gpu", "gpu"))


@pytest.mark.usefixtures("devices")
def test_tasks_go_to_the_workers_they_need(tmp_path: Path) -> None:
    describe('[gpu]\ndevices = [0, 2]\ncpu_workers = 1\nmemory_per_worker = "1 GB"\ndecoder_threads = 3\n')
    specs = worker_specs(read_config("gpu"))
    cluster = LocalCluster.of(specs, gpu=True)
    try:
        wait_until(lambda: cluster.slots == 3)
        code = (
            "import os, time; time.sleep(0.1); raise ValueError(' '.join(os.environ.get(name, '') for name in "
            "('CUDA_VISIBLE_DEVICES', 'NUMBA_NUM_THREADS', 'FOCUSNB_THREADS')))"
        )
        waiting = Waiting()
        for number in range(6):
            task = told(tmp_path, f"task{number}", code)
            if number < 4:
                task = replace(task, use_gpu=True)
            cost = Cost(memory=GIGABYTE // 2, gpu_memory=70 * GIGABYTE if number < 2 else 1)
            cluster.submit(task, waiting.done, cost=cost)
        results = waiting.wait(6)
        used: dict[str, str] = {}
        for name, result in results.items():
            assert isinstance(result, Outcome)
            used[name] = result.steps[-1].reason.replace("ValueError: ", "")
        assert [used["task0"], used["task1"]] == ["0 3 3"] * 2
        assert {used["task2"], used["task3"]} <= {"0 3 3", "2 3 3"}
        assert [used["task4"], used["task5"]] == [" 1 1"] * 2
        assert cluster.refuse(Cost(gpu_memory=100 * GIGABYTE)) == (
            "needs up to 100.0 GB of GPU memory, and the largest GPU has 85.5 GB; process without the GPU"
        )
    finally:
        cluster.close()


# ------------------------------------------------------------------------------------------------------------- sharing


def test_two_projects_share_a_cluster_by_turns_and_find_it_again(tmp_path: Path) -> None:
    describe('[tiny]\nkind = "local"\nworkers = 2\nmemory_per_worker = "1 GB"\nlinger = 0.5\n')
    assert not shared.running("tiny")
    projects = [open_cluster("tiny", warm=False) for _ in range(2)]
    entry = shared.find("tiny")
    assert entry is not None
    assert entry.address.startswith("tcp://127.0.0.1:")
    assert projects[0].address.startswith("http://127.0.0.1:")
    assert stat.S_IMODE(shared.registry("tiny").stat().st_mode) == 0o600
    with pytest.raises(ParameterError, match="cluster tiny runs with 2 workers and is shared; leave --workers 3 out"):
        open_cluster("tiny", workers=3, warm=False)
    wait_until(lambda: [project.slots for project in projects] == [2, 2])

    # each keeps a few tasks there, as the processor does
    waiting = Waiting()
    order: list[str] = []
    left = {name: [f"{name}{number}" for number in range(20)] for name in "ab"}
    executor = dict(zip("ab", projects, strict=True))

    def submit(name: str) -> None:
        if left[name]:
            task = told(tmp_path, left[name].pop(), "import time; time.sleep(0.15)")
            executor[name].submit(task, done)

    def done(identity: str, result: Any) -> None:
        order.append(identity[0])
        submit(identity[0])
        waiting.done(identity, result)

    for name in "ab":
        for _ in range(projects[0].slots + projects[0].ahead):
            submit(name)
    assert [result for result in waiting.wait(40).values() if isinstance(result, Lost)] == []
    assert 6 <= order[:20].count("a") <= 14

    # the scheduler dies with a task under way
    waiting = Waiting()
    slow = told(tmp_path, "slow", "import time; time.sleep(60)")
    projects[0].submit(slow, waiting.done)
    wait_until(lambda: begun(slow))
    assert [project.revive() for project in projects] == [False, False]
    workers = psutil.Process(entry.process).children(recursive=True)
    os.kill(entry.process, signal.SIGKILL)
    wait_until(lambda: projects[0].slots == 0)
    projects[0].submit(told(tmp_path, "early"), waiting.done)
    assert waiting.results["early"] == Lost(executors.LOST_SCHEDULER, blame=False)
    wait_until(projects[0].revive)
    lost = waiting.results["slow"]
    assert isinstance(lost, Lost)
    assert (lost.reason, lost.blame) == (executors.LOST_SCHEDULER, False)
    assert lost.so_far is not None
    wait_until(lambda: all(map(has_ended, workers)))
    wait_until(projects[1].revive)
    assert shared.find("tiny") != entry
    for number, project in enumerate(projects):
        project.submit(told(tmp_path, f"again{number}"), waiting.done)
    assert isinstance(waiting.wait(4)["again1"], Outcome)

    # one may give up without the other's knowing
    waiting = Waiting()
    code = await_file(tmp_path / "enough")
    tasks = [told(tmp_path, f"long{number}", code) for number in range(2)]
    for task, project in zip(tasks, projects, strict=True):
        project.submit(task, waiting.done)
    wait_until(lambda: all(begun(task) for task in tasks))
    projects[0].give_up()
    assert not tasks[0].run_folder.exists()
    assert list(tasks[0].run_folder.parent.iterdir()) == []
    (tmp_path / "enough").touch()
    assert isinstance(waiting.wait(1)["long1"], Outcome)

    for project in projects:
        assert shared.running("tiny")
        project.close()
    wait_until(lambda: not shared.running("tiny"))
    assert not shared.registry("tiny").exists()
    assert "nobody has used it for 0.5 s" in shared.registry("tiny", "log").read_text()


def test_a_shared_cluster_that_cannot_start_tells_why(monkeypatch: pytest.MonkeyPatch) -> None:
    describe("[gpu]\ndevices = [7]\n")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProjectError, match=r"cluster gpu did not start: .*no GPU was found.* \(log: .*gpu@.*\.log\)"):
        open_cluster("gpu")
    # what a dead one left is no cluster
    shared.registry("gpu").write_text('{"address": "tcp://127.0.0.1:1", "process": 1, "began": 1.0}')
    assert not shared.running("gpu")
    shared.registry("gpu").write_text("{")
    assert not shared.running("gpu")


# -------------------------------------------------------------------------------------------- somebody else's scheduler


@contextmanager
def dask(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A dask scheduler or worker as somebody else starts it; it is gone afterwards, with what it started."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{arguments[0]}", *arguments[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children at once."""
    if process.poll() is None:
        kill_all(psutil.Process(process.pid).children(recursive=True))
        process.kill()
        process.wait()


def test_somebody_elses_scheduler_may_go_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CONNECT", 2.0)
    monkeypatch.setattr(clusters, "CONNECT_AGAIN", 2.0)
    address = f"tcp://127.0.0.1:{free_port()}"
    describe(f'[far]\nkind = "scheduler"\naddress = "{address}"\n')
    scheduler = ("scheduler", "--host", address, "--no-dashboard")
    worker = ("worker", address, "--memory-limit", "700MB", "--nthreads", "2", "--no-dashboard")
    waiting = Waiting()
    with dask(*scheduler) as first:
        far = wait_until(lambda: _try_to_open("far"))
        assert far.slots == 0
        with dask(*worker):
            wait_until(lambda: far.slots == 1)
            assert "the largest worker may take 0.6 GB; start workers with a higher --memory-limit" in far.refuse(
                Cost(memory=GIGABYTE)
            )
            # it has two threads, and is ended as a whole: one task at a time
            for name in "ab":
                far.submit(told(tmp_path, name, "import time; time.sleep(0.2)"), waiting.done, cost=Cost(memory=1))
            first_one, second_one = sorted(waiting.wait(2).values(), key=lambda outcome: outcome.started)
            assert first_one.finished <= second_one.started
            far.submit(told(tmp_path, "d", "import time; time.sleep(60)"), waiting.done)
            kill(first)
            wait_until(lambda: far.slots == 0)
            assert far.revive() is False
            assert replace(waiting.wait(3)["d"], so_far=None) == Lost(executors.LOST_SCHEDULER, blame=False)
    with dask(*scheduler), dask(*worker):
        wait_until(far.revive, 120)
        wait_until(lambda: far.slots == 1)
        far.submit(told(tmp_path, "e"), waiting.done)
        assert isinstance(waiting.wait(4)["e"], Outcome)
        far.close()


def test_attempts_to_reach_a_scheduler_that_is_gone_leave_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    address = f"tcp://127.0.0.1:{free_port()}"
    describe(f'[far]\nkind = "scheduler"\naddress = "{address}"\n')
    with dask("scheduler", "--host", address, "--no-dashboard") as scheduler:
        far = wait_until(lambda: _try_to_open("far"))
        # one that hangs holds nobody up
        waiting = Waiting()
        for name in "ab":
            far.submit(told(tmp_path, name), waiting.done)
        monkeypatch.setattr(executors, "ANSWERS", 120.0)
        monkeypatch.setattr(licence, "ENDS", 0.1)
        scheduler.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        far.withdraw("a")
        assert time.monotonic() - began < 60, "it waits for no answer"
        monkeypatch.setattr(executors, "ANSWERS", 0.3)
        far.give_up()
        assert time.monotonic() - began < 100, "nor does this for long"
        assert [path for name in "ab" for path in (tmp_path / "exposures" / name).iterdir()] == []
        kill(scheduler)
        wait_until(lambda: far._is_lost())
    assert far.revive() is False
    opened = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        pauses.append(far._pause)
        far._again = 0.0
        assert far.revive() is False
    assert abs(len(os.listdir("/proc/self/fd")) - opened) <= 2
    assert pauses[:6] == [2, 4, 8, 16, 30, 30]
    with dask("scheduler", "--host", address, "--no-dashboard"):

        def revived() -> bool:
            far._again = 0.0
            return bool(far.revive())

        # broken in the middle: tried again
        with monkeypatch.context() as patched:
            patched.setattr(executors, "_dashboard", lambda client: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                wait_until(revived)
        assert far._is_lost()
        wait_until(revived)
        assert (far._pause, far._again) == (1.0, 0.0)
        far.close()


def test_a_cluster_that_cannot_be_started_again_is_given_up_after_a_while() -> None:
    def fail() -> None:
        raise ProjectError("cluster tiny did not start")

    far = executors.DaskExecutor.__new__(executors.DaskExecutor)
    far._client, far._comm, far._flying, far._reconnect = SimpleNamespace(status="closed"), None, {}, fail
    far._pause, far._again, far._failures = 1.0, 0.0, 0
    for _ in range(executors.ATTEMPTS - 1):
        assert far.revive() is False
        assert far.revive() is False  # it waits
        far._again = 0.0
    with pytest.raises(executors.ClusterLost, match="cluster tiny did not start"):
        far.revive()


def _try_to_open(name: str) -> Any:
    try:
        return open_cluster(name, warm=False)
    except ProjectError:
        return None


# -------------------------------------------------------------------------------------------------------------- SLURM

SBATCH = """#!/bin/sh
cp "$1" "$SLURM_STAND_IN/$$.sh"
setsid sh "$SLURM_STAND_IN/$$.sh" >"$SLURM_STAND_IN/$$.log" 2>&1 &
echo $! >"$SLURM_STAND_IN/$$.pid"
echo "Submitted batch job $$"
"""
SCANCEL = """#!/bin/sh
for job; do kill -- -"$(cat "$SLURM_STAND_IN/$job.pid")"; done
"""


def test_jobs_of_slurm_come_for_tasks_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # looked for and not imported: it takes Ctrl-C for itself, which the tests after this one rely on
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("dask-jobqueue is not installed: pip install focusnb[slurm]")
    jobs, programs = tmp_path / "jobs", tmp_path / "programs"
    for folder in (jobs, programs):
        folder.mkdir()
    for name, text in {"sbatch": SBATCH, "scancel": SCANCEL}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("SLURM_STAND_IN", str(jobs))
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    describe(
        """
        [farm]
        kind = "slurm"
        queue = "gpu"
        account = "em"
        walltime = "01:30:00"
        memory = "1 GB"
        cores = 3
        minimum = 0
        maximum = 2
        directives = ["--gres=gpu:1"]
        prologue = ["export SITE=here"]
        interface = "lo"
        log_folder = "logs"
        gpu = true
        linger = 0.5
        """.replace('"logs"', f'"{tmp_path / "logs"}"')
    )
    farm = open_cluster("farm", warm=False)
    assert (farm.slots, farm.gpu) == (2, True)
    assert "the largest worker may take 0.9 GB" in farm.refuse(Cost(memory=2 * GIGABYTE))
    assert list(jobs.iterdir()) == []
    waiting = Waiting()
    code = "import os, time; time.sleep(0.5); raise ValueError(os.environ['SITE'] + os.environ['OMP_NUM_THREADS'])"
    for number in range(3):
        farm.submit(told(tmp_path, f"task{number}", code), waiting.done, cost=Cost(memory=GIGABYTE // 2))
    for result in waiting.wait(3).values():
        assert isinstance(result, Outcome)
        assert result.steps[-1].reason == "ValueError: here3"
    scripts = [path.read_text() for path in jobs.glob("*.sh")]
    assert 1 <= len(scripts) <= 2
    for line in (
        "#SBATCH -p gpu",
        "#SBATCH -A em",
        "#SBATCH --cpus-per-task=3",
        "#SBATCH --mem=954M",
        "#SBATCH -t 01:30:00",
        "#SBATCH --gres=gpu:1",
        "export NUMBA_NUM_THREADS=3",
    ):
        assert line in scripts[0].splitlines(), scripts[0]
    assert "--resources memory=900000000" in scripts[0]
    farm.close()
    wait_until(lambda: not shared.running("farm"))
    running = [int(path.read_text()) for path in jobs.glob("*.pid")]
    wait_until(lambda: not any(psutil.pid_exists(process) for process in running))


def test_slurm_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    describe('[slurm]\nmemory = "8 GB"\n')
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ProgramMissing, match=r"install it with: pip install 'focusnb\[slurm\]'"):
        clusters.start_slurm(read_config("slurm"))
