"""Servers and buckets as they are: they go away in the middle, hang, come back empty, and tell browsers of files."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from focusnb.errors import FormatError, ProgramMissing
from focusnb.monitoring import targets
from focusnb.monitoring.microscopes import fetch_from
from focusnb.monitoring.publish import Publisher
from focusnb.monitoring.snapshot import read_snapshot
from focusnb.monitoring.targets import BucketTarget, Outage, RsyncTarget, SftpTarget, Target
from tests.monitoring.test_publish import all_files, made, page
from tests.ports import free_port
from tests.waiting import wait_until

SSHD = next((path for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if os.path.exists(path)), None)


class Ssh:
    """A real sshd on this host, with keys of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        kind, key, *_ = (folder / "host.pub").read_text().split()
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {folder}/user.pub\nSubsystem sftp internal-sftp\nPermitRootLogin yes\n"
        )
        self.config = folder / "config"
        self.config.write_text(
            f"Host titan\n HostName 127.0.0.1\n Port {self.port}\n IdentityFile {folder}/user\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {folder}/known\n BatchMode yes\n LogLevel ERROR\n"
        )
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [SSHD, "-D", "-f", str(self.folder / "sshd_config"), "-E", str(self.folder / "log")]
        self._server = subprocess.Popen(command, start_new_session=True)
        wait_until(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        """End the server and every connection it has."""
        if self._server is None:
            return
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._server.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._server.kill()
        self._server.wait()
        self._server = None

    def sftp(self, place: Path) -> SftpTarget:
        command = ["sftp", "-F", str(self.config), "-b", "-", "titan"]
        return SftpTarget(f"sftp://titan{place}", command=command)

    def rsync(self, place: Path) -> RsyncTarget:
        program = self.folder / "rsync"
        program.write_text(f'#!/bin/sh\nexec rsync "$@" --rsh="ssh -F {self.config}"\n')
        program.chmod(0o755)
        return RsyncTarget(f"titan:{place}", f"rsync:titan:{place}", program=str(program))


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[Ssh]:
    missing = [name for name in ("sftp", "ssh", "rsync", "ssh-keygen") if shutil.which(name) is None]
    if SSHD is None or missing:
        pytest.skip(f"{', '.join(missing) or 'sshd'} is not installed (openssh-server, openssh-client, rsync)")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    server = Ssh(folder)
    server.start()
    yield server
    server.kill()


def read_on(folder: Path, until: threading.Event, faults: list[str], seen: set[str]) -> None:
    """What a web server's readers would see, again and again."""
    while not until.is_set():
        try:
            seen.add(read_snapshot(fetch_from(str(folder))).status["state"]["sentence"])
        except FileNotFoundError as error:
            if "status.json" not in str(error):
                faults.append(str(error))
        except FormatError as error:
            faults.append(str(error))
        until.wait(0.05)


@pytest.mark.parametrize("kind", ["sftp", "rsync"])
def test_a_server_killed_in_the_middle_shows_no_half_state_and_is_made_up(ssh: Ssh, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "titan 1"
    target: Target = ssh.sftp(place) if kind == "sftp" else ssh.rsync(place)
    now = [0.0]
    publisher = Publisher(target, clock=lambda: now[0], page=page)
    publisher.publish(made(0))
    ended, faults, seen = threading.Event(), list[str](), set[str]()
    reader = threading.Thread(target=read_on, args=(place, ended, faults, seen))
    reader.start()
    for number in (1, 2):
        killer = threading.Timer(0.08 * number - 0.05, ssh.kill)
        killer.start()
        with contextlib.suppress(Outage):  # where it was through before the server ended
            publisher.publish(made(number))
        killer.join()
        with pytest.raises(Outage, match="refused"):
            publisher.publish(made(number))
        ssh.start()
        publisher.publish(made(number))
        assert read_snapshot(fetch_from(str(place))).status["state"]["sentence"] == str(number)
    ended.set()
    reader.join()
    assert not faults
    # whoever emptied the folder meanwhile gets all of it again, with its page
    shutil.rmtree(place)
    now[0] += 700
    publisher.publish(made(9))
    assert {path.name for path in place.iterdir()} == {"data", "index.html", "status.json"}
    assert read_snapshot(fetch_from(str(place))).status["state"]["sentence"] == "9"


def test_why_a_server_lets_nobody_in_is_told_with_the_cure(ssh: Ssh, tmp_path: Path) -> None:
    known = (ssh.folder / "known").read_text()
    (ssh.folder / "known").write_text("")
    with pytest.raises(Outage, match="log in there once with ssh"):
        ssh.sftp(tmp_path / "x").names()
    (ssh.folder / "known").write_text(known)
    with pytest.raises(Outage, match=r"the folder /proc/x cannot be made"):
        ssh.sftp(Path("/proc/x")).names()
    with pytest.raises(Outage, match="make the folder there first"):
        ssh.rsync(tmp_path / "a" / "b").put({"status.json": b"{}"})
    (ssh.folder / "user.pub").write_text("")
    with pytest.raises(Outage, match="ssh-copy-id"):
        ssh.rsync(tmp_path / "x").put({"status.json": b"{}"})


def test_a_server_that_falls_silent_is_given_up_with_all_that_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "PATIENCE", 3.0)
    program = tmp_path / "sftp"
    # as ssh, which sftp starts: it waits for the server, and holds what sftp would write to
    program.write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/child\nwait\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(Outage, match="took longer"):
        SftpTarget("sftp://titan/x", command=[str(program)]).names()
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not _lives(child))


