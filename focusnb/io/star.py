"""STAR files through the ``starfile`` package, which is imported where it is used because it loads pandas."""

from __future__ import annotations

import linecache
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from focusnb.errors import FormatError
from focusnb.io.files import read_text, write_text

if TYPE_CHECKING:
    from pandas import DataFrame

    Block = DataFrame | dict[str, Any]


def read(path: str | os.PathLike[str]) -> dict[str, Block]:
    """Read a STAR file: blocks by their names without ``data_``; a loop is a DataFrame, a list of values a dict.

    Labels are without the leading underscore. Raises FormatError where the file is no STAR file or a row is incomplete.
    """
    lines = read_text(path).splitlines()
    names = [line[5:].strip() for line in lines if line.startswith("data_")]
    if not names:
        raise FormatError(f"{path}: has no line that begins with data_; is it a STAR file?")
    _check_rows(path, lines)
    import starfile

    # starfile reads through linecache, which would give the lines of an older file of this name
    linecache.checkcache(os.fspath(path))
    try:
        blocks: dict[str, Block] = starfile.read(path, always_dict=True)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(f"{path}: STAR table is damaged ({reason}); is the file complete?") from error
    found = {name.strip(): block for name, block in blocks.items()}
    if lost := [name for name in names if name not in found or found[name] is None]:
        raise FormatError(f"{path}: block data_{lost[0]} holds nothing; is the file complete?")
    return found


def write(path: str | os.PathLike[str], blocks: Mapping[str, Block], *, comment: str = "") -> None:
    """Write blocks to a STAR file, atomically: DataFrames as loops, dicts as lists of values.

    The file begins with the version line by which RELION (3.1 and later) tells its format.

    comment : one line at the top
    """
    import starfile

    text = starfile.to_string(dict(blocks), float_format="%.9g")
    body = text.partition("\n")[2].lstrip("\n")
    head = [f"# {comment}"] if comment else []
    write_text(path, "\n".join([*head, "# version 30001", "", body]))


def _check_rows(path: str | os.PathLike[str], lines: list[str]) -> None:
    """Refuse a row with fewer words than its loop has columns: pandas would fill it up in silence."""
    columns, in_loop = 0, False
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if text.startswith(("data_", "loop_")):
            columns, in_loop = 0, text.startswith("loop_")
        elif in_loop and text.startswith("_"):
            columns += 1
        elif in_loop and text and len(words := text.split()) < columns:
            raise FormatError(
                f"{path}: line {number} has {len(words)} of {columns} values; was the file copied while being written?"
            )
