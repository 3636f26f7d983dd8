"""A project with three exposures that have everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from focusnb.project.project import Project
from tests.views.shown import make_shown


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Project]:
    with make_shown(tmp_path / "project") as project:
        yield project
