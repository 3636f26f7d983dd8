"""The look's colours, computed from the style sheet: readable, and told apart by colour-blind eyes."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest

from focusnb.errors import ProgramMissing
from focusnb.panels import theme
from focusnb.project.project import FLAGS
from tests.conftest import REPOSITORY

SOURCE = REPOSITORY / "frontend" / "src" / "common"
STATES = ("new", "running", "done", "warning", "failed")

# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def _colours() -> dict[str, dict[str, str]]:
    text = (SOURCE / "theme.css").read_text()
    found = re.findall(r"--fnb-([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", text)
    return {
        "light": {name: light for name, light, _ in found},
        "dark": {name: dark for name, _, dark in found},
    }


def _linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _luminance(colour: str) -> float:
    return float(_linear(colour) @ [0.2126, 0.7152, 0.0722])


def _contrast(one: str, other: str) -> float:
    """WCAG 2.1: from 1 to 21."""
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _lab(linear: np.ndarray) -> np.ndarray:
    """OKLab (Ottosson, 2020), times 100."""
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return 100 * np.array(to_lab) @ np.cbrt(np.array(to_lms) @ np.clip(linear, 0, 1))


TEXT = ("ink", "muted", "accent", *STATES)
GROUNDS = ("ground", "surface", "sunken", "raised")


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_contrast_is_at_least_aa(mode):
    colours = _colours()[mode]
    pairs = list(itertools.product(TEXT, GROUNDS))
    pairs += [("on-accent", "accent"), ("ink", "chosen"), ("muted", "chosen")]
    pairs += [("ink", "warning-ground"), ("ink", "failed-ground"), ("muted", "failed-ground")]
    pairs += [("warning", "warning-ground"), ("failed", "failed-ground")]
    pairs += [(state, "chosen") for state in STATES]
    poor = {pair: round(_contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in pairs}
    assert {pair: value for pair, value in poor.items() if value < 4.5} == {}
    shapes = itertools.product(("edge", *(f"flag-{flag}" for flag in FLAGS)), (*GROUNDS, "chosen"))
    poor = {pair: round(_contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in shapes}
    assert {pair: value for pair, value in poor.items() if value < 3} == {}


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("eye", ["all colours", *BLINDNESS])
def test_states_are_told_apart(mode, eye):
    colours = _colours()[mode]
    seen = {name: _linear(colours[name]) for name in STATES}
    if eye in BLINDNESS:
        seen = {name: np.array(BLINDNESS[eye]) @ linear for name, linear in seen.items()}
    near = {}
    for one, other in itertools.combinations(STATES, 2):
        difference = float(np.linalg.norm(_lab(seen[one]) - _lab(seen[other])))
        if difference < 6:  # three times what is just noticed
            near[one, other] = round(difference, 1)
    assert near == {}


def test_states_and_flags_have_shapes_of_their_own():
    drawings = {path.stem: path.read_text() for path in (SOURCE / "shapes").glob("*.svg")}
    assert {f"state-{name}" for name in (*STATES, "queued", "broken")} <= set(drawings)
    assert {f"flag-{name}" for name in (*FLAGS, "none")} <= set(drawings)
    shapes = [re.sub(r' (?:fill|stroke)="[^"]*"', "", drawing) for drawing in drawings.values()]
    assert len(set(shapes)) == len(shapes), "two differ by colour only"


def test_variables_are_declared_once_and_those_used_are_declared():
    sheets = {path: path.read_text() for path in (REPOSITORY / "frontend" / "src").rglob("*.css")}
    sheets[REPOSITORY / "page.css"] = (REPOSITORY / "dashboards" / "template" / "static" / "page.css").read_text()
    declared = set(re.findall(r"(--fnb-[a-z0-9-]+):", "".join(sheets.values())))
    scripts = (path.read_text() for path in (REPOSITORY / "frontend" / "src").rglob("*.js"))
    declared |= {name for script in scripts for name in re.findall(r"--fnb-[a-z0-9-]+", script)}
    for path, text in sheets.items():
        used = set(re.findall(r"var\((--fnb-[a-z0-9-]+)\)", text))
        assert used <= declared, (path.name, sorted(used - declared))
    root = sheets[SOURCE / "theme.css"].split("\n}\n")[0]
    names = re.findall(r"^  (--fnb-[a-z0-9-]+):", root, re.MULTILINE)
    assert len(set(names)) == len(names) >= 40
    spaces = {name: int(px) for name, px in re.findall(r"--fnb-(\d): (\d+)px", root)}
    assert {px / int(name) for name, px in spaces.items()} == {4}


def test_icons_have_words_for_those_who_cannot_see_them():
    assert 'aria-hidden="true"' in theme.icon("search")
    named = theme.icon("search", 'Search <"names">')
    assert 'role="img"' in named
    assert "Search &lt;&quot;names&quot;&gt;" in named
    with pytest.raises(KeyError):
        theme.icon("no-such-icon")
    assert ">done</span>" in theme.state("done")
    assert ">failed: no gain</span>" in theme.state("failed", "failed: no gain")
    assert 'title="flagged gold"' in theme.flag("gold")
    assert 'title="no flag"' in theme.flag(None)


def test_what_python_draws_is_what_the_browser_draws():
    bundled = json.loads(theme.bundle("icons.json").read_text())
    assert set(json.loads((SOURCE / "icons.json").read_text())) <= set(bundled)
    assert all(drawing.startswith("<svg viewBox=") for drawing in bundled.values())
    assert "light-dark(" in theme.styles()


def test_a_missing_bundle_is_told_with_the_cure(monkeypatch, tmp_path):
    monkeypatch.setattr(theme, "STATIC", tmp_path)
    with pytest.raises(ProgramMissing, match=r"table\.mjs.*pip install -e \."):
        theme.bundle("table.mjs")
