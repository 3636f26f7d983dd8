"""Which computers work: clusters by name, as ``~/.config/focusnb/clusters.toml`` describes them.

A named cluster of our own (local, gpu, slurm) runs in a process of its own and is shared by all projects of this user
on this host, which it serves in turn; see ``shared``. Without a name the workers belong to the caller alone.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from focusnb.errors import ParameterError, ProgramMissing, ProjectError
from focusnb.io.settings_files import read_settings_file
from focusnb.processing.executors import DaskExecutor, Executor, InlineExecutor, LocalCluster
from focusnb.processing.memory import LEAST_MEMORY, MACHINE_SHARE, default_workers, machine_memory
from focusnb.steps.base import Cost

LINGER = 30.0
"""Seconds a shared cluster goes on after its last client has left."""

ATTEMPTS = 3
"""How often a shared cluster is connected to that is lost meanwhile."""

CONNECT = 5.0
"""Seconds to wait for a scheduler."""

PROBE = 1.0
"""Seconds to wait for somebody to listen at all."""

CONNECT_AGAIN = 2.0
"""Seconds to wait for one that was lost, at each attempt."""

OWN = ("local", "gpu")
"""Clusters that need no table."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class ClusterConfig:
    """A cluster as its table describes it.

    source : file and table, for messages
    """

    name: str
    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def get(self, key: str, otherwise: Any = None) -> Any:
        """Return a value of the table."""
        return self.values.get(key, otherwise)

    @property
    def gpu(self) -> bool:
        """Whether its workers have a GPU."""
        return self.kind == "gpu" or bool(self.get("gpu"))


# ------------------------------------------------------------------------------------------------------ configuration


