"""What every campaign says beside its numbers: commit, machine, versions; and where results are kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def commit() -> str:
    """The commit measured, with + where the tree holds changes."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../focusnb")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def machine() -> dict[str, Any]:
    """Processor, cores, memory and the versions that matter."""
    import numpy
    import psutil
    import scipy

    name = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }


def save(name: str, results: Any) -> Path:
    """Write results as JSON into ``benchmarks/results/<name>.json`` with commit, machine and date."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    record = {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "machine": machine(), "results": results}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"written to {path}")
    return path


def table(rows: list[dict[str, Any]]) -> None:
    """Print rows of equal keys as an aligned table."""
    if not rows:
        return
    names = list(rows[0])
    cells = [[_text(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    print("  ".join(name.ljust(width) for name, width in zip(names, widths, strict=True)))
    for row in cells:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
