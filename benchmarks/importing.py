"""What watching costs, how long a movie takes from its file to its row, and what faults do to an import.

    python benchmarks/importing.py [poll rate latency faults] [--minutes 10] [--files 2000]

poll : one look at 50,000 files, in one folder and in 100: the first, at rest, with a new file, and a full pass
rate : CPU of a process that watches 50,000 files to which 500 an hour are added, their bytes left out: they are tiny
latency : a simulated microscope writes a small movie every 5 s, 'focusnb serve' imports and processes them
faults : files that grow, are replaced and named twice, while mounts vanish and hang and the import is killed; from
    two sources, and a quarter as many from two folders of one source
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import _common

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from focusnb.io.folders import COARSE, FULL_INTERVAL, Tree
from focusnb.project.project import Project
from focusnb.project.sources import add_source, make_source
from focusnb.project.threads import watch

FILES = 50_000
PER_HOUR = 500

ALLOWED = {"poll, s": 1.0, "share of a core at 500/h": 0.05, "latency, worst, s": 30.0}
"""What the issue of the import asks for."""

RECORD = """
import sys, time
from focusnb.microscope import record_session
def told(number, name):
    print(name, time.time(), flush=True)
record_session(sys.argv[1], movies=int(sys.argv[2]), size=(512, 512), frames=8, cadence=5.0, slow=True, bad=False,
               progress=told)
"""

MAIN = "import sys; from focusnb.cli import main; sys.argv[0] = 'focusnb'; main()"


def main() -> None:
    """Measure, print and keep the numbers; those of what was not asked for stay as they were."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["poll", "rate", "latency", "faults"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--files", type=int, default=2000)
    asked = parser.parse_args()
    kept = _common.RESULTS / "importing.json"
    results: dict[str, Any] = json.loads(kept.read_text())["results"] if kept.exists() else {}
    for name in asked.what:
        with folder() as place:
            if name == "poll":
                results[name] = poll(place)
            elif name == "rate":
                results[name] = rate(place)
            elif name == "latency":
                results[name] = latency(place, asked.minutes)
            elif name == "faults":
                results[name] = faults(place, asked.files)
            else:
                parser.error(f"{name} is nothing that is measured")
        print(f"\n{name}")
        _common.table(results[name] if isinstance(results[name], list) else [results[name]])
    _common.save("importing", {**results, "allowed": ALLOWED})


