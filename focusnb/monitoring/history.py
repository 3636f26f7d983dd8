"""Sessions that were: when, how many images, how good; and the present one against those of the last month.

A record for each session is kept for the user, outside the projects, so that a microscope's sessions are found
together: ``~/.local/state/focusnb/sessions/``.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.io import files
from focusnb.monitoring.session import Session
from focusnb.monitoring.settings import PublishSettings
from focusnb.project.project import Project

BREAK = 8 * 3600.0
"""Seconds without an image after which another session begins."""

MONTH = 30 * 86400.0


def history_folder() -> Path:
    """Where the records of sessions are kept."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "focusnb" / "sessions"


def describe_session(session: Session) -> dict[str, Any] | None:
    """The session that goes on, or the last one: begin, end, counts and medians; None where there is no image."""
    if len(session.time) == 0:
        return None
    breaks = np.flatnonzero(np.diff(session.time) > BREAK)
    first = int(breaks[-1]) + 1 if len(breaks) else 0
    return _describe(session, slice(first, len(session.time)))


def all_sessions(session: Session) -> list[dict[str, Any]]:
    """Every session of a project, the oldest first."""
    if len(session.time) == 0:
        return []
    breaks = [*(np.flatnonzero(np.diff(session.time) > BREAK) + 1).tolist(), len(session.time)]
    return [_describe(session, slice(a, b)) for a, b in zip([0, *breaks[:-1]], breaks, strict=True)]


def _describe(session: Session, where: slice) -> dict[str, Any]:
    status = session.texts("status")[where]
    usable = int(session.usable()[where].sum())
    begin, end = float(session.time[where.start]), float(session.time[where.stop - 1])
    medians = {}
    for name in session.specs:
        values = session.values(name)[where]
        finite = values[np.isfinite(values)]
        if len(finite):
            medians[name] = float(np.median(finite))
    hours = (end - begin) / 3600
    return {
        "begin": begin,
        "end": end,
        "images": len(status),
        "usable": usable,
        "failed": sum(text in ("failed", "broken") for text in status),
        "images_per_hour": round((len(status) - 1) / hours, 1) if hours > 0 else None,
        "medians": medians,
    }


def keep(project: Project, settings: PublishSettings, session: Session) -> None:
    """Write the records of a project's sessions."""
    folder = history_folder()
    folder.mkdir(parents=True, exist_ok=True)
    name = microscope_of(project, settings, session)
    identity = re.sub(r"\W", "", str(project.settings.get("id", project.name)))
    written = set()
    for described in all_sessions(session):
        stamp = datetime.datetime.fromtimestamp(described["begin"], datetime.UTC).strftime("%Y%m%d-%H")
        record = {"project": project.name, "folder": str(project.folder), "microscope": name, **described}
        path = folder / f"{identity}-{stamp}.json"
        if not path.is_file() or _read(path) != record:
            files.write_json(path, record)
        written.add(path)
    for path in folder.glob(f"{identity}-*.json"):
        if path not in written:  # began otherwise before images of it came late
            path.unlink(missing_ok=True)


def microscope_of(project: Project, settings: PublishSettings, session: Session) -> str:
    """What the microscope is called: by the owner, or else by the metadata of the last image."""
    if settings.microscope or len(session.ids) == 0:
        return settings.microscope
    row = session.rows([int(session.ids[-1])]).get(int(session.ids[-1]), {})
    return str(row.get("microscope") or "")


def past_sessions(microscope: str | None = None, *, since: float = 0.0) -> list[dict[str, Any]]:
    """Records of sessions that ended after a time, the oldest first; of one microscope, or of all."""
    found = [record for path in sorted(history_folder().glob("*.json")) if (record := _read(path)) is not None]
    kept = [r for r in found if r["end"] >= since and (microscope is None or r["microscope"] == microscope)]
    return sorted(kept, key=lambda record: record["begin"])


def compare(
    records: Sequence[Mapping[str, Any]], present: Mapping[str, Any] | None, *, folder: Path
) -> dict[str, Any] | None:
    """The present session of a project against recorded ones, its own record left out; None where there are none."""
    if present is None:
        return None
    own = str(folder)
    others = [r for r in records if not (r["folder"] == own and abs(r["begin"] - present["begin"]) < BREAK)]
    return {"sessions": len(others), "quantities": _against(others, present)} if others else None


def _against(others: Sequence[Mapping[str, Any]], present: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    told = {}
    for name, value in present["medians"].items():
        values = [record["medians"][name] for record in others if name in record["medians"]]
        if values:
            low, middle, high = (float(v) for v in np.percentile(values, (10, 50, 90)))
            told[name] = {"present": value, "low": low, "median": middle, "high": high}
    return told


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["begin"], record["end"], record["medians"], record["microscope"], record["folder"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # of another version, or damaged: the others still tell
    return dict(record)