def config_file() -> Path:
    """Where clusters are described."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "focusnb" / "clusters.toml"


def read_configs() -> dict[str, ClusterConfig]:
    """Read all clusters there are, by name: those of the file, and local and gpu of this machine."""
    path = config_file()
    configs = {kind: ClusterConfig(kind, kind, source=f"{path}: [{kind}]") for kind in OWN}
    for name, table in read_settings_file(path).items():
        configs[name] = _check(path, name, table)
    return configs


def read_config(name: str) -> ClusterConfig:
    """Read one cluster, whatever is wrong with others; ParameterError lists those there are."""
    path = config_file()
    tables = read_settings_file(path)
    if name in tables:
        return _check(path, name, tables[name])
    if name in OWN:
        return ClusterConfig(name, name, source=f"{path}: [{name}]")
    names = list(dict.fromkeys((*OWN, *tables)))
    raise ParameterError(
        f"there is no cluster {name}{_meant(name, names)}; there are {', '.join(names)}; describe others in {path}"
    )


def _check(path: Path, name: str, table: Any) -> ClusterConfig:
    where = f"{path}: [{name}]"
    if not isinstance(table, dict):
        raise ParameterError(f"{path}: {name} belongs to no cluster; write it below a line [name-of-the-cluster]")
    if not NAME.fullmatch(name):
        raise ParameterError(f"{where}: name it with letters, digits, dots, dashes and underscores")
    kind = table.get("kind", name if name in KINDS else None)
    if kind not in KINDS:
        said = "has no kind" if kind is None else f"kind {kind!r} is unknown{_meant(kind, KINDS)}"
        raise ParameterError(f'{where}: {said}; write kind = "..." with one of {", ".join(KINDS)}')
    keys = KINDS[kind]
    values = {}
    for key, value in table.items():
        if key == "kind":
            continue
        if key not in keys:
            raise ParameterError(
                f"{where}: {key} is no key of a cluster of kind {kind}{_meant(key, keys)}; there are {', '.join(keys)}"
            )
        try:
            values[key] = keys[key](value)
        except ValueError as error:
            raise ParameterError(f"{where}: {key} = {value!r} {error}") from error
    for key in REQUIRED.get(kind, ()):
        if key not in values:
            raise ParameterError(f"{where}: {key} is missing; a cluster of kind {kind} needs it")
    least, most = values.get("minimum", 0), values.get("maximum", 1)
    if least > most:
        raise ParameterError(f"{where}: minimum {least} is above maximum {most}; lower it")
    return ClusterConfig(name, kind, values, where)


def _meant(name: Any, there: Any) -> str:
    near = difflib.get_close_matches(str(name), list(there), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _count(least: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"is not a whole number of at least {least}; correct it")
        return value

    return check


def _size(value: Any) -> int:
    from dask.utils import parse_bytes

    try:
        size = int(parse_bytes(value)) if isinstance(value, str) else 0
    except ValueError:
        size = 0
    if size < 100_000_000:
        raise ValueError('is not an amount of memory; write it as "8 GB"')
    return size


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is not a text; write it in quotes")
    return value


def _address(value: Any) -> str:
    if not re.fullmatch(r"(tcp|tls|ucx|ws|wss)://[^\s:]+:\d+", str(value)):
        raise ValueError('is not the address of a scheduler; write it as "tcp://host:8786"')
    return str(value)


def _seconds(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
        raise ValueError("is not a number of seconds; correct it")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false; write one of them without quotes")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError('is not a list of texts; write it as ["...", "..."]')
    return tuple(value)


def _devices(value: Any) -> tuple[int, ...]:
    fits = isinstance(value, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value)
    if not fits or not value or len(set(value)) < len(value):
        raise ValueError("is not a list of different GPUs by number; write it as [0, 1]")
    return tuple(value)


KINDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "local": {"workers": _count(1), "memory_per_worker": _size, "threads": _count(1), "linger": _seconds},
    "gpu": {
        "devices": _devices,
        "decoder_threads": _count(1),
        "memory_per_worker": _size,
        "cpu_workers": _count(0),
        "linger": _seconds,
    },
    "scheduler": {"address": _address, "gpu": _flag},
    "slurm": {
        "queue": _text,
        "account": _text,
        "walltime": _text,
        "memory": _size,
        "cores": _count(1),
        "minimum": _count(0),
        "maximum": _count(1),
        "directives": _texts,
        "prologue": _texts,
        "interface": _text,
        "log_folder": _text,
        "gpu": _flag,
        "linger": _seconds,
    },
}
"""Keys of the tables, by kind, with what reads their values."""

REQUIRED = {"scheduler": ("address",), "slurm": ("memory",)}


# ---------------------------------------------------------------------------------------------------------- executors


def open_cluster(
    name: str | None,
    *,
    workers: int | None = None,
    gpu: bool = False,
    cost: Cost | None = None,
    warm: bool = True,
) -> Executor:
    """Connect to a named cluster, starting it where it is ours and does not run; without a name, start workers that
    belong to this process alone.

    workers : processes on this machine; 0 works in this one
    gpu : compute on GPUs, one worker for each
    cost : what the largest chain occupies; fewer workers are started where each needs much memory
    warm : let workers compile what their first movie needs

    Raises ParameterError for a name or a table that does not fit, ProjectError where the cluster cannot be reached.
    """
    from focusnb.processing.warming import standard_chain

    chain = standard_chain() if warm else ()
    if name is None:
        if workers == 0:
            return InlineExecutor(gpu=gpu)
        config = ClusterConfig("gpu", "gpu") if gpu else ClusterConfig("local", "local")
        return LocalCluster.of(worker_specs(config, workers=workers, cost=cost), gpu=gpu, warm=chain)
    config = read_config(name)
    if gpu and not config.gpu:
        raise ParameterError(f"{config.source}: its workers have no GPU; choose a cluster of kind gpu")
    if workers is not None and config.kind != "local":
        raise ParameterError(
            f"{config.source}: the number of workers is not chosen here; leave --workers {workers} out, or choose "
            "a cluster of kind local"
        )
    if config.kind == "scheduler":
        return _connect_by_address(config, chain)
    from focusnb.processing import shared

    def connect() -> tuple[Any, shared.Entry]:
        return shared.connect(config, workers=workers, cost=cost)

    left = ATTEMPTS
    while True:
        left -= 1
        client, entry = connect()
        try:
            return DaskExecutor(
                client,
                gpu=config.gpu,
                reconnect=lambda: connect()[0],
                most=entry.most,
                allowed=entry.allowed,
                warm=chain,
                cure=f"give its workers more in {config_file()}",
                log=str(shared.registry(config.name, "log")),
            )
        except (OSError, TimeoutError) as error:
            # it ended, or was ended, just now: the next one is started
            client.close(timeout=1)
            if not left:
                raise ProjectError(
                    f"cluster {config.name} was lost {ATTEMPTS} times while it was connected to ({error}); its log is "
                    f"{shared.registry(config.name, 'log')}"
                ) from error


def _connect_by_address(config: ClusterConfig, chain: tuple[str, ...]) -> DaskExecutor:
    address = config.get("address")
    try:
        client = connect_to(address, CONNECT)
    except (OSError, TimeoutError) as error:
        raise ProjectError(
            f"{config.source}: no scheduler answers at {address} within {CONNECT:g} s; start it, or correct the address"
        ) from error
    return DaskExecutor(
        client,
        gpu=config.gpu,
        reconnect=lambda: connect_to(address, CONNECT_AGAIN),
        warm=chain,
        cure="start workers with a higher --memory-limit",
    )


def connect_to(address: str, timeout: float) -> Any:
    """Connect to a scheduler; returns a distributed.Client, or raises OSError where nobody answers.

    A client that cannot connect leaves a thread and open files behind: it is made only where somebody listens.
    """
    from distributed import Client

    # a scheduler that is lost is told in a sentence by revive(), not by the traces of dask's attempts
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    where = urlsplit(address)
    if where.scheme in ("tcp", "tls", "ws", "wss"):
        try:
            socket.create_connection((where.hostname, where.port), timeout=PROBE).close()
        except (ValueError, OverflowError) as error:  # of the port
            raise OSError(str(error)) from error
    return Client(address, timeout=timeout, set_as_default=False)


def worker_specs(config: ClusterConfig, *, workers: int | None = None, cost: Cost | None = None) -> list[Any]:
    """Say which worker processes make up a cluster of this machine (a list of WorkerSpec)."""
    from focusnb.processing.processes import WorkerSpec

    if config.kind == "gpu":
        return _gpu_specs(config, cost)
    each = config.get("memory_per_worker")
    count = workers if workers is not None else config.get("workers")
    if count is None:
        count = default_workers(cost) if each is None else max(1, min(default_workers(), _fitting(each)))
    if count < 1:
        raise ParameterError(f"{count} workers cannot work; give at least 1")
    if each is not None and count > _fitting(each):
        raise ParameterError(
            f"{config.source}: {count} workers of {each / 1e9:.1f} GB are more than this machine has "
            f"({MACHINE_SHARE * machine_memory() / 1e9:.1f} GB for all of them); lower workers or memory_per_worker"
        )
    memory = each or int(MACHINE_SHARE * machine_memory() / count)
    return [WorkerSpec(memory, config.get("threads", 1))] * count


def _fitting(memory: int) -> int:
    return int(MACHINE_SHARE * machine_memory() // memory)


def _gpu_specs(config: ClusterConfig, cost: Cost | None) -> list[Any]:
    from dask.system import cpu_count

    from focusnb.processing.processes import WorkerSpec

    found = find_devices()
    where = config.source or "gpu"
    if not found:
        raise ParameterError(f"{where}: no GPU was found (nvidia-smi lists none); process without one")
    devices = config.get("devices") or tuple(found)
    for device in devices:
        if device not in found:
            raise ParameterError(
                f"{where}: there is no GPU {device}; there are {', '.join(map(str, found))}; correct devices"
            )
    on_cpu = config.get("cpu_workers", 0)
    threads = config.get("decoder_threads") or max(1, (cpu_count() - on_cpu) // len(devices))
    memory = config.get("memory_per_worker") or int(MACHINE_SHARE * machine_memory() / (len(devices) + on_cpu))
    if _fitting(memory) < len(devices) + on_cpu:
        raise ParameterError(
            f"{where}: {len(devices) + on_cpu} workers of {memory / 1e9:.1f} GB are more than this machine has "
            f"({MACHINE_SHARE * machine_memory() / 1e9:.1f} GB for all of them); lower memory_per_worker"
        )
    # numbers are those of nvidia-smi, which CUDA counts in another order unless told
    specs = [
        WorkerSpec(
            memory,
            threads,
            {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(device)},
            {"GPU": 1, "gpu_memory": found[device]},
        )
        for device in devices
    ]
    return specs + [WorkerSpec(memory, 1, {"CUDA_VISIBLE_DEVICES": ""}, {"CPU": 1})] * on_cpu


def find_devices() -> dict[int, int]:
    """Find the GPUs of this machine this process may use: their memory in bytes by number, as nvidia-smi counts."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [program, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.count(",") == 2]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    allowed = None if visible is None else [item.strip() for item in visible.split(",")]
    return {
        int(index): int(float(memory) * 2**20)
        for index, uuid, memory in rows
        if allowed is None or index in allowed or any(item and uuid.startswith(item) for item in allowed)
    }


