"""The shelf of previews: only what is whole and made from the very same is found, and it never grows without end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from focusnb.monitoring.shelf import KEPT, Shelf

MADE_FROM = ("1", 80, ("one", "two"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "monitoring").mkdir()
    return tmp_path


def names(project: Path) -> list[str]:
    return sorted(path.name for path in (project / "monitoring" / "previews").iterdir())


def test_what_one_keeps_another_finds_where_all_is_the_same(project: Path) -> None:
    Shelf(project, write=True).put(200.0, 7, MADE_FROM, b"a sheet")
    assert Shelf(project).find(200.0, 7, MADE_FROM) == b"a sheet"
    for other in ((100.0, 7, MADE_FROM), (200.0, 8, MADE_FROM), (200.0, 7, (*MADE_FROM, "three"))):
        assert Shelf(project).find(*other) is None


def test_who_only_looks_keeps_nothing(project: Path) -> None:
    Shelf(project).put(200.0, 7, MADE_FROM, b"a sheet")
    assert not (project / "monitoring" / "previews").exists()


def test_what_is_not_whole_is_none(project: Path) -> None:
    Shelf(project, write=True).put(200.0, 7, MADE_FROM, b"a sheet")
    [name] = names(project)
    path = project / "monitoring" / "previews" / name
    path.write_bytes(b"a she")
    assert Shelf(project).find(200.0, 7, MADE_FROM) is None
    shelf = Shelf(project)
    assert shelf.find(200.0, 8, MADE_FROM) is None
    path.unlink()
    assert shelf.find(200.0, 7, MADE_FROM) is None
    os.mkfifo(path)
    assert Shelf(project).find(200.0, 7, MADE_FROM) is None


def test_of_each_number_one_is_kept_and_what_nobody_uses_goes_in_time(project: Path) -> None:
    shelf = Shelf(project, write=True)
    for number in (1, 2, 3):
        shelf.put(200.0, number, MADE_FROM, b"old")
    shelf.put(100.0, 1, MADE_FROM, b"blurred otherwise")
    shelf.put(200.0, 3, MADE_FROM[:1], b"made again")
    assert [name.split("-")[:2] for name in names(project)] == [["100", "1"], ["200", "1"], ["200", "2"], ["200", "3"]]
    folder = project / "monitoring" / "previews"
    (folder / "notes.txt").write_text("mine")
    long_ago = time.time() - KEPT - 60
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    shelf.put(200.0, 4, MADE_FROM, b"new", others={2, 4})
    kept = [name.split("-")[:2] for name in names(project) if name != "notes.txt"]
    assert kept == [["200", "2"], ["200", "4"]]
    assert (folder / "notes.txt").exists()


def test_where_nothing_can_be_kept_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "monitoring").write_text("no folder")
    shelf = Shelf(tmp_path, write=True)
    shelf.put(200.0, 7, MADE_FROM, b"a sheet")
    assert shelf.find(200.0, 7, MADE_FROM) is None
