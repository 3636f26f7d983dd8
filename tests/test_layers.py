"""The direction of imports (pyproject, import-linter) and what a worker must not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


def test_imports_go_downward() -> None:
    command = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"
    ended = subprocess.run([sys.executable, "-c", command], cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("module", ["focusnb", "focusnb.steps.task"])
def test_a_fresh_process_loads_neither_tables_nor_widgets(module: str) -> None:
    command = f"import sys, {module}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    heavy = {"pandas", "ipywidgets", "anywidget", "bokeh", "holoviews", "distributed", "IPython"}
    assert not heavy & set(ended.stdout.split())
