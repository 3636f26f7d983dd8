"""Fixtures every test may use, and a home of its own for the whole run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

HOME = pytest.StashKey[Path]()

OWN_FOLDERS = {
    "HOME": "",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
    "XDG_CACHE_HOME": ".cache",
    "JUPYTER_CONFIG_DIR": ".jupyter",
    "IPYTHONDIR": ".ipython",
}

UNHURRIED = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture]
"""What Hypothesis is not to complain of: a slow machine, and fixtures that all examples of a test share."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def pytest_configure(config: pytest.Config) -> None:
    """Give tests, the programs they start and the notebooks' kernels an empty home and one thread per library.

    Not a fixture: settings may be read while tests are collected, and a notebook's cells know no fixtures.
    """
    home = Path(tempfile.mkdtemp(prefix="focusnb-home-"))
    config.stash[HOME] = home
    for name, folder in OWN_FOLDERS.items():
        (home / folder).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(home / folder)
    for name in THREADS:
        os.environ.setdefault(name, "1")
    # the same examples each time, so that a change is judged by itself; FOCUSNB_FUZZ=1 looks for new ones. Neither how
    # long one takes nor how long it takes to draw it says anything: machines that run tests do much else.
    unhurried = {"deadline": None, "suppress_health_check": UNHURRIED}
    hypothesis.settings.register_profile("same", derandomize=True, **unhurried)
    hypothesis.settings.register_profile("new", **unhurried)
    hypothesis.settings.load_profile("new" if os.environ.get("FOCUSNB_FUZZ") else "same")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[HOME], ignore_errors=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        cupy = pytest.importorskip("cupy", reason="cupy is not installed: pip install focusnb[gpu]")
        if not cupy.is_available():
            pytest.skip("cupy finds no CUDA device")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real files; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("FOCUSNB_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set FOCUSNB_TEST_DATA)")
    return folder


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[float], Path]]:
    """Return a function that mounts an empty disk of so many MB and gives its folder; skips where that is refused."""
    mounted: list[Path] = []

    def mount(megabytes: float) -> Path:
        folder = tmp_path_factory.mktemp("small_disk")
        size = f"size={round(megabytes * 1e6)}"
        try:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True, capture_output=True, text=True
            )
        except FileNotFoundError:
            pytest.skip("mount is not installed")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"a small disk cannot be mounted here: {error.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        # Lazily: a worker that is still ending may hold a file open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
