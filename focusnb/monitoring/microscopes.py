"""Several microscopes at a glance: which there are is written in a small file, where their sessions are is read there.

[titan1]
project = "/data/titan1/2026-11-27"       # a project on this host
[glacios]
published = "https://example.org/glacios"  # or the folder, bucket or address it is published to
"""

from __future__ import annotations

import base64
import http.client
import ssl
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focusnb.errors import FocusError, FormatError, ParameterError, ProgramMissing
from focusnb.monitoring.settings import PublishSettings, read_publishing, shown_address
from focusnb.monitoring.snapshot import Fetch, Snapshot, SnapshotMaker, read_file, read_snapshot
from focusnb.monitoring.targets import missing_package
from focusnb.project.project import Project

TIMEOUT = 10.0
"""Seconds that a server may take to answer."""

DEADLINE = 60.0
"""Seconds that it may take to send a file: one that drips for ever must not hold whoever looks."""

GONE = 3600.0
"""Seconds without news after which something is wrong, whatever the session was."""

APART = 60.0
"""Seconds between two hosts' clocks from which one of them is wrong."""

_LARGEST = 50_000_000  # bytes of a published file; what is larger is none


@dataclass(frozen=True)
class Microscope:
    """A microscope of the file: its name, and either a project's folder or where its session is published."""

    name: str
    project: Path | None = None
    published: str | None = None


@dataclass(frozen=True)
class Glance:
    """A microscope at a moment: its state in words, or why nothing is known of it.

    level : ok, idle, warning or bad; stale : a newer state should have been published by now
    ahead : s that this host's clock is ahead of the microscope's, where one of them is wrong
    """

    name: str
    word: str
    sentence: str
    level: str
    age: float | None = None
    images_per_hour: float | None = None
    alerts: int = 0
    stale: bool = False
    snapshot: Snapshot | None = None
    ahead: float = 0.0

    def here(self, at: float) -> float:
        """A time that the microscope told, by this host's clock."""
        return at + self.ahead


