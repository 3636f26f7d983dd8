"""Columns of the library as arrays: filled a row at a time, sorted as people sort, shown with the digits that count."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from focusnb.parameters import Spec
from focusnb.project.project import FLAGS

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.intp]

STATUSES = ("new", "queued", "running", "done", "failed", "broken")

OWN = {
    spec.name: spec
    for spec in (
        Spec("exposure", "str", "Exposure", group="Library"),
        Spec("group", "str", "Group", group="Library"),
        Spec("status", "str", "Status", group="Library", choices=STATUSES),
        Spec("reason", "str", "Reason", group="Library", help="Why it is not done."),
        Spec("flag", "str", "Flag", group="Library", choices=FLAGS),
        Spec("comment", "str", "Comment", group="Library"),
        Spec("folder", "str", "Folder", group="Library", help="Of the exposure, within the project."),
        Spec("source", "str", "Source", group="Library", help="The file it was imported from."),
        Spec("imported_at", "datetime", "Imported at", unit="UTC", group="Library"),
        Spec("processed_at", "datetime", "Processed at", unit="UTC", group="Library"),
    )
}
"""The columns every library has, declared as facts and findings are."""

_DIGITS = re.compile(r"\d+")
_PLAIN_TIME = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d(\.\d{3}|\.\d{6})?")
_NO_PLACES = re.compile(r"-0(\.0*)?")


def natural_key(text: str) -> str:
    """A text that sorts as people count: ``shot_9`` before ``shot_10``, capitals beside small letters."""
    return _DIGITS.sub(lambda found: found.group().lstrip("0").zfill(20), text.casefold())


class Numbers:
    """Numbers, yes or no, and times in seconds since 1970: float64, NaN where there is none."""

    def __init__(self, spec: Spec, raw: Sequence[Any] = ()) -> None:
        self.spec = spec
        self.kind = {"bool": "yes", "datetime": "time"}.get(spec.type, "number")
        self.values: Floats = self._numbers(raw)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def averaged(self) -> bool:
        """Whether a mean says something: not of angles, which turn round, nor of times."""
        return self.kind == "number" and "°" not in self.spec.unit

    def _numbers(self, raw: Sequence[Any]) -> Floats:
        if self.kind == "time":
            return _all_seconds(raw)
        return np.array(raw, dtype=np.float64)

    def put(self, positions: Positions, raw: Sequence[Any]) -> None:
        """Set rows; ValueError where the library holds text among numbers."""
        self.values[positions] = self._numbers(raw)

    def append(self, count: int) -> None:
        """Make room for more rows, empty so far."""
        self.values = np.append(self.values, np.full(count, np.nan))

    def take(self, positions: Positions | Bools) -> None:
        """Keep these rows, in this order."""
        self.values = self.values[positions]

    def copy(self, positions: Positions) -> Floats:
        """What some rows hold, for :meth:`is_as`."""
        return self.values[positions]

    def is_as(self, positions: Positions, copied: npt.NDArray[Any]) -> bool:
        """Whether these rows hold what they held."""
        return np.array_equal(self.values[positions], copied, equal_nan=True)

    def keys(self) -> Floats:
        """What to sort by; NaN for rows without a value."""
        return self.values

    def empty(self) -> Bools:
        """Rows without a value."""
        return np.isnan(self.values)

    def texts(self, positions: Positions) -> list[str]:
        """As shown: with the declared digits, empty where there is no value."""
        return [self.text(value) for value in self.values[positions].tolist()]

    def text(self, value: float) -> str:
        """One value as shown."""
        if value != value:
            return ""
        if self.kind == "yes":
            return "yes" if value else "no"
        if self.kind == "time":
            return time_of(value).strftime("%Y-%m-%d %H:%M:%S")
        if self.spec.type == "int":
            return f"{value:.0f}"
        if self.spec.precision is None:
            return f"{value:.4g}"
        shown = f"{value:.{self.spec.precision}f}"
        return shown[1:] if shown[0] == "-" and _NO_PLACES.fullmatch(shown) else shown

    def mean_text(self, value: float) -> str:
        """A mean as shown: of whole numbers with one digit more."""
        if value != value:
            return ""
        return f"{value:.1f}" if self.spec.type == "int" else self.text(value)

    def raw(self, positions: Positions) -> Any:
        """Values of some rows for a DataFrame."""
        import pandas as pd

        values = self.values[positions]
        if self.kind == "time":
            stamps = np.full(len(values), np.datetime64("NaT", "us"))
            known = ~np.isnan(values)
            stamps[known] = np.round(values[known] * 1e6).astype("int64").astype("datetime64[us]")
            series = pd.Series(stamps)
            return series.dt.tz_localize("UTC") if self.spec.unit == "UTC" else series
        if self.kind == "yes":
            return pd.array(np.where(np.isnan(values), None, values != 0), dtype="boolean")  # type: ignore[call-overload]
        if self.spec.type == "int":
            return pd.array(values, dtype="float64").astype("Int64")
        return values


class Words:
    """Text as codes into the words there are: as fast to filter and sort as numbers where words repeat."""

    def __init__(self, spec: Spec, raw: Sequence[Any] = ()) -> None:
        self.spec = spec
        self.kind = spec.name if spec.name in ("flag", "status", "comment") else "choice" if spec.choices else "text"
        self.words: list[str] = []
        self._code: dict[str, int] = {}
        self._sort_keys: list[Any] = []
        self._sorted: list[int] = []
        self._ranks: Floats = np.empty(0)
        self._folded: list[str] = []
        self.codes: npt.NDArray[np.int32] = self._encode(raw)

    averaged = False

    def __len__(self) -> int:
        return len(self.codes)

    def _encode(self, raw: Sequence[Any]) -> npt.NDArray[np.int32]:
        codes: dict[Any, int] = {}
        for value in dict.fromkeys(raw):
            codes[value] = -1 if value is None else self._code.setdefault(str(value), len(self.words))
            if codes[value] == len(self.words):
                self.words.append(str(value))
        return np.fromiter(map(codes.__getitem__, raw), np.int32, len(raw))

    def put(self, positions: Positions, raw: Sequence[Any]) -> None:
        """Set rows."""
        self.codes[positions] = self._encode(raw)

    def append(self, count: int) -> None:
        """Make room for more rows, empty so far."""
        self.codes = np.append(self.codes, np.full(count, -1, np.int32))

    def take(self, positions: Positions | Bools) -> None:
        """Keep these rows, in this order."""
        self.codes = self.codes[positions]

    def copy(self, positions: Positions) -> npt.NDArray[np.int32]:
        """What some rows hold, for :meth:`is_as`."""
        return self.codes[positions]

    def is_as(self, positions: Positions, copied: npt.NDArray[Any]) -> bool:
        """Whether these rows hold what they held."""
        return np.array_equal(self.codes[positions], copied)

    def _key(self, word: str) -> Any:
        choices = self.spec.choices
        # choices sort in the order of their declaration: new before done, red before green
        return (choices.index(word), "") if word in choices else (len(choices), natural_key(word))

    def keys(self) -> Floats:
        """What to sort by: the rank of a row's word; NaN for rows without one."""
        return self.ranks()[self.codes]

    def ranks(self) -> Floats:
        """The place of each word among all, by code; NaN at the end, where the code -1 of no word points."""
        count = len(self.words)
        if len(self._ranks) != count + 1:
            self._sort_keys += map(self._key, self.words[len(self._sort_keys) :])
            # sorted again from the order known so far, which costs little where few words are new
            self._sorted += range(len(self._sorted), count)
            self._sorted.sort(key=self._sort_keys.__getitem__)
            self._ranks = np.full(count + 1, np.nan)
            self._ranks[self._sorted] = np.arange(count)
            self._ranks[self._blank] = np.nan
        return self._ranks

    @property
    def _blank(self) -> int:
        """The code of the empty word, which is kept but counts as none: a rule that found nothing wrong says it."""
        return self._code.get("", -1)

    def empty(self) -> Bools:
        """Rows without a word."""
        blank: Bools = (self.codes < 0) | (self.codes == self._blank)
        return blank

    def present_codes(self) -> npt.NDArray[np.int32]:
        """The code of each row's word; -1 for rows without one."""
        return np.where(self.codes == self._blank, np.int32(-1), self.codes)

    def matching(self, test: Callable[[str], bool]) -> Bools:
        """Rows whose word, without regard to capitals, passes a test; rows without a word do not."""
        self._folded += map(str.casefold, self.words[len(self._folded) :])
        passed = np.fromiter((*map(test, self._folded), False), np.bool_, len(self.words) + 1)
        return passed[self.codes]

    def being(self, word: str) -> Bools:
        """Rows that have just this word, capitals and all; with the empty one those without a word."""
        found: Bools = self.codes == self._code.get(word, -2) if word else self.empty()
        return found

    def texts(self, positions: Positions) -> list[str]:
        """As shown, empty where there is no word."""
        words = self.words
        return [words[code] if code >= 0 else "" for code in self.codes[positions].tolist()]

    def counts(self, positions: Positions) -> list[tuple[str, int]]:
        """The words of some rows in their order, with how many rows have each; the empty word last."""
        self.ranks()
        counted = np.bincount(self.present_codes()[positions] + 1, minlength=len(self.words) + 1)
        found = [(self.words[code], int(counted[code + 1])) for code in self._sorted if counted[code + 1]]
        return [*found, ("", int(counted[0]))] if counted[0] else found

    def raw(self, positions: Positions) -> Any:
        """Values of some rows for a DataFrame."""
        import pandas as pd

        words = np.array([*self.words, None], dtype=object)
        return pd.array(words[self.codes[positions]], dtype="str")


