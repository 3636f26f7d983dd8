"""What the server of a page answers, and what it refuses."""

from __future__ import annotations

import contextlib
import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tornado.web
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import ensure_async
from tornado import httputil
from voila.static_file_handler import MultiStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler

HEADERS = {
    # Widgets' modules are handed over as blobs, Voila's page has scripts of its own, and the schemas of JupyterLab's
    # parts are compiled in the browser; nothing comes from, and nothing goes to, another host.
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Sent with everything, whichever part of Jupyter answers."""


class Headers(tornado.web.OutputTransform):
    """Puts the headers into every answer."""

    def transform_first_chunk(
        self, status_code: int, headers: httputil.HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, httputil.HTTPHeaders, bytes]:
        """Called once for each answer."""
        for name, value in HEADERS.items():
            headers[name] = value
        del headers["Server"]
        return status_code, headers, chunk


class Page(TornadoVoilaHandler):
    """The page itself: every visit starts a kernel of its own."""

    def check_xsrf_cookie(self) -> None:
        """A page is only read."""

    async def prepare(self, *args: Any, **kwargs: Any) -> None:
        """Let nothing of the address but the token through: the page's kernel reads the rest as its environment."""
        await ensure_async(super().prepare(*args, **kwargs))
        self.request.query = ""

    async def get(self, path: str | None = None) -> None:
        """Send the page as it comes into being; its kernel waits for no browser meanwhile."""
        server = self.settings["voila"]
        server.loading += 1
        try:
            await super().get()
        finally:
            server.loading -= 1


class Refused(tornado.web.RequestHandler):
    """Everything else: Voila's files, other templates, whatever a path is made up of."""

    def prepare(self) -> None:
        """Say that there is nothing, to whomever and however it is asked."""
        template = self.settings["jinja2_env"].get_template("error.html")
        self.set_status(404)
        self.finish(template.render(base_url=self.settings["base_url"], status_code=404))


class Farewell(JupyterHandler):
    """Ends a page's kernel when its tab closes."""

    def check_xsrf_cookie(self) -> None:
        """The beacon of a closing tab carries no token of Voila's (voila#1458): it has to come from our own page."""
        origin = self.request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.request.host:
            raise tornado.web.HTTPError(403, "a page can only be closed by itself")

    @tornado.web.authenticated
    async def post(self, kernel_id: str) -> None:
        """End a kernel; one that has ended is well too."""
        if kernel_id in self.kernel_manager:
            with contextlib.suppress(KeyError):  # closed twice at the same moment
                await ensure_async(self.kernel_manager.shutdown_kernel(kernel_id, now=True))
        self.set_status(204)
        self.finish()


class PublicFile(tornado.web.RequestHandler):
    """Files of the look that a browser reads before anybody has logged in, by name; no path reaches any other."""

    def initialize(self, files: dict[str, Path], version: str) -> None:
        """``version`` stands in for {version} in the texts."""
        self.files = files
        self.version = version

    def get(self, name: str) -> None:
        """Send one of the files."""
        path = self.files.get(name)
        if path is None or not path.is_file():
            raise tornado.web.HTTPError(404)
        kind = {".webmanifest": "application/manifest+json", ".js": "text/javascript"}.get(path.suffix)
        self.set_header("Content-Type", kind or mimetypes.guess_type(path.name)[0] or "application/octet-stream")
        self.set_header("Cache-Control", "no-cache")
        contents = path.read_bytes()
        if path.suffix in (".js", ".html", ".webmanifest"):
            contents = contents.replace(b"{version}", self.version.encode())
        self.write(contents)

    head = get


class TemplateFile(MultiStaticFileHandler):
    """Style sheets of the template; only from the folders given."""

    def set_extra_headers(self, path: str) -> None:
        """Let a browser ask whether they changed."""
        self.set_header("Cache-Control", "no-cache")
