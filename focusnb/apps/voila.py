"""Serve a page to browsers: Voila alone, with its files closed and its kernels freed.

Voila as it comes never frees the kernel of a closed tab, serves files without asking for the token, and shows what its
address asks for. This launcher serves one notebook, for one project or some microscopes, named to the kernels by their
environment.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_core.utils import run_sync
from jupyter_server.utils import ensure_async
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.netutil import bind_sockets
from traitlets.config import Config
from voila.app import Voila

from focusnb import __version__
from focusnb.apps.page_files import page_file
from focusnb.apps.page_handlers import Farewell, Headers, Page, PublicFile, Refused, TemplateFile
from focusnb.apps.page_login import Doorkeeper
from focusnb.apps.settings import PROJECT_VARIABLE
from focusnb.errors import ParameterError, ProjectError
from focusnb.panels import STATIC

PORT = 8866
"""Tried first where none is asked for."""

GRACE = 20.0
"""Seconds a kernel waits for its browser to come back: a phone that changes its network takes a few."""

PATIENCE = 60.0
"""Seconds a kernel waits for its browser to come at all, once its page was sent."""

PING = 10_000
"""Milliseconds between two questions to a browser whether it is still there: a network that fails tells nobody."""

LONGEST_SOCKET_FOLDER = 30
"""Characters a folder's path may have so that the paths of a kernel's sockets in it stay below the system's 107."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

EXTENSIONS = [
    "@voila-dashboards/widgets-manager8",
    "@jupyter-widgets/jupyterlab-manager",
    "@bokeh/jupyter_bokeh",
    "anywidget",
]
"""Parts of JupyterLab a page loads; any other costs time, and one that HoloViews brings throws."""

_PUBLIC = (
    "sw.js",
    "manifest.webmanifest",
    "offline.html",
    "page.css",
    "page.js",
    "icon.svg",
    "icon-192.png",
    "icon-512.png",
)


class OwnKernel(KernelSpecManager):
    """One kernel, this Python: a user's own kernel of the same name may be without focusnb."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The kernel, by the only name there is."""
        if kernel_name != "python3":
            raise NoSuchKernel(kernel_name)
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, language="python", display_name="Python 3")

    def find_kernel_specs(self) -> dict[str, str]:
        """The only one."""
        return {"python3": ""}

    def get_all_specs(self) -> dict[str, dict[str, Any]]:
        """The only one."""
        return {"python3": {"resource_dir": "", "spec": self.get_kernel_spec("python3").to_dict()}}


