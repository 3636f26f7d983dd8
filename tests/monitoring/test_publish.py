"""Publishing: whatever happens to the writer, a reader finds a whole state."""

from __future__ import annotations

import contextlib
import functools
import gzip
import html.parser
import http.server
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from focusnb.errors import ParameterError, ProgramMissing
from focusnb.monitoring.chunks import file_name
from focusnb.monitoring.microscopes import fetch_from
from focusnb.monitoring.page import build_page
from focusnb.monitoring.previews import sheet_names
from focusnb.monitoring.publish import GRACE, Follower, Publisher
from focusnb.monitoring.settings import PublishSettings, read_publishing, write_publishing
from focusnb.monitoring.snapshot import Snapshot, read_file, read_snapshot
from focusnb.monitoring.targets import (
    BucketTarget,
    FolderTarget,
    Outage,
    RsyncTarget,
    SftpTarget,
    Target,
    open_target,
)
from tests.conftest import REPOSITORY
from tests.monitoring.conftest import Recorded
from tests.waiting import wait_until


def made(number: int, files: int = 6) -> Snapshot:
    """A small snapshot whose files partly stay and partly change with the number."""
    contents = [f"piece {k} of {number if k % 2 else number // 5}".encode() * 50 for k in range(files)]
    named = {file_name(content, "json"): content for content in contents}
    state = {"word": "recording", "sentence": str(number), "level": "ok", "last_image": None}
    status = {"schema": 1, "made_at": number, "valid_until": number + 90, "state": state, "files": sorted(named)}
    sheet = f"previews of {number // 2}".encode() * 50
    sheets = {file_name(sheet, "png"): sheet}
    previews = {"each": 32, "columns": 8, "blurred_to": 200.0, "sheets": [{"file": name} for name in sheets]}
    return Snapshot({**status, "previews": previews}, named, sheets)


def all_files(snapshot: Snapshot) -> set[str]:
    """All that a snapshot publishes beside its state."""
    return {*snapshot.files, *snapshot.sheets}


def page() -> bytes:
    return b"<!doctype html>"


