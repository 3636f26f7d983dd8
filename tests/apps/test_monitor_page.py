"""The server of the monitor: whom it lets in, what it refuses, and that it keeps one kernel ready and no other."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket
from jupyter_server.auth import passwd

from focusnb.apps.microscopes import find_microscopes, named_microscopes, to_environment
from focusnb.apps.page_handlers import HEADERS
from focusnb.apps.page_login import FAILURES, WINDOW, Attempts
from focusnb.apps.relay import Relay
from focusnb.apps.settings import MICROSCOPES_VARIABLE
from focusnb.apps.voila import encrypt
from focusnb.cli.monitor import read_password
from focusnb.errors import ParameterError
from focusnb.monitoring.microscopes import Microscope, Microscopes
from focusnb.monitoring.publish import Publisher
from focusnb.monitoring.settings import PublishSettings, write_publishing
from focusnb.monitoring.snapshot import make_snapshot
from focusnb.project.project import Project
from tests.apps.test_voila import KNOWN, STATIC_ROUTES, TOKEN, TRICKS, Served, _send, _server
from tests.projects import make_project
from tests.waiting import wait_until

PASSWORD = "nitrogen at night"
HASHED = passwd(PASSWORD)
FORM = "application/x-www-form-urlencoded"


class Monitored(Served):
    """A running 'focusnb monitor', asked over HTTP."""

    def __init__(self, config: Path, *options: str) -> None:
        program = "from focusnb.cli import main\nmain()"
        command = [sys.executable, "-c", program, "monitor", str(config), "--no-browser", "--port", "0", *options]
        self.log = Path(tempfile.mkstemp(dir=config.parent, suffix=".log")[1])
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log, cwd=config.parent)
        wait_until(lambda: "\n" in self.told or self.process.poll() is not None, 60)
        found = re.search(r"https?://localhost:(\d+)/", self.told)
        assert found, self.told
        self.port = int(found[1])

    def log_in_with(self, password: str, source: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
        """Fill in the form, from an address of this machine."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60, source_address=(source, 0))
        with contextlib.closing(connection):
            connection.request("GET", "/login", headers={"Host": f"localhost:{self.port}"})
            answer = connection.getresponse()
            answer.read()
            xsrf = re.search(r"_xsrf=([^;]+)", answer.headers["set-cookie"])
            assert xsrf is not None
            body = urllib.parse.urlencode({"_xsrf": xsrf[1], "password": password})
            headers = {"Host": f"localhost:{self.port}", "Content-Type": FORM, "Cookie": f"_xsrf={xsrf[1]}"}
            connection.request("POST", "/login?next=%2F", body, headers)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two microscopes, one of them published."""
    folder = tmp_path_factory.mktemp("monitor")
    with make_project(folder / "session", steps=False) as project:
        Publisher(str(folder / "published"), page=None).publish(make_snapshot(project))
    (folder / "microscopes.toml").write_text('[titan1]\nproject = "session"\n[glacios]\npublished = "published"\n')
    return folder / "microscopes.toml"


@pytest.fixture(scope="module")
def served(config: Path) -> Iterator[Monitored]:
    (config.parent / "hash").write_text(HASHED + "\n")
    page = Monitored(config, "--token", TOKEN, "--password-file", str(config.parent / "hash"))
    yield page
    page.stop()


def test_every_route_answers_nothing_but_log_in_and_static_files_without_the_token(served, config):
    wait_until(lambda: len(served.kernels()) == 1)
    kernel = re.search(r"kernel-([0-9a-f-]+)\.json", " ".join(served.kernels()[0].cmdline()))
    assert kernel is not None
    examples = {r"([0-9a-f-]+)": kernel[1], r"(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)": kernel[1], r"(.*)": "x", ".*": "x"}
    server = _server(config.parent / "session", token=TOKEN)
    server.init_settings()
    paths = {f"/voila/query/{kernel[1]}"}  # Voila's, where kernels are kept ready
    for pattern, handler, *_ in server.init_handlers():
        for part, example in {**examples, r"/?": "/"}.items():
            pattern = pattern.replace(part, example)
        if handler.__name__ not in (*STATIC_ROUTES, "VoilaLoginHandler", "LogoutHandler"):
            paths.add(pattern)
    assert len(paths) > 6
    for path in paths:
        for method in ("GET", "POST", "PUT", "DELETE"):
            status, headers, body = served.get(path, method=method)
            refused = status in (401, 403, 404, 405) or (status == 302 and headers["location"].startswith("/login"))
            assert refused, (method, path, status)
            assert b"titan1" not in body
            assert str(config.parent).encode() not in body
    with pytest.raises(websocket.WebSocketBadStatusException):
        served.connect(kernel[1], header={})
    assert len(served.kernels()) == 1, "what asked without the token started or ended a kernel"


def test_no_file_is_had_by_tricks_with_paths_and_all_answers_have_the_headers(served, config):
    for trick in (*TRICKS, "/microscopes.toml", "/monitor.ipynb", "/session/project.json", "/published/status.json"):
        status, headers, body = served.get(trick.format(folder=str(config.parent / "session")), **KNOWN)
        assert status in (302, 400, 403, 404, 405), (trick, status)
        assert b"root:" not in body
        assert b"single-particle" not in body
        assert b"published" not in body
        for name, value in HEADERS.items():
            assert headers[name.lower()] == value, trick


def test_the_password_and_the_token_open_the_page(served):
    assert "token" in served.told
    status, _, body = served.log_in_with("nitrogen at day")
    assert status == 401
    assert b"That is not the password" in body
    for shown in (PASSWORD, TOKEN):
        status, headers, _ = served.log_in_with(shown)
        assert (status, headers["location"]) == (302, "/")
        assert "HttpOnly" in headers["set-cookie"]
        cookie = headers["set-cookie"].split(";")[0]
        assert served.get("/nothing", Cookie=cookie)[0] == 404, "known, and there is nothing"


def test_who_guesses_has_to_wait_and_nobody_else_has(served):
    guesser, other = "127.0.0.7", "127.0.0.8"
    for _ in range(FAILURES):
        assert served.log_in_with("guessed", guesser)[0] == 401
    status, headers, body = served.log_in_with(PASSWORD, guesser)
    assert status == 429
    assert 0 < int(headers["retry-after"]) <= WINDOW
    assert f"Try again in {headers['retry-after']} s".encode() in body
    for name, value in HEADERS.items():
        assert headers[name.lower()] == value
    assert served.log_in_with(PASSWORD, other)[0] == 302
    # the same for tokens, wherever they are shown
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60, source_address=("127.0.0.9", 0))
    with contextlib.closing(connection):
        found = []
        for number in range(FAILURES + 2):
            host = {"Host": f"localhost:{served.port}"}
            shown = {**host, "Authorization": f"token guess{number}"} if number % 2 else host
            connection.request("GET", "/" if number % 2 else f"/?token=guess{number}", headers=shown)
            answer = connection.getresponse()
            answer.read()
            found.append(answer.status)
    assert found == [302] * FAILURES + [429] * 2


def test_attempts_are_counted_by_address_and_forgotten_after_a_minute():
    now = [0.0]
    attempts = Attempts(failures=3, window=60, clock=lambda: now[0])
    for at in (0.0, 10.0, 20.0):
        now[0] = at
        assert attempts.wait("a") == 0
        attempts.fail("a")
    assert attempts.wait("a") == 40
    assert attempts.wait("b") == 0
    now[0] = 59.5
    assert attempts.wait("a") == 1
    now[0] = 60.0
    assert attempts.wait("a") == 0
    attempts.fail("a")
    assert attempts.wait("a") == 10
    for number in range(20_000):  # an army of addresses fills no memory
        attempts.fail(str(number))
    assert len(attempts._failed) <= 10_000


def test_a_viewer_runs_no_code_and_leaves_only_the_kernel_that_is_kept_ready(served, tmp_path):
    wait_until(lambda: len(served.kernels()) == 1)
    ready = served.kernels()[0].pid
    page = served.open_page()
    assert "Microscopes</h1>" in page.text
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"'/]+""", page.text)
    wait_until(lambda: len(served.kernels()) == 2)  # the next viewer's kernel is made ready
    channel = served.connect(page.kernel)
    written = tmp_path / "written"
    code = f"open({str(written)!r}, 'w').close()"
    _send(channel, "execute_request", {"code": code, "silent": False, "user_expressions": {}})
    _send(channel, "kernel_info_request", {}, identity="asked")
    while True:
        answer = json.loads(channel.recv())
        if answer["parent_header"].get("msg_id") == "asked" and answer["msg_type"] == "kernel_info_reply":
            break
    assert not written.exists()
    own = f"http://localhost:{served.port}"
    assert served.get(f"/voila/api/shutdown/{page.kernel}", method="POST", Origin=own, **KNOWN)[0] == 204
    channel.close()
    wait_until(lambda: ready not in {kernel.pid for kernel in served.kernels()})
    wait_until(lambda: len(served.kernels()) == 1)
    served.kernels()[0].kill()
    wait_until(lambda: bool(served.kernels()))  # one that died while it waited is replaced