class PageServer(Voila):
    """Serves one page."""

    def __init__(
        self,
        *,
        sockets: list[socket.socket],
        on_ready: Callable[[], None],
        command: str = "focusnb dash",
        tls: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        """``command`` : what was typed to start it, for whoever has to log in; ``tls`` : encrypts, where it is given"""
        super().__init__(**options)
        self.sockets, self.command, self.tls = sockets, command, tls
        self.on_ready = on_ready
        self.grace, self.patience = GRACE, PATIENCE
        self.loading = 0
        self._alone_since: dict[str, float] = {}
        self._was_seen: set[str] = set()

    def setup_template_dirs(self) -> None:
        """Look into our template before Voila's own, on which it is built."""
        super().setup_template_dirs()
        self.template_paths = [str(page_file("template")), *self.template_paths]

    def init_settings(self) -> dict[str, Any]:
        """Ask for the login everywhere, with a page of our own."""
        settings: dict[str, Any] = super().init_settings()
        settings["allow_unauthenticated_access"] = False
        settings["ws_ping_interval"], settings["ws_ping_timeout"] = PING, 3 * PING
        settings["compress_response"] = True
        # without a token the browser's word for the host is all that keeps other sites' pages out
        settings["allow_remote_access"] = self.identity_provider.auth_enabled
        settings["local_hostnames"] = list(LOOPBACK)
        own = jinja2.FileSystemLoader(page_file("template"))
        settings["jinja2_env"].loader = jinja2.ChoiceLoader([own, settings["jinja2_env"].loader])
        settings["jinja2_env"].globals["command"] = self.command
        settings["jinja2_env"].globals["has_password"] = bool(self.identity_provider.hashed_password)
        return settings

    def init_handlers(self) -> list[Any]:
        """Voila's, with the doors closed that this page does not use."""
        base = self.server_url.rstrip("/")
        static = page_file("template") / "static"
        files = {name: static / name for name in _PUBLIC} | {"theme.css": STATIC / "theme.css"}
        public = {"files": files, "version": __version__}
        *handlers, page = super().init_handlers()
        return [
            (base + r"/voila/api/shutdown/([0-9a-f-]+)", Farewell),
            (base + r"/(sw\.js|[a-z]+\.webmanifest|[a-z0-9-]+\.(?:html|css|js|svg|png))", PublicFile, public),
            (base + r"/voila/templates/lab/static/(.*)", TemplateFile, {"paths": self.static_paths}),
            (base + r"/voila/templates/.*", Refused),
            (base + r"/voila/files/.*", Refused),
            (base + r"/voila/query/.*", Refused),  # tells what a browser sent, to whoever knows the kernel
            *handlers,
            (base + r"/?", Page, page[2]),
            (r"/.*", Refused),
        ]

    def listen(self) -> None:
        """Serve until a signal comes."""
        self.app.transforms.append(Headers)
        server = HTTPServer(self.app, ssl_options=self.tls)
        server.add_sockets(self.sockets)
        self.ioloop = IOLoop.current()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError):  # not in the main thread: whoever started it there stops it
                signal.signal(number, lambda *_: self.ioloop.add_callback_from_signal(self.ioloop.stop))
        reaper = PeriodicCallback(self.reap, 1000)
        reaper.start()
        self.on_ready()
        try:
            self.ioloop.start()
        finally:
            reaper.stop()
            server.stop()
            self.stop()

    def stop(self) -> None:
        """End all kernels."""
        run_sync(self.kernel_manager.shutdown_all)(now=True)
        shutil.rmtree(self.connection_dir, ignore_errors=True)

    async def reap(self) -> None:
        """End kernels whose browser has gone, or never came, and forget those that died.

        A page whose kernel is gone loads itself again as soon as somebody looks at it.
        """
        now = time.monotonic()
        ready, starting = self._pooled()
        running = set(self.kernel_manager.list_kernel_ids())
        for gone in set(self._alone_since) - running:
            del self._alone_since[gone]
        self._was_seen &= running
        for kernel in running:
            with contextlib.suppress(KeyError):  # ended meanwhile
                waits = kernel in ready or (starting and kernel not in self._was_seen)
                if (not waits and self._is_left(kernel, now)) or not await ensure_async(
                    self.kernel_manager.is_alive(kernel)
                ):
                    await ensure_async(self.kernel_manager.shutdown_kernel(kernel, now=True))

    def _pooled(self) -> tuple[set[str], bool]:
        """Kernels kept ready for the next browsers, and whether more are starting; missing ones are asked for."""
        manager = self.kernel_manager
        if not self.voila_configuration.preheat_kernel:
            return set(), False
        pool = manager._pools.setdefault(manager.notebook_path, [])
        pool[:] = [task for task in pool if not task.done() or (not task.cancelled() and task.exception() is None)]
        if len(pool) < self.voila_configuration.default_pool_size:
            manager.fill_if_needed(notebook_name=manager.notebook_path)
        ready = {task.result()["kernel_id"] for task in pool if task.done()}
        for kernel in ready:
            self._alone_since.pop(kernel, None)
        return ready, len(ready) < len(pool)

    def _is_left(self, kernel: str, now: float) -> bool:
        """Whether a kernel has been without a browser for too long."""
        seen = kernel in self._was_seen
        if self.kernel_manager.kernel_model(kernel)["connections"] > 0:
            self._was_seen.add(kernel)
            self._alone_since.pop(kernel, None)
            return False
        if self.loading and not seen:
            self._alone_since.pop(kernel, None)
        return now - self._alone_since.setdefault(kernel, now) > (self.grace if seen else self.patience)


