"""The look: the one style sheet, icons, states and flags for pages made of widgets."""

from __future__ import annotations

import html
import json
from functools import cache
from pathlib import Path

import anywidget

from focusnb.errors import ProgramMissing
from focusnb.panels import STATIC


def bundle(name: str) -> Path:
    """A file of the front end; ProgramMissing where focusnb was installed without it."""
    path = STATIC / name
    if not path.is_file():
        raise ProgramMissing(
            f"{path}: is missing, so that no panel can be shown; install focusnb again ('pip install -e .' in a "
            "checkout), which bundles the widgets' JavaScript"
        )
    return path


def styles() -> str:
    """The style sheet as text, for pages that are not made of widgets."""
    return bundle("theme.css").read_text()


class Theme(anywidget.AnyWidget):
    """Brings the style sheet into whatever document it is shown in; nothing is drawn."""

    _esm = bundle("theme.mjs")


@cache
def _drawings() -> dict[str, str]:
    return dict(json.loads(bundle("icons.json").read_text()))


def icon(name: str, title: str = "") -> str:
    """An icon as HTML, by its name in ``frontend/src/common/icons.json``; give a title where no words stand beside it.

    Raises KeyError for a name that is not there.
    """
    drawing = _drawings()[name]
    if not title:
        return drawing
    words = html.escape(title)
    return f'<span role="img" aria-label="{words}" title="{words}">{drawing}</span>'


def state(name: str, word: str = "") -> str:
    """A state as HTML, with its shape and its word: new, queued, running, done, warning, failed or broken."""
    drawing = _drawings().get(f"state-{name}", _drawings()["state-new"])
    return f'<span class="fnb-state" data-state="{html.escape(name)}">{drawing}{html.escape(word or name)}</span>'


def flag(name: str | None) -> str:
    """A flag as HTML in its colour and shape: red, green, blue, gold or none."""
    words = f"flagged {name}" if name else "no flag"
    drawing = _drawings().get(f"flag-{name or 'none'}", _drawings()["flag-none"])
    return f'<span class="fnb-flag" title="{html.escape(words)}">{drawing}</span>'