# -------------------------------------------------------------------------------------------------------------- SLURM


def start_slurm(config: ClusterConfig) -> Any:
    """Start a scheduler here whose workers are jobs of SLURM; as many as there are tasks, between the limits."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise ProgramMissing(
            f"{config.source}: dask-jobqueue is not installed; install it with: pip install 'focusnb[slurm]'"
        ) from error
    if shutil.which("sbatch") is None:
        raise ProgramMissing(f"{config.source}: sbatch is not found on the PATH; start it on a host that submits jobs")
    import dask

    from focusnb.processing.heap import ONE_ARENA
    from focusnb.processing.licence import MEMORY_SHARE
    from focusnb.processing.processes import SETTINGS, THREADS

    memory, cores = config.get("memory"), config.get("cores", 1)
    resources = {"memory": int(MEMORY_SHARE * memory)}
    settings = {
        **SETTINGS,
        # a task nobody has timed asks for a job of its own
        "distributed.scheduler.default-task-durations": {"exposure": "60s"},
    }
    with dask.config.set(settings):
        cluster = SLURMCluster(
            queue=config.get("queue"),
            account=config.get("account"),
            walltime=config.get("walltime", "12:00:00"),
            cores=1,
            job_cpu=cores,
            processes=1,
            memory=f"{memory} B",
            interface=config.get("interface"),
            scheduler_options={"dashboard": True, "dashboard_address": "127.0.0.1:0"},
            job_extra_directives=list(config.get("directives", ())),
            job_script_prologue=[
                *(f"export {name}={cores}" for name in THREADS),
                *(f"export {name}={value}" for name, value in ONE_ARENA.items()),
                *(f"export {_variable(key)}={value}" for key, value in SETTINGS.items() if ".worker.memory." in key),
                *config.get("prologue", ()),
            ],
            log_directory=config.get("log_folder"),
            worker_extra_args=["--resources", " ".join(f"{name}={amount}" for name, amount in resources.items())],
            silence_logs="error",
        )
        cluster.adapt(minimum=config.get("minimum", 0), maximum=config.get("maximum", 1), target_duration="1s")
    return cluster


def _variable(setting: str) -> str:
    """Name the variable that dask reads a setting from."""
    return "DASK_" + setting.replace(".", "__").replace("-", "_").upper()


def allowed_in_job(config: ClusterConfig) -> int:
    """Bytes a task in a job may take."""
    from focusnb.processing.licence import MEMORY_SHARE

    return int(MEMORY_SHARE * config.get("memory", LEAST_MEMORY))
