"""Parameter files of Focus and 2dx."""

from __future__ import annotations

from pathlib import Path

import pytest

from focusnb.errors import FormatError
from focusnb.io.focus_cfg import read_focus_config

TEXT = """# 2dx_image.cfg
#
# SECTION: Image
# LOCKED: YES
set defocus = "15120.5,14800.25,-35.5"
# ISWRONG: YES
set KV = "200.0"
set comment = "-"
set TLTANG = "--"
set QVALS = ""
set specimen_name = "apo ferritin"
set CS = "ScriptWillPutNumberHere"
"""


def test_values_marks_and_what_was_not_determined(tmp_path: Path) -> None:
    path = tmp_path / "2dx_image.cfg"
    path.write_text(TEXT)
    config = read_focus_config(path)
    assert config.numbers("DEFOCUS") == (15120.5, 14800.25, -35.5)
    assert (config.number("kv"), config.text("specimen_name")) == (200.0, "apo ferritin")
    assert [config.text(name) for name in ("comment", "TLTANG", "QVALS", "CS", "nothing")] == [None] * 5
    assert config.numbers("CS") is None
    assert (config.locked, config.wrong) == (frozenset({"defocus"}), frozenset({"kv"}))
    with pytest.raises(FormatError, match=r"specimen_name is 'apo ferritin', numbers belong there"):
        config.number("specimen_name")
    with pytest.raises(FormatError, match="defocus has 3 numbers, 1 belongs there"):
        config.number("defocus")


def test_an_image_has_what_its_project_shares(tmp_path: Path) -> None:
    (tmp_path / "image.cfg").write_text('set KV = "300"\n')
    (tmp_path / "project.cfg").write_text('set KV = "200"\nset CS = "2.0"\n')
    image, shared = (read_focus_config(tmp_path / f"{name}.cfg") for name in ("image", "project"))
    merged = image.over(shared)
    assert (merged.number("KV"), merged.number("CS"), merged.path) == (300.0, 2.0, tmp_path / "image.cfg")
    assert image.over(None) is image


def test_other_line_ends_and_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.cfg"
    expected = read_focus_config(_written(path, TEXT.encode())).values
    for content in (TEXT.replace("\n", "\r\n").encode(), b"\xef\xbb\xbf" + TEXT.encode()):
        assert read_focus_config(_written(path, content)).values == expected
    assert read_focus_config(_written(path, 'set comment = "5 µm"\n'.encode("latin-1"))).text("comment") == "5 µm"


def test_cut_off_at_any_byte_it_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.cfg"
    whole = read_focus_config(_written(path, TEXT.encode())).values
    refused = 0
    for end in range(len(TEXT)):
        try:
            found = read_focus_config(_written(path, TEXT[:end].encode())).values
        except FormatError:
            refused += 1
        else:
            assert found.items() <= whole.items()
    assert refused > 150
    with pytest.raises(FormatError, match=r"line 1 is 'set KV = \"200', set NAME"):
        read_focus_config(_written(path, b'set KV = "200'))


def test_what_is_no_such_file(tmp_path: Path) -> None:
    for content in (b"", b"hello\n", b"\0\1\2", b"# only\n# remarks\n"):
        with pytest.raises(FormatError, match=r"a\.cfg: "):
            read_focus_config(_written(tmp_path / "a.cfg", content))
    with pytest.raises(FormatError, match="there is no such file"):
        read_focus_config(tmp_path / "missing.cfg")


def test_a_processed_crystal(data: Path) -> None:
    config = read_focus_config(data / "crystal2d" / "2dx_image.cfg")
    assert len(config.values) == 370
    assert config.numbers("lattice") == (21.7993, -32.9255, 33.4634, 22.2501)
    assert config.numbers("defocus") == (3950.0, 3250.0, 0.0)
    assert (config.number("KV"), config.number("CS"), config.number("magnification")) == (200.0, 2.0, 50000.0)
    assert (config.text("SYM"), config.text("comment"), config.text("MERGE_TANGL")) == ("p4", None, None)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
