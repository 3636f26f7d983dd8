"""Take the pictures of the documentation: a simulated session on its page, in Chromium, light and dark, wide and small.

Run by ``make screenshots``; a folder with a project may be given to take the pictures of that one.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from focusnb import microscope
from focusnb.project.project import Project

HERE = Path(__file__).resolve().parent
IMAGES = HERE / "images"


@dataclass(frozen=True)
class Shot:
    """One picture: its file's name, the window and what is waited for."""

    name: str
    size: tuple[int, int] = (1440, 900)
    dark: bool = False
    wait: str = ".fnb-live"


SHOTS = (
    Shot("explorer_light"),
    Shot("explorer_dark", dark=True),
    Shot("explorer_phone", size=(390, 844), dark=True),
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


def take(project: Path, shots: tuple[Shot, ...]) -> None:
    """Serve the project's page and photograph it."""
    command = [sys.executable, "-c", "from focusnb.cli import main; main()"]
    command += ["dash", str(project), "--no-browser", "--port", "0"]
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
        take(simulate(Path(folder), given.movies), SHOTS)


if __name__ == "__main__":
    main()
