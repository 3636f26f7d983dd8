"""doctor: what this machine has for focusnb, and what to do about what it has not."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import typer

PROGRAMS: dict[str, tuple[tuple[str, ...], str]] = {
    "MotionCor": (("MotionCor3", "MotionCor2"), "motion correction by MotionCor"),
    "CTFFIND": (("ctffind", "ctffind5", "ctffind4"), "CTF estimation by CTFFIND"),
    "Gctf": (("Gctf", "gctf"), "CTF estimation by Gctf"),
    "RELION": (("relion_run_motioncorr",), "RELION's own steps"),
    "Gautomatch": (("Gautomatch", "gautomatch"), "picking by Gautomatch"),
    "IMOD": (("newstack",), "tilt series with IMOD"),
    "AreTomo": (("AreTomo3", "AreTomo2"), "tilt series with AreTomo"),
}
"""Classic programs that can plug in: names on PATH and what they are for. focusnb needs none of them."""

_PACKAGES = ("numpy", "scipy", "numba", "tifffile", "imagecodecs", "dask", "pandas", "jupyterlab", "voila", "bokeh")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is there, what was found, and what to do."""

    name: str
    state: str
    found: str
    cure: str = ""


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("doctor")(doctor)


def doctor() -> None:
    """Say what is there for focusnb, what is not, and what to do about it."""
    findings = list(examine())
    for finding in findings:
        mark = {"ok": "ok     ", "optional": "missing", "wrong": "WRONG  "}[finding.state]
        print(f"{mark}  {finding.name:14s} {finding.found}" + (f" → {finding.cure}" if finding.cure else ""))
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Look at everything."""
    yield _python()
    yield from _packages()
    yield _compiler()
    yield _gpu()
    for name, (commands, purpose) in PROGRAMS.items():
        path = next((found for command in commands if (found := shutil.which(command))), None)
        yield Finding(
            name,
            "ok" if path else "optional",
            path or f"not on PATH ({', '.join(commands)})",
            "" if path else f"only for {purpose}: install it and put it on PATH",
        )
    yield _browser()
    yield _memory()
    yield _temporary()


def _python() -> Finding:
    version = platform.python_version()
    return Finding("Python", "ok", f"{version} at {sys.executable}")


def _packages() -> Iterator[Finding]:
    import focusnb

    yield Finding("focusnb", "ok", f"{focusnb.__version__} at {Path(focusnb.__file__).parent}")
    for name in _PACKAGES:
        try:
            yield Finding(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, "wrong", "not installed", "pip install focusnb again, or run 'make' in the checkout")


def _compiler() -> Finding:
    try:
        import numba
        import numpy

        numba.njit(lambda x: x + 1)(numpy.float32(1))
    except Exception as error:
        return Finding("kernels", "wrong", f"cannot be compiled ({error})", "reinstall numba")
    return Finding("kernels", "ok", "compile")


def _gpu() -> Finding:
    try:
        import cupy
    except ImportError:
        return Finding("GPU", "optional", "cupy is not installed", "with a CUDA device: pip install 'focusnb[gpu]'")
    if not cupy.is_available():
        return Finding("GPU", "optional", f"cupy {cupy.__version__} sees no device", "check the driver with nvidia-smi")
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    free, total = cupy.cuda.runtime.memGetInfo()
    name = properties["name"].decode()
    return Finding("GPU", "ok", f"{name}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free, cupy {cupy.__version__}")


def _browser() -> Finding:
    path = next(
        (p for n in ("chromium", "chromium-browser", "google-chrome", "firefox") if (p := shutil.which(n))), None
    )
    if path:
        return Finding("browser", "ok", path)
    return Finding(
        "browser", "optional", "none on this machine", "open the dashboards from another one, or install chromium"
    )


def _memory() -> Finding:
    import psutil

    from focusnb.processing.memory import default_workers

    memory = psutil.virtual_memory()
    text = f"{memory.available / 1e9:.0f} of {memory.total / 1e9:.0f} GB free, {os.cpu_count()} cores"
    text += f": {default_workers()} workers"
    return Finding(
        "memory", "ok" if memory.total > 3e9 else "wrong", text, "" if memory.total > 3e9 else "3 GB are needed"
    )


def _temporary() -> Finding:
    import tempfile

    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if free < 1e9:
        return Finding("disk", "wrong", f"{free / 1e9:.1f} GB free in {folder}", "make room, or set TMPDIR")
    return Finding("disk", "ok", f"{free / 1e9:.0f} GB free in {folder}")
