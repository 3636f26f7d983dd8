"""The server of a page: what it answers without and with the token, and that it leaves no kernel behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import psutil
import pytest
import websocket

from focusnb.apps import voila
from focusnb.apps.page_handlers import HEADERS
from focusnb.errors import ParameterError
from tests.projects import make_project
from tests.waiting import wait_until

TOKEN = "a-token-for-tests"
KNOWN = {"Authorization": f"token {TOKEN}"}


class Page(NamedTuple):
    """A page as it was sent."""

    text: str
    headers: dict[str, str]
    config: dict[str, Any]

    @property
    def kernel(self) -> str:
        """Its kernel's id."""
        return str(self.config["kernelId"])


class Served:
    """A running 'focusnb dash', asked over HTTP."""

    def __init__(self, folder: Path, *options: str, before: str = "") -> None:
        """``before`` : code that runs before the command."""
        program = before + "\nfrom focusnb.cli import main\nmain()"
        command = [sys.executable, "-c", program, "dash", str(folder), "--no-browser", "--port", "0", *options]
        # not a pipe: nobody reads it, and a server that cannot write stands still
        self.log = Path(tempfile.mkstemp(dir=folder.parent, suffix=".log")[1])
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log, cwd=folder.parent)
        wait_until(lambda: "\n" in self.told or self.process.poll() is not None)
        found = re.search(r"http://localhost:(\d+)/", self.told)
        assert found, self.told
        self.port = int(found[1])

    @property
    def told(self) -> str:
        """What it said so far."""
        return self.log.read_text()

    def get(self, path: str, *, method: str = "GET", body: str = "", **headers: str) -> tuple[int, Any, bytes]:
        """Status, headers and body of an answer; the path is sent as it stands, dots and all."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body.encode())
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def log_in(self) -> str:
        """The cookie a browser has after it showed the token."""
        _, headers, _ = self.get(f"/login?token={TOKEN}")
        return str(headers["set-cookie"].split(";")[0])

    def open_page(self, path: str = "/") -> Page:
        """Load the page as a browser does."""
        status, headers, body = self.get(path, **KNOWN)
        assert status == 200
        text = body.decode()
        config = re.search(r'id="jupyter-config-data" type="application/json">(.*?)</script>', text, re.DOTALL)
        assert config is not None, text[-2000:]
        return Page(text, headers, json.loads(config[1]))

    def connect(self, kernel: str, **options: Any) -> websocket.WebSocket:
        """Open the websocket of a page's kernel."""
        address = f"ws://localhost:{self.port}/api/kernels/{kernel}/channels"
        return websocket.create_connection(address, timeout=60, **{"header": KNOWN, **options})

    def kernels(self) -> list[psutil.Process]:
        """Processes of kernels."""
        return [child for child in psutil.Process(self.process.pid).children(recursive=True) if _is_kernel(child)]

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it as Ctrl-C does."""
        self.process.send_signal(number)
        return self.process.wait(120)


def _is_kernel(process: psutil.Process) -> bool:
    try:
        return "ipykernel_launcher" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _server(folder: Path, **options: Any) -> voila.PageServer:
    """A server that is not started."""
    before = signal.getsignal(signal.SIGTERM)
    server = voila.make_server(folder, port=0, folder=folder.parent, **options)
    signal.signal(signal.SIGTERM, before)
    for sock in server.sockets:
        sock.close()
    server.connection_dir = str(folder.parent)
    return server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("dash") / "session"
    make_project(where, steps=False).close()
    settings = where / "project.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "name": "<i>project</i>"}))
    return where


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    # its page is opened by one test and connected to by another, which a slow machine may reach minutes later
    page = Served(folder, "--token", TOKEN, before="from focusnb.apps import voila\nvoila.PATIENCE = 3600")
    yield page
    page.stop()


@pytest.fixture(scope="module")
def page(served: Served) -> Page:
    """The page of the project, which asks for another look in vain."""
    return served.open_page("/?template=reveal&theme=dark")


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Code that puts a page without focusnb's widgets in place of the project's, which takes a third of the time."""
    path = tmp_path_factory.mktemp("page") / "light.ipynb"
    cell = nbformat.v4.new_code_cell("1 + 1")
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    return f"""
from pathlib import Path
from focusnb.apps import voila
find = voila.page_file
voila.page_file = lambda name: Path({str(path)!r}) if name.endswith(".ipynb") else find(name)
"""


STATIC_ROUTES = ("PublicFile", "TemplateFile", "MultiStaticFileHandler", "FileFindHandler", "ThemesHandler")