def read_microscopes(path: Path) -> list[Microscope]:
    """Read the file; ParameterError names what is wrong with it and how it should be."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ParameterError(
            f"{path}: there is no such file or folder; name a project, or write a file with a table for each microscope"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ParameterError(f"{path}: cannot be read as TOML ({error}); correct it") from error
    microscopes = [_microscope(path, name, values) for name, values in found.items()]
    if not microscopes:
        raise ParameterError(f'{path}: names no microscope; write [NAME] and below it project = "FOLDER"')
    return microscopes


def _microscope(path: Path, name: str, values: Any) -> Microscope:
    if not isinstance(values, dict):
        raise ParameterError(f'{path}: {name} is not a table; write [NAME] and below it project = "FOLDER"')
    unknown = set(values) - {"project", "published"}
    if unknown or len(values) != 1 or not all(isinstance(value, str) for value in values.values()):
        told = f"{', '.join(sorted(unknown))} is unknown" if unknown else f"it has {', '.join(values) or 'nothing'}"
        raise ParameterError(f"{path}: [{name}] needs either project or published, a text ({told})")
    # beside the file, where it is not named from the root
    project = path.parent / Path(values["project"]).expanduser() if "project" in values else None
    return Microscope(name, project, values.get("published"))


class Microscopes:
    """Looks at all microscopes again and again; of published ones only what is new is fetched."""

    def __init__(self, microscopes: Sequence[Microscope], *, clock: Callable[[], float] = time.time) -> None:
        self.microscopes = list(microscopes)
        self._clock = clock
        self._makers: dict[str, SnapshotMaker] = {}
        self._last: dict[str, Snapshot] = {}
        self._ahead: dict[str, float] = {}
        self._looked: dict[str, float] = {}

    @classmethod
    def of(cls, path: Path) -> Microscopes:
        """Those that a file names."""
        return cls(read_microscopes(path))

    def glance(self, *, files: bool = True) -> list[Glance]:
        """All microscopes as they are now; one that cannot be read says why. ``files``: with pictures and series."""
        return [self.look(microscope.name, files=files) for microscope in self.microscopes]

    def look(self, name: str, *, files: bool = True) -> Glance:
        """One microscope as it is now."""
        microscope = next((m for m in self.microscopes if m.name == name), None)
        if microscope is None:
            raise ParameterError(
                f"there is no microscope {name}; there are {', '.join(m.name for m in self.microscopes)}"
            )
        try:
            snapshot = self._snapshot(microscope, files=files)
            seen = glance_at(name, snapshot, self._clock(), ahead=self._follow_clock(microscope, snapshot))
        except FileNotFoundError as error:
            return self._unknown(microscope, f"{error.filename}: nothing is there; see that its disk is mounted")
        except (FocusError, OSError) as error:
            return self._unknown(microscope, str(error))
        except Exception as error:  # what others publish may be anything: it must not hide the other microscopes
            return self._unknown(microscope, f"its state cannot be understood ({type(error).__name__}: {error})")
        self._last[name] = snapshot
        return seen

    def _follow_clock(self, microscope: Microscope, snapshot: Snapshot) -> float:
        """By how many s this host's clock is ahead of the microscope's.

        A state that was not there at the last look came since, whatever the other clock says, and none is of the
        future.
        """
        if microscope.project is not None:
            return 0.0  # its state is made here
        name, now, made_at = microscope.name, self._clock(), snapshot.made_at
        last = self._last.get(name)
        if last is None or last.made_at != made_at:
            came = min(now, max(made_at, self._looked.get(name, made_at)))
            self._ahead[name] = came - made_at if abs(came - made_at) > APART else 0.0
        self._looked[name] = now
        return self._ahead[name]

    def close(self) -> None:
        """Close the projects."""
        for maker in self._makers.values():
            maker.project.close()
        self._makers = {}

    def _snapshot(self, microscope: Microscope, *, files: bool) -> Snapshot:
        if microscope.published is not None:
            last = self._last.get(microscope.name)
            known = {} if last is None else last.files
            return read_snapshot(fetch_from(microscope.published), known=known, files=files)
        assert microscope.project is not None
        if microscope.name not in self._makers:
            self._makers[microscope.name] = SnapshotMaker(Project.open(microscope.project), clock=self._clock)
        settings: PublishSettings = read_publishing(microscope.project)[0]
        return self._makers[microscope.name].make(settings)

    def _unknown(self, microscope: Microscope, reason: str) -> Glance:
        last = self._last.get(microscope.name)
        if last is None:
            return Glance(microscope.name, "unreachable", reason, "bad")
        now, ahead = self._clock(), self._ahead.get(microscope.name, 0.0)
        seen = glance_at(microscope.name, last, now, ahead=ahead)
        told = f"Not reachable since {_moment(last.made_at + ahead, now)}: {reason}"
        return Glance(microscope.name, "unreachable", told, "bad", seen.age, None, seen.alerts, True, last, ahead)


def glance_at(name: str, snapshot: Snapshot, now: float, *, ahead: float = 0.0) -> Glance:
    """What a snapshot tells at a glance; ``ahead``: s that the clock of ``now`` is ahead of the microscope's."""
    status: Mapping[str, Any] = snapshot.status
    state = status["state"]
    there = now - ahead
    stale = snapshot.is_stale(there)
    last = state["last_image"]
    told = _moment(snapshot.made_at + ahead, now)
    alerts = sum(alert["recovered"] is None for alert in status["alerts"])
    worst = any(alert["recovered"] is None and alert["severe"] for alert in status["alerts"])
    level = "bad" if worst else "warning" if alerts and state["level"] in ("ok", "idle") else state["level"]
    return Glance(
        name,
        "stale" if stale else state["word"],
        f"Stale: last update {told}. It was: {state['sentence']}" if stale else state["sentence"],
        ("bad" if there - snapshot.made_at > GONE else "warning") if stale else level,
        None if last is None else max(0.0, there - last),
        status["speed"]["recording"],
        alerts,
        stale,
        snapshot,
        ahead,
    )


def _moment(at: float, now: float) -> str:
    """When it was, by this host's clock; with its day where that may be another one."""
    return time.strftime("%H:%M" if now - at < 43_200 else "%Y-%m-%d %H:%M", time.localtime(at))


