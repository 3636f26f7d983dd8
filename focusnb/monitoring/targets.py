"""Where a session can be published: a folder, an sftp or rsync server, a bucket. Each replaces a file as a whole."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from focusnb.errors import FocusError, ParameterError, ProgramMissing
from focusnb.io import files
from focusnb.monitoring.settings import shown_address

DATA = "data"
"""Folder of a target that holds pictures and pieces of series."""

PATIENCE = 120.0
"""Seconds that a transfer may take before it counts as an outage."""


class Outage(FocusError):
    """A target cannot be reached or written for now; trying again later is right."""


class Target(Protocol):
    """A place that is published to. Every method raises Outage where the place cannot be reached."""

    name: str

    def names(self) -> set[str]:
        """Names of the files below ``data``, with that folder."""

    def put(self, contents: Mapping[str, bytes]) -> None:
        """Write files, each as a whole or not at all."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; one that is not there is no fault."""


def open_target(address: str) -> Target:
    """Make a target of an address: a folder, ``sftp://user@host/path``, ``rsync:user@host:path``, ``s3://bucket/path``
    or another address of fsspec. Raises ParameterError for what is none.
    """
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if address.startswith("rsync:"):
        return RsyncTarget(address if scheme == "rsync" else address.removeprefix("rsync:"), address)
    if scheme in ("", "file"):
        return FolderTarget(Path(unquote(urlsplit(address).path)) if scheme else Path(address).expanduser())
    if scheme in ("sftp", "ssh"):
        return SftpTarget(address)
    if scheme in ("http", "https", "webdav"):
        raise ParameterError(
            f"{shown_address(address)}: {scheme} cannot be written; publish to the folder that this server shows"
        )
    return BucketTarget(address)


