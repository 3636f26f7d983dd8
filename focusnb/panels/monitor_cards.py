"""What is told of a microscope at a glance, as plain data: its state, its last image, its speed and what is wrong.

Times are told as seconds since 1970; the browser says them in the time of the device it runs on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from focusnb.monitoring.microscopes import Glance, Microscope
from focusnb.monitoring.quantities import WATCHED
from focusnb.monitoring.reasons import plain_reason

_NUMBER = re.compile(r"^\[Errno \d+\] ")
_ODD = re.compile(r":? ['\"]?…['\"]?$")

_WORDS = {"empty": "No image yet", "unreachable": "Not reachable"}

_SHAPES = {"ok": "done", "idle": "queued", "warning": "warning", "bad": "failed"}


def waiting_card(name: str) -> dict[str, Any]:
    """A microscope that was not looked at yet."""
    return {**_EMPTY, "name": name, "word": "Looking", "level": "idle", "shape": "new"}


def card(glance: Glance, microscope: Microscope) -> dict[str, Any]:
    """A microscope as it was seen.

    word, since : the state, and since when where that matters; headline : what is wrong while images come;
    level : ok, idle, warning or bad; shape : the drawing that goes with it; sentence : what more there is to say;
    last_image, made_at, valid_until : s since 1970; rate : images/h; usable : part of the processed images;
    alerts : the open ones, severe ones first; picture : the last image; values : medians of the last images of what is
    watched; was : the state before nothing was heard any more
    """
    told = {**_EMPTY, "name": glance.name, "word": _word(glance.word), "level": glance.level}
    told["shape"] = _SHAPES[glance.level]
    if glance.snapshot is None:
        return {**told, "sentence": _reason(glance.sentence, microscope)}
    status = glance.snapshot.status
    state, counts = status["state"], status["counts"]
    # the browser follows this host's clock
    made_at, last = glance.here(glance.snapshot.made_at), state["last_image"]
    last = None if last is None else glance.here(last)
    told |= {
        "subtitle": next(
            (text for text in (status["title"], status["microscope"]) if text not in ("", glance.name)), ""
        ),
        "sentence": _sentence(state["sentence"]),
        "last_image": last,
        "made_at": made_at,
        "valid_until": glance.here(status["valid_until"]),
        "images": counts["images"],
        "rate": status["speed"]["recording"],
        "usable": counts["usable"] / counts["processed"] if counts["processed"] else None,
        "alerts": _alerts(status),
        "headline": _headline(status),
        "picture": _picture(status),
        "values": [_value(name, status["quantities"][name]) for name in WATCHED if name in status["quantities"]],
        "was": _word(state["word"]),
    }
    if glance.word in ("idle", "stopped"):
        told["since"] = last
    elif glance.word in ("stale", "unreachable"):
        told["since"] = made_at
    if glance.word == "unreachable":
        told["sentence"] = _reason(glance.sentence.partition(": ")[2], microscope)
    return told


_EMPTY: dict[str, Any] = {
    "name": "",
    "subtitle": "",
    "word": "",
    "since": None,
    "headline": "",
    "level": "idle",
    "shape": "new",
    "sentence": "",
    "was": "",
    "last_image": None,
    "made_at": None,
    "valid_until": None,
    "images": 0,
    "rate": None,
    "usable": None,
    "alerts": [],
    "picture": None,
    "values": [],
}


def _word(word: str) -> str:
    return _WORDS.get(word, word.capitalize())


def _sentence(sentence: str) -> str:
    """A sentence without the state's word, which stands above it."""
    head, colon, rest = sentence.partition(": ")
    rest = rest if colon and " " not in head else sentence
    return rest[:1].upper() + rest[1:]


def _reason(reason: str, microscope: Microscope) -> str:
    """Why a microscope cannot be seen, without the folders and addresses that it is read from."""
    places = [str(place) for place in (microscope.project, microscope.published) if place is not None]
    return _ODD.sub("", plain_reason(_NUMBER.sub("", reason), places))


def _alerts(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    kept = ("id", "sentence", "hint", "began", "severe", "state", "undelivered")
    open_alerts = [alert for alert in status["alerts"] if alert["recovered"] is None]
    return [{name: alert[name] for name in kept} for alert in sorted(open_alerts, key=lambda a: not a["severe"])]


def _headline(status: Mapping[str, Any]) -> str:
    """What nobody has seen to yet, in a few words."""
    new = [alert for alert in _alerts(status) if alert["state"] == "new"]
    if not new:
        return ""
    first = str(new[0]["sentence"]).partition(": ")[0]
    return first if len(new) == 1 else f"{first}, and {len(new) - 1} more"


def _picture(status: Mapping[str, Any]) -> dict[str, Any] | None:
    """The last image, as it is after correction where there is one."""
    images = [p for p in status["pictures"] if p["kind"] == "image" and p["file"] is not None]
    if not images:
        return None
    kept = ("file", "label", "width", "height", "blurred_to")
    return {**{name: images[-1].get(name) for name in kept}, "time": status["pictures_of"]["time"]}


def _value(name: str, quantity: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("label", "unit", "precision", "low", "high")
    return {"name": name, "value": quantity["present"], **{key: quantity[key] for key in kept}}