def fetch_sheet(microscope: Microscope, snapshot: Snapshot, name: str) -> bytes:
    """A sheet of previews that a snapshot names; OSError or FormatError where it cannot be had."""
    if name in snapshot.sheets or microscope.published is None:
        return snapshot.sheets[name]
    return read_file(fetch_from(microscope.published), name)


def fetch_from(address: str) -> Fetch:
    """What reads the files of a published session: from a web server, a folder, or whatever fsspec knows."""
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if scheme in ("http", "https"):
        _check_password(address)
        return lambda name: _fetch_web(address, name)
    if address.startswith("rsync:"):
        raise ParameterError(
            f"{address}: rsync is written to and not read from; name the web server that shows it, sftp://host/path, "
            "or the folder"
        )
    if scheme in ("", "file"):
        folder = Path(urllib.parse.unquote(urllib.parse.urlsplit(address).path) if scheme else address).expanduser()
        return lambda name: (folder / name).read_bytes()
    return lambda name: _fetch_bucket(address, name)


def _check_password(address: str) -> None:
    """ParameterError where a password ends the host's part of an address: else what is left of it would be told."""
    try:
        hidden = shown_address(address) != address and "@" not in urllib.parse.urlsplit(address).netloc
    except ValueError:
        hidden = True
    if hidden:
        raise ParameterError(
            f"{shown_address(address)}: its name or password holds a sign that ends it; write / as %2F, ? as %3F, "
            "# as %23, [ as %5B and ] as %5D"
        )


def _fetch_web(address: str, name: str) -> bytes:
    parts = urllib.parse.urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    folder = f"{parts.scheme}://{host}{parts.path.removesuffix('/index.html').rstrip('/')}"
    place = f"{folder}/{urllib.parse.quote(name)}"
    request = urllib.request.Request(place, headers={"Cache-Control": "no-cache"})
    if parts.username:
        known = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        # not told to where the server may send us on
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(known.encode()).decode()}")
    try:
        with _opener().open(request, timeout=TIMEOUT) as answer:
            content = _read(answer, place)
    except urllib.error.HTTPError as error:
        raise OSError(f"{place}: {_answered(error)}") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise OSError(f"{place}: cannot be reached ({_unreached(error)})") from error
    if content.lstrip()[:1] == b"<":
        raise FormatError(
            f"{place}: the server sends a web page in its place; name the address where status.json lies, and see "
            "whether it asks to log in"
        )
    return content


def _opener() -> urllib.request.OpenerDirector:
    """What opens web addresses and nothing else, wherever a server sends us on to."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _read(answer: Any, place: str) -> bytes:
    """All that a server sends, within bounds of size and time."""
    until, content = time.monotonic() + DEADLINE, bytearray()
    while part := answer.read1(1 << 18):
        content += part
        if len(content) > _LARGEST:
            raise FormatError(f"{place}: is larger than {_LARGEST / 1e6:.0f} MB and no part of a published session")
        if time.monotonic() > until:
            raise TimeoutError(f"{len(content)} bytes came within {DEADLINE:.0f} s, and no end of them")
    return bytes(content)


def _answered(error: urllib.error.HTTPError) -> str:
    reason = str(error.reason).splitlines()[0] if error.reason else ""
    told = f"the server answers {error.code} ({reason})"
    if error.code in (401, 403):
        told += "; where it asks for a name and a password, write https://name:password@host/path"
    return told


def _unreached(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({reason.verify_message}); have it renewed, or name the file of the one "
            "that signed it in SSL_CERT_FILE"
        )
    return str(getattr(reason, "strerror", None) or reason)


def _fetch_bucket(address: str, name: str) -> bytes:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
        content: bytes = system.cat_file(f"{path}/{name}")
    except ImportError as error:
        reason = missing_package(address.partition("://")[0].lower(), error)
        raise ProgramMissing(f"{shown_address(address)}: cannot be read ({reason})") from error
    except ValueError as error:
        raise ParameterError(f"{shown_address(address)}: cannot be read ({error})") from error
    except Exception as error:
        raise OSError(f"{shown_address(address)}/{name}: {type(error).__name__}: {error}") from error
    return content