def _lives(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class Cloud(MemoryFileSystem):  # type: ignore[misc]
    """A bucket that remembers what it was told of each file."""

    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    told: dict[str, dict[str, Any]] = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.partition("://")[2] or path)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        self.told[path.rpartition("/")[2]] = more
        super().pipe_file(path, value, mode=mode)


@pytest.mark.parametrize("scheme", ["s3", "gs", "abfs"])
def test_a_browser_shows_the_page_of_a_bucket_and_keeps_no_old_state(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(import_module("fsspec.registry")._registry, scheme, Cloud)
    Cloud.store.clear()
    Cloud.told.clear()
    publisher = Publisher(f"{scheme}://bucket/titan", page=page)
    publisher.publish(made(3))
    flat = {
        name: {key: value for part in (more, *more.values()) if isinstance(part, dict) for key, value in part.items()}
        for name, more in Cloud.told.items()
    }
    kinds = {name: told.get("ContentType") or told["content_type"] for name, told in flat.items()}
    kept = {name: told.get("CacheControl") or told["cache_control"] for name, told in flat.items()}
    assert kinds.pop("index.html") == "text/html; charset=utf-8"
    assert kinds.pop("status.json") == "application/json"
    assert set(kinds.values()) <= {"image/png", "application/json"}
    assert kept.pop("index.html") == kept.pop("status.json") == "no-cache"
    assert all("immutable" in value for value in kept.values())
    assert kept


def test_azure_is_told_in_the_words_of_its_own_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a plain table older versions of adlfs say that it is none."""
    library = ModuleType("azure.storage.blob")
    library.ContentSettings = SimpleNamespace  # type: ignore[attr-defined]
    for name in ("azure", "azure.storage"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "azure.storage.blob", library)
    monkeypatch.setitem(import_module("fsspec.registry")._registry, "abfs", Cloud)
    Cloud.store.clear()
    Cloud.told.clear()
    Publisher("abfs://bucket/titan", page=page).publish(made(3))
    told = Cloud.told["status.json"]["content_settings"]
    assert (told.content_type, told.cache_control) == ("application/json", "no-cache")


def test_a_server_that_speaks_no_utf8_is_understood(tmp_path: Path) -> None:
    program = tmp_path / "sftp"
    program.write_bytes(b"#!/bin/sh\nprintf 'Verbindung verweigert: \\374berlastet' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(Outage, match="berlastet"):
        SftpTarget("sftp://titan/x", command=[str(program)]).names()


def test_the_state_is_the_last_that_is_written_to_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket knows no rename: whoever reads between two files sees the state before, whole."""
    address = f"memory://order-{os.getpid()}/titan"
    publisher = Publisher(address, page=page)
    publisher.publish(made(1))
    seen = []
    put = MemoryFileSystem.pipe_file

    def pipe_file(self: Any, path: str, value: bytes, **more: Any) -> None:
        seen.append((path.rpartition("/")[2], read_snapshot(fetch_from(address)).status["state"]["sentence"]))
        put(self, path, value, **more)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    publisher.publish(made(2))
    assert len(seen) > 2
    assert {sentence for _, sentence in seen} == {"1"}
    assert [name for name, _ in seen].index("status.json") == len(seen) - 1


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")])
def test_a_missing_package_is_named_with_how_to_install_it(scheme: str, package: str) -> None:
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ProgramMissing, match=f"pip install {package}"):
        BucketTarget(f"{scheme}://bucket/x")
    with pytest.raises(ProgramMissing, match=f"pip install {package}"):
        fetch_from(f"{scheme}://bucket/x")("status.json")


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Starts and kills a server that is like S3; it forgets everything when it ends."""
    if not (find_spec("s3fs") and find_spec("moto")):
        pytest.skip("s3fs and moto are not installed (pip install s3fs 'moto[server]')")
    port = free_port()
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    running: list[subprocess.Popen[bytes]] = []

    def turn(on: bool) -> None:
        if not on:
            server = running.pop()
            server.kill()
            server.wait()
            return
        command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        wait_until(answers)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")

    turn(True)
    yield turn
    for server in running:
        server.kill()
        server.wait()


def test_a_bucket_of_s3_goes_away_and_comes_back(moto: Callable[[bool], None]) -> None:
    address = "s3://bucket/titan"
    publisher = Publisher(address, page=page)
    publisher.publish(made(1))
    told = fsspec.filesystem("s3").call_s3("head_object", Bucket="bucket", Key="titan/index.html")
    assert (told["ContentType"], told["CacheControl"]) == ("text/html; charset=utf-8", "no-cache")
    moto(False)
    with pytest.raises(Outage):
        publisher.publish(made(2))
    moto(True)
    publisher.publish(made(2))
    assert read_snapshot(fetch_from(address)).status["state"]["sentence"] == "2"
    assert publisher.target.names() == all_files(made(2))
    assert fetch_from(address)("index.html") == page()