def test_the_page_is_encrypted(config, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    more = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *more], check=True, capture_output=True)
    served = Monitored(config, "--certfile", str(certificate), "--keyfile", str(key), "--ready", "0")
    try:
        assert "https://localhost" in served.told
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("localhost", served.port, timeout=60, context=context)
        token = re.search(r"token=([\w-]+)", served.told)
        assert token is not None
        with contextlib.closing(connection):
            connection.request("GET", f"/login?token={token[1]}")
            answer = connection.getresponse()
            assert answer.status == 302
            assert "Secure" in answer.headers["set-cookie"]
    finally:
        served.stop()
    with pytest.raises(ParameterError, match="no such file"):
        encrypt(tmp_path / "none.pem", key)
    with pytest.raises(ParameterError, match="are no certificate and its key"):
        encrypt(key, certificate)
    with pytest.raises(ParameterError, match="--certfile"):
        encrypt(None, key)
    assert encrypt(None, None) is None


def test_a_hash_is_read_from_a_file_or_the_environment_and_a_password_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("FOCUSNB_PASSWORD_HASH", raising=False)
    assert read_password(None) == ""
    file = tmp_path / "hash"
    with pytest.raises(ParameterError, match="cannot be read"):
        read_password(file)
    file.write_text(PASSWORD)
    with pytest.raises(ParameterError, match="holds no hash"):
        read_password(file)
    file.write_text(HASHED + "\n")
    assert read_password(file) == HASHED
    monkeypatch.setenv("FOCUSNB_PASSWORD_HASH", HASHED)
    assert read_password(None) == HASHED


