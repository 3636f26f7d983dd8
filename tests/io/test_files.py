"""Files written whole or not at all, hashes and verified copies."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from focusnb.errors import FocusError, FormatError
from focusnb.io import files


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with files.atomic_path(target) as part:
        assert part.parent == tmp_path
        assert part.name.startswith(f".a.txt.part-{os.getpid()}-")
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_an_exception_leaves_the_old_file_and_no_temporary_one(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(type(error)) as caught, files.atomic_path(target) as part:  # noqa: PT012
        part.write_text("half")
        raise error
    assert caught.value is error
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, ["the disk is full", "12 bytes needed", "bytes free"]),
        (errno.EDQUOT, ["quota"]),
        (errno.EROFS, ["read-only"]),
        (errno.EACCES, ["may not write", "permissions"]),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: list[str]
) -> None:
    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(FocusError) as caught:
        files.write_bytes(tmp_path / "a.bin", b"x" * 12)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "a.bin"))
    assert all(word in message for word in words), message
    assert isinstance(caught.value.__cause__, OSError)
    assert not isinstance(caught.value, FormatError)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    try:
        files.write_bytes(folder / "a", b"x" * 100_000)
        with pytest.raises(FocusError, match=r"the disk is full .300000 bytes needed, [0-9]+ bytes free"):
            files.write_bytes(folder / "b", b"x" * 300_000)
        assert os.listdir(folder) == ["a"]
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(FocusError, match="read-only"):
            files.write_bytes(folder / "c", b"x")
        assert (folder / "a").read_bytes() == b"x" * 100_000
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(FocusError, match=r"there is no folder .*nowhere"):
        files.write_text(tmp_path / "nowhere" / "a.txt", "x")


def test_an_error_about_another_file_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.atomic_path(tmp_path / "a") as part:  # noqa: PT012
        part.write_text("x")
        open(tmp_path / "missing").close()
    assert os.listdir(tmp_path) == []


def test_names_as_long_as_the_system_allows(tmp_path: Path) -> None:
    name = "ä" * 127
    files.write_text(tmp_path / name, "x")
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(FocusError, match="too long; shorten"):
        files.write_text(tmp_path / ("a" * 300), "x")


def test_text_and_json(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "Å\r\n")
    assert (tmp_path / "a").read_bytes() == "Å\r\n".encode()
    files.write_json(tmp_path / "b", {"Å": [1, 2.5, None]})
    assert json.loads((tmp_path / "b").read_text()) == {"Å": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "b", {"a": float("nan")})


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_copies_are_verified(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"e" * (size % 256)
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(content)
    os.utime(source, ns=(1_500_000_000_123456789, 1_600_000_000_987654321))
    digest = files.copy_verified(source, target)
    assert digest == hashlib.sha256(content).hexdigest() == files.hash_file(target)
    assert target.read_bytes() == content
    assert target.stat().st_mtime_ns == 1_600_000_000_987654321
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_source_that_grows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"x" * 100)
    forget = files._forget_cached

    def grow(handle: int) -> None:
        with open(source, "ab") as file:
            file.write(b"y" * 20)
        forget(handle)

    monkeypatch.setattr(files, "_forget_cached", grow)
    with pytest.raises(FormatError, match=r"changed while it was copied \(100 bytes before, 120 after\)"):
        files.copy_verified(source, tmp_path / "b")
    assert os.listdir(tmp_path) == ["a"]


def test_a_copy_that_reads_back_differently_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"x" * 100)
    monkeypatch.setattr(files, "hash_file", lambda path: "0" * 64)
    with pytest.raises(FocusError, match=r"differs .* when read back; check the disk"):
        files.copy_verified(source, tmp_path / "b")
    assert os.listdir(tmp_path) == ["a"]


def test_a_missing_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="a: there is no such file"):
        files.copy_verified(tmp_path / "a", tmp_path / "b")
    with pytest.raises(FormatError, match="is a folder"):
        files.hash_file(tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Å\r\nb\rc\n".encode(), "Å\nb\nc\n"),
        ("\ufeffµ = 1".encode(), "µ = 1"),
        ("µ = 1".encode("latin-1"), "µ = 1"),
    ],
)
def test_text_is_read_in_the_encodings_of_camera_computers(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a").write_bytes(content)
    assert files.read_text(tmp_path / "a") == text


def test_byte_source_reads_at_positions(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    for source in (files.ByteSource(tmp_path / "a"), files.ByteSource("a", b"0123456789")):
        assert source.size == 10
        assert source.read(3, 4) == b"3456"
        assert source.read(8, 4) == b"89"
        assert source.read(20, 4) == b""
        target = bytearray(4)
        assert source.read_into(8, memoryview(target)) == 2
        assert target == b"89\0\0"
        source.close()
        source.close()


def test_a_large_copy_is_flushed_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(250)) * 100
    (tmp_path / "a").write_bytes(content)
    monkeypatch.setattr(files, "_BLOCK", 1000)
    monkeypatch.setattr(files, "_FLUSHED", 10_000)
    real, sizes = os.fsync, []

    def fsync(handle: int) -> None:
        sizes.append(os.fstat(handle).st_size)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    files.copy_verified(tmp_path / "a", tmp_path / "b")
    assert sizes[:3] == [10_000, 20_000, 25_000]
    assert (tmp_path / "b").read_bytes() == content
