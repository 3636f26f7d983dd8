"""What a court judges by: the exposures of a session as witnesses, and the verdicts it comes to."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from focusnb.errors import FormatError
from focusnb.io.images import read_image
from focusnb.ops.gain import Orientation, ResidualGain, residual_gain
from focusnb.processing.court.cures import command
from focusnb.project.sources import ImportSource

_COUNTED = frozenset({"camera_curves", "hot_pixels", "dose_origin"})
"""What is found of any movie that was prepared here; one whose results another program made has none of it."""

Word = Literal["fine", "suspicious", "wrong", "cannot tell"]


@dataclass(frozen=True)
class Verdict:
    """What one check found.

    sentence : what is seen, with the numbers, or why nothing can be told; cure : what to do or type, empty where fine
    seen, of : exposures that show it, and exposures looked at
    numbers : the evidence by name
    """

    check: str
    word: Word
    sentence: str
    cure: str = ""
    seen: int = 0
    of: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_bad(self) -> bool:
        """Whether somebody should be told."""
        return self.word in ("suspicious", "wrong")

    @property
    def told(self) -> str:
        """The sentence with its cure."""
        return f"{self.sentence}: {self.cure}" if self.cure else self.sentence

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """Inverse of :meth:`to_dict`; what a newer version added is left out."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


