"""Several microscopes at a glance."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from focusnb.apps.microscopes import find_microscopes
from focusnb.errors import ParameterError
from focusnb.monitoring import microscopes
from focusnb.monitoring.microscopes import Microscope, Microscopes, fetch_from, read_microscopes
from focusnb.monitoring.publish import Publisher
from focusnb.monitoring.settings import PublishSettings, shown_address, write_publishing
from focusnb.monitoring.snapshot import published
from tests.monitoring.conftest import Recorded


def test_a_project_a_published_session_and_one_that_is_not_there(recorded: Recorded, tmp_path: Path) -> None:
    write_publishing(recorded.project.folder, PublishSettings(title="T1"), ())
    Publisher(str(tmp_path / "web"), page=None).publish(recorded.maker().make())
    config = tmp_path / "microscopes.toml"
    config.write_text(
        f'[titan1]\nproject = "{recorded.project.folder.name}"\n'
        f'[glacios]\npublished = "{tmp_path / "web"}"\n[gone]\npublished = "{tmp_path / "nowhere"}"\n'
    )
    now = [recorded.night.end]
    microscopes = Microscopes(read_microscopes(config), clock=lambda: now[0])
    titan, glacios, gone = microscopes.glance()
    assert (titan.word, titan.level, titan.alerts) == ("recording", "warning", 0)  # images wait, nobody processes
    assert titan.snapshot is not None
    assert titan.snapshot.status["title"] == "T1"
    assert glacios.word == "recording"
    assert glacios.images_per_hour == titan.images_per_hour
    assert glacios.age == pytest.approx(titan.age, abs=60)
    assert (gone.word, gone.level) == ("unreachable", "bad")
    assert "nowhere" in gone.sentence
    now[0] += 200
    assert [glance.word for glance in microscopes.glance(files=False)][:2] == ["idle", "stale"]
    # an outage: what was seen last is kept, and said to be old
    (tmp_path / "web" / "status.json").rename(tmp_path / "web" / "away.json")
    lost = microscopes.look("glacios")
    assert (lost.word, lost.stale, lost.snapshot is not None) == ("unreachable", True, True)
    (tmp_path / "web" / "away.json").rename(tmp_path / "web" / "status.json")
    assert microscopes.look("glacios").word == "stale"
    with pytest.raises(ParameterError, match="there is no microscope nautilus"):
        microscopes.look("nautilus")
    microscopes.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no microscope"),
        ("[a", "cannot be read as TOML"),
        ('a = "b"', "a is not a table"),
        ("[a]", "needs either project or published"),
        ('[a]\nproject = "x"\npublished = "y"', "it has project, published"),
        ('[a]\nprojekt = "x"', "projekt is unknown"),
        ("[a]\nproject = 3", "a text"),
    ],
)
def test_a_file_that_is_wrong_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.toml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=message):
        read_microscopes(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="there is no such file"):
        read_microscopes(tmp_path / "none.toml")
    path = tmp_path / "m.toml"
    path.write_text('[a]\nproject = "/data/p"\n')
    assert read_microscopes(path) == [Microscope("a", Path("/data/p"))]


def test_a_state_that_makes_no_sense_hides_no_other_microscope(recorded: Recorded, tmp_path: Path) -> None:
    Publisher(str(tmp_path / "good"), page=None).publish(recorded.maker().make())
    shutil.copytree(tmp_path / "good", tmp_path / "odd")
    status = json.loads((tmp_path / "odd" / "status.json").read_text())
    (tmp_path / "odd" / "status.json").write_text(json.dumps({**status, "alerts": 3}))
    microscopes = Microscopes([Microscope(name, None, str(tmp_path / name)) for name in ("odd", "good")])
    odd, good = microscopes.glance()
    assert (odd.word, odd.level) == ("unreachable", "bad")
    assert "cannot be understood" in odd.sentence
    assert good.snapshot is not None


class Server(http.server.BaseHTTPRequestHandler):
    """A web server that is not what it should be."""

    def do_GET(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "on":
            self.send_response(302)
            self.send_header("Location", f"/state/{name}")
            self.end_headers()
        elif kind in ("circle", "elsewhere"):
            self.send_response(302)
            self.send_header("Location", "/circle/x" if kind == "circle" else "ftp://127.0.0.1/x")
            self.end_headers()
        elif kind == "locked" and self.headers["Authorization"] != "Basic bmlnaHQ6d2F0Y2g=":
            self.send_error(401)
        elif kind == "drip":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while not self.server.ended.wait(0.02):  # type: ignore[attr-defined]
                    self.wfile.write(b" ")
        else:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(self.server.answers[kind])  # type: ignore[attr-defined]

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(recorded: Recorded) -> Iterator[Any]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    made.ended = threading.Event()  # type: ignore[attr-defined]
    state = published(recorded.maker().make(PublishSettings()))
    made.answers = {  # type: ignore[attr-defined]
        "state": state,
        "locked": state,
        "html": b"<!doctype html>\n<title>Please log in</title>",
        "deep": b"[" * 100_000,
        "list": b"[1, 2]",
        "large": b" " * 9_000_000,
        "huge": b" " * 50_000_001,
    }
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.ended.set()  # type: ignore[attr-defined]
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("html", "sends a web page in its place"),
        ("deep", "is no published state"),
        ("list", "is no published state"),
        ("large", "a published state at most 8 MB"),
        ("huge", "larger than 50 MB"),
        ("circle", "answers 302"),
        ("elsewhere", "unknown url type: ftp"),
        ("locked", "write https://name:password@host/path"),
        ("drip", "no end of them"),
    ],
)
def test_a_server_that_sends_something_else_is_told_and_hides_no_other(
    server: Any, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    monkeypatch.setattr(microscopes, "DEADLINE", 0.3)
    place = f"http://127.0.0.1:{server.server_address[1]}"
    others = [Microscope("bad", published=f"{place}/{kind}"), Microscope("good", published=f"{place}/state")]
    bad, good = Microscopes(others).glance(files=False)
    assert bad.word == "unreachable"
    assert message in bad.sentence
    assert good.word != "unreachable"


def test_a_server_that_sends_on_or_asks_for_a_password_is_read(server: Any) -> None:
    port = server.server_address[1]
    for address in (f"http://127.0.0.1:{port}/on/", f"http://night:watch@127.0.0.1:{port}/locked/index.html"):
        assert json.loads(fetch_from(address)("status.json"))["schema"] == 1
    with pytest.raises(OSError, match="401") as told:
        fetch_from(f"http://night:wrong@127.0.0.1:{port}/locked")("status.json")
    assert "wrong" not in str(told.value)


def test_a_certificate_that_is_not_trusted_is_told_with_the_cure(server: Any, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command, "-subj", "/CN=titan"], check=True, capture_output=True, cwd=tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    seen = Microscopes([Microscope("t", published=f"https://127.0.0.1:{server.server_address[1]}/state")]).look("t")
    assert "self-signed" in seen.sentence
    assert "SSL_CERT_FILE" in seen.sentence


def test_what_cannot_be_read_from_is_told() -> None:
    with pytest.raises(ParameterError, match="written to and not read from"):
        fetch_from("rsync:host:/srv/titan")


class Elsewhere:
    """A session published each half minute by a microscope whose clock is ``ahead`` s ahead; ``now``: the right one."""

    def __init__(self, recorded: Recorded, folder: Path, ahead: float) -> None:
        self._status = dict(recorded.maker().make(PublishSettings()).status) | {"files": [], "previews": None}
        self._folder, self._ahead, self.now = folder, ahead, 1e9
        folder.mkdir()
        self.microscopes = Microscopes([Microscope("t", published=str(folder))], clock=lambda: self.now)

    def publish(self) -> None:
        at = self.now + self._ahead
        state = {**self._status["state"], "word": "recording", "last_image": at - 20}
        told = {**self._status, "made_at": at, "valid_until": at + 90, "state": state}
        (self._folder / "status.json").write_text(json.dumps(told))

    def watch(self, seconds: float) -> list[tuple[str, float | None]]:
        """Look every few seconds while it goes on; what was seen."""
        seen = []
        for passed in range(0, int(seconds), 5):
            if passed % 30 == 0:
                self.publish()
            seen.append(self.look())
            self.now += 5
        return seen

    def look(self) -> tuple[str, float | None]:
        glance = self.microscopes.look("t", files=False)
        return glance.word, glance.age


@pytest.mark.parametrize("ahead", [0.0, 40.0, -40.0, 3600.0, -3600.0])
def test_a_microscope_whose_clock_is_wrong_is_not_stale_and_is_missed_in_time(
    recorded: Recorded, tmp_path: Path, ahead: float
) -> None:
    session = Elsewhere(recorded, tmp_path / "t", ahead)
    seen = session.watch(120)
    # whoever has only just come cannot know better than that clock, until something new comes
    assert {word for word, _ in (seen[6:] if ahead == -3600 else seen)} == {"recording"}
    assert all(age is not None and 0 <= age <= 130 for _, age in seen[6:])
    session.now += 150
    assert session.look()[0] == "stale"
    session.now += 7200
    glance = session.microscopes.look("t", files=False)
    assert (glance.word, glance.level) == ("stale", "bad")


def test_what_came_while_nobody_could_look_is_as_old_as_it_says(recorded: Recorded, tmp_path: Path) -> None:
    session = Elsewhere(recorded, tmp_path / "t", 0.0)
    session.watch(60)
    session.publish()  # its last word
    session.now += 7200
    assert session.look() == ("stale", pytest.approx(7220))


@pytest.mark.parametrize("password", ["a/b", "a?b", "a#b", "a/b@c", "[a", "123?b"])
def test_a_password_with_odd_signs_is_refused_and_not_told(password: str) -> None:
    address = f"https://night:{password}@example.org/titan"
    with pytest.raises(ParameterError, match="%2F") as told:
        find_microscopes([address])
    assert password not in str(told.value)
    seen = Microscopes([Microscope("t", published=address)]).look("t")
    assert "%2F" in seen.sentence
    assert password not in seen.sentence
    assert password not in shown_address(address)


@pytest.mark.parametrize(
    "address", ["https://example.org:8443/a@b/titan", "sftp://me@www:2222/srv/titan", "/srv/a:b@c", "s3://b/k:x@y"]
)
def test_an_address_without_a_password_is_shown_as_it_is(address: str) -> None:
    assert shown_address(address) == address
