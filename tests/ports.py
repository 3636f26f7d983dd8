"""Ports for servers that are told one before they begin, and that may be ended and begun again."""

from __future__ import annotations

import itertools
import os
import socket

LOWEST, HIGHEST = 18_000, 30_000
"""Below those that the system itself gives to whoever asks for any: it never gives one of these away meanwhile."""

_numbers = itertools.count(7 * os.getpid())


def free_port() -> int:
    """A port of this machine that nobody has, and that no other process of the tests is likely to try next."""
    for _ in range(HIGHEST - LOWEST):
        port = LOWEST + next(_numbers) % (HIGHEST - LOWEST)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError(f"all ports from {LOWEST} to {HIGHEST} are in use")
