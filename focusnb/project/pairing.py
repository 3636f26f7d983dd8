"""Which files belong to one exposure: the recorded movie, its frames aligned elsewhere, and its averages.

Files belong together by their names: what is left of them without the words that say what they are (``_Fractions``,
``_aligned``, ``_DW``, ``-a``), and without the sub-folder that says it (``raw``, ``aligned``, ``averages``). Where
names leave it open the number of frames decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from focusnb.errors import ParameterError

MOVIE, ALIGNED, AVERAGE = "movie", "aligned", "average"
ROLES = (MOVIE, ALIGNED, AVERAGE)

FOLDERS = {
    MOVIE: ("raw", "movies", "raw_movies", "frames"),
    ALIGNED: ("aligned", "aligned_movies", "drift_corrected"),
    AVERAGE: ("averages", "average", "aligned_averages", "sums"),
}
"""Names of sub-folders that say what is in them."""

_MOVIE_END = re.compile(r"[._](fractions|eer|frames|raw|movie)$", re.IGNORECASE)
_MADE_END = re.compile(
    r"([_-](aligned|ali|average|avg|sum|mic|dw|dws|nodw|nondw|doseweighted|dose_weighted))+$", re.IGNORECASE
)
_AVERAGE_WORD = re.compile(
    r"[_-](average|avg|sum|mic|(?:no|non)?dw|dws|doseweighted|dose_weighted)(?![a-z])", re.IGNORECASE
)
_DOSE_WEIGHTED = re.compile(r"[_-](dws?|doseweighted|dose_weighted)(?![a-z])", re.IGNORECASE)
_APPION_END = re.compile(r"-a$")
"""Appion's aligned sums; an end so short says something only where the movie is there."""

Key = tuple[str, str, str]
"""Root, folder and stem that the files of an exposure share."""


@dataclass(frozen=True)
class Reading:
    """What a name says: the key and the role; a weak reading counts only where a movie of that key is there.

    firm : the name itself says that it is a movie, also one of which one frame is there yet
    """

    key: Key
    role: str | None
    weak: bool = False
    firm: bool = False


@dataclass(frozen=True)
class Shot:
    """The files of one exposure.

    main : what the exposure starts from; role : what that is (movie, aligned or average)
    others : what was made of it, by role
    key : what their names share, None for a file that stays alone
    made : whether the main file's name says that another program made it of a movie
    """

    main: Path
    role: str = MOVIE
    others: tuple[tuple[str, Path], ...] = ()
    key: Key | None = None
    made: bool = False

    @property
    def paths(self) -> list[Path]:
        """All its files."""
        return [self.main, *(path for _, path in self.others)]