def test_every_route_answers_nothing_but_log_in_and_static_files_without_the_token(served, page, folder):
    examples = {
        r"([0-9a-f-]+)": page.kernel,
        r"(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)": page.kernel,
        r"(.*)": "x",
        ".*": "x",
        r"/?": "/",
    }
    server = _server(folder, token=TOKEN)
    server.init_settings()
    seen = set()
    for pattern, handler, *_ in server.init_handlers():
        path = pattern
        for part, example in examples.items():
            path = path.replace(part, example)
        if handler.__name__ in STATIC_ROUTES:
            seen.add("static")
            continue
        assert re.fullmatch(pattern, path), f"no example for {pattern}"
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            status, headers, body = served.get(path, method=method)
            if (handler.__name__, method) == ("VoilaLoginHandler", "GET"):
                assert status == 200
                assert b"token" in body
                seen.add("login")
                continue
            refused = status in (401, 403, 404, 405) or (status == 302 and headers["location"].startswith("/login"))
            says_nothing = method == "OPTIONS" and body == b""  # which methods there would be
            assert refused or says_nothing or handler.__name__ == "LogoutHandler", (method, path, status)
            assert str(folder).encode() not in body
            assert folder.name.encode() not in body
            seen.add(handler.__name__)
    assert {"static", "login", "Page", "Refused", "Farewell", "KernelHandler", "VoilaKernelWebsocketHandler"} <= seen
    assert served.kernels(), "a route without the token ended the kernel"


TRICKS = (
    "/project.json",
    "/library.sqlite",
    "/../library.sqlite",
    "//etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/page.ipynb",
    "/voila/files/page.ipynb",
    "/voila/files/../library.sqlite",
    "/voila/files/x.png",
    "/voila/templates/lab/static/../../../../../../../../../../etc/passwd",
    "/voila/templates/lab/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
    "/voila/templates/lab/static/{folder}/project.json",
    "/voila/templates/lab/static//{folder}/project.json",
    "/voila/templates/../static/project.json",
    "/voila/templates/{folder}/static/project.json",
    "/voila/static/../../../../../../../../../../etc/passwd",
    "/voila/static/{folder}/project.json",
    "/voila/static//{folder}/project.json",
    "/voila/labextensions/../../../../../../../../../../../etc/passwd",
    "/voila/labextensions//{folder}/project.json",
    "/voila/api/themes/../../../../../../../../../../../etc/passwd",
    "/voila/api/themes//{folder}/project.json",
    "/voila/api/contents/",
    "/voila/tree/",
    "/voila/render/page.ipynb",
    "/api/contents/project.json",
    "/api/kernels",
    "/api/terminals",
    "/files/project.json",
    "/static/..%2f..%2fproject.json",
    "/sw.js/../project.json",
    "/project.html",
)


@pytest.mark.parametrize("known", [False, True], ids=["without the token", "with the token"])
def test_no_file_is_had_by_tricks_with_paths(served, folder, known):
    for trick in TRICKS:
        status, _, body = served.get(trick.format(folder=str(folder)), **(KNOWN if known else {}))
        assert status in (302, 400, 403, 404, 405, 500), (trick, status)
        assert status != 500, (trick, body)
        assert b"root:" not in body
        assert b"single-particle" not in body
        assert b"SQLite" not in body
        assert b"named_project" not in body, "the page's own notebook"


def test_whatever_answers_sends_the_headers(served):
    cookie = served.log_in()
    for path in ("/login", "/", "/sw.js", "/voila/static/voila.js", "/nothing", "/theme.css"):
        _, headers, _ = served.get(path)
        for name, value in HEADERS.items():
            assert headers[name.lower()] == value, (path, name)
        assert "server" not in headers
    assert cookie.startswith("username-")


def test_the_token_opens_the_page_by_address_header_cookie_and_form(served):
    cookie = served.log_in()
    status, headers, _ = served.get("/nothing", Cookie=cookie)
    assert status == 404
    status, headers, body = served.get("/login")
    xsrf = re.search(r"_xsrf=([^;]+)", headers["set-cookie"])
    assert xsrf is not None
    kind = "application/x-www-form-urlencoded"
    for password, expected in (("wrong", 401), (TOKEN, 302)):
        form = f"_xsrf={xsrf[1]}&password={password}"
        status, headers, body = served.get(
            "/login?next=%2F", method="POST", body=form, Content_Type=kind, Cookie=f"_xsrf={xsrf[1]}"
        )
        assert status == expected
    assert headers["location"] == "/"
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Lax" in headers["set-cookie"]
    status, _, body = served.get("/login?token=wrong")
    assert b'name="password"' in body