def test_microscopes_are_found_named_and_told_to_the_kernels(config, tmp_path, monkeypatch):
    found = find_microscopes([config])
    assert [microscope.name for microscope in found] == ["titan1", "glacios"]
    assert found[0].project == config.parent / "session"
    assert found[1].published == str(config.parent / "published")
    monkeypatch.setenv(*next(iter(to_environment(found).items())))
    assert named_microscopes() == found
    monkeypatch.delenv(MICROSCOPES_VARIABLE)
    with pytest.raises(ParameterError, match="focusnb monitor CONFIG"):
        named_microscopes()
    # a project's own name is shown where its owner shows names
    folder = config.parent / "session"
    assert [m.name for m in find_microscopes([folder, config.parent / "published"])] == ["Microscope", "Microscope 2"]
    shown: list[tuple[PublishSettings, str]] = [
        (PublishSettings(names=True), Project.open(folder).name),
        (PublishSettings(microscope="Krios"), "Krios"),
        (PublishSettings(microscope="Krios", title="Night of Anna"), "Night of Anna"),
    ]
    for settings, name in shown:
        write_publishing(folder, settings, ())
        assert find_microscopes([str(folder)]) == [Microscope(name, project=folder)]
    write_publishing(folder, PublishSettings(), ())
    with pytest.raises(ParameterError, match="neither a project nor a published session"):
        find_microscopes([tmp_path])
    with pytest.raises(ParameterError, match="no such file"):
        find_microscopes([tmp_path / "none.toml"])
    with pytest.raises(ParameterError, match="no microscope is named"):
        find_microscopes([])


def test_an_app_in_a_notebook_says_why_it_shows_nothing(tmp_path):
    from focusnb import apps

    shown: Any = apps.monitor(tmp_path / "none.toml")
    assert "no such file" in shown.reason


def test_projects_are_looked_at_once_for_all_viewers(config, tmp_path):
    told: list[str] = []
    published = Microscope("glacios", published="https://www.example.org/glacios")
    shown = [Microscope("titan1", config.parent / "session"), Microscope("krios", tmp_path / "none"), published]
    with Relay(shown, tmp_path / "relay", tell=told.append, every=0.05) as relay:
        titan, krios, other = relay.microscopes
        assert other == published
        assert titan.project is None
        assert krios.project is None
        microscopes = Microscopes(relay.microscopes)
        assert microscopes.look("titan1").word == "empty"
        assert microscopes.look("krios").word == "unreachable"
        assert len(told) == 1, "once, not at every look"
        assert told[0].startswith(f"krios: {tmp_path / 'none'}")
        make_project(tmp_path / "none", steps=False).close()
        wait_until(lambda: microscopes.look("krios").word == "empty")
        wait_until(lambda: told[1:] == ["krios: is seen again"])
        (tmp_path / "relay" / "0").rename(tmp_path / "gone")  # at once: it is written to all the time
        wait_until(lambda: microscopes.look("titan1").word == "empty")  # what was removed is published again