class Pairing:
    """Reads names and puts files together."""

    def __init__(self, rules: Iterable[str] = ()) -> None:
        """Take rules of the user's, which come before the usual ones.

        rules : ``ROLE=_end`` for the end of a name without its suffix, ``ROLE=folder/`` for a sub-folder; ROLE is
            movie, aligned or average

        Raises ParameterError for another one.
        """
        self._ends: list[tuple[str, str]] = []
        self._folders = {name: role for role, names in FOLDERS.items() for name in names}
        for rule in rules:
            role, equals, text = (part.strip() for part in rule.partition("="))
            if role not in ROLES or not equals or not text.strip("/"):
                raise ParameterError(
                    f"{rule!r} is no rule of what belongs together: write ROLE=_end for the end of names or "
                    f"ROLE=folder/ for a sub-folder, ROLE being {', '.join(ROLES)}"
                )
            if text.endswith("/"):
                self._folders[text.rstrip("/").casefold()] = role
            else:
                self._ends.append((text, role))

    def read(self, path: PurePath, root: PurePath) -> list[Reading]:
        """What a name says, the likeliest first."""
        place, folder, by_folder = self._place(path, root)
        stem = path.stem
        for end, role in self._ends:
            if stem.endswith(end) and len(stem) > len(end):
                return [Reading((place, folder, stem[: -len(end)]), role, firm=role == MOVIE)]
        if (found := _MADE_END.search(stem)) and found.start():
            role = AVERAGE if _AVERAGE_WORD.search(found[0]) else ALIGNED
            # MotionCor2 is given x_Fractions.tiff and makes x_Fractions_DW.mrc of it
            stem = stem[: found.start()]
            readings = [Reading((place, folder, _movie_stem(stem)), role)]
        else:
            firm = _movie_stem(stem) != stem
            readings = [Reading((place, folder, _movie_stem(stem)), MOVIE if firm else by_folder, firm=firm)]
        if (found := _APPION_END.search(stem)) and found.start():
            readings.append(Reading((place, folder, _movie_stem(stem[: found.start()])), AVERAGE, weak=True))
        return readings

    def _place(self, path: PurePath, root: PurePath) -> tuple[str, str, str | None]:
        """Root and folder as far as they tell exposures apart, and the role the folder gives."""
        parts = list(path.parent.relative_to(root).parts) if path.is_relative_to(root) else []
        if parts and (role := self._folders.get(parts[-1].casefold())):
            return str(root), "/".join(parts[:-1]), role
        if role := self._folders.get(root.name.casefold()):
            # three roots named raw, aligned and averages
            return "", "/".join(parts), role
        return str(root), "/".join(parts), None

    def shots(
        self,
        found: Mapping[Path, Path],
        frames: Callable[[Path], int],
        known: Container[Key] = (),
        *,
        every: bool = False,
    ) -> list[Shot]:
        """Put files together, in the order in which they were found.

        found : files with the root each was found below
        frames : number of images in a file, 0 where it cannot be read; asked only where files may belong together
        known : keys of exposures imported before, to which files may belong
        every : ask for the frames of every file, so that each role is certain
        """
        readings = {path: self.read(path, root) for path, root in found.items()}
        firm = {r[0].key for r in readings.values() if r[0].role in (MOVIE, None)}
        members: dict[Key, list[tuple[Path, Reading]]] = {}
        for path, options in readings.items():
            weak = next((o for o in options if o.weak and (o.key in firm or o.key in known)), None)
            chosen = weak if weak is not None and frames(path) == 1 else options[0]
            members.setdefault(chosen.key, []).append((path, chosen))
        shots: list[Shot] = []
        for key, files in members.items():
            if len(files) > 1:
                shots += _arrange(key, files, frames)
                continue
            path, said = files[0]
            count = frames(path) if every or key in known else 0
            role = _role(said, count) if count else said.role or MOVIE
            shots.append(Shot(path, role, (), key, made=said.role in (ALIGNED, AVERAGE)))
        place = {path: number for number, path in enumerate(found)}
        return sorted(shots, key=lambda shot: place[shot.main])


def _role(said: Reading, count: int) -> str:
    """The role of a file of so many frames."""
    if count == 1:
        return MOVIE if said.firm else AVERAGE
    return ALIGNED if said.role == ALIGNED else MOVIE


def _arrange(key: Key, files: list[tuple[Path, Reading]], frames: Callable[[Path], int]) -> list[Shot]:
    """The exposures of files that share a key: one, unless several of them are movies."""
    by_role: dict[str, list[Path]] = {role: [] for role in ROLES}
    for path, said in files:
        by_role[_role(said, frames(path))].append(path)
    movies, aligned, averages = (by_role[role] for role in ROLES)
    averages.sort(key=lambda path: bool(_DOSE_WEIGHTED.search(path.stem)))
    made = [*((ALIGNED, path) for path in aligned), *((AVERAGE, path) for path in averages)]
    if movies:
        return [Shot(movies[0], MOVIE, tuple(made), key), *(Shot(path, MOVIE, (), None) for path in movies[1:])]
    if aligned:
        return [Shot(aligned[0], ALIGNED, tuple(made[1:]), key, made=True)]
    named = {path for path, said in files if said.role is not None or is_made(path)}
    plain = [path for path in averages if path not in named]
    # two pictures of one plain name are two exposures; those whose names say that they are versions are one
    first, *rest = [*plain, *(path for path in averages if path in named)]
    others = tuple((AVERAGE, path) for path in rest if path in named)
    apart = [Shot(path, AVERAGE, (), None) for path in rest if path not in named]
    return [Shot(first, AVERAGE, others, key, made=first in named), *apart]


def is_made(path: PurePath) -> bool:
    """Whether a name says that the file was made of a movie."""
    return _MADE_END.search(path.stem) is not None


def is_named_movie(path: PurePath) -> bool:
    """Whether a name says that the file holds frames; ``_raw`` may be a raw picture as well."""
    found = _MOVIE_END.search(path.stem)
    return found is not None and found[1].lower() != "raw"


def is_dose_weighted(path: PurePath) -> bool:
    """Whether a name says that an average is weighted by dose."""
    return _DOSE_WEIGHTED.search(path.stem) is not None


def _movie_stem(stem: str) -> str:
    return _MOVIE_END.sub("", stem) or stem
