"""A project with three exposures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from focusnb.project import deleting
from focusnb.project.project import Project
from tests.projects import make_project, write_shots


@pytest.fixture(autouse=True)
def local_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tests run, a temporary folder may lie on anything: what is deleted there is waited for as on a disk."""
    monkeypatch.setattr(deleting, "mount_of", lambda path: ("/", "ext4"))


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """Three files of one, two and three lines."""
    return write_shots(tmp_path / "camera", a="1\n", b="1\n2\n", c="1\n2\n3\n")


@pytest.fixture
def project(tmp_path: Path, camera: Path) -> Iterator[Project]:
    """A project with those three as exposures 1, 2 and 3."""
    project = make_project(tmp_path / "project")
    project.add(camera, facts={"voltage": 300})
    yield project
    project.close()
