"""A session that is imported while everything goes wrong: files that grow, are replaced and named twice; mounts that
vanish and hang; clocks that jump; disks that fill; an importing process that is killed at any moment.

Two cameras write tiny movies; what comes from the first is deleted at the source once it was copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.io.tiff import write_tiff
from focusnb.project.project import Project
from focusnb.project.sources import add_source, make_source
from tests.projects import left_overs

IMPORTER = """
import os, random, sys, threading, time
from pathlib import Path
from focusnb.io import complete, files, folders
from focusnb.project import activity, deleting, intake, threads, watching
complete.WITH_METADATA, complete.WHOLE, complete.UNSURE = 0.1, 0.25, 0.8
intake.WITH_METADATA, intake.AGAIN, intake.SPACE_AGAIN = 0.1, (0.2, 1.0), 0.2
deleting.STILL, activity.SILENT = 0.5, 0.4
threads.SPACE_AGAIN, watching.INTERVAL, watching.PATIENCE = 0.2, 0.05, 0.3
folders.FULL_INTERVAL, folders.COARSE = 1.0, 1.0
from focusnb.project.project import Project
from focusnb.project.sources import read_sources

state = Path(sys.argv[2])
now = time.time
time.time = lambda: now() + random.choice((-86400.0, 0.0, 3600.0))  # the clock of this machine jumps

def wait_where(what, path):
    try:
        while str(path).startswith((state / what).read_text() or "all"):
            real_sleep(0.02)
    except FileNotFoundError:
        pass

def listing(path):
    wait_where("listing hangs", path)
    return os.scandir(path)

def reading(stream, source):
    wait_where("reading hangs", source)
    return real_read(stream, source)

real_sleep, real_read = time.sleep, files._read_block
files._read_block = reading
real_watcher = threads.Watcher
threads.Watcher = lambda *arguments, **options: real_watcher(*arguments, scandir=listing, **options)
with Project.open(sys.argv[1]) as project:
    threads.watch(project, lambda: read_sources(project.folder), print, threading.Event(), interval=0.05)
"""

KINDS = ("killed", "root gone", "listing hangs", "reading hangs", "disk full")


@dataclass
class Figures:
    """What was done to the session and what came of it; all from ``lost`` on must be 0."""

    files: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    imported: int = 0
    deleted: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    deleted_without_a_copy: int = 0
    temporary_files: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def faultless(self) -> bool:
        """Whether every good file was imported exactly once, and nothing was lost or left."""
        wrong = (self.lost, self.twice, self.wrong, self.deleted_without_a_copy, self.temporary_files, len(self.notes))
        return not any(wrong)

    def row(self) -> dict[str, Any]:
        """As plain data."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**data, "faults": dict(sorted(self.faults.items())), "seconds": round(self.seconds, 1)}


