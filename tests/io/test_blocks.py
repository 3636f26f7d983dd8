"""Block files: whole or told, and whose they are."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from focusnb.errors import FormatError
from focusnb.io import blocks
from focusnb.io.blocks import Block, Entry, Geometry, Header, Owner, Stamp

GEOMETRY = Geometry((5, 7), 1.06, (4, 4), 1.4)


def a_block(**changes: Any) -> Block:
    draw = np.random.default_rng(3)
    entries = (Entry(4, "abc", ("../../exposures/a/one",), Stamp(10, 20), Stamp(30, 40)), Entry(9, "def"))
    header = replace(Header(GEOMETRY, 2, entries, offset=12.125), **changes)
    mean, deviations = draw.normal(size=(2, 5, 7)).astype(np.float32)
    return Block(header, mean, deviations, draw.normal(size=(4, 4)).astype(np.float32))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    block = a_block()
    token = blocks.write(tmp_path / "one.block", block)
    found = blocks.read(tmp_path / "one.block")
    assert found.header == replace(block.header, token=token) == blocks.read_header(tmp_path / "one.block")
    for name in ("mean", "deviations", "spectrum"):
        np.testing.assert_array_equal(getattr(found, name), getattr(block, name))
        assert getattr(found, name).dtype == np.float32
    assert [path.name for path in tmp_path.iterdir()] == ["one.block"]


def test_windows_of_halves_are_written_and_read(tmp_path: Path) -> None:
    stamped = Entry(5, "k", ("x",), Stamp(1, 2), Stamp(3, 4), Stamp(5, 6))
    block = a_block(entries=(stamped,), windows={"1.00 4x16": (3, 2), "2.00 4x16": (1, 0)})
    windows = {name: tuple(np.random.default_rng(n).random((2, 16, 4))) for n, name in enumerate(block.header.windows)}
    token = blocks.write(tmp_path / "one.block", replace(block, windows=windows))
    found = blocks.read(tmp_path / "one.block")
    assert found.header == replace(block.header, token=token) == blocks.read_header(tmp_path / "one.block")
    for name, halves in windows.items():
        np.testing.assert_array_equal(found.windows[name], halves)
    np.testing.assert_array_equal(found.mean, block.mean)


def test_a_base_lists_its_parts_and_keeps_float64(tmp_path: Path) -> None:
    block = a_block(entries=(), parts={"x.block": "12"})
    block = replace(block, mean=block.mean.astype(np.float64) / 3)
    blocks.write(tmp_path / "base", block)
    found = blocks.read(tmp_path / "base")
    assert found.header.parts == {"x.block": "12"}
    np.testing.assert_array_equal(found.mean, block.mean)


def test_the_token_follows_pixels_and_list(tmp_path: Path) -> None:
    path, block = tmp_path / "one.block", a_block()
    token = blocks.write(path, block)
    assert blocks.write(path, block) == token
    assert blocks.write(path, replace(block, mean=block.mean + 1)) != token
    assert blocks.write(path, a_block(entries=block.header.entries[:1])) != token


def test_cut_short_anywhere_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "one.block"
    blocks.write(path, a_block())
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        for read in (blocks.read, blocks.read_header):
            with pytest.raises(FormatError, match=r"one\.block: .*it is made again"):
                read(path)
    path.write_bytes(whole + b"0")
    with pytest.raises(FormatError, match=rf"holds {len(whole) + 1} bytes of {len(whole)}"):
        blocks.read(path)


@pytest.mark.parametrize("place", [40, -300, -100, -1])
def test_a_changed_byte_is_told(tmp_path: Path, place: int) -> None:
    path = tmp_path / "one.block"
    blocks.write(path, a_block())
    content = bytearray(path.read_bytes())
    content[place] ^= 64
    path.write_bytes(content)
    with pytest.raises(FormatError, match="it is made again"):
        blocks.read(path)


def test_pages_that_never_reached_the_disk_are_told(tmp_path: Path) -> None:
    path = tmp_path / "one.block"
    blocks.write(path, a_block())
    content = path.read_bytes()
    path.write_bytes(content[:-128] + bytes(128))
    assert blocks.read_header(path).count == 2
    with pytest.raises(FormatError, match="not what was written"):
        blocks.read(path)


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="there is no such file"):
        blocks.read(tmp_path / "none.block")


def test_a_full_disk_leaves_the_old_block_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.block"
    blocks.write(path, a_block())
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left") as raised:
        blocks.write(path, a_block(offset=1.0))
    assert raised.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_geometries_fit_within_the_rounding_of_headers() -> None:
    assert GEOMETRY.fits(replace(GEOMETRY, pixel_size=1.0600001))
    assert not GEOMETRY.fits(replace(GEOMETRY, pixel_size=1.061))
    assert not GEOMETRY.fits(replace(GEOMETRY, shape=(7, 5)))
    assert not GEOMETRY.fits(replace(GEOMETRY, spectrum_pixel_size=1.41))
    assert str(GEOMETRY) == "7×5 at 1.06 Å/px, spectrum 4 at 1.4 Å/px"


def test_a_stamp_knows_a_file_that_was_moved(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    stamp = Stamp.of(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert stamp.fits(tmp_path / "b")
    assert not stamp.fits(tmp_path / "a")
    (tmp_path / "b").write_text("abcd")
    assert not stamp.fits(tmp_path / "b")


def test_an_open_block_is_added_to_as_long_as_its_process_lives(tmp_path: Path) -> None:
    waiting = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = replace(Owner.this(), process=waiting.pid, start=int(psutil.Process(waiting.pid).create_time()))
    mine, theirs = tmp_path / Owner.this().name(1), tmp_path / other.name(1)
    assert blocks.is_added_to(mine)
    assert blocks.is_added_to(theirs)
    assert blocks.is_added_to(tmp_path / f".{theirs.name}.part-{waiting.pid}-0123abcd")
    waiting.communicate()
    assert not blocks.is_added_to(theirs)
    assert not blocks.is_added_to(tmp_path / f".{theirs.name}.part-{waiting.pid}-0123abcd")
    # the number of the process is in use again
    assert not blocks.is_added_to(tmp_path / replace(Owner.this(), start=1000).name(1))


@pytest.mark.parametrize("random", ["98344414", "0a1b2c3d"])
def test_the_temporary_file_of_a_closed_block_is_its_process_s_whatever_its_random_part(
    random: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks.secrets, "token_hex", lambda _: random)
    closed = blocks.closed_name(tmp_path / Owner.this().name(1))
    assert closed.name.endswith(f"-{random}.block")
    assert blocks.is_added_to(closed.with_name(f".{closed.name}.part-1-0123abcd"))


def test_a_closed_block_is_not_added_to_and_has_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / Owner.this().name(1)
    names = {blocks.closed_name(path) for _ in range(5)}
    assert len(names) == 5
    assert not any(blocks.is_added_to(name) for name in names)
    temporary = next(iter(names)).with_name(f".{next(iter(names)).name}.part-1-0123abcd")
    assert blocks.is_added_to(temporary)


def test_of_another_host_it_is_as_long_as_it_changes(tmp_path: Path) -> None:
    for name in (Owner("node-7.cluster", 77, 1_700_000_000).name(3), ".base.part-77-0123abcd"):
        path = tmp_path / name
        assert not blocks.is_added_to(path)
        path.write_bytes(b"")
        assert blocks.is_added_to(path)
        long_ago = time.time() - 2 * blocks.SILENCE
        os.utime(path, (long_ago, long_ago))
        assert not blocks.is_added_to(path)
