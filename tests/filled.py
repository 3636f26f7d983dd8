"""Projects whose library holds processed exposures, written directly: in milliseconds, and with any values."""

from __future__ import annotations

import atexit
import random
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from focusnb.project import schema
from focusnb.project.project import Project

QUALITIES = ("ok", "ok", "ok", "poor", "failed")


def filled_project(folder: Path, count: int, *, mode: str = "single-particle", seed: int = 1) -> Project:
    """A new project with so many exposures in groups square_1 to square_12; every tenth has not been processed."""
    shutil.copytree(_template(count, mode, seed), folder)
    return Project.open(folder)


@cache
def _template(count: int, mode: str, seed: int) -> Path:
    """A project filled once; each test's project is a copy."""
    folder = Path(tempfile.mkdtemp(prefix="focusnb-filled-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with Project.create(folder / "project", mode=mode) as project:
        draws = ((number, random.Random(seed * 1_000_003 + number)) for number in range(1, count + 1))
        write_rows(project, (plausible(number, draw) for number, draw in draws))
        project.library.checkpoint()
    return folder / "project"


def plausible(number: int, draw: random.Random) -> dict[str, Any]:
    """The row of an exposure as a session leaves it."""
    name = f"grid_{number}"
    row: dict[str, Any] = {
        "id": number,
        "exposure": name,
        "group": f"square_{1 + number % 12}",
        "status": "new",
        "folder": f"exposures/camera/{name}",
        "source": f"/camera/{name}.tif",
        "imported_at": f"2026-03-04T{number // 360 % 24:02d}:{number // 6 % 60:02d}:00.000+00:00",
        "recorded_at": f"2026-03-04T{number // 360 % 24:02d}:{number // 6 % 60:02d}:{number % 6 * 10:02d}",
        "pixel_size": 0.83,
        "voltage": 300.0,
        "frame_count": 40,
    }
    if number % 10 == 0:
        return row
    if number % 37 == 0:
        return row | {"status": "failed", "reason": "the gain reference is 4092 × 5760, the movie 5760 × 4092; turn it"}
    defocus = draw.uniform(6_000, 24_000)
    quality = draw.choice(QUALITIES)
    return row | {
        "status": "done",
        "processed_at": row["imported_at"],
        "defocus_u": defocus,
        "defocus_v": defocus - draw.uniform(0, 600),
        "astigmatism": draw.uniform(0, 600),
        "astigmatism_angle": draw.uniform(-90, 90),
        "ctf_fit_resolution": draw.lognormvariate(1.3, 0.25),
        "ctf_score": draw.uniform(0.05, 0.4),
        "ctf_quality": quality,
        "mean_counts": draw.gauss(0.6, 0.02),
        "dose_per_frame_used": 1.25,
        "drift": draw.lognormvariate(1.0, 0.6),
        "motion_total": draw.lognormvariate(2.0, 0.5),
        "motion_early": draw.lognormvariate(1.2, 0.5),
        "iciness": draw.lognormvariate(-0.3, 0.2),
        "ice_ring_excess": draw.gauss(1, 1),
        "quality_flags": "poor ctf" if quality == "failed" else "",
    }


def write_rows(project: Project, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to the library in one transaction; columns of findings and facts by their names."""
    own = {column.name for column in schema.exposures.c}
    with project.library.write() as transaction:
        for row in rows:
            base = {name: value for name, value in row.items() if name in own}
            transaction.execute(schema.exposures.insert().values(**base, revision=transaction.revision))
            found = {name: value for name, value in row.items() if name not in own}
            if found:
                transaction.update_exposure(row["id"], found)


def change_rows(project: Project, changes: Mapping[int, Mapping[str, Any]]) -> None:
    """Set columns of exposures, as the processor does when it stores a result."""
    with project.library.write() as transaction:
        for identity, values in changes.items():
            transaction.update_exposure(identity, values)


def remove_rows(project: Project, ids: Iterable[int]) -> None:
    """Delete exposures, leaving tombstones."""
    e = schema.exposures
    with project.library.write() as transaction:
        for identity in ids:
            transaction.execute(e.delete().where(e.c.id == identity))
            transaction.bury("exposures", identity)
