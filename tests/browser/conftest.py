"""Chromium, JupyterLab and pages of focusnb for browser tests; every page is watched.

A request to another host, an error in the console or an exception in a script fails the test that opened the page.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import nbformat
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")

# WebGL without a graphics card, and no sandbox, which root in a container does not get
ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

HERE = ("localhost", "127.0.0.1")

OTHERS = (
    "Could not restore the debugger state: Canceled future",  # JupyterLab, of a page that is left while it begins
    "[anywidget] Failed to initialize model",  # of a panel that was late, on a busy machine, and hears its kernel again
)
"""With what begins a complaint that no fault of focusnb leads to."""

DESKTOP, PHONE = (1280, 800), (390, 844)


_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is said to be installed (``make browser``), a test that was skipped did not pass."""
    if os.environ.get("FOCUSNB_NO_SKIPS") and _skipped and session.exitstatus == 0:
        print(f"\nskipped, which counts as failed here: {', '.join(_skipped)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def find_chromium() -> str | None:
    """Path of Chromium, if it is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; skips where it or playwright is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install focusnb[browser]"
    )
    path = find_chromium()
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Watched:
    """A browser window of its own; what it complains of is kept, and requests to other hosts are stopped."""

    def __init__(self, browser: Browser, *, size: tuple[int, int] = DESKTOP, dark: bool = False) -> None:
        self.complaints: list[str] = []
        touch = size[0] < 600
        self.context: BrowserContext = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            has_touch=touch,
            is_mobile=touch,
        )
        self.context.set_default_timeout(60_000)
        self.context.route("**/*", self._pass_on)
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda message: message.type == "error" and self._complain("console", message.text))
        self.page.on("pageerror", lambda error: self._complain("exception", str(error)))

    def _pass_on(self, route: Any) -> None:
        address = urlsplit(route.request.url)
        if address.scheme in ("data", "blob") or address.hostname in HERE:
            route.continue_()
        else:
            self._complain("foreign request", route.request.url)
            route.abort()

    def _complain(self, kind: str, text: str) -> None:
        if not text.startswith(OTHERS):
            self.complaints.append(f"{kind}: {text}")


@pytest.fixture
def watch(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    """Return a function that opens a watched window: (size=DESKTOP or PHONE, dark=False)."""
    opened: list[Watched] = []

    def open_window(**options: Any) -> Watched:
        opened.append(Watched(chromium, **options))
        return opened[-1]

    yield open_window
    for window in opened:
        if not window.page.is_closed():
            window.page.wait_for_timeout(300)  # what comes late is a complaint as well
        window.context.close()
    assert [complaint for window in opened for complaint in window.complaints] == []


class Server:
    """A server in a process of its own."""

    def __init__(self, command: list[str], pattern: str, folder: Path, **environment: str) -> None:
        self.log = Path(tempfile.mkstemp(dir=folder, suffix=".log")[1])
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **environment}
            )
        until = time.monotonic() + 90
        while (found := re.search(pattern, self.log.read_text())) is None:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)
        self.address = found[0]

    def stop(self) -> None:
        """End it and all it started."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)


class Dash(Server):
    """'focusnb dash' of a project; ``address`` holds the token."""

    def __init__(self, project: Path) -> None:
        program = "from focusnb.cli import main; main()"
        command = [sys.executable, "-c", program, "dash", str(project), "--no-browser", "--port", "0"]
        super().__init__(command, r"http://localhost:\d+/\?token=[\w-]+", project.parent)


@pytest.fixture(scope="module")
def dash() -> Iterator[Callable[[Path], Dash]]:
    """Return a function that serves a project's page; one server a project, for all tests of a file."""
    running: dict[Path, Dash] = {}

    def serve(project: Path) -> Dash:
        if project not in running:
            running[project] = Dash(project)
        return running[project]

    yield serve
    for server in running.values():
        server.stop()


class Lab(Server):
    """JupyterLab in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--ServerApp.port={port}"]
        command += ["--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={self.token}", "--LabApp.news_url="]
        command += [f"--ServerApp.root_dir={folder}", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
        super().__init__(command, rf"http://127\.0\.0\.1:{port}/lab", folder)
        self.root = self.address.removesuffix("/lab")
        until = time.monotonic() + 60
        while True:  # it tells its address a moment before it listens
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)
        # JupyterLab would ask whether it may fetch news from elsewhere
        self.set("@jupyterlab/apputils-extension:notification", fetchNews="false", checkForUpdates=False)

    def set(self, plugin: str, **values: Any) -> None:
        """Change JupyterLab's settings for the windows opened from now on."""
        request = urllib.request.Request(
            f"{self.root}/lab/api/settings/{plugin}",
            data=json.dumps({"raw": json.dumps(values)}).encode(),
            headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
            method="PUT",
        )
        urllib.request.urlopen(request, timeout=30).close()

    def run(self, window: Watched, *cells: str, dark: bool = False) -> Page:
        """Open a notebook with these cells in a window and run them all."""
        self.set("@jupyterlab/apputils-extension:themes", theme=f"JupyterLab {'Dark' if dark else 'Light'}")
        kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel}
        )
        name = f"{secrets.token_hex(4)}.ipynb"
        nbformat.write(notebook, self.folder / name)
        page = window.page
        # on a busy machine JupyterLab asks which kernel it shall take, though the notebook tells it
        page.add_locator_handler(
            page.locator(".jp-Dialog"),
            lambda dialog: dialog.locator("button.jp-mod-accept").first.click(),
            no_wait_after=True,  # another may come in its place
        )
        page.goto(f"{self.root}/lab/tree/{name}?token={self.token}&reset")
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        page.locator('.jp-Toolbar [data-status="idle"]').first.wait_for()
        for _ in range(10):  # JupyterLab drops what is asked while it still connects to the kernel
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_text("Run All Cells", exact=True).click()
            page.wait_for_timeout(1000)
            if page.locator(".jp-InputArea-prompt").first.inner_text() != "[ ]:":
                break
        return page


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab; use ``lab.run(watch(), "cell", ...)``."""
    server = Lab(tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()
