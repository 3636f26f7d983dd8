"""The views of an exposure: the right picture the right way up, or the reason why there is none."""

from __future__ import annotations

import shutil
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from focusnb.errors import FormatError
from focusnb.io.images import write_mrc, write_png
from focusnb.modes import MODES, Overview
from focusnb.ops.preview import spectrum_preview
from focusnb.project.project import Project
from focusnb.quantities import Acquisition
from focusnb.steps.base import built_in_steps
from focusnb.views import tiles
from focusnb.views.exposure import read_exposure
from tests.views.shown import FIT_RESOLUTION, PICTURES, PIXEL_SIZE, SHOWN, SIDE, corner, empty, state

ALL = Overview("All", tuple(PICTURES))


def tile(project: Project, name: str, exposure: int = 1) -> tiles.Tile:
    return tiles.find_tile(project, read_exposure(project, exposure), name)


def pixels(picture: tiles.Picture) -> np.ndarray:
    """As a screen shows it: the first row is the top."""
    return np.asarray(Image.open(BytesIO(picture.content)).convert("L"))


@pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: mode.name)
def test_every_view_of_every_mode_is_a_product_that_can_be_shown(mode) -> None:
    made = {spec.name: spec.kind for step in built_in_steps().values() for spec in step.makes()}
    for overview in mode.overviews:
        assert 1 <= len(overview.views) <= 4
        assert {made[name] for name in overview.views} <= {"picture", "curve"}
        assert set(overview.views) <= set(tiles._KINDS)
    facts = {spec.name for spec in Acquisition.specs()}
    assert set(mode.columns) <= {"exposure", "group", "status", "flag", "reason", "comment", *made, *facts}


def test_an_overview_names_its_views_and_pictures_are_the_right_way_up(shown: Project) -> None:
    found = tiles.overview_tiles(shown, read_exposure(shown, 1), ALL)
    assert [t.name for t in found] == list(PICTURES)
    assert [t.title for t in found][:2] == ["Image before correction", "Spectrum before correction"]
    assert [t.kind for t in found] == ["image", "spectrum", "image", "spectrum", "rings", "drawing"]
    assert not any(t.missing for t in found)
    top_first = pixels(tiles.load(found[2]))
    assert (top_first[2, 2], top_first[-3, 2], top_first[2, -3]) == (255, 0, 128)


def test_pixel_sizes_follow_from_the_facts(shown: Project) -> None:
    image = tiles.load(tile(shown, "micrograph_preview"))
    assert (image.width, image.pixel_size) == (SHOWN, PIXEL_SIZE * SIDE / SHOWN)
    assert not image.is_plain  # its scale bar is in it
    spectrum = tile(shown, "spectrum_preview")
    assert (spectrum.pixel_size, spectrum.fit_resolution) == (PIXEL_SIZE, FIT_RESOLUTION)
    assert tile(shown, "ctf_rings_preview").pixel_size == PIXEL_SIZE
    state(shown, 1, "measure_spectrum", "done", values={"power_spectrum_far_pixel_size": 4.0})
    assert tile(shown, "ctf_rings_preview").pixel_size is None  # of which of both it was drawn is not known


def test_a_picture_that_tells_its_pixel_size_has_the_bar_drawn_over_it(shown: Project) -> None:
    write_png(shown.path(1) / "image_after.png", corner(), pixel_size=2.5)
    picture = tiles.load(tile(shown, "micrograph_preview"))
    assert picture.is_plain
    assert picture.pixel_size == 2.5


def test_rings_lie_where_those_of_the_previews_lie() -> None:
    spectrum = np.ones((256, 256), np.float32)
    plain, ringed = (spectrum_preview(spectrum, pixel_size=1.2, size=512, rings=r).astype(int) for r in (False, True))
    differs = np.flatnonzero(np.abs(ringed - plain).max(axis=2)[256, 256:] > 30)
    radii = {ring["label"]: ring["radius"] * 512 for ring in tiles.rings(1.2)}
    assert np.abs(differs - radii["5 Å"]).min() <= 2
    assert np.abs(differs - radii["3 Å"]).min() <= 2


def test_rings_keep_their_distance_and_the_fit_has_its_own() -> None:
    rings = tiles.rings(1.06, 4.2)
    assert rings[0] == {"radius": pytest.approx(1.06 / 4.2), "label": "4.2 Å", "fit": True}
    radii = sorted(ring["radius"] for ring in rings)
    assert min(np.diff(radii)) > 0.05
    assert all(0.1 < radius < 0.5 for radius in radii)
    assert "4 Å" not in [ring["label"] for ring in rings]
    assert not any(ring["fit"] for ring in tiles.rings(1.06, 1000.0))  # within the pixel in the middle


