"""What a worker process of a cluster does when it starts."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the process that works on the project: it gives back what is under way and ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
