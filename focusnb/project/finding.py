"""Which files of a folder are recordings, and which lie beside them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

from focusnb.errors import ParameterError
from focusnb.io.names import recognise

SUFFIXES = (".tif", ".tiff", ".mrc", ".mrcs", ".eer")
"""What is looked for in a folder; files named one by one may have any suffix."""

METADATA = (".mdoc", ".xml")
"""What microscopes write beside recordings, one for each."""

_BESIDE = (*METADATA, ".txt", ".json", ".log")
"""What lies beside recordings and is none."""

_REFERENCE_NAME = re.compile(r"(^|[_.\- ])(gain|gainref|countref|superref|dark|defects?)([_.\- ]|$)", re.IGNORECASE)


REFERENCE, OVERVIEW = "gain, dark or defects", "overviews of squares and holes"
"""What lies among recordings and is none, as messages name it."""


def passed_by(path: PurePath) -> str | None:
    """Whether a name is that of a reference, or of an overview that a microscope takes on its way; None for others."""
    if _REFERENCE_NAME.search(path.stem):
        return REFERENCE
    found = recognise(path)
    return OVERVIEW if found is not None and found.image != "exposure" else None


def find(
    paths: Iterable[Path],
    left_out: set[Path],
    tell: Callable[[str], None],
    wanted: Callable[[str, str], bool] | None = None,
    at: Callable[[Path], object] = lambda path: None,
) -> list[tuple[Path, Path]]:
    """Find the recordings among paths and in folders: each with the folder it was found below, as often as it was.

    left_out : resolved paths that are no recordings
    tell : is told what was passed by
    wanted : takes a name and the path within the folder; by default the suffix decides
    at : called with each folder and file before it is looked at

    Raises ParameterError for a path that does not exist.
    """
    found: list[tuple[Path, Path]] = []
    beside = 0
    for path in paths:
        at(path)
        if path.is_dir():
            skipped: Counter[str] = Counter()
            for inner in _below(path, tell, at):
                at(inner)
                within = inner.relative_to(path)
                hidden = any(part.startswith(".") for part in within.parts)
                fits = inner.suffix.lower() in SUFFIXES if wanted is None else wanted(inner.name, within.as_posix())
                if hidden or not fits or not os.path.isfile(inner):
                    continue
                if inner.resolve() in left_out:
                    continue
                if (what := passed_by(inner)) is not None:
                    skipped[what] += 1
                    continue
                found.append((inner, path))
            for what, count in skipped.items():
                told = f"{count} files named like {what} were" if count > 1 else f"a file named like {what} was"
                tell(f"{path}: {told} not imported as exposure{'s' * (count > 1)}")
        elif not path.is_file():
            raise ParameterError(f"{path}: does not exist; check the path")
        elif path.resolve() in left_out or path.suffix.lower() in _BESIDE:
            beside += 1
        else:
            found.append((path, path.parent))
    if beside:
        tell(f"{beside} of the files named are references or metadata and were not imported as exposures")
    return found


def _below(folder: Path, tell: Callable[[str], None], at: Callable[[Path], object]) -> list[Path]:
    """The files below a folder in order; folders that cannot be listed are told."""

    def fault(error: OSError) -> None:
        tell(f"{error.filename}: cannot be listed ({error.strerror}); what is in it was left out")

    found: list[Path] = []
    for place, _, names in os.walk(folder, onerror=fault):
        at(Path(place))
        found += [Path(place, name) for name in names]
    return sorted(found)


def stems(path: PurePath) -> set[str]:
    """Names, without their suffix, that metadata of a recording may have: its own, or that of its tilt series."""
    bare = re.sub(r"_(fractions|EER)$", "", path.stem, flags=re.IGNORECASE)
    found = recognise(path)
    series = set() if found is None else {str(found.facts["series"])} if "series" in found.facts else set()
    return {path.name, path.stem, bare} | series


def metadata_stems(name: str) -> set[str]:
    """Names that recordings, or tilt series, may have to which an mdoc or XML belongs."""
    stem = name.rpartition(".")[0]
    return {stem, re.sub(r"\.(mrc|st)$", "", stem)}
