"""Where the files of pages lie: in a checkout beside the package, else where an installation put them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from focusnb.errors import ProgramMissing

_INSTALLED = {
    "template": "share/jupyter/voila/templates/focusnb/index.html.j2",
    "explorer.ipynb": "share/focusnb/dashboards/explorer.ipynb",
    "monitor.ipynb": "share/focusnb/dashboards/monitor.ipynb",
}


def page_file(name: str) -> Path:
    """The folder ``template`` or the notebook of a page, by name; ProgramMissing where it was not installed."""
    beside = Path(__file__).resolve().parents[2] / "dashboards" / name
    if beside.exists():
        return beside
    for file in metadata.files("focusnb") or ():
        if str(file).endswith(_INSTALLED[name]):
            found = Path(str(file.locate())).resolve()
            if found.exists():
                return found.parent if name == "template" else found
    raise ProgramMissing(f"the page files of focusnb ({_INSTALLED[name]}) are missing; install focusnb again")
