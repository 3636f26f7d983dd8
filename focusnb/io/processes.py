"""Processes of this host, told from others that had the same number."""

from __future__ import annotations

from pathlib import Path


def began(process: int | None = None) -> float:
    """When a process began, in the system's own ticks since it was started; 0 where there is none.

    process : its number; this process where None

    Not a time of day: that of a process changes when the clock is set.
    """
    try:
        stat = Path(f"/proc/{process or 'self'}/stat").read_text("utf-8", "replace")
    except FileNotFoundError:
        return 0.0 if Path("/proc/self/stat").exists() else _by_psutil(process)
    except (OSError, ProcessLookupError):
        return _by_psutil(process)
    # the name in brackets may hold anything; the 20th field after it is the time of the start
    return float(stat.rpartition(")")[2].split()[19])


def _by_psutil(process: int | None) -> float:
    import psutil  # type: ignore[import-untyped]

    try:
        return float(psutil.Process(process).create_time())
    except psutil.Error:
        return 0.0