Column = Numbers | Words


def make_column(spec: Spec, raw: Sequence[Any]) -> Column:
    """A column of the declared type; text where an earlier version of a step left text among numbers."""
    if spec.type not in ("str", "") and not spec.choices and spec.file is None:
        try:
            return Numbers(spec, raw)
        except (TypeError, ValueError):
            return Words(spec, raw)
    return Words(spec, raw)


def is_shown(spec: Spec) -> bool:
    """Whether a declared value can be a column of the table: numbers and words, not files."""
    return spec.kind in ("value", "file") and spec.file is None


def captions(specs: Iterable[Spec]) -> dict[str, str]:
    """Captions by name."""
    return {spec.name: spec.caption for spec in specs}


def time_of(seconds: float) -> datetime.datetime:
    """The time a column of times holds."""
    return _EPOCH + datetime.timedelta(seconds=seconds)


_EPOCH = datetime.datetime(1970, 1, 1)


def _all_seconds(raw: Sequence[Any]) -> Floats:
    """Times as seconds since 1970, NaN where there is none; those of the library's own form are read together."""
    texts = [str(text or "NaT").removesuffix("+00:00") for text in raw]
    if all(text == "NaT" or _PLAIN_TIME.fullmatch(text) for text in dict.fromkeys(texts)):
        moments = np.array(texts, "datetime64[us]")
        seconds: Floats = moments.astype(np.int64) / 1e6
        seconds[np.isnat(moments)] = np.nan
        return seconds
    return np.fromiter(map(_seconds, raw), np.float64, len(raw))


def _seconds(text: Any) -> float:
    if text is None or text == "":
        return float("nan")
    moment = datetime.datetime.fromisoformat(str(text))
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    return (moment - _EPOCH).total_seconds()