class Failing:
    """A target that fails at its n-th operation on a file, before or after it was written."""

    def __init__(self, inner: Target, fail_at: int, after: bool) -> None:
        self.inner, self.name, self.left, self.after = inner, inner.name, fail_at, after

    def _count(self, do: Callable[[], None]) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Outage("the network is gone")
        do()
        if self.left == 0:
            raise Outage("the network is gone")

    def names(self) -> set[str]:
        return self.inner.names()

    def put(self, contents: Mapping[str, bytes]) -> None:
        for name, content in contents.items():
            self._count(lambda name=name, content=content: self.inner.put({name: content}))  # type: ignore[misc]

    def remove(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            self._count(lambda name=name: self.inner.remove([name]))  # type: ignore[misc]


def test_a_snapshot_arrives_as_it_was_made(recorded: Recorded, tmp_path: Path) -> None:
    snapshot = recorded.maker().make()
    report = Publisher(str(tmp_path / "out"), page=page).publish(snapshot)
    assert report.written == len(snapshot.files) + len(snapshot.sheets) + 1
    assert len(snapshot.sheets) == 1
    read = read_snapshot(fetch_from(str(tmp_path / "out")))
    assert (read.status, read.files) == (snapshot.status, dict(snapshot.files))
    # who points at an image fetches its sheet, and nobody else
    assert read.sheets == {}
    for name, content in snapshot.sheets.items():
        assert read_file(fetch_from(str(tmp_path / "out")), name) == content
    for path in (tmp_path / "out").rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, f"{path} cannot be read by a web server"


@pytest.mark.parametrize("after", [False, True])
def test_a_writer_that_fails_at_any_file_leaves_a_whole_state_and_goes_on(tmp_path: Path, after: bool) -> None:
    for fail_at in itertools.count(1):
        folder = tmp_path / str(fail_at)
        now = [0.0]
        clock = lambda now=now: now[0]  # noqa: E731
        Publisher(FolderTarget(folder), page=page, clock=clock).publish(made(1, files=3))
        target = Failing(FolderTarget(folder), fail_at, after)
        publisher = Publisher(target, page=page, clock=clock)
        failed = 0
        for number in range(2, 7):
            now[0] += 0.6 * GRACE
            try:
                publisher.publish(made(number, files=3))
            except Outage:
                failed += 1
                sentence = read_snapshot(fetch_from(str(folder))).status["state"]["sentence"]
                assert int(sentence) in (number - 1, number)
                publisher.publish(made(number, files=3))
            assert read_snapshot(fetch_from(str(folder))).status["state"]["sentence"] == str(number)
        if not failed:
            break
    assert fail_at > 15


def _publish_until_killed(folder: Path, begin: int) -> None:
    publisher = Publisher(FolderTarget(folder), page=page, grace=60.0)
    for number in itertools.count(begin):
        publisher.publish(made(number, files=20))


def test_a_writer_killed_at_any_byte_never_shows_a_reader_half_a_state(tmp_path: Path) -> None:
    folder, draw = tmp_path / "out", random.Random(4)
    Publisher(FolderTarget(folder), page=page).publish(made(0, files=20))
    fork, faults, stop, reads = multiprocessing.get_context("fork"), [], threading.Event(), [0]

    def read() -> None:
        fetch, last = fetch_from(str(folder)), 0
        while not stop.is_set():
            try:
                # a file that is fetched within the grace is there, and is what its name says
                seen = read_snapshot(fetch)
                number = int(seen.status["state"]["sentence"])
                for name in sheet_names(seen.status):
                    read_file(fetch, name)
                if number < last:
                    faults.append(f"{number} after {last}")
                last, reads[0] = number, reads[0] + 1
            except Exception as error:
                faults.append(repr(error))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    begin = 1
    for kills in itertools.count(1):
        writer = fork.Process(target=_publish_until_killed, args=(folder, begin))
        writer.start()
        time.sleep(draw.uniform(0.02, 0.16))
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        begin = int(read_snapshot(fetch_from(str(folder))).status["state"]["sentence"]) + 1
        # a machine that does much else takes longer to come as far
        if (kills >= 12 and begin > 12 and reads[0] > 50) or kills == 200:
            break
    stop.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert begin > 12
    assert reads[0] > 50
    # what the killed left behind is cleared away
    Publisher(FolderTarget(folder), page=page).publish(made(begin, files=20))
    assert not [path for path in folder.rglob(".*") if path.is_file()]


def test_old_files_go_after_the_grace_and_foreign_ones_stay(tmp_path: Path) -> None:
    now = [0.0]
    folder = tmp_path / "out"
    publisher = Publisher(FolderTarget(folder), clock=lambda: now[0], page=page)
    publisher.publish(made(1))
    (folder / "data" / "notes.txt").write_text("mine")
    (folder / "robots.txt").write_text("mine")
    first = all_files(made(1))
    now[0] += GRACE
    publisher.publish(made(10))
    assert all((folder / name).exists() for name in first), "a reader may still hold the state before"
    now[0] += GRACE + 1
    report = publisher.publish(made(11))
    gone = first - all_files(made(10)) - all_files(made(11))
    assert set(made(1).sheets) <= gone
    assert report.removed == len(gone)
    assert not any((folder / name).exists() for name in gone)
    assert {path.name for path in folder.iterdir()} == {"data", "robots.txt", "status.json", "index.html"}
    assert (folder / "data" / "notes.txt").exists()
    # a process that starts later knows nothing of what the one before named: it waits as well
    now[0] += 10 * GRACE
    later = Publisher(FolderTarget(folder), clock=lambda: now[0], page=page)
    assert later.publish(made(20)).removed == 0
    now[0] += GRACE + 1
    assert later.publish(made(20)).removed > 0
    assert {f"data/{path.name}" for path in (folder / "data").iterdir()} == {*all_files(made(20)), "data/notes.txt"}


def test_files_that_somebody_removed_come_again(tmp_path: Path) -> None:
    now = [0.0]
    publisher = Publisher(FolderTarget(tmp_path / "out"), clock=lambda: now[0], page=page)
    publisher.publish(made(1))
    shutil.rmtree(tmp_path / "out" / "data")
    now[0] += 601
    publisher.publish(made(1))
    read_snapshot(fetch_from(str(tmp_path / "out")))


def test_an_outage_is_told_once_waited_for_and_made_up(tmp_path: Path) -> None:
    told: list[str] = []
    target = Failing(FolderTarget(tmp_path / "out"), 3, after=False)
    follower = Follower(Publisher(target, page=page), tell=told.append, first_delay=0.05)
    follower.offer(made(1))
    wait_until(lambda: follower.published >= 1)
    follower.offer(made(2))
    follower.close()
    assert read_snapshot(fetch_from(str(tmp_path / "out"))).status["state"]["sentence"] == "2"
    assert told == ["the network is gone; it is tried again", f"{target.name}: published again"]


class SlowLine:
    """A target at the end of a slow line, whose transfers are given up where they take too long."""

    def __init__(self, inner: Target, most: int) -> None:
        self.inner, self.name, self.most = inner, inner.name, most
        self.transfers: list[set[str]] = []

    def names(self) -> set[str]:
        return self.inner.names()

    def put(self, contents: Mapping[str, bytes]) -> None:
        if sum(map(len, contents.values())) > self.most:
            raise Outage("took longer than 120 s")
        self.transfers.append(set(contents))
        self.inner.put(contents)

    def remove(self, names: Iterable[str]) -> None:
        self.inner.remove(names)


def with_sheets(number: int, count: int) -> Snapshot:
    """A snapshot with many sheets of previews, the newest last."""
    plain, draw = made(number), np.random.default_rng(3)
    contents = [draw.bytes(90_000) for _ in range(count)]
    sheets = {file_name(content, "png"): content for content in contents}
    told = [{"file": name, "first": 32 * k} for k, name in enumerate(sheets)]
    return Snapshot({**plain.status, "previews": {**plain.status["previews"], "sheets": told}}, plain.files, sheets)


def test_many_previews_over_a_slow_line_keep_nobody_from_seeing_the_state(tmp_path: Path) -> None:
    line = SlowLine(FolderTarget(tmp_path / "out"), most=300_000)
    publisher = Publisher(line, page=page)
    wanted = with_sheets(5, 40)
    order = list(wanted.sheets)
    # one that is followed: the state at once, and with every publication some sheets more, the newest first
    there: list[str] = []
    for _ in range(60):
        line.transfers.clear()
        publisher.publish(wanted, patience=0.0)
        states = [names == {"status.json"} for names in line.transfers]
        assert states[-1]
        read = read_snapshot(fetch_from(str(tmp_path / "out")))
        now = sheet_names(read.status)
        assert now == order[len(order) - len(now) :]
        assert all((tmp_path / "out" / name).exists() for name in now)
        if now == there:
            break
        there = now
    assert there == order
    # once: all, and the state before them
    line = SlowLine(FolderTarget(tmp_path / "once"), most=300_000)
    report = Publisher(line, page=page).publish(wanted)
    assert report.written == len(all_files(wanted)) + 1
    assert sheet_names(read_snapshot(fetch_from(str(tmp_path / "once"))).status) == order
    kinds = ["status" if names == {"status.json"} else "other" for names in line.transfers]
    assert kinds.index("status") < 4
    assert kinds.count("status") == 2


def test_a_target_that_fails_at_any_sheet_names_only_those_that_are_there(tmp_path: Path) -> None:
    wanted = with_sheets(5, 8)
    for fail_at in range(1, 20):
        folder = tmp_path / str(fail_at)
        with contextlib.suppress(Outage):
            Publisher(Failing(FolderTarget(folder), fail_at, after=False), page=page).publish(wanted)
        if (folder / "status.json").exists():
            read = read_snapshot(fetch_from(str(folder)))
            assert all((folder / name).exists() for name in sheet_names(read.status))
    assert len(sheet_names(read.status)) == 8


def test_a_folder_that_cannot_be_made_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Outage, match="cannot be published to"):
        Publisher(str(tmp_path / "file" / "out"), page=page).publish(made(1))


