"""Who may see a page: whoever shows its token or its password, and guesses neither."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Callable
from typing import Any

from jupyter_server.auth.identity import PasswordIdentityProvider, User
from jupyter_server.auth.security import passwd_check
from tornado.web import Finish, RequestHandler

FAILURES = 10
"""Wrong tokens or passwords that an address may show within ``WINDOW``."""

WINDOW = 60.0
"""Seconds."""

_MOST_ADDRESSES = 10_000


class Attempts:
    """Counts what was shown in vain, by address. ``clock`` tells seconds."""

    def __init__(
        self, *, failures: int = FAILURES, window: float = WINDOW, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._window, self._clock = failures, window, clock
        self._failed: dict[str, list[float]] = {}

    def wait(self, address: str) -> int:
        """Seconds until an address may try again; 0 where it may now."""
        now = self._clock()
        recent = [at for at in self._failed.get(address, ()) if now - at < self._window]
        if len(recent) < self._most:
            return 0
        return max(1, math.ceil(recent[-self._most] + self._window - now))

    def fail(self, address: str) -> None:
        """Note that an address showed what opens nothing."""
        now = self._clock()
        recent = [at for at in self._failed.pop(address, ()) if now - at < self._window]
        self._failed[address] = [*recent, now][-self._most :]
        if len(self._failed) > _MOST_ADDRESSES:  # the one that was quiet longest
            del self._failed[next(iter(self._failed))]


class Doorkeeper(PasswordIdentityProvider):
    """Jupyter's own, which lets nobody try without end and changes no password."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attempts = Attempts()

    def process_login_form(self, handler: RequestHandler) -> User | None:
        """Whoever typed the password or the token; None for anybody else."""
        if not self.auth_enabled:
            return self.generate_anonymous_user(handler)
        self._let_try(handler)
        typed = handler.get_argument("password", default="")
        known = bool(self.hashed_password) and passwd_check(self.hashed_password, typed)
        if known or (bool(self.token) and _same(self.token, typed)):
            return self.generate_anonymous_user(handler)
        self.attempts.fail(_address(handler))
        return None

    async def get_user_token(self, handler: RequestHandler) -> User | None:
        """Whoever showed the token in the address or in a header; None for anybody else."""
        shown = self.get_token(handler)
        if not shown or not self.token:
            return None
        self._let_try(handler)
        if not _same(self.token, shown):
            self.attempts.fail(_address(handler))
            return None
        return self.get_user_cookie(handler) or self.generate_anonymous_user(handler)  # type: ignore[return-value]

    def _let_try(self, handler: RequestHandler) -> None:
        seconds = self.attempts.wait(_address(handler))
        if not seconds:
            return
        handler.set_status(429)
        handler.set_header("Retry-After", str(seconds))
        template = handler.settings["jinja2_env"].get_template("error.html")
        page = template.render(base_url=handler.settings["base_url"], status_code=429, seconds=seconds)
        raise Finish(page)


def _address(handler: RequestHandler) -> str:
    return str(handler.request.remote_ip)


def _same(known: str, shown: str) -> bool:
    return hmac.compare_digest(known.encode(), shown.encode("utf-8", "replace"))
