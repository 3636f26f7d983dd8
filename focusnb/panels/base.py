"""What every panel is: a widget that shows a project, follows its changes and says what is wrong in its own place."""

from __future__ import annotations

import contextlib
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import ipywidgets as widgets

from focusnb.errors import FocusError
from focusnb.panels import messages
from focusnb.panels.polling import Health, Poller, poller
from focusnb.panels.theme import Theme
from focusnb.project.browsing.rows import Changed
from focusnb.project.project import Project


class Panel(ABC):
    """A part of a page. A subclass makes its widgets in ``__init__``, puts them into ``body`` and calls ``start``.

    ``widget`` is what is shown: the notices of the project where the panel stands ``alone``, its own messages, the
    body. In a page of several panels one alone brings the notices.
    """

    def __init__(self, project: Project, *, alone: bool = True) -> None:
        self.project = project
        self.alone = alone
        self._poller: Poller | None = None
        self._notices = messages.MessageBox()
        self._messages = messages.MessageBox()
        self._refresh_failed = False
        self.body = widgets.VBox()
        self.widget = widgets.VBox([Theme(), self._notices.widget, self._messages.widget, self.body])
        self.widget.add_class("fnb")
        self.widget.add_class("fnb-panel")

    # For subclasses

    @abstractmethod
    def refresh(self, changes: Changed | None) -> None:
        """Show what changed; None means all anew."""

    def start(self) -> None:
        """Follow the project: refreshes at once, and whenever something changes."""
        if self._poller is None:
            self._poller = poller(self.project)
            self._poller.join(self)

    def poke(self) -> None:
        """Look at the project now, so that what the user has just written is seen at once."""
        if self._poller is not None:
            self._poller.poke()

    def tell(self, kind: messages.Kind, text: str, details: str = "") -> None:
        """Say one sentence with the cure, in the panel, until something else is said or done."""
        self._messages.show(messages.message(kind, text, details))

    def quiet(self) -> None:
        """Take back what was said."""
        self._messages.clear()

    @contextlib.contextmanager
    def guard(self, doing: str) -> Iterator[None]:
        """Do what the user asked for; what goes wrong is said in the panel. ``doing`` completes "cannot ..."."""
        try:
            yield
        except Exception as error:
            self.tell("failed", *explain(error, doing))
        else:
            self.quiet()

    @property
    def health(self) -> Health:
        """How the project is."""
        return Health() if self._poller is None else self._poller.health

    # For the poller

    def deliver(self, changes: Changed | None) -> bool:
        """Refresh; what goes wrong is said in the panel, and taken back when it goes right again."""
        try:
            self.refresh(changes)
        except Exception as error:
            self._refresh_failed = True
            if self.health.stale is None:  # which says it already
                self.tell("failed", *explain(error, "show the present state"))
            return False
        if self._refresh_failed:
            self._refresh_failed = False
            self.quiet()
        return True

    def tell_health(self, health: Health) -> None:
        """Show how the project is; a subclass may add to it."""
        if self.alone:
            told = (messages.message(n.kind, n.text, n.details, drawing=n.drawing) for n in health.notices)
            self._notices.show(*told)

    @property
    def is_gone(self) -> bool:
        """Whether the widget was closed without the panel being asked."""
        return self.widget.comm is None

    # Life

    def close(self) -> None:
        """Follow the project no more and take the widgets away."""
        if self._poller is not None:
            self._poller.leave(self)
            self._poller = None
        for widget in _all_of(self.widget):
            widget.close()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)


def explain(error: Exception, doing: str) -> tuple[str, str]:
    """A sentence and details of what went wrong. What focusnb raises on purpose is a sentence with its cure already."""
    if isinstance(error, FocusError):
        return str(error), ""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"Cannot {doing}: {where}{error.strerror}. Check the disk and the permissions, then try again.", ""
    text = f"Cannot {doing}: a fault of focusnb ({type(error).__name__}). Try again; if it stays, report the details."
    return text, "".join(traceback.format_exception(error))


def _all_of(widget: Any) -> Iterator[Any]:
    for child in getattr(widget, "children", ()):
        yield from _all_of(child)
    yield widget
