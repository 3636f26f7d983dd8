"""The project an app is asked to show; one that cannot be opened is told in its place."""

from __future__ import annotations

import os

import ipywidgets as widgets

from focusnb.apps.settings import PROJECT_VARIABLE
from focusnb.errors import FocusError, ParameterError
from focusnb.panels.messages import message
from focusnb.panels.theme import Theme
from focusnb.project.project import Project

Named = Project | str | os.PathLike[str]


def named_project() -> str:
    """The folder of the project this page was started for; ParameterError where it was started by hand without one."""
    folder = os.environ.get(PROJECT_VARIABLE, "")
    if not folder:
        raise ParameterError(
            f"no project is named for this page; start it with 'focusnb dash PROJECT', or set {PROJECT_VARIABLE}"
        )
    return folder


class NotOpened:
    """What an app shows in place of a project that cannot be opened: why, and the cure."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.widget = widgets.VBox([Theme(), widgets.HTML(message("failed", reason))])
        self.widget.add_class("fnb")
        self.widget.add_class("fnb-panel")

    def close(self) -> None:
        """Take the widgets away."""
        self.widget.close()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)


def open_named(project: Named) -> Project | NotOpened:
    """An open project from one, or from a folder's name."""
    if isinstance(project, Project):
        return project
    try:
        return Project.open(project)
    except FocusError as error:
        return NotOpened(str(error))
    except OSError as error:
        return NotOpened(f"{project}: {error.strerror or error}; check that its disk is mounted, then load this again")