def test_a_full_disk_is_an_outage_and_the_state_before_stays(small_disk: Callable[[float], Path]) -> None:
    folder = small_disk(0.3)
    publisher = Publisher(FolderTarget(folder), page=page)
    publisher.publish(made(1))
    big = np.random.default_rng(0).bytes(600_000)
    with pytest.raises(Outage, match="full"):
        publisher.publish(Snapshot({**made(2).status, "files": [file_name(big, "png")]}, {file_name(big, "png"): big}))
    assert read_snapshot(fetch_from(str(folder))).status["state"]["sentence"] == "1"
    publisher.publish(made(3))


def test_a_bucket_by_fsspec() -> None:
    address = f"memory://bucket-{os.getpid()}/titan"
    now = [0.0]
    publisher = Publisher(address, clock=lambda: now[0], page=page)
    publisher.publish(made(1))
    for number in (7, 13):
        now[0] += GRACE + 1
        publisher.publish(made(number))
        read = read_snapshot(fetch_from(address))
        assert (read.status["state"]["sentence"], set(read.files)) == (str(number), set(made(number).files))
    assert not set(made(1).files) - set(made(7).files) - set(made(13).files) & publisher.target.names()
    assert isinstance(publisher.target, BucketTarget)


SFTP = """
import os, shlex, sys
log = open(sys.argv[1], "a")
for line in sys.stdin:
    log.write(line)
    words = shlex.split(line)
    quiet, verb, args = line.startswith("-"), words[0].lstrip("-"), words[1:]
    try:
        if verb == "cd": where = args[0]; os.stat(where)
        elif verb == "mkdir": os.mkdir(os.path.join("/" if args[0][0] == "/" else where, args[0]))
        elif verb == "put": open(where + "/" + args[1], "wb").write(open(args[0], "rb").read())
        elif verb == "chmod": os.chmod(where + "/" + args[1], int(args[0], 8))
        elif verb == "rename": os.replace(where + "/" + args[0], where + "/" + args[1])
        elif verb == "rm": os.remove(where + "/" + args[0])
        elif verb == "ls": print("sftp> ls", *(args[1] + "/" + n for n in os.listdir(where + "/" + args[1])), sep="\\n")
        else: raise SystemExit("what is " + verb)
    except OSError as error:
        if not quiet:
            print("sftp: " + str(error), file=sys.stderr); sys.exit(1)
"""


SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")


@pytest.mark.parametrize("real", [False, True])
def test_an_sftp_server(tmp_path: Path, real: bool) -> None:
    script = tmp_path / "sftp.py"
    script.write_text(SFTP)
    command = [sys.executable, "-S", str(script), str(tmp_path / "log")]
    if real:
        server = next((path for path in SFTP_SERVERS if os.path.exists(path)), None)
        if server is None or shutil.which("sftp") is None:
            pytest.skip("OpenSSH's sftp and sftp-server are not installed")
        command = ["sftp", "-q", "-b", "-", "-D", server]
    remote = tmp_path / "it's a [web] folder" / "titan"
    remote.parent.mkdir()
    now = [0.0]
    target = SftpTarget(f"sftp://somebody@host{remote.parent / 'titan'}", command=command)
    publisher = Publisher(target, clock=lambda: now[0], page=page)
    publisher.publish(made(1))
    now[0] += GRACE + 1
    publisher.publish(made(7))
    now[0] += GRACE + 1
    assert publisher.publish(made(7)).removed > 0
    read = read_snapshot(fetch_from(str(remote)))
    assert read.status["state"]["sentence"] == "7"
    assert {f"data/{path.name}" for path in (remote / "data").iterdir()} == all_files(made(7))
    if not real:  # every file is written beside, and renamed
        lines = (tmp_path / "log").read_text().splitlines()
        assert all(line.endswith(".part") for line in lines if line.startswith("put"))
    shutil.rmtree(remote)
    with pytest.raises(Outage, match="No such file"):
        publisher.publish(made(8))
    # a server that comes back without its folder gets all of it again
    publisher.publish(made(8))
    assert read_snapshot(fetch_from(str(remote))).status["state"]["sentence"] == "8"
    assert (remote / "index.html").read_bytes() == page()


