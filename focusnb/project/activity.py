"""What a thread is at in a place that may never answer, for another thread to see.

A server that is gone can keep a thread in a system call for as long as it likes, and nothing ends that but the end of
the process. So nobody waits for such a thread: one looks at what it is at, and leaves it where it does not go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

SILENT = 20.0
"""Seconds without an answer after which it is told."""

LEAVE = 5.0
"""Seconds without an answer after which a thread is left that is to end."""

Result = TypeVar("Result")


class Left(BaseException):
    """Ends a thread that came back after it had been left; no fault, and nothing that a file could be blamed for."""


class Activity:
    """Where a thread reads at the moment; noted by that thread, seen by others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin at nothing."""
        self._clock = clock
        # one value, so that another thread never sees a new place with an old time
        self._state = ("", clock())
        self._left = False

    def turn_to(self, path: object) -> None:
        """Read something now: a file, or a folder. Raises Left in a thread that was left meanwhile."""
        self._note(str(path))

    def go_on(self, done: object = None) -> None:
        """Note that what is read answers; takes what a copy tells of its progress. Raises Left as above."""
        self._note(self._state[0])

    def rest(self) -> None:
        """Read nothing that may be silent: what is waited for now is the project's own. Raises Left as above."""
        self._note("")

    def _note(self, at: str) -> None:
        self._state = (at, self._clock())
        if self._left:
            raise Left

    def leave(self) -> None:
        """Let the thread end as soon as it comes back; called by another."""
        self._left = True

    @property
    def seconds(self) -> float:
        """How long ago the thread noted anything."""
        return self._clock() - self._state[1]

    def silent(self, seconds: float) -> str:
        """What has not answered for so many seconds; empty where all is well."""
        at, since = self._state
        return at if at and self._clock() - since > seconds else ""

    def told(self) -> str:
        """What to say of what does not answer, in a sentence with the cure; empty where all is well."""
        at = self.silent(SILENT)
        return f"{at}: has not answered for {SILENT:.0f} s; check the mount it is on and its server" if at else ""


def run_beside(
    work: Callable[[], Result],
    activity: Activity,
    say: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> Result | None:
    """Do work in a thread of its own, so that nothing it reads can keep this one; None where it was left.

    activity : what the work notes of what it reads
    say : told, in this thread, of what does not answer
    stopped : whether the work was asked to end; it is left where it cannot

    Raises what the work raises.
    """
    results: list[Result] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised where the work was asked for
            faults.append(error)

    thread = threading.Thread(target=run, name="focusnb-import", daemon=True)
    thread.start()
    told = ""
    try:
        while thread.is_alive():
            thread.join(0.1)
            silence = activity.told()
            if silence and silence != told:
                say(f"{silence}; it goes on when that answers")
            told = silence
            if stopped() and (at := activity.silent(LEAVE)):
                say(f"{at}: does not answer, so the import ends without it; import again when it does")
                return None
    finally:
        activity.leave()
    if faults:
        raise faults[0]
    return results[0]
