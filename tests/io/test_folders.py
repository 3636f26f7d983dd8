"""Trees of folders polled: nothing new, changed or gone is missed, and what is at rest costs nothing."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from focusnb.errors import ParameterError
from focusnb.io import folders
from focusnb.io.folders import Tree, Watch, look_at_all, make_filter
from tests.waiting import wait_until


class Clock:
    """Seconds that go on when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """os.scandir, with the folders it listed."""

    def __init__(self) -> None:
        self.listed: list[str] = []

    def __call__(self, path: str) -> Any:
        self.listed.append(path)
        return os.scandir(path)


def write(path: Path, text: str = "1") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def names(found: dict[str, Any]) -> list[str]:
    return sorted(os.path.basename(path) for path in found)


def settled(tree: Tree) -> None:
    for path in tree.look().files:
        tree.settle(path)


def test_files_by_pattern_in_all_folders_but_hidden_and_ignored_ones(tmp_path: Path) -> None:
    for name in ("a.tif", "B.TIF", "c.txt", ".hidden.tif", "x/d.tif", "x/.h/e.tif", "Search/f.tif", "x/g_search.tif"):
        write(tmp_path / name)
    (tmp_path / "x" / "loop").symlink_to(tmp_path)
    (tmp_path / "x" / "linked.tif").symlink_to(tmp_path / "a.tif")
    tree = Tree(tmp_path, patterns=["*.tif"], ignore=["SEARCH"])
    assert names(tree.look().files) == ["B.TIF", "a.tif", "d.tif", "linked.tif"]
    within = Tree(tmp_path, patterns=["x/*.tif"])
    assert names(within.look().files) == ["d.tif", "g_search.tif", "linked.tif"]
    assert names(Tree(tmp_path, patterns=["*.tif"], ignore=["?.tif", "x"]).look().files) == []


def test_an_empty_rule_is_refused() -> None:
    with pytest.raises(ParameterError, match="is empty; leave it out"):
        make_filter(["*.tif"], [" "])


def test_what_is_settled_is_not_looked_at_until_it_changes(tmp_path: Path) -> None:
    clock, scandir = Clock(), Counting()
    path = write(tmp_path / "a.tif")
    write(tmp_path / "x" / "b.tif")
    tree = Tree(tmp_path, patterns=["*.tif"], clock=clock, scandir=scandir)
    settled(tree)
    clock.now += 10
    scandir.listed.clear()
    look = tree.look()
    assert (look.files, look.gone, scandir.listed) == ({}, [], [])
    # an unsettled file is looked at each time, though its folder does not change
    tree.unsettle(path)
    write(Path(path), "grown")
    assert tree.look().files[path].size == 5
    assert scandir.listed == []


def test_new_renamed_removed_and_replaced_files_are_found_at_once(tmp_path: Path) -> None:
    clock = Clock()
    a, b = write(tmp_path / "x" / "a.tif"), write(tmp_path / "x" / "b.tif")
    tree = Tree(tmp_path, patterns=["*.tif"], clock=clock)
    settled(tree)
    clock.now += 10
    os.rename(a, tmp_path / "x" / "c.tif")
    os.remove(b)
    write(tmp_path / "y" / "new.tif")
    look = tree.look()
    assert (names(look.files), sorted(look.gone)) == (["c.tif", "new.tif"], [a, b])
    (tmp_path / "y").rename(tmp_path / "z")
    look = tree.look()
    assert str(tmp_path / "z" / "new.tif") in look.files
    assert look.gone == [str(tmp_path / "y" / "new.tif")]


def test_a_coarse_time_of_a_folder_hides_no_file(tmp_path: Path) -> None:
    clock = Clock()
    settled_path = write(tmp_path / "a.tif")
    tree = Tree(tmp_path, patterns=["*.tif"], clock=clock)
    settled(tree)
    stamp = os.stat(tmp_path).st_mtime_ns
    # within the same second of the server's clock: the folder's time stays as it was
    write(tmp_path / "b.tif")
    os.utime(tmp_path, ns=(stamp, stamp))
    clock.now += 1
    look = tree.look()
    assert names(look.files) == ["b.tif"]
    tree.settle(str(tmp_path / "b.tif"))
    # a server that does not tell a change at all: the next full pass finds it, and a file replaced in place
    clock.now += 10
    tree.look()
    write(tmp_path / "c.tif")
    write(Path(settled_path), "replaced")
    os.utime(tmp_path, ns=(stamp, stamp))
    clock.now += 10
    assert tree.look().files == {}
    clock.now += folders.FULL_INTERVAL
    assert names(tree.look().files) == ["a.tif", "c.tif"]


def test_a_root_that_is_away_is_told_once_and_nothing_of_it_is_gone(tmp_path: Path) -> None:
    clock = Clock()
    root = tmp_path / "mount"
    write(root / "a.tif")
    tree = Tree(root, patterns=["*.tif"], clock=clock)
    settled(tree)
    root.rename(tmp_path / "away")
    looks = [tree.look() for _ in range(3)]
    assert [look.there for look in looks] == [False] * 3
    assert [message for look in looks for message in look.faults] == [f"{root}: is not there; it is waited for"]
    assert not any(look.gone or look.files for look in looks)
    (tmp_path / "away").rename(root)
    write(root / "b.tif")
    back = tree.look()
    assert (back.there, names(back.files), back.mended) == (True, ["a.tif", "b.tif"], [f"{root}: is there again"])
    never = Tree(tmp_path / "never", patterns=["*"])
    assert never.look().faults == [f"{tmp_path / 'never'}: is not there; it is waited for"]


