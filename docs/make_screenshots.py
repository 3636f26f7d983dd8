"""Take the pictures of the documentation: simulated sessions on their pages, light and dark, wide and small.

Run by ``make screenshots``; a folder with a project may be given to take the pictures of that one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from focusnb import microscope
from focusnb.monitoring.pictures import PICTURES
from focusnb.monitoring.service import Watch
from focusnb.project.project import Project

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from tests.monitoring.nights import HOUR, MINUTE, Recorder, make_night, make_project  # noqa: E402

IMAGES = HERE / "images"


@dataclass(frozen=True)
class Shot:
    """One picture: its file's name, the window and what is waited for."""

    name: str
    size: tuple[int, int] = (1440, 900)
    dark: bool = False
    wait: str = ".fnb-live"
    part: str = ""


SHOTS = (
    Shot("explorer_light"),
    Shot("explorer_dark", dark=True),
    Shot("explorer_phone", size=(390, 844), dark=True),
)


MONITOR_SHOTS = (
    Shot("monitor_depth", wait=".plot canvas", part="titan1"),
    Shot("monitor_phone", size=(390, 844), dark=True, wait=".card .band"),
)


def simulate(folder: Path, movies: int) -> Path:
    """A session of simulated movies, processed."""
    microscope.record_session(folder / "camera", movies=movies, size=(1024, 1024), frames=12, seed=7)
    project = folder / "2026-03-14_apoferritin"
    focusnb = [sys.executable, "-c", "from focusnb.cli import main; main()"]
    with Project.create(project, mode="single-particle") as made:
        made.add(folder / "camera")
    subprocess.run([*focusnb, "run", str(project), "--until-idle"], check=True)
    return project


def record_nights(folder: Path, session: Project) -> Path:
    """Two nights that go on now, with the pictures of a session: at one of them the counts have just fallen."""
    for name, seed, faults in (("titan1", 9411, ["counts"]), ("glacios", 9412, [])):
        night = make_night(seed, hours=6.0, faults=faults)
        until = night.faults[0].begin + 14 * MINUTE if faults else night.end - HOUR
        ahead = time.time() - until
        night.images = [image for image in night.images if image.processed <= until]
        for image in night.images:
            image.recorded, image.imported, image.processed = (
                t + ahead for t in (image.recorded, image.imported, image.processed)
            )
        night.end = time.time()
        with make_project(folder / name) as project:
            recorder = Recorder(project, night)
            recorder.go(night.end - 30 * MINUTE)
            watch = Watch(project, clock=recorder.clock)
            for _ in recorder.run(MINUTE):
                watch.step()
            watch.close()
            _lend_pictures(session, project)
    config = folder / "microscopes.toml"
    config.write_text('[titan1]\nproject = "titan1"\n[glacios]\nproject = "glacios"\n')
    return config


def _lend_pictures(session: Project, night: Project) -> None:
    lender, taker = session.ids(status="done")[-1], night.ids(status="done")[-1]
    columns = ", ".join((*PICTURES, "width", "height", "pixel_size"))
    with session.library.read() as connection:
        row = connection.exec_driver_sql(f"SELECT {columns} FROM exposures WHERE id = {lender}").mappings().one()
    shutil.copytree(session.path(lender), night.path(taker))
    with night.library.write() as transaction:
        transaction.update_exposure(taker, {name: value for name, value in row.items() if value is not None})


def take(project: Path, shots: tuple[Shot, ...], command_name: str = "dash") -> None:
    """Serve a page and photograph it."""
    command = [sys.executable, "-c", "from focusnb.cli import main; main()"]
    command += [command_name, str(project), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        told = server.stderr.readline()
        found = re.search(r"http://\S+", told)
        if found is None:
            raise SystemExit(f"the page was not served: {told}")
        try:
            with sync_playwright() as driver:
                path = next(
                    p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))
                )
                browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
                for shot in shots:
                    _photograph(browser, found[0], shot)
                browser.close()
        finally:
            server.send_signal(signal.SIGINT)


def _chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise SystemExit("Chromium is not installed: apt-get install chromium")


def _photograph(browser: Any, address: str, shot: Shot) -> None:
    phone = shot.size[0] < 600
    context = browser.new_context(
        viewport={"width": shot.size[0], "height": shot.size[1]},
        color_scheme="dark" if shot.dark else "light",
        device_scale_factor=2 if phone else 1,
        has_touch=phone,
        is_mobile=phone,
    )
    page = context.new_page()
    page.goto(address)
    if shot.part:
        page.get_by_role("button", name=shot.part).click(timeout=120_000)
    page.locator(shot.wait).first.wait_for(timeout=120_000)
    page.wait_for_timeout(3000)
    IMAGES.mkdir(exist_ok=True)
    file = IMAGES / f"{shot.name}.png"
    page.screenshot(path=file)
    context.close()
    with Image.open(file) as image:
        # the octree keeps the few pixels that have a colour among the many grey ones
        small = image.convert("RGB").quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small.save(file, optimize=True)
    print(f"{file.relative_to(HERE.parent)} {file.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, nargs="?", help="a project in place of a simulated one")
    parser.add_argument("--movies", type=int, default=24, help="of the simulated session")
    given = parser.parse_args()
    if given.project is not None:
        take(given.project, SHOTS)
        return
    with tempfile.TemporaryDirectory(prefix="focusnb-pictures-") as folder:
        simulated = simulate(Path(folder), given.movies)
        take(simulated, SHOTS)
        os.environ["XDG_STATE_HOME"] = folder  # what is remembered of sessions is none of this user's
        with Project.open(simulated) as session:
            take(record_nights(Path(folder) / "nights", session), MONITOR_SHOTS, "monitor")


if __name__ == "__main__":
    main()