class FolderTarget:
    """A folder of this host, also one of a network file system or of a web server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def names(self) -> set[str]:
        try:
            for folder in (self.folder, self.folder / DATA):
                if not folder.is_dir():
                    folder.mkdir(parents=True)
                    # readable for a web server, whatever this user's mask is
                    folder.chmod(0o755)
            found = list((self.folder / DATA).iterdir())
            for path in (*found, *self.folder.iterdir()):
                if files.is_left_over(path):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise _outage(self.name, error) from error
        return {f"{DATA}/{path.name}" for path in found}

    def put(self, contents: Mapping[str, bytes]) -> None:
        for name, content in contents.items():
            try:
                files.write_bytes(self.folder / name, content)
                os.chmod(self.folder / name, 0o644)
            except (OSError, FocusError) as error:
                raise _outage(self.name, error) from error

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                (self.folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise _outage(self.name, error) from error


class SftpTarget:
    """A folder of a server that is reached by OpenSSH's ``sftp``, with this user's keys and configuration.

    command : what is run in place of ``sftp -b - HOST``, the commands on its standard input
    """

    def __init__(self, address: str, *, command: Sequence[str] | None = None) -> None:
        parts = urlsplit(address)
        if not parts.hostname:
            raise ParameterError(f"{shown_address(address)}: names no host; write sftp://user@host/path")
        if parts.password:
            raise ParameterError("sftp takes no password in the address; use a key (ssh-copy-id) and leave it out")
        self.name = address
        # sftp://host/path is absolute, sftp://host/~/path lies in the home folder
        self.folder = unquote(parts.path).removeprefix("/~/").rstrip("/") or "."
        user = f"{parts.username}@" if parts.username else ""
        port = ["-P", str(parts.port)] if parts.port else []
        # of errors alone it tells why; greetings of the server are none
        options = ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", *port]
        self._command = list(command) if command else ["sftp", *options, "-b", "-", f"{user}{parts.hostname}"]
        self._made = False

    def names(self) -> set[str]:
        self._made = False  # somebody may have removed them
        self._make_folders()
        listed = self._run([f"ls -1 {DATA}"])
        lines = [line.strip() for line in listed.splitlines() if not line.startswith("sftp>")]
        return {f"{DATA}/{line.rpartition('/')[2]}" for line in lines if line}

    def put(self, contents: Mapping[str, bytes]) -> None:
        self._make_folders()
        with tempfile.TemporaryDirectory(prefix="focusnb-publish-") as folder:
            commands = []
            for number, (name, content) in enumerate(contents.items()):
                (Path(folder) / str(number)).write_bytes(content)
                # put writes byte by byte; a rename on the server is at once
                commands += [f"put {number} {name}.part", f"chmod 644 {name}.part", f"rename {name}.part {name}"]
            self._run(commands, local=folder)

    def remove(self, names: Iterable[str]) -> None:
        commands = [f"-rm {name}" for name in names]
        if commands:
            self._run(commands)

    def _make_folders(self) -> None:
        if self._made:
            return
        commands, path = [], "/" if self.folder.startswith("/") else ""
        for part in self.folder.strip("/").split("/"):
            path += part
            commands.append(f"-mkdir {_quoted(path)}")
            path += "/"
        _run_program(self._command, self.name, "\n".join(commands) + "\n")
        try:
            self._run([f"-mkdir {DATA}"])
        except Outage as error:
            if "No such file" not in str(error) and "not a directory" not in str(error):
                raise
            raise Outage(
                f"{self.name}: the folder {self.folder} cannot be made on the server; make it there, or name one "
                "where this user may write"
            ) from error
        self._made = True

    def _run(self, commands: Sequence[str], *, local: str | None = None) -> str:
        # names are relative to both folders: sftp takes some signs of a path for patterns in some commands only
        told = [f"cd {_quoted(self.folder)}", *commands]
        try:
            return _run_program(self._command, self.name, "\n".join(told) + "\n", folder=local)
        except Outage:
            self._made = False  # the server may come back without them
            raise


class RsyncTarget:
    """A folder that rsync can reach: ``user@host:path``, an rsync server's module, or a local path."""

    def __init__(self, place: str, address: str, *, program: str = "rsync") -> None:
        self.name, self._place, self._program = shown_address(address), place.rstrip("/"), program

    def names(self) -> set[str]:
        # a relative source listed recursively; a folder that is not there yet holds nothing
        try:
            listed = self._run(["--list-only", f"{self._place}/{DATA}/"])
        except Outage as error:
            if "No such file" in str(error):
                return set()
            raise
        return {f"{DATA}/{line.split()[-1]}" for line in listed.splitlines() if line.startswith("-")}

    def put(self, contents: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory(prefix="focusnb-publish-") as folder:
            (Path(folder) / DATA).mkdir()
            for name, content in contents.items():
                (Path(folder) / name).write_bytes(content)
            # rsync writes beside the target and renames, file by file
            self._run(["--recursive", "--checksum", "--chmod=D755,F644", f"{folder}/", f"{self._place}/"])

    def remove(self, names: Iterable[str]) -> None:
        wanted = [name.removeprefix(f"{DATA}/") for name in names]
        if not wanted:
            return
        with tempfile.TemporaryDirectory(prefix="focusnb-publish-") as folder:
            # of an empty folder only what is listed is looked at, and so removed there
            (Path(folder) / "list").write_text("".join(f"+ /{name}\n" for name in wanted) + "- *\n")
            (Path(folder) / DATA).mkdir()
            rules = f"--filter=merge {folder}/list"
            self._run(["--recursive", "--delete", rules, f"{folder}/{DATA}/", f"{self._place}/{DATA}/"])

    def _run(self, arguments: Sequence[str]) -> str:
        command = [self._program, "--timeout=60", "--rsh=ssh -o BatchMode=yes -o ConnectTimeout=20", *arguments]
        return _run_program(command, self.name, "")


class BucketTarget:
    """A bucket, or whatever else fsspec can write: ``s3://bucket/path``, ``gs://...``, ``abfs://...``."""

    def __init__(self, address: str) -> None:
        import fsspec

        self.name, self._address = shown_address(address), address
        scheme = address.partition("://")[0]
        try:
            fsspec.get_filesystem_class(scheme)
        except ImportError as error:
            raise ProgramMissing(f"{self.name}: {missing_package(scheme, error)}") from error
        except ValueError as error:
            told = f"{self.name}: {scheme}:// is no place that can be published to ({error})"
            raise ParameterError(told) from error
        self._cloud = _CLOUDS.get(scheme)

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """The file system and the path within it; made when it is used: some connect at once, and may wait for long."""
        import fsspec

        system, path = fsspec.core.url_to_fs(self._address, use_listings_cache=False, skip_instance_cache=True)
        return system, str(path)

    def names(self) -> set[str]:
        try:
            system, path = self._place
            system.invalidate_cache()
            found = system.ls(f"{path}/{DATA}", detail=False)
        except FileNotFoundError:
            return set()
        except Exception as error:
            raise _outage(self.name, error) from error
        return {f"{DATA}/{str(name).rpartition('/')[2]}" for name in found}

    def put(self, contents: Mapping[str, bytes]) -> None:
        try:
            system, path = self._place
            for name, content in contents.items():
                # an object of a bucket is there as a whole or not at all
                headers = {} if self._cloud is None else _headers(self._cloud, name)
                system.pipe_file(f"{path}/{name}", content, **headers)
        except Exception as error:
            raise _outage(self.name, error) from error

    def remove(self, names: Iterable[str]) -> None:
        try:
            system, path = self._place
            for name in names:
                if system.exists(f"{path}/{name}"):
                    system.rm_file(f"{path}/{name}")
        except Exception as error:
            raise _outage(self.name, error) from error


_CLOUDS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "abfs": "az", "abfss": "az", "az": "az"}

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "sftp": "paramiko", "ssh": "paramiko"}

