"""Run a function with an ordinary user's rights, so that permission tests mean the same under root."""

from __future__ import annotations

import ctypes
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

Result = TypeVar("Result")

SET_SECUREBITS = 28
NO_ROOT = 0b11
"""SECBIT_NOROOT, locked: a program that the child starts gets no power for being root's."""

CAPABILITY_VERSION_3 = 0x20080522


def run_as_nobody(function: Callable[..., Result], *args: Any) -> Result:
    """Call the function in a forked child to which permissions apply, and return or raise what it did.

    The child stays the owner of the test's files and gives up root's power to override permissions (capabilities(7)):
    a folder of mode 0o555 cannot be written and a file of mode 0 cannot be read, exactly as when somebody who is not
    root runs the tests; packages below root's home stay importable. Result and exception must pickle. Skips where the
    power cannot be given up.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as answer:
            answer.write(_answer(function, args))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        pickled = answer.read()
    _, status = os.waitpid(child, 0)
    if not pickled:
        raise RuntimeError(f"the child ended with status {os.waitstatus_to_exitcode(status)} before it answered")
    kind, value = pickle.loads(pickled)
    if kind == "refused":
        pytest.skip(f"root's power over permissions cannot be given up here: {value}")
    if kind == "raised":
        raise value
    result: Result = value
    return result


def _answer(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    """Return the pickled kind of the answer ("refused", "raised", "returned") and its value."""
    if os.geteuid() == 0:
        try:
            _give_up_power()
        except OSError as error:
            return pickle.dumps(("refused", str(error)))
    try:
        return pickle.dumps(("returned", function(*args)))
    except BaseException as error:
        trace = traceback.format_exc()
        try:
            pickle.loads(pickled := pickle.dumps(("raised", error)))
        except Exception:
            return pickle.dumps(("raised", RuntimeError(trace)))
        return pickled


def _give_up_power() -> None:
    """Leave this process and what it starts without any capability."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if libc.prctl(SET_SECUREBITS, NO_ROOT, 0, 0, 0) or libc.capset(header, nothing):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
