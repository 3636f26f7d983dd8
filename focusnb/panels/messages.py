"""What a panel has to say besides its data: one sentence with the cure, details folded."""

from __future__ import annotations

import html
from typing import Literal

import ipywidgets as widgets

from focusnb.panels.theme import icon

Kind = Literal["info", "warning", "failed"]

_ICONS = {"info": "info", "warning": "alert", "failed": "alert"}


def message(kind: Kind, text: str, details: str = "", *, drawing: str = "") -> str:
    """A message as HTML. ``details`` are folded; ``drawing`` names an icon in place of the kind's own."""
    role = "alert" if kind == "failed" else "status"
    folded = f"<details><summary>Details</summary><pre>{html.escape(details)}</pre></details>" if details else ""
    return (
        f'<div class="fnb-message" data-kind="{kind}" role="{role}">{icon(drawing or _ICONS[kind])}'
        f"<div>{html.escape(text)}{folded}</div></div>"
    )


def empty(text: str, command: str = "", *, drawing: str = "table") -> str:
    """What stands where data will stand, as HTML: what is missing, and the command that brings it."""
    code = f"<code>{html.escape(command)}</code>" if command else ""
    return f'<div class="fnb-empty" role="status">{icon(drawing)}<div>{html.escape(text)}</div>{code}</div>'


class MessageBox:
    """A place for messages, which takes no room while there are none."""

    def __init__(self) -> None:
        self.widget = widgets.HTML()
        self.widget.add_class("fnb-messages")
        self.clear()

    def show(self, *messages: str) -> None:
        """Show these instead of what was shown before; made by :func:`message` or :func:`empty`."""
        text = "".join(messages)
        if text != self.widget.value:  # else details that somebody has unfolded would fold again
            self.widget.value = text
        self.widget.layout.display = "" if text else "none"

    def clear(self) -> None:
        """Show none."""
        self.show()

    @property
    def text(self) -> str:
        """What is shown, as HTML."""
        return str(self.widget.value)
