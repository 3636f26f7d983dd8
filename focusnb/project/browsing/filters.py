"""What people type to see some rows only, read by the type of the column.

=================  ============================================================================
typed              shown
=================  ============================================================================
``1.0..2.5``       numbers from 1.0 to 2.5; ``1.0..`` and ``..2.5`` are open on one side
``>3`` ``<=4``     numbers, times and texts above, at most ...
``3.2``            numbers that are 3.2 where rounded to as many digits
``2026-03-04``     times of this day; ``2026-03-04 17:30`` of this minute; also in ranges
``foil``           texts that hold these letters, capital or small
``=foil``          texts that are these letters
``failed, new``    choices (status, flag) that are one of these; ``none`` for rows without one
``!...``           rows the rest does not hold for; of numbers and times only those that have a value
``a | b``          rows that pass either
``=`` and ``!``    rows without a value, rows with one
=================  ============================================================================
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from focusnb.errors import ParameterError
from focusnb.project.browsing.columns import Bools, Column, Floats, Numbers, Words


class FilterError(ParameterError):
    """A filter that cannot be read; tells what can."""


@dataclass(frozen=True)
class Filter:
    """A filter as typed, and the test it stands for."""

    text: str
    test: Callable[[Column], Bools]


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})?\.\.(?P<high>{_NUMBER})?", re.IGNORECASE)
_BOUND = re.compile(rf"(?P<sign>>=|<=|>|<|=)?(?P<value>{_NUMBER})", re.IGNORECASE)
_SIGNS: dict[str, Callable[[Floats, float], Bools]] = {
    ">": lambda values, bound: values > bound,
    ">=": lambda values, bound: values >= bound,
    "<": lambda values, bound: values < bound,
    "<=": lambda values, bound: values <= bound,
}
_YES = {"yes": 1.0, "true": 1.0, "1": 1.0, "no": 0.0, "false": 0.0, "0": 0.0}

Test = Callable[[Column], Bools]
NumberTest = Callable[[Floats], Bools]


def parse_filter(text: str, column: Column) -> Filter:
    """Read a filter for a column; FilterError says what is wrong and gives an example."""
    tests = [_alternative(part.strip(), column) for part in text.split("|") if part.strip()]
    if not tests:
        raise FilterError(f"the filter of {column.spec.label} holds nothing but |; write {example(column)}")
    if len(tests) == 1:
        return Filter(text.strip(), tests[0])
    return Filter(text.strip(), lambda rows: np.logical_or.reduce([test(rows) for test in tests]))


def example(column: Column) -> str:
    """Filters a column understands, for hints and messages."""
    if isinstance(column, Words):
        choices = column.spec.choices
        return f"{choices[-1]}, {choices[0]} or !{choices[0]}" if choices else "letters it holds, =exactly or !not"
    return {"time": "2026-03-04 or 2026-03-04 12:00..2026-03-04 18:00", "yes": "yes or no"}.get(
        column.kind, "1.0..2.5, >3 or <=4"
    )


def _alternative(text: str, column: Column) -> Test:
    free = isinstance(column, Words) and not column.spec.choices  # where 'empty' is a word like any other
    if text == "=" or (not free and text.casefold() in ("empty", "none")):
        return lambda rows: rows.empty()
    if text in ("!", "!=") or (not free and text.casefold() == "not empty"):
        return lambda rows: ~rows.empty()
    negated = text.startswith("!")
    test = _plain(text.removeprefix("!").strip(), column)
    if not negated:
        return test
    if isinstance(column, Words):
        return lambda rows: ~test(rows)
    return lambda rows: ~test(rows) & ~rows.empty()


def _plain(text: str, column: Column) -> Test:
    if isinstance(column, Words):
        return _choices(text, column) if column.spec.choices else _letters(text)
    test = {"time": _times, "yes": _yes_or_no}.get(column.kind, _numbers)(text, column)
    return lambda rows: test(_values(rows))


def _values(column: Column) -> Floats:
    if not isinstance(column, Numbers):
        raise FilterError(f"{column.spec.label} holds text by now; write {example(column)}")
    return column.values


def _fault(text: str, column: Column) -> FilterError:
    return FilterError(f"'{text}' is no filter of {column.spec.label}; write for example {example(column)}")


def _numbers(text: str, column: Numbers) -> NumberTest:
    plain = text.replace("−", "-").replace("–", "-")
    if column.spec.unit:
        plain = re.sub(rf"(?<=[\d.\s]){re.escape(column.spec.unit)}$", "", plain)
    plain = "".join(plain.split())
    found = _RANGE.fullmatch(plain)
    if found and (found["low"] or found["high"]):
        low = float(found["low"]) if found["low"] else -np.inf
        high = float(found["high"]) if found["high"] else np.inf
        _check_range(low, high, f"{found['high']}..{found['low']}", text)
        return lambda values: (values >= low) & (values <= high)
    found = _BOUND.fullmatch(plain)
    if found is None:
        raise _fault(text, column)
    value, sign = float(found["value"]), found["sign"]
    if sign in _SIGNS:
        return lambda values: _SIGNS[sign](values, value)
    near = _half_digit(found["value"])
    return lambda values: np.abs(values - value) <= near


def _check_range(low: float, high: float, turned: str, text: str) -> None:
    if low > high:
        raise FilterError(f"'{text}' ends before it begins; write {turned}")


def _half_digit(written: str) -> float:
    """Half of the last digit written: 3.2 stands for 3.15 to 3.25."""
    mantissa, _, exponent = written.lower().partition("e")
    places = len(mantissa.partition(".")[2])
    return 0.5 * 10.0 ** (int(exponent or 0) - places) * (1 + 1e-9)


def _yes_or_no(text: str, column: Numbers) -> NumberTest:
    wanted = _YES.get(text.removeprefix("=").strip().casefold())
    if wanted is None:
        raise _fault(text, column)
    return lambda values: values == wanted


def _times(text: str, column: Numbers) -> NumberTest:
    if ".." in text:
        first, _, last = (part.strip() for part in text.partition(".."))
        if not first and not last:
            raise _fault(text, column)
        low = _moment(first, column, text)[0] if first else -np.inf
        begins, high = _moment(last, column, text) if last else (np.inf, np.inf)
        _check_range(low, begins, f"{last}..{first}", text)
        return lambda values: (values >= low) & (values < high)
    found = re.fullmatch(r"(>=|<=|>|<|=)?\s*(.+)", text)
    if found is None:
        raise _fault(text, column)
    begin, end = _moment(found[2], column, text)
    # 'after the 4th' begins when the 4th has ended, 'from the 4th on' when it begins
    tests: dict[str | None, NumberTest] = {
        ">": lambda values: values >= end,
        ">=": lambda values: values >= begin,
        "<": lambda values: values < begin,
        "<=": lambda values: values < end,
    }
    return tests.get(found[1], lambda values: (values >= begin) & (values < end))


_LENGTHS = {10: 86_400.0, 16: 60.0, 19: 1.0}
"""Seconds a time stands for, by the letters it is written with."""

_EPOCH = datetime.datetime(1970, 1, 1)


def _moment(written: str, column: Numbers, text: str) -> tuple[float, float]:
    try:
        begin = (datetime.datetime.fromisoformat(written) - _EPOCH).total_seconds()
        return begin, begin + _LENGTHS[len(written)]
    except (ValueError, TypeError, KeyError) as error:
        raise _fault(text, column) from error


def _choices(text: str, column: Words) -> Test:
    wanted: set[str] = set()
    empty = False
    words = {str(word).casefold() for word in (*column.spec.choices, *column.words)}
    for part in text.removeprefix("=").split(","):
        word = part.strip().casefold()
        if word == "none":
            empty = True
        elif word in words:
            wanted.add(word)
        elif word:
            near = difflib.get_close_matches(word, [*words, "none"], n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(words))} and none"
            raise FilterError(f"no {column.spec.label} is '{part.strip()}'{hint}")
    if not wanted and not empty:
        raise _fault(text, column)

    def test(rows: Column) -> Bools:
        passed = _words(rows).matching(wanted.__contains__)
        return passed | rows.empty() if empty else passed

    return test


def _letters(text: str) -> Test:
    if text.startswith("="):
        exact = text[1:].strip().casefold()
        return lambda rows: _words(rows).matching(exact.__eq__)
    letters = text.casefold()
    return lambda rows: _words(rows).matching(lambda word: letters in word)


def _words(column: Column) -> Words:
    if not isinstance(column, Words):
        raise FilterError(f"{column.spec.label} holds numbers by now; write {example(column)}")
    return column
