"""What a project's owner decided about showing it: declared, and kept in the project's ``monitoring`` folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from focusnb.errors import ProjectError
from focusnb.io import files
from focusnb.parameters import Declared, quantity

FOLDER = "monitoring"
"""Folder of a project that holds settings, alerts and their pictures."""

FILE_NAME = "publish.json"

Title = Annotated[str, quantity("Title", group="Shown", help="Of the page; empty shows no name but the microscope's.")]
MicroscopeName = Annotated[
    str, quantity("Microscope", group="Shown", help="Its sessions are compared; empty takes what the metadata say.")
]
Blur = Annotated[
    float,
    quantity(
        "Blur",
        unit="Å",
        group="Shown",
        ge=0,
        precision=0,
        help="Nothing finer than this is left in published images; 0 publishes them as they are.",
    ),
]
ShowNames = Annotated[
    bool, quantity("Names", group="Shown", help="Of exposures, squares, holes and files; the project's too.")
]
ShowPictures = Annotated[bool, quantity("Images", group="Shown", help="The last image before and after correction.")]
ShownPreviews = Annotated[
    int,
    quantity(
        "Previews",
        unit="images",
        group="Shown",
        ge=0,
        le=20_000,
        help="The last ones, shown small and blurred alike to whoever points at them; about 3 kB each. 0 shows none.",
    ),
]
ShowSpectra = Annotated[
    bool, quantity("Spectra", group="Shown", help="Spectra, CTF rings and the trajectory of the last image.")
]
ShowFailures = Annotated[bool, quantity("Failures", group="Shown", help="How many failed, and why in plain words.")]
ShowGrid = Annotated[bool, quantity("Grid", group="Shown", help="Where on the grid images were taken, with values.")]
Hours = Annotated[
    float, quantity("Hours in full", unit="h", group="Shown", gt=0, le=168, help="What is older is shown as medians.")
]
Refresh = Annotated[
    float, quantity("Refresh", unit="s", group="Publishing", ge=2, le=3600, help="Between two published states.")
]


class PublishSettings(Declared):
    """What is shown to the outside, and how often."""

    title: Title = ""
    microscope: MicroscopeName = ""
    blur: Blur = 200.0
    names: ShowNames = False
    pictures: ShowPictures = True
    previews: ShownPreviews = 2000
    spectra: ShowSpectra = True
    failures: ShowFailures = True
    grid: ShowGrid = True
    hours: Hours = 24.0
    refresh: Refresh = 30.0


LeastSeconds = Annotated[float, quantity("Between messages", unit="s", ge=0, help="At least, whatever happens.")]
MostPerHour = Annotated[int, quantity("Messages in an hour", unit="", ge=1, help="More are told together.")]
Remind = Annotated[float, quantity("Remind after", unit="min", ge=0, help="Until acknowledged; 0 does not remind.")]
WithPicture = Annotated[bool, quantity("With a picture", help="A plot of the quantity and its limit.")]
TellRecovery = Annotated[bool, quantity("Tell recovery", help="A message when it is well again.")]
TimeOut = Annotated[float, quantity("Time-out", unit="s", gt=0, le=300, advanced=True)]


class DeliverySettings(Declared):
    """How often messages are sent."""

    least_seconds: LeastSeconds = 60.0
    most_per_hour: MostPerHour = 12
    remind: Remind = 60.0
    picture: WithPicture = True
    recovery: TellRecovery = True
    timeout: TimeOut = 30.0


def monitoring_folder(project_folder: Path) -> Path:
    """The folder of settings and alerts within a project."""
    return project_folder / FOLDER


def read_publishing(project_folder: Path) -> tuple[PublishSettings, tuple[str, ...]]:
    """The settings of a project, and where its serving process publishes; defaults and nowhere where none are kept."""
    path = monitoring_folder(project_folder) / FILE_NAME
    kept = read_json(path)
    values, targets = kept.get("settings", {}), kept.get("targets", [])
    if not isinstance(values, dict) or not isinstance(targets, list):
        raise ProjectError(f"{path}: settings are no table or targets no list; correct or remove it")
    return PublishSettings.read(values)[0], tuple(str(target) for target in targets)


def write_publishing(project_folder: Path, settings: PublishSettings, targets: tuple[str, ...]) -> None:
    """Keep settings and targets in the project; a serving process takes them at its next snapshot."""
    path = monitoring_folder(project_folder) / FILE_NAME
    path.parent.mkdir(exist_ok=True)
    # others may look at a session, but not at a password in an address
    write = write_private_json if any(shown_address(target) != target for target in targets) else files.write_json
    write(path, {"settings": settings.model_dump(exclude_defaults=True), "targets": list(targets)})


def shown_address(address: str) -> str:
    """The address of a target as it may be shown, without its password."""
    # a password may hold what should have been written as %2F; a number after the colon is the port
    return re.sub(r"(://[^/@:]*:)(?!\d+/).*@", r"\1****@", address)


def read_json(path: Path) -> dict[str, Any]:
    """A small file of settings; empty where there is none. ProjectError where it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ProjectError(f"{path}: cannot be read ({error}); correct or remove it") from error
    if not isinstance(found, dict):
        raise ProjectError(f"{path}: holds no table of settings; correct or remove it")
    return found


def write_private_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file that only its owner may read: addresses of messages hold passwords."""
    path.parent.mkdir(exist_ok=True)
    with files.atomic_path(path) as part:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


Tell = Callable[[str], None]
"""Takes a sentence for whoever watches."""