@contextlib.contextmanager
def folder() -> Any:
    """A folder that is gone afterwards."""
    place = Path(tempfile.mkdtemp(prefix="focusnb-benchmark-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def fill(root: Path, folders: int) -> None:
    """Small files in so many folders."""
    for number in range(folders):
        place = root / f"square_{number:03d}" if folders > 1 else root
        place.mkdir(parents=True)
        for file in range(FILES // folders):
            (place / f"m{file:05d}.tif").write_bytes(b"1")


def poll(place: Path) -> list[dict[str, Any]]:
    """Seconds of a look."""
    rows = []
    for folders in (1, 100):
        root = place / f"camera_{folders}"
        fill(root, folders)
        tree = Tree(root, patterns=["*.tif", "*.mdoc"])

        def look(tree: Tree = tree, clock: Callable[[], float] = time.perf_counter) -> float:
            began = clock()
            for path in tree.look().files:
                tree.settle(path)
            return clock() - began

        cpu = time.process_time()
        first = look()
        first_cpu = time.process_time() - cpu
        time.sleep(COARSE + 1)
        look()
        rest = statistics.median(look() for _ in range(20))
        new = []
        for number in range(10):
            (root / f"new_{number}.tif").write_bytes(b"1")
            new.append(look())
        tree._full_at = -float("inf")
        full = look()
        tree._full_at = -float("inf")
        full_cpu = look(clock=time.process_time)
        rows.append(
            {"files": FILES, "folders": folders, "first, s": first, "at rest, s": rest,
             "with a new file, s": statistics.median(new), f"full, every {FULL_INTERVAL:.0f} s, s": full,
             "first, CPU s": first_cpu, "full, CPU s": full_cpu}
        )  # fmt: skip
    return rows


def rate(place: Path, seconds: float = 150.0) -> dict[str, Any]:
    """Share of a core."""
    camera = place / "camera"
    fill(camera, 1)
    with Project.create(place / "project", mode="drift") as project:
        # what is watched has been imported already: so it is after days of a session
        e = [{"exposure": f"m{n}", "folder": f"exposures/camera/m{n}", "source": str(camera / f"m{n:05d}.tif")}
             for n in range(FILES)]  # fmt: skip
        from focusnb.project import schema

        with project.library.write() as transaction:
            for start in range(0, FILES, 1000):
                rows = [{**row, "facts": {}, "current": {}, "content": row["exposure"], "revision": 1}
                        for row in e[start : start + 1000]]  # fmt: skip
                transaction.execute(schema.exposures.insert(), rows)
        stop, added = threading.Event(), []
        source = make_source({"folders": [camera], "delay": 1.0})
        ready = threading.Event()

        def write() -> None:
            ready.wait()
            end = time.monotonic() + seconds
            number = 0
            while time.monotonic() < end:
                (camera / f"new_{number}.tif").write_bytes(f"{number}\n".encode())
                number += 1
                time.sleep(3600 / PER_HOUR)
            stop.set()

        writer = threading.Thread(target=write)
        writer.start()
        began = time.monotonic()
        figures: dict[str, float] = {}

        def sources() -> list[Any]:
            # the first look, at what is known, is over
            if "cpu" not in figures and time.monotonic() - began > 20:
                figures.update(cpu=time.process_time(), at=time.monotonic())
                ready.set()
            return [source]

        watch(project, sources, lambda text: None, stop, on_added=lambda _, ids: added.extend(ids))
        cpu, elapsed = time.process_time() - figures["cpu"], time.monotonic() - figures["at"]
        writer.join()
    return {
        "files watched": FILES,
        "imported": len(added),
        "seconds": elapsed,
        "share of a core": cpu / elapsed,
        "per hour": 3600 * len(added) / elapsed,
    }


def latency(place: Path, minutes: float) -> dict[str, Any]:
    """Seconds from a complete file to its row with previews, and what waits meanwhile."""
    camera, movies = place / "camera", round(12 * minutes)
    camera.mkdir()
    with Project.create(place / "project", mode="single-particle") as project:
        add_source(project, make_source({"folders": [camera], "facts": {"amplitude_contrast": "0.1"}}))
        library = project.folder / "library.sqlite"
    command = [sys.executable, "-c", MAIN, "serve", str(place / "project"), "--foreground", "--workers", "1"]
    serving = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(10)
    microscope = subprocess.Popen(
        [sys.executable, "-c", RECORD, str(camera), str(movies)], stdout=subprocess.PIPE, text=True
    )
    complete: dict[str, float] = {}

    def listen() -> None:
        assert microscope.stdout is not None
        for line in microscope.stdout:
            name, moment = line.split()
            complete[Path(name).stem] = float(moment)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    backlog: list[tuple[float, int]] = []
    began = time.monotonic()
    rows: dict[str, tuple[float, float, bool]] = {}
    try:
        while time.monotonic() - began < 60 * minutes + 180:
            rows = read(library, place / "project")
            if microscope.poll() is None:
                backlog.append((time.monotonic() - began, len(complete) - len(rows)))
            elif len(rows) == movies:
                break
            time.sleep(1)
        listener.join(10)
    finally:
        microscope.kill()
        serving.send_signal(signal.SIGTERM)
        serving.wait(60)
    to_row = [rows[name][0] - moment for name, moment in complete.items() if name in rows]
    to_previews = [rows[name][1] - moment for name, moment in complete.items() if name in rows]
    half = backlog[-1][0] / 2
    return {
        "movies": movies,
        "done": len(rows),
        "with previews": sum(row[2] for row in rows.values()),
        "cadence, s": 5.0,
        "to the row, median, s": statistics.median(to_row),
        "to the row, worst, s": max(to_row),
        "to previews, median, s": statistics.median(to_previews),
        "to previews, worst, s": max(to_previews),
        "backlog, most, first half": max(count for at, count in backlog if at <= half),
        "backlog, most, second half": max(count for at, count in backlog if at > half),
    }


def read(library: Path, project: Path) -> dict[str, tuple[float, float, bool]]:
    """When each exposure that is done was imported and processed, and whether its previews are there."""
    query = (
        "SELECT exposure, imported_at, processed_at, folder, micrograph_preview FROM exposures WHERE status = 'done'"
    )
    with contextlib.closing(sqlite3.connect(f"file:{library}?mode=ro", uri=True, timeout=30)) as connection:
        return {
            name: (seconds(imported), seconds(processed), bool(preview) and (project / place / preview).is_file())
            for name, imported, processed, place, preview in connection.execute(query)
        }


def seconds(text: str) -> float:
    """A time of the library in seconds."""
    return datetime.fromisoformat(text).timestamp()


def faults(place: Path, files: int) -> list[dict[str, Any]]:
    """What the campaign of the tests comes to with more files, from two sources and from two folders of one."""
    return [
        {"sources": sources, **faults_of(place / f"{sources}", files // quarter, together=sources == 1)}
        for sources, quarter in ((2, 1), (1, 4))
    ]


def faults_of(place: Path, files: int, *, together: bool) -> dict[str, Any]:
    """The same of one campaign."""
    from tests.faults.import_campaign import KINDS, Campaign

    disk = place / "disk"
    disk.mkdir(parents=True)
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(disk)], check=False).returncode == 0
    )
    campaign = Campaign(disk, place / "session", files=files, seed=1, small_disk=mounted, together=together)
    try:
        chosen = ["killed"] * (files // 40) + [kind for kind in KINDS[1:] for _ in range(files // 200)]
        figures = campaign.run(chosen, limit=files, pause=0.05)
    finally:
        campaign.close()
        if mounted:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)
    row = figures.row()
    return {**row, "faults": ", ".join(f"{count} × {kind}" for kind, count in row["faults"].items()),
            "notes": "; ".join(row["notes"]) or None}  # fmt: skip


if __name__ == "__main__":
    main()
