"""What can go wrong, by name. Every message names the file or value, both numbers and the cure."""

from __future__ import annotations


class FocusError(Exception):
    """Anything focusnb raises on purpose; its text is written for the user."""


class FormatError(FocusError):
    """A file does not hold what its format promises."""


class ParameterError(FocusError):
    """A value is unknown, missing, of the wrong type or outside its limits."""


class StepError(FocusError):
    """This exposure cannot be processed by this step; others can."""


class ProgramMissing(FocusError):
    """An external program or an optional library is not installed."""


class ProjectError(FocusError):
    """A project cannot be opened, written or processed."""


class ResourceError(FocusError):
    """The machine, not the exposure, stands in the way: disk full, not writable, no memory. Trying again is right."""
