"""An exposure's overview as plain data and bytes, ready to be sent to whoever shows it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from focusnb.errors import FocusError
from focusnb.modes import Overview
from focusnb.views import details as detail
from focusnb.views import tiles
from focusnb.views.exposure import STATES, ExposureRecord, caption, read_exposure

if TYPE_CHECKING:
    from focusnb.project.project import Project


def head(project: Project, record: ExposureRecord) -> dict[str, Any]:
    """What stands above the views: name, status in words, flag, the values read first, what is wrong."""
    specs = project.specs()
    wrong = detail.failures(project, record)
    return {
        "id": record.id,
        "name": record.name,
        "group": record.group,
        "status": record.status,
        "word": STATES.get(record.status, record.status),
        "flag": record.flag,
        "comment": record.comment,
        "remark": str(record.values.get("quality_remark") or ""),
        "values": [
            {"label": item.label, "text": item.value.text, "unit": item.value.unit, "by_hand": item.by_hand}
            for item in caption(record, specs)
        ],
        "failure": {k: v for k, v in asdict(wrong[0]).items() if k != "traceback"} if wrong else None,
    }


def plan(project: Project, exposure: int, overview: Overview) -> tuple[dict[str, Any], list[tiles.Tile]]:
    """What the library tells of an exposure's overview: its head, and its views without their pictures."""
    record = read_exposure(project, exposure)
    return head(project, record), tiles.overview_tiles(project, record, overview)


def load(found: list[tiles.Tile]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Read the pictures of views: a description for each, and the bytes the descriptions point into by number.

    Touches no library, so that it may be called in a thread.
    """
    described: list[dict[str, Any]] = []
    content: list[bytes] = []
    for tile in found:
        data: dict[str, Any] = {
            "name": tile.name,
            "title": tile.title,
            "kind": tile.kind,
            "missing": tile.missing,
            "partner": tile.partner,
            "sharp": tile.sharp,
            "buffer": None,
        }
        if tile.path is not None:
            try:
                picture = tiles.load(tile)
            except FocusError as error:
                data["missing"] = tiles.tell(error)
            else:
                data |= describe(tile.kind, picture, tile.fit_resolution)
                data["buffer"] = len(content)
                content.append(picture.content)
        described.append(data)
    return described, content


def view(project: Project, exposure: int, name: str) -> tuple[dict[str, Any], list[bytes]]:
    """One view of an exposure by its product's name, as :func:`load` gives several."""
    described, content = load([tiles.find_tile(project, read_exposure(project, exposure), name)])
    return described[0], content


def describe(kind: tiles.Kind, picture: tiles.Picture, fit_resolution: float | None = None) -> dict[str, Any]:
    """A picture without its bytes: its size, and the scale bar or the rings to draw over it where it has none."""
    data: dict[str, Any] = {"type": picture.type, "width": picture.width, "height": picture.height}
    data["pixel_size"] = picture.pixel_size
    if picture.is_plain and picture.pixel_size:
        if kind == "image":
            part, label = tiles.scale_bar(picture.width, picture.pixel_size)
            data["bar"] = {"part": part, "label": label}
        else:
            data["rings"] = tiles.rings(picture.pixel_size, fit_resolution)
    return data


def sharpened(project: Project, exposure: int, name: str) -> tuple[dict[str, Any], bytes]:
    """A view drawn again for a whole screen, as :func:`load` gives it; FocusError where it cannot be."""
    record = read_exposure(project, exposure)
    tile = tiles.find_tile(project, record, name)
    picture = tiles.sharpen(project, record, name)
    return describe(tile.kind, picture, tile.fit_resolution), picture.content


def details(project: Project, exposure: int) -> dict[str, Any]:
    """All that is known of an exposure, as text in tables: what failed, facts, findings, parameters, runs and log."""
    record = read_exposure(project, exposure)
    runs = detail.read_runs(project, record)
    return {
        "head": head(project, record),
        "failures": [asdict(failure) for failure in detail.failures(project, record, runs)],
        "facts": [asdict(row) for row in detail.fact_rows(project, record)],
        "findings": [asdict(row) for row in detail.finding_rows(project, record)],
        "parameters": [asdict(row) for row in detail.parameter_rows(project, record)],
        "runs": detail.run_rows(project, runs),
        "log": detail.log_text(record, runs),
        "folder": str(record.folder),
    }
