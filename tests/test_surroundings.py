"""The tests' own surroundings: warnings, permissions, disks and home are what tests take them to be."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from focusnb.errors import FocusError, FormatError
from tests.unprivileged import run_as_nobody


@pytest.mark.parametrize("module", ["focusnb", "focusnb.errors", "focusnb.ops.ctf.fit"])
def test_a_warning_from_any_module_of_focusnb_is_an_error(module: str) -> None:
    with pytest.raises(UserWarning, match="odd"):
        exec("import warnings; warnings.warn('odd')", {"__name__": module})


def test_the_home_is_empty_of_the_users_settings() -> None:
    home = Path(os.environ["HOME"])
    assert Path.home() == home
    assert home.name.startswith("focusnb-home-")
    assert Path(os.environ["XDG_CONFIG_HOME"]).is_relative_to(home)


def write(path: Path) -> str:
    path.write_text("new")
    return "written"


def test_nobody_cannot_write_into_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError, match=r"product\.mrc"):
        run_as_nobody(write, tmp_path / "product.mrc")
    tmp_path.chmod(0o755)
    assert run_as_nobody(write, tmp_path / "product.mrc") == "written"


def test_nobody_cannot_read_a_file_closed_to_all(tmp_path: Path) -> None:
    path = tmp_path / "gain.mrc"
    path.write_text("closed")
    assert run_as_nobody(path.read_text) == "closed"
    path.chmod(0)
    with pytest.raises(PermissionError):
        run_as_nobody(path.read_text)


def test_what_nobody_starts_has_no_more_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    command = [sys.executable, "-c", f"open({str(tmp_path / 'product')!r}, 'w')"]

    def start() -> tuple[int, str]:
        ended = subprocess.run(command, capture_output=True, text=True)
        return ended.returncode, ended.stderr

    status, message = run_as_nobody(start)
    assert status == 1
    assert "PermissionError" in message


def test_nobody_raises_what_the_function_raised() -> None:
    def refuse() -> None:
        raise FormatError("k3_0012.mrc: header says 50 frames, file holds 37")

    with pytest.raises(FormatError, match="50 frames, file holds 37"):
        run_as_nobody(refuse)


def test_nobody_gives_the_trace_of_what_cannot_be_sent() -> None:
    class LocalError(FocusError):
        pass

    def refuse() -> None:
        raise LocalError("cannot be pickled")

    with pytest.raises(RuntimeError, match="LocalError: cannot be pickled"):
        run_as_nobody(refuse)


def test_a_small_disk_fills(small_disk: Callable[[float], Path]) -> None:
    folder = small_disk(0.1)
    with pytest.raises(OSError, match="No space left") as caught:
        (folder / "movie.tif").write_bytes(bytes(300_000))
    assert caught.value.errno == errno.ENOSPC
    assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize < 200_000
