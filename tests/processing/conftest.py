"""A project of text movies, and one cluster of two processes for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from focusnb.processing.executors import LocalCluster
from focusnb.project.project import Project
from tests.projects import make_project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project without exposures."""
    with make_project(tmp_path / "project") as project:
        yield project


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two processes."""
    cluster = LocalCluster(2)
    yield cluster
    cluster.close()
