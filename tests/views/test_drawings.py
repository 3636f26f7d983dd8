"""Line drawings: the right direction, the right place, nothing outside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from focusnb.errors import FormatError
from focusnb.ops.ctf.averages import curves_from_lists
from focusnb.views import drawings
from tests.views.shown import frames_moved

SVG = "{http://www.w3.org/2000/svg}"


def parts(text: str, tag: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(text).findall(f".//{SVG}{tag}")


def words(text: str) -> list[str]:
    return [element.text or "" for element in parts(text, "text")]


def points_of(path: ElementTree.Element) -> np.ndarray:
    """The corners of a line; rules that go straight across or down are not asked for."""
    return np.array(re.findall(r"[ML]?([-\d.]+) ([-\d.]+)", path.get("d", "")), float)


def motion(local: np.ndarray | None = None, shape: tuple[int, int] = (96, 128)) -> dict:
    return {"shifts": frames_moved(), "local": local, "shape": shape, "pixel_size": 1.5}


def test_the_specimen_moves_to_the_right_and_up() -> None:
    text = drawings.draw_motion(motion())
    (first,) = [c for c in parts(text, "circle") if c.get("class") == "first"]
    others = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in parts(text, "circle") if c is not first]
    last = others[0]  # the last frame is drawn first, the first one on top
    assert last[0] > float(first.get("cx", 0)) + 100
    assert last[1] < float(first.get("cy", 0)) - 30
    assert (last[0] - float(first.get("cx", 0))) / (float(first.get("cy", 0)) - last[1]) == pytest.approx(3, rel=0.1)
    assert f"Motion {np.hypot(6, 2):.1f} Å" in words(text)
    assert "first" in words(text)


def test_numbers_at_the_axes_are_angstrom_from_the_first_frame() -> None:
    text = drawings.draw_motion(motion())
    across = {e.text: float(e.get("x", 0)) for e in parts(text, "text") if e.get("text-anchor") == "middle"}
    up = {e.text: float(e.get("y", 0)) - 4 for e in parts(text, "text") if e.get("x") == "38.0"}
    (first,) = [c for c in parts(text, "circle") if c.get("class") == "first"]
    assert across["0"] == pytest.approx(float(first.get("cx", 0)), abs=0.2)
    assert up["0"] == pytest.approx(float(first.get("cy", 0)), abs=0.2)
    last = next(c for c in parts(text, "circle") if c is not first)
    assert across["6"] == pytest.approx(float(last.get("cx", 0)), abs=0.2)
    assert up["2"] == pytest.approx(float(last.get("cy", 0)), abs=0.2)


def test_local_motion_is_drawn_where_it_is() -> None:
    """Only the right side of the field moves, upwards."""
    local = np.zeros((9, 2, 5))
    time = np.linspace(0, 1, 9)
    local[:, 0, 0] = -8 * time  # dy ∝ X: shift to apply is negative at the right, so the specimen moves up there
    text = drawings.draw_motion(motion(local))
    tracks = [p for p in map(points_of, parts(text, "path")) if len(p) == 9]
    assert len(tracks) == 5 * 4  # as many places as the field is wide and high
    left, right = (min(tracks, key=key) for key in (lambda p: p[0, 0], lambda p: -p[0, 0]))
    assert right[-1, 1] < right[0, 1] - 3  # up on the screen
    assert left[-1, 1] > left[0, 1] + 3
    assert any("local, ≤" in word for word in words(text))
    assert not any("local" in word for word in words(drawings.draw_motion(motion())))


@pytest.mark.parametrize("frames", [1, 2])
def test_short_movies_can_be_drawn(frames: int) -> None:
    text = drawings.draw_motion({"shifts": np.zeros((frames, 2)), "local": None, "shape": (64, 64)})
    assert "Motion 0.0 Å" in words(text)


def test_a_file_without_motion_is_told(tmp_path: Path) -> None:
    path = tmp_path / "motion.json"
    broken = ["{", "[]", "{}", '{"shifts": [[1]], "shape": [1, 2]}', '{"shifts": [[null, 0]], "shape": [1, 2]}']
    for content in [*broken, json.dumps({"shifts": [[0, 0]], "shape": [8, 8], "local": [[0]]})]:
        path.write_text(content)
        with pytest.raises(FormatError, match=r"motion\.json: holds no motion .*run the alignment again"):
            drawings.draw("motion_curves", path)
    with pytest.raises(FormatError):
        drawings.draw("motion_curves", tmp_path / "nowhere.json")


def averages(reach: float = 0.2) -> dict[str, list[float]]:
    """Rings that agree with the fit up to a frequency."""
    frequency = np.linspace(1 / 30, 1 / 2.4, 200)
    fit = np.sin(300 * frequency**2) ** 2
    quality = np.where(frequency < reach, 0.95, 0.05)
    ones = np.ones_like(frequency)
    values = (frequency, 1 + 0.5 * fit, ones, 0.5 * ones, fit, quality)
    names = ("frequency", "measured", "background", "contrast", "fit", "quality")
    return {name: value.tolist() for name, value in zip(names, values, strict=True)}


def test_averages_are_followed_to_the_resolution_of_the_fit(tmp_path: Path) -> None:
    (tmp_path / "curves.json").write_text(json.dumps(averages()))
    text = drawings.draw("ctf_curves", tmp_path / "curves.json")
    assert "5.0 Å" in words(text)
    strong = [
        p
        for p in parts(text, "path")
        if "stroke-width:2;" in p.get("style", "") and "opacity" not in p.get("style", "")
    ]
    (fitted,) = map(points_of, strong)
    curves = curves_from_lists(averages())
    width = drawings.SIDE - 16 - 44
    expected = 44 + (0.2 - curves.frequency[0]) / (curves.frequency[-1] - curves.frequency[0]) * width
    assert fitted[-1, 0] == pytest.approx(expected, abs=4)
    labels = [word for word in words(text) if word.isdigit() and int(word) > 2]
    assert labels == ["20", "10", "7", "5", "4", "3"]


def test_every_point_lies_within_the_drawing() -> None:
    wild = averages()
    wild["measured"] = [value * 50 for value in wild["measured"]]
    for text in (drawings.draw_averages(curves_from_lists(wild)), drawings.draw_motion(motion())):
        for path in parts(text, "path"):
            corners = points_of(path)
            assert (corners >= 0).all()
            assert (corners <= drawings.SIDE).all()


def test_colours_are_those_of_the_page() -> None:
    text = drawings.draw_motion(motion()) + drawings.draw_averages(curves_from_lists(averages()))
    colours = re.findall(r"(?:fill|stroke):([^;\"]+)", text)
    assert all(colour == "none" or "var(--fnb-" in colour for colour in colours)


def test_curves_with_a_single_point_are_refused() -> None:
    with pytest.raises(FormatError, match="hold 1 points"):
        drawings.draw_averages(curves_from_lists({name: value[:1] for name, value in averages().items()}))


@pytest.mark.parametrize(
    ("product", "text"),
    [
        ("motion_curves", '{"shifts": [[0, 0], [1, 2]], "local": [[[0,0,0,0,0],[0,0,0,0,0]]], "shape": [9, 9]}'),
        ("motion_curves", '{"shifts": [[0, 0]], "local": [[[1,1,1,1,1],[1,1,1,1,1]]], "shape": []}'),
        ("motion_curves", '{"shifts": [[0, 1' + "0" * 400 + ']], "local": null, "shape": [9, 9]}'),
        ("motion_curves", "[" * 100_000),
        ("ctf_curves", '{"frequency": [{}, 1], "measured": [1, 1], "background": [1, 1]}'),
        ("ctf_curves", "[1]"),
        ("ctf_curves", '{"frequency": "x"}'),
    ],
)
def test_curves_that_cannot_be_drawn_are_told_with_their_file(tmp_path: Path, product: str, text: str) -> None:
    path = tmp_path / "curves.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"curves\.json: "):
        drawings.draw(product, path)