_TYPES = {"html": "text/html; charset=utf-8", "json": "application/json", "png": "image/png"}


def _headers(cloud: str, name: str) -> dict[str, Any]:
    """What a bucket is to tell a browser of a file: its type, or a page would be saved and not shown, and how long
    it may be kept, or some would keep a state for an hour.
    """
    kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    keep = "public, max-age=86400, immutable" if name.startswith(f"{DATA}/") else "no-cache"
    if cloud == "s3":
        return {"ContentType": kind, "CacheControl": keep}
    if cloud == "gs":
        return {"content_type": kind, "fixed_key_metadata": {"cache_control": keep}}
    told = {"content_type": kind, "cache_control": keep}
    try:
        from azure.storage.blob import ContentSettings
    except ImportError:
        return {"content_settings": told}
    return {"content_settings": ContentSettings(**told)}  # older adlfs takes no table


def missing_package(scheme: str, error: ImportError) -> str:
    """What fsspec misses for addresses of this kind, and how to install it."""
    package = _PACKAGES.get(_CLOUDS.get(scheme, scheme))
    return f"{error}: pip install {package}" if package else str(error)


def _outage(name: str, error: BaseException) -> Outage:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Outage(f"{name}: cannot be published to ({reason})")


_CURES = {
    "Host key verification failed": "; log in there once with ssh, and accept its key",
    "Permission denied (": "; give the server this user's key with ssh-copy-id",
    '" failed: No such file': "; make the folder there first: rsync makes only the last one of a path",
}


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _run_program(command: Sequence[str], name: str, commands: str, *, folder: str | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise ProgramMissing(f"{name}: {command[0]} is not installed; install it, or publish to a folder or bucket")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        list(command),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        cwd=folder,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as program:
        try:
            out, errors = program.communicate(commands, PATIENCE)
        except BaseException as error:
            # ssh, which it started, may wait for a silent server for ever, and holds what is read here
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                told = f"{name}: {shlex.join(command[:1])} took longer than {PATIENCE:.0f} s"
                raise Outage(told) from error
            raise
    if program.returncode != 0:
        said = [line.strip() for line in errors.splitlines() if line.strip()]
        told = "; ".join(said)[:400] or f"exit status {program.returncode}"
        cure = next((cure for sign, cure in _CURES.items() if sign in told), "")
        raise Outage(f"{name}: cannot be published to ({told}){cure}")
    return out