def test_rsync(tmp_path: Path) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    now = [0.0]
    place = tmp_path / "titan"
    publisher = Publisher(RsyncTarget(str(place), "rsync:here"), clock=lambda: now[0], page=page)
    publisher.publish(made(1))
    now[0] += GRACE + 1
    publisher.publish(made(7))
    now[0] += GRACE + 1
    assert publisher.publish(made(7)).removed > 0
    assert read_snapshot(fetch_from(str(place))).status["state"]["sentence"] == "7"
    assert {f"data/{path.name}" for path in (place / "data").iterdir()} == all_files(made(7))


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("https://example.org/x", ParameterError, "publish to the folder that this server shows"),
        ("sftp:///path", ParameterError, "names no host"),
        ("sftp://user:word@host/path", ParameterError, "use a key"),
        ("nonsense://x", ParameterError, "no place that can be published to"),
        ("s3://bucket/x", ProgramMissing, "s3fs"),
    ],
)
def test_addresses_that_cannot_be_published_to_are_told(address: str, error: type[Exception], message: str) -> None:
    if address.startswith("s3") and __import__("importlib.util").util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(error, match=message):
        open_target(address)


def test_settings_are_kept_in_the_project(recorded: Recorded) -> None:
    folder = recorded.project.folder
    assert read_publishing(folder) == (PublishSettings(), ())
    write_publishing(folder, PublishSettings(title="Titan 1", blur=300), ("/a", "s3://b"))
    assert read_publishing(folder) == (PublishSettings(title="Titan 1", blur=300), ("/a", "s3://b"))
    kept = json.loads((folder / "monitoring" / "publish.json").read_text())
    assert kept["settings"] == {"title": "Titan 1", "blur": 300.0}


# The page


class Page(html.parser.HTMLParser):
    """Collects what a page would load and run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.meta: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.loads += [str(told[name]) for name in ("src", "href", "data", "action") if name in told]
        self.loads += [f"{name} handler" for name in told if name.startswith("on")]
        if tag == "meta":
            self.meta[told.get("http-equiv") or told.get("name") or ""] = told.get("content") or ""


def test_the_page_is_one_small_file_that_loads_nothing_from_elsewhere() -> None:
    content = build_page()
    assert len(gzip.compress(content)) < 1_500_000
    found = Page(content.decode())
    assert [load for load in found.loads if not load.startswith("data:")] == []
    policy = found.meta["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "connect-src 'self'" in policy
    assert "width=device-width" in found.meta["viewport"]
    assert b"@BOKEH@" not in content
    assert b"plot:ctf_fit_resolution" in content


def test_the_page_looks_like_the_rest() -> None:
    theme = REPOSITORY / "frontend" / "src" / "common" / "theme.css"
    if not theme.is_file():
        pytest.skip("there is no frontend/src/common/theme.css")
    variables = lambda text: dict(re.findall(r"^\s*(--fnb-[\w-]+):\s*([^;]+);", text, re.MULTILINE))  # noqa: E731
    root = theme.read_text().partition(":root {")[2].partition("}")[0]
    own = variables((REPOSITORY / "focusnb" / "monitoring" / "page" / "page.css").read_text())
    assert own == {name: value for name, value in variables(root).items() if name in own}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A plain file server over a folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    folder = tmp_path / "web"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()


def test_a_plain_web_server_is_enough_to_read_it(recorded: Recorded, web: tuple[str, Path]) -> None:
    address, folder = web
    snapshot = recorded.maker().make()
    Publisher(str(folder)).publish(snapshot)
    assert read_snapshot(fetch_from(address)).status == snapshot.status
    with urllib.request.urlopen(f"{address}/index.html") as answer:
        assert answer.read() == build_page()