def _without_formulas(config: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A page's settings without the part that would fetch MathJax from elsewhere."""
    return {**config, "disabledExtensions": [*config["disabledExtensions"], "@jupyterlab/mathjax2-extension:plugin"]}


def bind(host: str, port: int | None) -> list[socket.socket]:
    """Listen on a port; without one on the first that is free from 8866 on. ParameterError where it cannot be had."""
    for number in range(PORT, PORT + 20) if port is None else (port,):
        try:
            return bind_sockets(number, host)
        except OSError as error:
            if isinstance(error, socket.gaierror):
                raise ParameterError(f"{host}: is no address of this machine; try localhost or 0.0.0.0") from error
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            reasons = {
                errno.EADDRINUSE: "is in use by another program",
                errno.EACCES: "may not be used by this user",
                errno.EADDRNOTAVAIL: f"cannot be used, since {host} is no address of this machine",
            }
            reason = reasons.get(error.errno or 0, f"cannot be used ({error.strerror or error})")
            raise ParameterError(f"port {number} {reason}; choose another with --port, or 0 for any") from error
    raise ParameterError(f"ports {PORT} to {PORT + 19} are in use; choose another with --port, or 0 for any")


def encrypt(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What encrypts a page; None where no files are given. ParameterError where they cannot be used."""
    if certificate is None:
        if key is not None:
            raise ParameterError(f"{key}: a key is of no use without its certificate; give --certfile too")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # asked for by nobody: a server that waits for a pass phrase does not come back after a power cut
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except FileNotFoundError as error:
        missing = next((path for path in (certificate, key) if path is not None and not path.exists()), certificate)
        raise ParameterError(f"{missing}: there is no such file; name the certificate and its key") from error
    except (OSError, ssl.SSLError) as error:
        told = f"{certificate} and {key or certificate}"
        raise ParameterError(
            f"{told}: are no certificate and its key ({error}); both have to be PEM, without a pass phrase"
        ) from error
    return context


def make_server(
    project: Path | None = None,
    *,
    notebook: str = "explorer.ipynb",
    title: str = "focusnb",
    host: str = "localhost",
    port: int | None = None,
    token: str | None = None,
    password: str = "",
    tls: ssl.SSLContext | None = None,
    preheated: int = 0,
    environment: Mapping[str, str] | None = None,
    command: str = "focusnb dash",
    folder: Path,
    on_ready: Callable[[PageServer], None] = lambda server: None,
) -> PageServer:
    """A server of a page, listening; ``start()`` serves it until a signal comes.

    project : the project's folder, named to the page's kernels by their environment; ``environment`` : what else is
    notebook : the page, by its name in ``dashboards``
    token : what a browser has to show; None makes one, an empty one lets everybody on this machine in
    password : the hash of one that opens the page as well, as Jupyter makes it; then no token is made
    tls : encrypts; preheated : kernels kept ready, in which the page is there already
    folder : an empty one, all that Voila may take its files from
    """
    token = "" if token is None and password else token
    if token == "" and not password and host not in LOOPBACK:
        raise ParameterError(f"without a token this page is not served beyond this machine (host {host}); give one")
    sockets = bind(host, port)
    page = nbformat.read(page_file(notebook), as_version=4)
    page.metadata["title"] = title
    nbformat.write(page, folder / "page.ipynb")
    os.environ.update({PROJECT_VARIABLE: str(project or ""), **(environment or {})})
    settings = Config()
    settings.Voila.config_file_paths = []  # a voila.json lying about must open nothing
    settings.Voila.open_browser = False
    settings.Voila.root_dir = str(folder)
    settings.Voila.notebook_path = str(folder / "page.ipynb")
    settings.Voila.ip = host
    settings.Voila.port = sockets[0].getsockname()[1]
    settings.Voila.token = secrets.token_urlsafe(24) if token is None else token
    settings.Voila.log_level = logging.ERROR
    pages = settings.VoilaConfiguration
    pages.template = "lab"
    pages.allow_template_override = pages.allow_theme_override = "NO"
    pages.file_allowlist = ["$^"]
    pages.extension_allowlist = EXTENSIONS
    pages.extension_denylist = []
    pages.preheat_kernel = preheated > 0
    pages.default_pool_size = preheated
    pages.page_config_hook = _without_formulas
    pages.kernel_spec_manager_class = OwnKernel
    if len(tempfile.gettempdir()) <= LONGEST_SOCKET_FOLDER:
        settings.KernelManager.transport = "ipc"  # sockets that other users of this machine cannot read
    for name in ("tornado.access", "tornado.general", "tornado.application"):
        logging.getLogger(name).setLevel(logging.ERROR)  # a phone that fell asleep is no news
    settings.KernelManager.autorestart = False  # a new kernel under an old page knows none of its widgets
    settings.Voila.identity_provider_class = Doorkeeper
    settings.Doorkeeper.cookie_options = {"samesite": "Lax"}
    settings.Doorkeeper.hashed_password = password

    def ready() -> None:
        on_ready(server)

    server = PageServer(config=settings, sockets=sockets, on_ready=ready, command=command, tls=tls)
    server.initialize([])
    return server


def address(server: PageServer) -> str:
    """Where to find the page, token included."""
    host = socket.gethostname() if server.ip in ("0.0.0.0", "::", "") else server.ip
    host = f"[{host}]" if ":" in host else host
    scheme = "http" if server.tls is None else "https"
    return f"{scheme}://{host}:{server.port}/" + (f"?token={server.token}" if server.token else "")


def serve_page(
    project: Path | None = None, *, title: str, browser: bool, tell: Callable[[str], None], **options: Any
) -> None:
    """Serve a page until Ctrl-C; all kernels end with it. ``tell`` gets the one line with the address."""

    def ready(server: PageServer) -> None:
        tell(f"{title} is shown at {address(server)} (Ctrl-C ends it)")
        if browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=(address(server),), daemon=True).start()

    with tempfile.TemporaryDirectory(prefix="focusnb-page-") as folder:
        server = make_server(project, title=title, folder=Path(folder), on_ready=ready, **options)
        try:
            server.start()
        except OSError as error:
            raise ProjectError(f"the page cannot be served: {error.strerror or error}; check {folder}") from error


def _has_screen() -> bool:
    """Whether a browser that opened would be a window: one in the terminal would hide the address."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
