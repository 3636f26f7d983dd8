"""A night that was recorded once, and projects for the tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from focusnb.io.images import write_png
from focusnb.monitoring.snapshot import SnapshotMaker
from focusnb.ops import preview
from focusnb.project.project import Project
from tests.monitoring.nights import Night, Recorder, make_night, make_project


@dataclass
class Recorded:
    """A project of a simulated night that has come to its end, with pictures of its last image."""

    project: Project
    night: Night
    recorder: Recorder
    micrograph: np.ndarray

    def maker(self) -> SnapshotMaker:
        """Makes snapshots by the night's own clock and disk."""
        return SnapshotMaker(self.project, clock=self.recorder.clock, disk=self.recorder.disk())


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Night, np.ndarray]:
    folder = tmp_path_factory.mktemp("night") / "project"
    night = make_night(9100, hours=3.0, faults=[])
    with make_project(folder) as project:
        Recorder(project, night).go(night.end)
        image = _micrograph()
        _add_pictures(project, project.ids(status="done")[-1], image)
        project.library.checkpoint()
    return folder, night, image


@pytest.fixture
def recorded(template: tuple[Path, Night, np.ndarray], tmp_path: Path) -> Iterator[Recorded]:
    """A copy of the night for each test."""
    folder, night, image = template
    shutil.copytree(folder, tmp_path / "project")
    with Project.open(tmp_path / "project") as project:
        recorder = Recorder(project, night)
        recorder.now = night.end
        yield Recorded(project, night, recorder, image)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Project]:
    """A project without an exposure."""
    with make_project(tmp_path / "empty") as project:
        yield project


SHADES = 97
"""Shades that exposures are given by :func:`add_shades`, one after the other."""


def shade(identity: int) -> int:
    """The grey of the right half of an exposure's preview; the left half is darker by 40."""
    return 60 + 2 * (identity % SHADES)


def add_shades(project: Project, identities: Sequence[int], **facts: float | None) -> None:
    """Give exposures previews that can be told apart, and from their mirror images, however much they are blurred."""
    known: dict[str, float | None] = {"width": 2880, "height": 2048, "pixel_size": 1.0, **facts}
    with project.library.write() as transaction:
        for identity in identities:
            picture = np.full((182, 256, 3), shade(identity), np.uint8)
            picture[:, :128] -= 40
            folder = project.path(identity)
            folder.mkdir(parents=True, exist_ok=True)
            write_png(folder / "image_after.png", picture)
            transaction.update_exposure(identity, {"micrograph_preview": "image_after.png", **known})


def _micrograph() -> np.ndarray:
    """Fine texture that a viewer must not see, and coarse shades that he may."""
    draw = np.random.default_rng(5)
    fine = draw.normal(0, 1, (512, 720)).astype(np.float32)
    y, x = np.indices(fine.shape)
    return (fine + 0.6 * np.sin(x / 90) + 0.4 * np.cos(y / 130)).astype(np.float32)


def _add_pictures(project: Project, identity: int, image: np.ndarray) -> None:
    folder = project.path(identity)
    folder.mkdir(parents=True)
    picture = preview.micrograph_preview(image, pixel_size=4.0, size=512)
    write_png(folder / "image_after.png", picture)
    write_png(folder / "spectrum_after.png", np.full((64, 64, 3), 90, np.uint8))
    values = {"micrograph_preview": "image_after.png", "spectrum_preview": "spectrum_after.png"}
    with project.library.write() as transaction:
        transaction.update_exposure(identity, {**values, "width": 2880, "height": 2048, "pixel_size": 1.0})