@dataclass(frozen=True)
class Witness:
    """What one exposure tells.

    facts, found : facts and findings by name, without those that are not known
    origins : what each origin says of each fact; folder : where its products are
    failed : why it could not be prepared; stale : steps whose results are of other facts than those given now
    """

    id: int
    name: str
    facts: Mapping[str, Any]
    found: Mapping[str, Any]
    folder: Path
    origins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failed: str = ""
    stale: frozenset[str] = frozenset()

    @cached_property
    def camera(self) -> Mapping[str, list[float]]:
        """The curves of its camera; empty where there are none."""
        return self._curves("camera_curves")

    @cached_property
    def rings(self) -> Mapping[str, list[float]]:
        """The rotational average of its transform; empty where there is none."""
        return self._curves("ring_profile")

    def _curves(self, name: str) -> Mapping[str, list[float]]:
        try:
            found = json.loads((self.folder / str(self.found[name])).read_text())
        except (KeyError, OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        lists = {name: values for name, values in found.items() if isinstance(values, list)}
        return {name: [math.nan if value is None else value for value in values] for name, values in lists.items()}

    @cached_property
    def windows(self) -> np.ndarray | None:
        """Parts of its unaligned sum, relative to their mean."""
        try:
            return read_image(self.folder / str(self.found["unaligned_windows"])).data.astype(np.float32)
        except (KeyError, OSError, FormatError):
            return None

    @property
    def is_prepared(self) -> bool:
        """Whether its counts were looked at, with the facts as they are given now."""
        return not self.failed and "prepare_movie" not in self.stale and bool(_COUNTED & self.found.keys())

    @property
    def given(self) -> Orientation:
        """How its gain reference lies as it was given."""
        return Orientation(int(self.facts.get("gain_rotation") or 0) % 4, bool(self.facts.get("gain_flip")))


class Bench:
    """The exposures a court looks at, and how a user would give their facts anew.

    project, source : folders, for the commands that cures are; folders : all that the session came from
    watched : the source that is watched and brings more of it
    """

    def __init__(
        self,
        witnesses: Sequence[Witness],
        *,
        project: Path,
        source: Path,
        folders: Sequence[Path] = (),
        watched: ImportSource | None = None,
    ) -> None:
        self.all = list(witnesses)
        self.movies = [one for one in witnesses if one.facts.get("kind", "movie") == "movie"]
        self.prepared = [one for one in self.movies if one.is_prepared]
        self.project, self.source = project, source
        self._folders, self._watched = folders or (source,), watched

    def again(self, *, options: str = "", **values: Any) -> str:
        """The command that gives facts anew."""
        return command(self.project, self._folders, self._watched, values, options)

    @cached_property
    def with_gain(self) -> list[Witness]:
        """Movies that were corrected by one gain reference lying one way, those of most."""
        there = [one for one in self.prepared if one.facts.get("gain_reference") and one.camera.get("gain_correlation")]
        return largest(there, lambda one: (one.facts["gain_reference"], one.given))

    @cached_property
    def without_gain(self) -> list[Witness]:
        """Movies that were not corrected for the gain here."""
        return [one for one in self.prepared if not one.facts.get("gain_reference")]

    @cached_property
    def correlations(self) -> dict[Orientation, float]:
        """Mean correlation of the counts with 1 / gain in each orientation."""
        sums: dict[Orientation, list[float]] = {}
        for one in self.with_gain:
            for orientation, value in by_orientation(one, "gain", "gain_correlation").items():
                sums.setdefault(orientation, []).append(value)
        return {orientation: statistics.fmean(values) for orientation, values in sums.items()}

    @cached_property
    def pattern_error(self) -> float:
        """Standard deviation by chance of such a correlation."""
        pixels = sum(one.camera["gain_pixels"][0] for one in self.with_gain)
        return 1 / math.sqrt(max(pixels, 1.0))

    def slope(self, correlation: float) -> float:
        """How much of the pattern of 1 / gain the counts show."""
        return correlation * statistics.fmean(one.camera["gain_scale"][0] for one in self.with_gain)

    def residual(self, witnesses: Sequence[Witness]) -> tuple[ResidualGain, int] | None:
        """The pattern all movies show after their correction, and how many were looked at; None for too few."""
        seen = [one for one in witnesses if one.windows is not None]
        seen = largest(seen, lambda one: (one.windows.shape, one.found.get("movie_pixel_size")))  # type: ignore[union-attr]
        windows = [one.windows for one in sorted(seen, key=lambda one: one.id) if one.windows is not None]
        if len(windows) < 2:
            return None
        even, odd = (np.mean(windows[start::2], axis=0) for start in (0, 1))
        return residual_gain(even, odd), len(windows)


def unknown(check: str, bench: Bench, reason: str = "", holds: bool = True) -> Verdict:
    """Nothing to go by: say why."""
    if reason and holds:
        return cannot_tell(check, reason, len(bench.prepared))
    if bench.all and not bench.movies and check != "pixel_size":
        return cannot_tell(check, "these are images, not movies", len(bench.all))
    if any(one.stale for one in bench.all):
        return cannot_tell(check, "the facts were changed: it is told when they are processed again", 0)
    if bench.movies and all(one.failed for one in bench.movies):
        return cannot_tell(check, f"no movie could be prepared ({bench.movies[0].failed})", len(bench.movies))
    return cannot_tell(check, "no exposure was processed so far that tells", 0)


def cannot_tell(check: str, reason: str, of: int) -> Verdict:
    """A verdict that is none, with the reason as its sentence."""
    return Verdict(check, "cannot tell", f"{reason[:1].upper()}{reason[1:]}", "", 0, of)


def turned(orientation: Orientation) -> str:
    """How something lies, as a participle."""
    words = [f"turned by {90 * orientation.rotation}°"] * bool(orientation.rotation) + ["flipped"] * orientation.flip
    return " and ".join(words) or "neither turned nor flipped"


def some_of(count: int, of: int) -> str:
    """So many of so many movies, in words."""
    return f"{count} of {of} movies"


def lower(sentence: str) -> str:
    """A sentence as a part of another."""
    return sentence[:1].lower() + sentence[1:]


def rounded(value: float) -> str:
    """A number as a user would type it."""
    return f"{value:.4g}"


def median_of(seen: list[Witness], name: str) -> int:
    """Median of a finding that counts something; 0 where none has it."""
    values = [int(one.found[name]) for one in seen if one.found.get(name) is not None]
    return round(statistics.median(values)) if values else 0


def by_orientation(one: Witness, what: str, values: str) -> dict[Orientation, float]:
    """A curve of the camera that has a value for each orientation of a reference."""
    lists = (one.camera.get(f"{what}_rotation", []), one.camera.get(f"{what}_flip", []), one.camera.get(values, []))
    return {Orientation(int(r), bool(f)): float(value) for r, f, value in zip(*lists, strict=False)}


def largest(witnesses: list[Witness], key: Callable[[Witness], Any]) -> list[Witness]:
    """Those that agree in a key, of which there are most."""
    if not witnesses:
        return []
    usual = Counter(key(one) for one in witnesses).most_common(1)[0][0]
    return [one for one in witnesses if key(one) == usual]