def test_public_files_are_there_and_need_no_token(served):
    kinds = {
        "/manifest.webmanifest": "application/manifest+json",
        "/sw.js": "text/javascript",
        "/icon-192.png": "image/png",
        "/icon-512.png": "image/png",
        "/icon.svg": "image/svg+xml",
        "/theme.css": "text/css",
        "/page.css": "text/css",
        "/page.js": "text/javascript",
        "/offline.html": "text/html",
    }
    for path, kind in kinds.items():
        status, headers, body = served.get(path)
        assert (status, headers["content-type"].split(";")[0]) == (200, kind), path
        assert body
    manifest = json.loads(served.get("/manifest.webmanifest")[2])
    for icon in manifest["icons"]:
        assert served.get("/" + icon["src"])[0] == 200
    assert b"{version}" not in served.get("/sw.js")[2]


def test_the_page_names_its_project_and_nothing_elsewhere(page):
    assert ">&lt;i&gt;project&lt;/i&gt;</h1>" in page.text
    assert "<i>project" not in page.text, "a name is text, whatever it holds"
    assert "no-store" in page.headers["cache-control"]
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//[^"'/]+""", page.text)
    assert "/voila/templates/lab/static/index.css" in page.text, "the address chooses no other template"
    assert {extension["name"] for extension in page.config["federated_extensions"]} == set(voila.EXTENSIONS)


def test_a_viewer_cannot_run_code_and_leaves_no_kernel(served, page, tmp_path):
    assert len(served.kernels()) == 1
    with pytest.raises(websocket.WebSocketBadStatusException):
        served.connect(page.kernel, header={})
    with pytest.raises(websocket.WebSocketBadStatusException):  # another site's page, with the browser's cookie
        served.connect(page.kernel, header={"Cookie": served.log_in()}, origin="http://elsewhere.example")
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
    # a page of another site cannot close this one, its own beacon can
    path, own = f"/voila/api/shutdown/{page.kernel}", f"http://localhost:{served.port}"
    assert served.get(path, method="POST", Origin="http://elsewhere.example", **KNOWN)[0] == 403
    assert len(served.kernels()) == 1
    assert served.get(path, method="POST", Origin=own, **KNOWN)[0] == 204
    wait_until(lambda: not served.kernels())
    assert served.get(path, method="POST", Origin=own, **KNOWN)[0] == 204
    channel.close()


def _send(channel: websocket.WebSocket, kind: str, content: dict[str, Any], *, identity: str = "x") -> None:
    header = {"msg_id": identity, "msg_type": kind, "username": "", "session": "s", "date": "", "version": "5.3"}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    channel.send(json.dumps({**message, "channel": "shell", "buffers": []}))


def test_kernels_end_with_their_browser_with_themselves_and_with_the_server(folder, light):
    served = Served(folder, "--token", TOKEN, before=light + "\nvoila.GRACE, voila.PATIENCE = 1, 8")
    browser, died = served.connect(served.open_page().kernel), served.open_page().kernel
    other = served.connect(died)
    assert len(served.kernels()) == 2
    kernel = next(process for process in served.kernels() if died in " ".join(process.cmdline()))
    kernel.kill()
    wait_until(lambda: served.get(f"/api/kernels/{died}", **KNOWN)[0] == 404)  # or its page would not know
    other.close()
    assert len(served.kernels()) == 1
    browser.sock.close()  # killed: no word of good-bye
    wait_until(lambda: not served.kernels())
    served.open_page()  # and nobody comes for it
    assert len(served.kernels()) == 1
    wait_until(lambda: not served.kernels())
    browser = served.connect(served.open_page().kernel)
    left = served.kernels()
    assert len(left) == 1
    assert served.stop() == 0
    wait_until(lambda: not any(_is_kernel(process) for process in left))


def test_without_a_token_only_this_machine_is_served_and_a_killed_server_leaves_no_kernel(folder, light, tmp_path):
    with pytest.raises(ParameterError, match="without a token"):
        voila.make_server(folder, token="", host="0.0.0.0", port=0, folder=tmp_path)
    served = Served(folder, "--no-token", before=light)
    assert "token" not in served.told
    assert served.get("/", Host="elsewhere.example")[0] == 403, "a name of another site that was made to point here"
    served.open_page()
    left = served.kernels()
    assert len(left) == 1
    served.stop(signal.SIGKILL)
    wait_until(lambda: not any(_is_kernel(process) for process in left))


def test_a_busy_port_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ParameterError, match=rf"port {port} is in use.*--port"):
            voila.bind("127.0.0.1", port)
    with pytest.raises(ParameterError, match="no address of this machine"):
        voila.bind("no-such-host.invalid", 0)


def test_a_token_is_made_anew_for_each_server(folder):
    first, second = _server(folder, token=None), _server(folder, token=None)
    assert first.token != second.token
    assert len(first.token) >= 32
    assert voila.address(first) == f"http://localhost:{first.port}/?token={first.token}"