class Campaign:
    """Cameras that write, and an importing process to which things are done.

    folder : where the project lies; a small disk of its own where it may be filled
    together : whether both cameras are folders of one source, from which all is deleted; else from the first only
    """

    def __init__(
        self, folder: Path, state: Path, *, files: int, seed: int, small_disk: bool = False, together: bool = False
    ) -> None:
        self.draw, self.together = random.Random(seed), together
        self.state, self.project, self.small_disk = state, folder / "project", small_disk
        self.cameras = [state / "camera_1", state / "camera_2"]
        self.figures = Figures(files=files)
        # what lies for good at each path in the end, and contents that lay there for a moment
        self.expected: dict[Path, str] = {}
        self.passing: dict[str, Path] = {}
        for camera in self.cameras:
            camera.mkdir(parents=True)
        with Project.create(self.project, mode="drift") as project:
            add_source(project, make_source({"folders": self.cameras[: 1 + together], "delete_source": True}))
            if not together:
                add_source(project, make_source({"folders": [self.cameras[1]]}))
        self._away = threading.Lock()
        self._written = threading.Event()
        self._ended = threading.Event()
        self._running: subprocess.Popen[str] | None = None

    # The cameras

    def _movie(self, number: int) -> bytes:
        path = self.state / "movie.tif"
        frames = np.random.default_rng(number).poisson(3, (3, 16, 24)).astype(np.uint8)
        write_tiff(path, frames, pixel_size=1.5)
        return path.read_bytes()

    def _record(self, pause: float) -> None:
        for number in range(self.figures.files):
            # names come twice, once from each camera
            camera = self.cameras[number % 2]
            path = camera / f"grid_{number // 2 % 3}" / f"m{number // 2:04d}.tif"
            content = self._movie(number)
            way = self.draw.choice(("at once", "at once", "grows", "replaced", "renamed", "stalls", "mdoc", "skewed"))
            with self._away:
                path.parent.mkdir(exist_ok=True)
            self._write(path, content, way, number)
            self.expected[path] = hashlib.sha256(content).hexdigest()
            time.sleep(pause)
        self._written.set()

    def _write(self, path: Path, content: bytes, way: str, number: int) -> None:
        if way in ("grows", "stalls"):
            cut = self.draw.randrange(1, len(content))
            with self._away, open(path, "wb") as file:
                file.write(content[:cut])
            time.sleep(1.2 if way == "stalls" else 0.15)
            # the camera has the file open, wherever its folder is meanwhile
            with self._away, open(path, "ab") as file:
                file.write(content[cut:])
            return
        with self._away:
            if way == "replaced":
                other = self._movie(number + 1_000_000)
                self.passing[hashlib.sha256(other).hexdigest()] = path
                path.write_bytes(other)
        if way == "replaced":
            time.sleep(0.02)
        with self._away:
            part = path.with_name(f".{path.name}.part")
            part.write_bytes(content)
            if way == "skewed":
                # the file server's clock is wrong by years, or runs ahead
                moment = time.time() + self.draw.choice((-3e8, 86400.0))
                os.utime(part, (moment, moment))
            part.rename(path.with_name(f"{path.stem}_tmp.dat") if way == "renamed" else path)
            if way == "renamed":
                path.with_name(f"{path.stem}_tmp.dat").rename(path)
            if way == "mdoc":
                path.with_name(path.name + ".mdoc").write_text(
                    f"Voltage = 300\n\n[FrameSet = 0]\nTiltAngle = {number % 60}.5\nNumSubFrames = 3\n"
                )

    # What is done to them

    def run(self, faults: list[str], *, limit: float, pause: float = 0.05) -> Figures:
        """Let the cameras write, with faults at random moments, until everything is imported; then judge."""
        began = time.monotonic()
        writer = threading.Thread(target=self._record, args=(pause,), daemon=True)
        writer.start()
        waiting = [kind for kind in faults if kind != "disk full" or self.small_disk]
        self.draw.shuffle(waiting)
        share = self.figures.files / (len(waiting) + 1)
        done = 0
        while not (self._written.is_set() and not waiting and self._all_there()):
            self._work_on()
            if waiting and len(self.expected) >= share * (done + 1):
                self._inject(waiting.pop())
                done += 1
            time.sleep(0.05)
            if time.monotonic() - began > limit:
                self.figures.notes.append(f"not done after {limit:.0f} s: {self._missing()[:3]}")
                break
        writer.join(limit)
        time.sleep(0.5)
        self._kill()
        self.figures.seconds = time.monotonic() - began
        self._judge()
        return self.figures

    def _work_on(self) -> None:
        if self._running is None or self._running.poll() is not None:
            if self._running is not None:
                self._hear(self._running)
            command = [sys.executable, "-c", IMPORTER, str(self.project), str(self.state)]
            log = open(self.state / "log.txt", "a")  # noqa: SIM115
            self._running = subprocess.Popen(command, stdout=log, stderr=log, text=True)
            log.close()

    def _hear(self, ended: subprocess.Popen[str]) -> None:
        if ended.returncode != -signal.SIGKILL:
            self.figures.notes.append((self.state / "log.txt").read_text()[-2000:])

    def _kill(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._hear(self._running)
            self._running = None

    def _inject(self, kind: str) -> None:
        self.figures.faults[kind] += 1
        time.sleep(self.draw.uniform(0.0, 0.3))
        camera = self.draw.choice(self.cameras)
        if kind == "killed":
            self._kill()
        elif kind == "root gone":
            with self._away:
                away = camera.with_name("away")
                camera.rename(away)
                time.sleep(0.7)
                away.rename(camera)
        elif kind in ("listing hangs", "reading hangs"):
            hang = self.state / kind
            hang.write_text(str(camera))
            time.sleep(1.0)
            hang.unlink()
        else:
            self._fill_disk()

    def _fill_disk(self) -> None:
        filler = self.project.parent / "filler"
        with contextlib.suppress(OSError), open(filler, "wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        time.sleep(0.8)
        filler.unlink()

    # What came of it

    def _rows(self) -> list[tuple[str, str, str, str]]:
        path = self.project / "library.sqlite"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(
                "SELECT source, content, folder, COALESCE(movie, image) FROM exposures"
            ).fetchall()

    def _missing(self) -> list[str]:
        held = {(source, content) for source, content, *_ in self._rows()}
        return [str(path) for path, content in self.expected.items() if (str(path), content) not in held]

    def _all_there(self) -> bool:
        return not self._missing() and not any(self._deletable())

    def _deletable(self) -> list[Path]:
        asked = self.state if self.together else self.cameras[0]
        return [path for path in self.expected if path.is_relative_to(asked) and path.exists()]

    def _judge(self) -> None:
        figures = self.figures
        times: Counter[tuple[str, str]] = Counter()
        kept: set[str] = set()
        for source, content, folder, raw in self._rows():
            placed = self.project / folder / raw
            if not placed.is_file() or hashlib.sha256(placed.read_bytes()).hexdigest() != content:
                figures.wrong += 1
                figures.notes.append(f"{placed}: is not what the library says")
            kept.add(content)
            times[source, content] += 1
        for path, content in self.expected.items():
            count = times.pop((str(path), content), 0)
            figures.imported += bool(count)
            figures.lost += count == 0
            figures.twice += max(0, count - 1)
            there = path.exists()
            figures.deleted += not there
            if not there and content not in kept:
                figures.deleted_without_a_copy += 1
            if not self.together and path.is_relative_to(self.cameras[1]) and not there:
                figures.notes.append(f"{path}: was deleted unasked")
        for (source, content), count in times.items():
            # a recording that lay there long enough before it was replaced is an exposure too, once
            if count > 1 or self.passing.get(content) != Path(source):
                figures.wrong += 1
                figures.notes.append(f"{source}: imported {count} times as something that it is not")
        figures.temporary_files = len(left_overs(self.project))

    def close(self) -> None:
        """End everything."""
        self._kill()
        shutil.rmtree(self.state, ignore_errors=True)