def test_a_folder_that_cannot_be_listed_holds_up_no_other(tmp_path: Path) -> None:
    write(tmp_path / "bad" / "a.tif")
    write(tmp_path / "good" / "b.tif")
    broken = [True]

    def scandir(path: str) -> Any:
        if path.endswith("bad") and broken:
            raise OSError(5, "Input/output error", path)
        return os.scandir(path)

    tree = Tree(tmp_path, patterns=["*.tif"], scandir=scandir)
    first, second = tree.look(), tree.look()
    assert names(first.files) == ["b.tif"]
    assert first.faults == [f"{tmp_path / 'bad'}: cannot be listed (Input/output error); it is tried again"]
    assert second.faults == []
    broken.clear()
    third = tree.look()
    assert (names(third.files), third.mended) == (["a.tif", "b.tif"], [f"{tmp_path / 'bad'}: is there again"])


def test_a_listing_that_blocks_holds_up_neither_others_nor_the_next_look(tmp_path: Path) -> None:
    write(tmp_path / "dead" / "a.tif")
    write(tmp_path / "alive" / "b.tif")
    free = threading.Event()

    def scandir(path: str) -> Any:
        if path.endswith("dead"):
            free.wait(250)
        return os.scandir(path)

    watches = [Watch(Tree(tmp_path / name, patterns=["*.tif"], scandir=scandir)) for name in ("dead", "alive")]
    try:
        found: dict[str, Any] = {}

        def answered(name: str) -> Any:
            for watch, look in look_at_all(watches, patience=0.2):
                if look is not None:
                    found[os.path.basename(watch.tree.root)] = look
            return found.get(name)

        assert names(wait_until(lambda: answered("alive")).files) == ["b.tif"]
        assert list(found) == ["alive"]
        began = time.monotonic()
        (_, dead), _ = look_at_all(watches, patience=120)
        assert (dead, time.monotonic() - began < 100) == (None, True), "one that is blocked already is not waited for"
        free.set()
        assert names(wait_until(lambda: answered("dead")).files) == ["a.tif"]
    finally:
        free.set()
        for watch in watches:
            watch.close()


def test_a_fault_in_the_thread_is_raised_where_the_answer_is_taken(tmp_path: Path) -> None:
    def scandir(path: str) -> Any:
        raise ZeroDivisionError("in the listing")

    watch = Watch(Tree(tmp_path, patterns=["*"], scandir=scandir))
    watch.ask()
    with pytest.raises(ZeroDivisionError):
        watch.answer(60)
    watch.close()


def test_a_link_in_a_circle_hides_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "circle.tif").symlink_to(tmp_path / "circle.tif")
    (tmp_path / "a.tif").write_bytes(b"a")
    (tmp_path / "b.tif").write_bytes(b"b")
    tree = Tree(tmp_path, patterns=["*.tif"])
    look = tree.look()
    assert (look.there, sorted(look.files)) == (True, [str(tmp_path / "a.tif"), str(tmp_path / "b.tif")])
    (tmp_path / "a.tif").unlink()
    (tmp_path / "a.tif").symlink_to(tmp_path / "a.tif")
    (tmp_path / "c.tif").write_bytes(b"c")
    look = tree.look()
    assert (look.there, look.faults, sorted(look.files)) == (
        True,
        [],
        [str(tmp_path / "b.tif"), str(tmp_path / "c.tif")],
    )


def test_where_a_file_system_is_mounted_is_told_without_asking_it() -> None:
    assert folders.mount_of("/proc/self/fd") == ("/proc", "proc")
    point, kind = folders.mount_of("/no/such/folder")
    assert "/no/such/folder".startswith(point)
    assert bool(point) == bool(kind)


def test_a_mount_is_found_by_the_name_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\nauto /mnt autofs rw 0 0\n//k3/d\\040ata /mnt/K3\\040raw\\134\\012x cifs rw 0 0\n"
    )
    real = open
    monkeypatch.setattr(folders, "open", lambda path, **how: real(mounts, **how), raising=False)
    found = [folders.mount_of(path) for path in ("/home/a", "/mnt/falcon/a", "/mnt/K3 raw\\\nx/a", "/mnt/K3 raw")]
    assert found == [("/", "ext4"), ("/mnt", "autofs"), ("/mnt/K3 raw\\\nx", "cifs"), ("/mnt", "autofs")]
    assert [folders.is_shared(kind) for _, kind in found] == [False, True, True, True]


def test_a_root_that_was_silent_is_shown_anew(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("1")
    tree = Tree(tmp_path, patterns=["*.tif"])
    assert list(tree.look().files) == [str(tmp_path / "a.tif")]
    tree.settle(str(tmp_path / "a.tif"))
    assert not tree.look().files
    tree.unsettle(str(tmp_path))
    assert list(tree.look().files) == [str(tmp_path / "a.tif")]
