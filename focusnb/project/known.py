"""What was imported before, as an import remembers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from focusnb.project import facts as fact_rules
from focusnb.project import schema


@dataclass
class Known:
    """What was imported from a source: its id and name, its folder, and the raw file within it."""

    id: int
    exposure: str
    folder: str
    raw: str | None
    content: str
    metadata: str | None
    source: str


def told_by(candidates: fact_rules.Candidates) -> str | None:
    """The metadata file of an exposure, None where it says nothing of it."""
    if not any("metadata" in origins for origins in candidates.values()):
        return None
    return str(candidates.get("metadata", {}).get("header") or "") or None


def rows() -> sa.Select[Any]:
    """What is known of exposures, in the order in which they were imported."""
    e = schema.exposures.c
    raw, metadata = sa.literal_column("COALESCE(movie, image)"), sa.literal_column("metadata")
    return sa.select(e.id, e.exposure, e.folder, raw, e.content, metadata, e.source).order_by(e.id)


COUNTED = ("frame_count", "hardware_frames", "height", "width")
"""Facts that tell how many frames a movie has, and of which size."""


def frame_counts() -> sa.Select[Any]:
    """Of what was imported before, where it came from and how many frames of which size it has."""
    e = schema.exposures.c
    return sa.select(e.source, *map(sa.literal_column, COUNTED)).where(e.source.is_not(None))
