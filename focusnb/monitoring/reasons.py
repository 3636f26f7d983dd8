"""Why exposures failed, in words that name no file, folder, host or sample."""

from __future__ import annotations

import re
from collections.abc import Iterable, Set

MASK = "…"
"""Stands for what is not told."""

_QUOTED = re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|«[^»]*»")
# names may hold spaces: from the first part of a path to the last one that has a stroke, all is hidden
_PATH = re.compile(r"(?<![\w.…/\\])(?:[A-Za-z]:)?[/\\][^:;,()]*[/\\][^\s:;,()]*")
_WORD = re.compile(r"[^\s,;()\[\]{}'\"«»]+")
_PLAIN = re.compile(r"[A-Za-zÅµ°²⁻×%–-]+[.:!?]*|[-+−]?\d+(\.\d+)?([ ×x/]\d+(\.\d+)?)?[.:%]*|[=<>≤≥±/&+–-]+:?")
_KEY = re.compile(r"\d+(\.\d+)?")


def hidden_words(names: Iterable[str]) -> frozenset[str]:
    """The words of names that must not be told: the names, and their parts."""
    known = {name.casefold() for name in names if name}
    parts = {part for name in known for part in re.split(r"[\s/\\_.:-]+", name) if len(part) > 1}
    return frozenset(known | parts)


def plain_reason(reason: str, names: Iterable[str] = ()) -> str:
    """Return a reason without names: a leading file is dropped, other paths, what is quoted and odd words become ``…``.

    names : words that must not be told, such as the parts of an exposure's name and folder

    What is neither an ordinary word nor a number is left out rather than told.
    """
    return without(reason, hidden_words(names))


def without(reason: str, hidden: Set[str]) -> str:
    """The same for many reasons, ``hidden`` being what :func:`hidden_words` made of the names."""
    head, colon, rest = reason.partition(": ")
    if colon and rest and (" " not in head.strip() or "/" in head or head.casefold() in hidden):
        reason = rest
    reason = _PATH.sub(MASK, _QUOTED.sub(MASK, reason))
    told = _WORD.sub(lambda found: _word(found[0], hidden), reason)
    told = re.sub(rf"{MASK}(\s+{MASK})+", MASK, " ".join(told.split()))
    return told[:1].upper() + told[1:]


def reason_key(told: str) -> str:
    """Return what two reasons share that differ in their numbers only."""
    return _KEY.sub("#", told)


def _word(word: str, hidden: Set[str]) -> str:
    bare = word.rstrip(".:!?").casefold()
    parts = [part for part in re.split(r"[-–]", bare) if part]
    if bare in hidden or any(part in hidden for part in parts) or not _PLAIN.fullmatch(word):
        return MASK + (word[-1] if word[-1] in ".:" and not word.endswith("..") else "")
    return word
