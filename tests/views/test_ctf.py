"""The figure of a CTF, on curves made from the formula."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bokeh.embed import file_html
from bokeh.models import HoverTool, Label, Span
from bokeh.plotting import figure
from bokeh.resources import INLINE

from focusnb.errors import FormatError
from focusnb.views.ctf import FLAT, RESOLUTIONS, ctf_figure, flat_curves, read_curves, zeros_of

DEFOCUS, LENGTH, ABERRATION = 12000.0, 0.019687, 2.7e7
"""Å: defocus, wavelength at 300 kV and spherical aberration."""


def phase(frequency: np.ndarray) -> np.ndarray:
    squared = frequency**2
    return np.pi * LENGTH * squared * (DEFOCUS - 0.5 * ABERRATION * LENGTH**2 * squared) + np.arcsin(0.1)


@pytest.fixture
def curves() -> dict[str, list[float]]:
    """Rings that end at 4 Å, on a background of arbitrary unit; fit and average agree to 5 Å."""
    frequency = np.linspace(1 / 30, 1 / 2.4, 260)
    background = 4e7 * np.exp(-2 * frequency)
    contrast = np.where(frequency < 1 / 4, background * 0.4 * np.exp(-9 * frequency), 0.0)
    fit = np.sin(phase(frequency)) ** 2
    quality = np.interp(frequency, [1 / 30, 0.19, 0.21, 0.23], [0.95, 0.9, 0.1, -0.1])
    names = ("frequency", "measured", "background", "contrast", "fit", "quality")
    values = (frequency, background + contrast * fit, background, contrast, fit, quality)
    return {name: [float(f"{item:.5g}") for item in value] for name, value in zip(names, values, strict=True)}


FINDINGS: dict[str, Any] = {
    "defocus_u": 12150.0,
    "defocus_v": 11850.0,
    "ctf_fit_resolution": 5.0,
    "ctf_fit_resolution_0": 4.5,
    "ctf_quality": "poor",
    "ctf_probability": 0.84,
    "ctf_remark": "the rings fade along 45°: drift or charging",
}


def lines_of(plot: figure) -> dict[str, np.ndarray]:
    """The lines that are drawn, by their label."""
    drawn = {item.label.value: item.renderers[0] for item in plot.legend[0].items}
    return {name: np.asarray(line.data_source.data[line.glyph.y]) for name, line in drawn.items()}


def upright(plot: figure) -> list[float]:
    return sorted(span.location for span in plot.select(Span) if span.dimension == "height")


def test_averages_background_fit_and_quality_are_drawn(curves: dict[str, list[float]]) -> None:
    plot = ctf_figure(curves, findings=FINDINGS)
    lines = lines_of(plot)
    assert list(lines) == ["background", "measured", "fit", "quality"]
    np.testing.assert_allclose(lines["measured"], lines["fit"], rtol=1e-3)
    assert np.median(lines["background"]) == pytest.approx(1.0)
    assert (lines["measured"] >= 0.999 * lines["background"]).all()
    np.testing.assert_allclose(lines["quality"], curves["quality"], atol=1e-4)
    assert plot.title.text.startswith("Defocus 1.215 / 1.185 µm   poor (84 %)   the rings fade along 45°")


def test_everything_drawn_lies_within_its_part_of_the_figure(curves: dict[str, list[float]]) -> None:
    for flattened in (False, True):
        plot = ctf_figure(curves, findings=FINDINGS, flattened=flattened)
        height = (lambda v: v) if flattened else np.log
        low, high = height(plot.y_range.start), height(plot.y_range.end)
        averages = np.concatenate([values for name, values in lines_of(plot).items() if name != "quality"])
        averages = (height(averages[np.isfinite(averages)]) - low) / (high - low)
        assert 0.3 <= averages.min() < averages.max() <= 1.0
        quality = plot.extra_y_ranges["quality"]
        places = (np.array([0.0, 0.5, 1.0]) - quality.start) / (quality.end - quality.start)
        assert 0.0 < places[0] < places[2] < 0.3
        assert plot.right[0].ticker.ticks == [0.0, 0.5, 1.0]


def test_the_axis_is_linear_in_frequency_and_says_resolution(curves: dict[str, list[float]]) -> None:
    axis = ctf_figure(curves).xaxis[0]
    assert axis.ticker.ticks == pytest.approx([1 / d for d in RESOLUTIONS])
    assert [axis.major_label_overrides[tick] for tick in axis.ticker.ticks][:6] == ["30", "10", "7", "5", "4", "3"]
    assert axis.axis_label == "Resolution (Å)"


def test_resolutions_thresholds_and_zeros_are_marked(curves: dict[str, list[float]]) -> None:
    plot = ctf_figure(curves, findings=FINDINGS)
    assert upright(plot) == pytest.approx([1 / 5.0, 1 / 4.5])
    assert [label.text for label in plot.select(Label)] == ["5.0 Å"]
    across = [span for span in plot.select(Span) if span.dimension == "width"]
    assert {(span.location, span.y_range_name) for span in across} == {(0.5, "quality"), (0.0, "quality")}
    # without findings the crossings are read from the curve itself: 0.5 and 0 of the lines it is made of
    own = upright(ctf_figure(curves))
    assert own == pytest.approx([0.2, 0.22], abs=2e-3)


def test_zeros_are_those_of_the_formula(curves: dict[str, list[float]]) -> None:
    fine = np.linspace(1 / 30, 1 / 2.4, 200_000)
    turns = np.flatnonzero(np.diff(np.floor(phase(fine) / np.pi)))
    found = zeros_of(read_curves(curves))
    inside = fine[turns] < 1 / 3.5  # further out the rings have three points each
    assert inside.sum() >= 8
    np.testing.assert_allclose(found[: inside.sum()], fine[turns][inside], atol=4e-4)


def test_the_flat_curve_is_ctf_squared_and_ends_with_the_rings(curves: dict[str, list[float]], tmp_path: Path) -> None:
    (tmp_path / "curves.json").write_text(json.dumps(curves))
    flat = flat_curves(tmp_path / "curves.json")
    rings = flat.frequency < 1 / 4.02
    np.testing.assert_allclose(flat.measured[rings], flat.fit[rings], atol=0.01)
    assert np.isnan(flat.measured[flat.frequency > 1 / 3.9]).all()
    np.testing.assert_allclose(flat.resolution * flat.frequency, 1.0, rtol=1e-5)
    shown = lines_of(ctf_figure(tmp_path / "curves.json", flattened=True))
    assert list(shown) == ["measured", "fit", "quality"]
    assert np.nanmax(shown["measured"]) <= FLAT[1]


def test_what_is_under_the_pointer_is_told(curves: dict[str, list[float]]) -> None:
    for flattened in (False, True):
        plot = ctf_figure(curves, flattened=flattened)
        (hover,) = plot.select(HoverTool)
        names = [text.split("{")[0].lstrip("@") for _, text in hover.tooltips]
        assert set(names) <= set(hover.renderers[0].data_source.data)
        assert [label for label, _ in hover.tooltips] == ["Resolution", "Measured", "Fit", "Quality"]


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_told_from_the_paper_and_in_grey(curves: dict[str, list[float]], dark: bool) -> None:
    plot = ctf_figure(curves, findings=FINDINGS, dark=dark)

    def luminance(colour: str) -> float:
        parts = np.array([int(part) for part in re.findall(r"\d+", colour)]) / 255
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def contrast(one: str, other: str) -> float:
        bright, less = sorted((luminance(one), luminance(other)), reverse=True)
        return (bright + 0.05) / (less + 0.05)

    paper = plot.background_fill_color
    lines = {item.label.value: item.renderers[0].glyph.line_color for item in plot.legend[0].items}
    assert all(contrast(colour, paper) > 3 for colour in lines.values())  # WCAG 2.1, graphics
    assert contrast(plot.title.text_color, paper) > 7
    assert contrast(plot.xaxis[0].axis_label_text_color, paper) > 4.5
    assert contrast(lines["measured"], lines["fit"]) > 1.3
    assert (luminance(paper) < 0.1) is dark


def test_the_page_holds_the_numbers(curves: dict[str, list[float]]) -> None:
    page = file_html(ctf_figure(curves, findings=FINDINGS), INLINE)
    assert "the rings fade along 45" in page
    assert "legend" in page


@pytest.mark.parametrize("missing", [None, {}, Path("nowhere") / "curves.json"])
def test_a_failed_fit_says_why(missing: Any) -> None:
    remark = "no rings were found: the best fit is no better than chance"
    plot = ctf_figure(missing, findings={"ctf_quality": "failed", "ctf_remark": remark, "defocus_u": None}, dark=True)
    text = plot.renderers[0].data_source.data["text"][0]
    assert text.replace("\n", " ") == remark
    assert plot.title.text == "No CTF"
    assert not plot.select(HoverTool)
    assert "was not fitted yet" in ctf_figure(missing).renderers[0].data_source.data["text"][0]
    file_html(plot, INLINE)


def test_a_row_of_a_table_serves_as_findings(curves: dict[str, list[float]]) -> None:
    table = pd.DataFrame([{**FINDINGS, "ctf_fit_resolution_0": np.nan, "phase_shift": np.nan, "ctf_remark": None}])
    plot = ctf_figure(curves, findings=table.iloc[0])
    assert upright(plot) == pytest.approx([0.2])
    assert plot.title.text == "Defocus 1.215 / 1.185 µm   poor (84 %)"
    assert "phase shift 90°" in ctf_figure(curves, findings={**FINDINGS, "phase_shift": 90.2}).title.text


def test_curves_that_cannot_be_drawn_are_refused(curves: dict[str, list[float]], tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"quality of frequency, .* is missing; run fit_ctf again"):
        ctf_figure({name: values for name, values in curves.items() if name != "quality"})
    with pytest.raises(FormatError, match="one list has 259 points and another 260"):
        ctf_figure({**curves, "fit": curves["fit"][1:]})
    (tmp_path / "curves.json").write_text('{"frequency": [0.1, 0')
    with pytest.raises(FormatError, match=r"curves\.json: is no JSON"):
        ctf_figure(tmp_path / "curves.json")
    (tmp_path / "curves.json").write_text("[1, 2]")
    with pytest.raises(FormatError, match=r"curves\.json: holds a list, not lists by name"):
        ctf_figure(tmp_path / "curves.json")


def test_numbers_that_are_missing_leave_gaps(curves: dict[str, list[float]]) -> None:
    holes: dict[str, list[float | None]] = {**curves, "quality": [None, *curves["quality"][1:]]}  # as JSON keeps nan
    assert np.isnan(lines_of(ctf_figure(holes))["quality"][0])
    file_html(ctf_figure(holes), INLINE)