def test_a_scale_bar_is_round_and_at_most_a_quarter() -> None:
    for width, pixel_size in ((512, 2.12), (512, 17.0), (1024, 0.31), (100, 1.0)):
        part, label = tiles.scale_bar(width, pixel_size)
        assert 0.09 < part <= 0.25
        number, unit = label.split()
        assert part * width * pixel_size == pytest.approx(float(number) * {"nm": 10, "Å": 1}[unit])


def test_sharper_pictures_are_drawn_from_the_image_itself(shown: Project) -> None:
    picture = tiles.sharpen(shown, read_exposure(shown, 1), "micrograph_preview")
    assert (picture.width, picture.pixel_size, picture.is_plain) == (SIDE, PIXEL_SIZE, True)
    assert pixels(picture)[2].mean() > pixels(picture)[-3].mean() + 100  # brighter towards the top
    spectrum = tiles.sharpen(shown, read_exposure(shown, 1), "spectrum_preview")
    assert (spectrum.width, spectrum.pixel_size) == (128, PIXEL_SIZE)


def test_a_large_image_is_not_sent_whole(shown: Project) -> None:
    plane = np.tile(np.arange(3000, dtype=np.float32), (2000, 1))
    write_mrc(shown.path(1) / "micrograph.mrc", plane, pixel_size=PIXEL_SIZE)
    picture = tiles.sharpen(shown, read_exposure(shown, 1), "micrograph_preview")
    assert (picture.width, picture.height) == (tiles.SHARP, round(tiles.SHARP * 2 / 3))
    assert picture.pixel_size == pytest.approx(PIXEL_SIZE * 3000 / tiles.SHARP)


# Why there is none


def test_one_that_was_not_processed_says_how_it_will_be(shown: Project) -> None:
    shown.add(_shot(shown, "new"))
    told = tile(shown, "micrograph_preview", 4).missing
    assert told.startswith("Not processed yet: 'focusnb run")
    with shown.library.write() as transaction:
        transaction.update_exposure(4, {"status": "queued"})
    assert tile(shown, "micrograph_preview", 4).missing == "Waiting in the queue."


def test_a_failed_step_tells_its_reason_once(shown: Project) -> None:
    shown.add(_shot(shown, "bad"))
    state(shown, 4, "prepare_movie", "failed", reason="bad.tif: has 0 frames; copy it again")
    assert (
        tile(shown, "unaligned_preview", 4).missing == "Prepare the movie failed: bad.tif: has 0 frames; copy it again."
    )
    assert tile(shown, "ctf_curves", 4).missing == "Not made, because an earlier step failed: Prepare the movie."


def test_a_fit_that_found_nothing_tells_its_remark(shown: Project) -> None:
    empty(shown, 1, "ctf_rings_preview")
    state(shown, 1, "fit_ctf", "done", values={"ctf_remark": "no rings were found"})
    assert tile(shown, "ctf_rings_preview").missing == "Fit the CTF found none: no rings were found."


def test_an_image_has_nothing_before_correction(shown: Project) -> None:
    empty(shown, 1, "unaligned_preview")
    with shown.library.write() as transaction:
        transaction.update_exposure(1, {"kind": "image"})
    assert "recorded as an image" in tile(shown, "unaligned_preview").missing


def test_a_file_that_was_taken_away_says_how_to_get_it_back(shown: Project) -> None:
    (shown.path(1) / "image_after.png").unlink()
    told = tile(shown, "micrograph_preview").missing
    assert told.startswith("image_after.png is not in the exposure's folder any more")
    assert "align_frames" in told
    shutil.rmtree(shown.path(1))
    assert "cannot be reached" in tile(shown, "micrograph_preview").missing


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_what_is_no_picture_is_told(shown: Project, content: bytes) -> None:
    (shown.path(1) / "image_after.png").write_bytes(content)
    with pytest.raises(FormatError, match=r"image_after\.png: is no picture .*run its step again"):
        tiles.load(tile(shown, "micrograph_preview"))


def test_a_picture_that_ends_early_is_told(shown: Project) -> None:
    path = shown.path(1) / "image_after.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match="ends within the picture"):
        tiles.load(tile(shown, "micrograph_preview"))


def test_a_huge_file_is_not_read(shown: Project) -> None:
    with open(shown.path(1) / "image_after.png", "wb") as file:
        file.truncate(tiles.LARGEST + 1)
    with pytest.raises(FormatError, match="a preview at most"):
        tiles.load(tile(shown, "micrograph_preview"))


def test_a_trajectory_is_drawn_from_its_curves_and_else_shown_as_it_was(shown: Project) -> None:
    assert tiles.load(tile(shown, "trajectory_preview")).type == "image/svg+xml"
    empty(shown, 1, "motion_curves")
    assert tiles.load(tile(shown, "trajectory_preview")).type == "image/png"


def _shot(project: Project, name: str):
    path = project.folder.parent / "more" / f"{name}.tif"
    path.parent.mkdir(exist_ok=True)
    path.write_text("no movie")
    return path
