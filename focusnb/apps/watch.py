"""The monitor: all microscopes at a glance, and one in depth."""

from __future__ import annotations

import os
from collections.abc import Sequence

from focusnb.apps.microscopes import find_microscopes
from focusnb.apps.opening import NotOpened
from focusnb.errors import FocusError
from focusnb.monitoring.microscopes import Microscope
from focusnb.panels.monitor import Monitor

Source = str | os.PathLike[str] | Microscope


def monitor(*sources: Source | Sequence[Source]) -> Monitor | NotOpened:
    """Show microscopes and follow them: TOML files, folders of projects, addresses of published sessions."""
    named: list[Source] = []
    for source in sources:
        named += [source] if isinstance(source, str | os.PathLike | Microscope) else source
    try:
        places = [source for source in named if not isinstance(source, Microscope)]
        ready = [source for source in named if isinstance(source, Microscope)]
        return Monitor([*ready, *(find_microscopes(places) if places or not ready else ())])
    except FocusError as error:
        return NotOpened(str(error))
    except OSError as error:
        return NotOpened(f"{error.filename}: {error.strerror or error}; check that its disk is mounted")
