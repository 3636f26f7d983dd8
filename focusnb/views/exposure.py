"""What is known of one exposure, read once: its row with what was set by hand, and the runs that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.parameters import Spec
from focusnb.project import facts, records, schema
from focusnb.steps.base import FACTS
from focusnb.views.values import MISSING, Shown, is_missing, micrometres, show

if TYPE_CHECKING:
    from focusnb.project.project import Project

STATES = {
    "new": "not processed yet",
    "queued": "waiting in the queue",
    "running": "being processed",
    "done": "done",
    "failed": "failed",
    "broken": "broken",
}
"""The status of an exposure in words."""


@dataclass(frozen=True)
class Override:
    """A finding set by hand: what, by whom and when."""

    value: Any
    who: str
    at: str


@dataclass(frozen=True)
class ExposureRecord:
    """One exposure as its row in the library had it.

    values : facts and findings in force by name, those set by hand included; what is empty is left out
    measured : findings as steps found them
    facts : the value of every fact by origin
    current : the last run of each step, by the step's name
    overrides : what is set by hand, by name
    folder : where its products are
    """

    id: int
    name: str
    group: str
    status: str
    reason: str
    flag: str
    comment: str
    folder: Path
    values: Mapping[str, Any]
    measured: Mapping[str, Any]
    facts: Mapping[str, Mapping[str, Any]]
    current: Mapping[str, Mapping[str, Any]]
    overrides: Mapping[str, Override] = field(default_factory=dict)


class Caption(NamedTuple):
    """A value below a picture: a short label, and the value with its unit."""

    label: str
    value: Shown
    by_hand: bool = False


def read_exposure(project: Project, exposure: int) -> ExposureRecord:
    """Read an exposure; ParameterError where there is none, ProjectError where the library cannot be read."""
    o = schema.overrides.c
    in_force = sa.select(o.name, o.value, o.who, o.at).where((o.exposure_id == exposure) & o.cleared_at.is_(None))
    with project.library.read() as connection:
        row = records.row_of(connection, int(exposure))
        overrides = {
            item.name: Override(item.value, item.who or "", item.at)
            for item in connection.execute(in_force.order_by(o.id))
        }
    declared = {name for name in project.specs() if name in row}
    measured = {name: row[name] for name in declared if not is_missing(row[name])}
    return ExposureRecord(
        id=int(row["id"]),
        name=str(row["exposure"]),
        group=row["group"] or "",
        status=row["status"] or "new",
        reason=row["reason"] or "",
        flag=row["flag"] or "",
        comment=row["comment"] or "",
        folder=project.folder / str(row["folder"]),
        values={**measured, **{name: item.value for name, item in overrides.items() if not is_missing(item.value)}},
        measured={name: value for name, value in measured.items() if name not in FACTS},
        facts=row["facts"],
        current=row["current"],
        overrides=overrides,
    )


def caption(record: ExposureRecord, specs: Mapping[str, Spec]) -> list[Caption]:
    """Return what is read first of an exposure: defocus, how far its CTF can be followed, and its drift."""
    u, v = record.values.get("defocus_u"), record.values.get("defocus_v")
    shown = [Caption("Defocus", micrometres(None if u is None or v is None else 0.5 * (u + v)))]
    if not is_missing(record.values.get("phase_shift")) and abs(record.values["phase_shift"]) >= 0.05:
        shown.append(Caption("Phase", show(specs["phase_shift"], record.values["phase_shift"])))
    for label, name in (("Fit", "ctf_fit_resolution"), ("Drift", "drift"), ("Iciness", "iciness")):
        if name in specs:
            shown.append(Caption(label, show(specs[name], record.values.get(name)), name in record.overrides))
    by_hand = {"defocus_u", "defocus_v"} & set(record.overrides)
    shown[0] = shown[0]._replace(by_hand=bool(by_hand))
    return [item for item in shown if item.value.text != MISSING]


def step_title(project: Project, name: str) -> str:
    """The title of a step; its name where it cannot be loaded any more, or is not trusted."""
    try:
        return project.step(name).title
    except ParameterError:
        return name


def origin_in_words(origin: str) -> str:
    """Where a fact comes from, in words."""
    words = {
        "hand": "by hand",
        "set": "given at import",
        "profile": "microscope's profile",
        "metadata": "metadata",
        "name": "file name",
        "pattern": "file name",
        "header": "file header",
        "default": "assumed",
    }
    return words.get(origin, origin)


def facts_in_force(record: ExposureRecord) -> dict[str, tuple[Any, str]]:
    """The facts in force, by name: value and origin."""
    return facts.resolve({name: dict(origins) for name, origins in record.facts.items()})
