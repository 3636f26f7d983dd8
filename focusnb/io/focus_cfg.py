"""Parameter files of Focus and 2dx: ``2dx_image.cfg`` of an image, ``2dx_merge.cfg`` (``2dx_master.cfg``) of a project.

Text; every value is a line ``set NAME = "value"``. Comment lines before it may lock it (``# LOCKED: YES``) or mark it
as wrong (``# ISWRONG: YES``). Names are found whatever their case. A value that was not determined is ``-``, ``--`` or
empty.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from focusnb.errors import FormatError
from focusnb.io.files import read_text

IMAGE_FILE = "2dx_image.cfg"
"""In the folder of each image."""

PROJECT_FILES = ("merge/2dx_merge.cfg", "2dx_master.cfg")
"""Where a project keeps the values its images share; the second is a link to the first."""

_SET = re.compile(r'set\s+(\w+)\s*=\s*"([^"]*)"\s*$')
_MARK = re.compile(r"#\s*(LOCKED|ISWRONG)\s*:\s*YES", re.IGNORECASE)
_NOT_DETERMINED = ("", "-", "--", "scriptwillputnumberhere")


@dataclass(frozen=True)
class FocusConfig:
    """The values of one file, by names in small letters.

    path : the file
    values : texts as they stand there
    locked, wrong : names of values that scripts may not change, and that somebody marked as doubtful
    """

    path: Path
    values: Mapping[str, str]
    locked: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()

    def text(self, name: str) -> str | None:
        """Return a value as text, None where it is missing or was not determined."""
        value = self.values.get(name.lower(), "").strip()
        return None if value.lower() in _NOT_DETERMINED else value

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """Return the numbers of a value, which commas or blanks separate; None where it was not determined.

        Raises FormatError where words stand among them.
        """
        value = self.text(name)
        if value is None:
            return None
        try:
            found = tuple(float(word) for word in value.replace(",", " ").split())
        except ValueError as error:
            raise FormatError(f"{self.path}: {name} is {value!r}, numbers belong there; correct it there") from error
        return found if found and all(map(math.isfinite, found)) else None

    def number(self, name: str) -> float | None:
        """Return a value that is one number; None where it was not determined. FormatError where it is several."""
        found = self.numbers(name)
        if found is not None and len(found) != 1:
            raise FormatError(f"{self.path}: {name} has {len(found)} numbers, 1 belongs there; correct it there")
        return None if found is None else found[0]

    def over(self, project: FocusConfig | None) -> FocusConfig:
        """Return these values, and the project's where there are none of a name here: those that images share."""
        if project is None:
            return self
        return FocusConfig(self.path, {**project.values, **self.values}, self.locked, self.wrong)


def read_focus_config(path: str | os.PathLike[str]) -> FocusConfig:
    """Read a parameter file of Focus or 2dx.

    Raises FormatError where there is no value in it, or where a line that sets one is cut off or has no quotes.
    """
    path = Path(path)
    values: dict[str, str] = {}
    marked: dict[str, set[str]] = {"LOCKED": set(), "ISWRONG": set()}
    marks: set[str] = set()
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        text = line.strip()
        if found := _MARK.match(text):
            marks.add(found[1].upper())
        elif text.startswith("set "):
            value = _SET.match(text)
            if value is None:
                raise FormatError(
                    f'{path}: line {number} is {text[:60]!r}, set NAME = "value" belongs there; is the file complete?'
                )
            name = value[1].lower()
            values[name] = value[2]
            for mark, names in marked.items():
                (names.add if mark in marks else names.discard)(name)
            marks.clear()
    if not values:
        raise FormatError(f"{path}: sets 0 parameters; is it {IMAGE_FILE} of Focus or 2dx?")
    return FocusConfig(path, values, frozenset(marked["LOCKED"]), frozenset(marked["ISWRONG"]))
