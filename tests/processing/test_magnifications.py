"""Movies and images of different magnifications are brought to one pixel size, and what is measured stays true."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.io.images import read_image
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.ops.simulate import (
    DetectorSettings,
    MotionSettings,
    MovieSpec,
    Optics,
    SpecimenSettings,
    simulate_micrograph,
    simulate_movie,
)
from focusnb.processing.court.sitting import sit
from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.project.project import Project

TARGET = 1.3
OPTICS = {"high": Optics(defocus_u=13000.0, defocus_v=12600.0), "low": Optics(defocus_u=16000.0, defocus_v=15500.0)}
SIZES = {"high": (0.83, (720, 760)), "low": (1.06, (560, 600))}


def spec(name: str) -> MovieSpec:
    pixel_size, shape = SIZES[name]
    return MovieSpec(
        shape,
        6,
        pixel_size=pixel_size,
        dose_per_frame=5.0,
        damage=False,
        specimen=SpecimenSettings(crystalline=150.0),
        optics=OPTICS[name],
        motion=MotionSettings(burst=1.0, drift=1.0, walk=0.05, local=0.0),
        detector=DetectorSettings(gain_rms=0.0, hot=0, dead=0),
    )


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("magnifications")
    with Project.create(folder / "project", mode="drift") as project:
        for number, name in enumerate(SIZES):
            pixel_size = SIZES[name][0]
            write_tiff(folder / f"{name}.tif", simulate_movie(spec(name), number).frames)
            image, _ = simulate_micrograph(spec(name), 10 + number)
            write_mrc(folder / f"image_{name}.mrc", image, pixel_size=pixel_size)
            facts = {"pixel_size": pixel_size, "voltage": 300}
            project.add(folder / f"{name}.tif", folder / f"image_{name}.mrc", facts=facts, group=name)
        project.set_params("align_frames", target_pixel_size=TARGET)
        project.set_params("prepare_image", target_pixel_size=TARGET)
        run(project)
        yield project


def run(project: Project) -> None:
    processor = Processor(project, InlineExecutor())
    processor.submit_stale()
    processor.run()


def test_all_reach_one_pixel_size(processed):
    table = processed.table()
    assert list(table["status"]) == ["done"] * 4
    reached = table["micrograph_pixel_size"]
    assert np.allclose(reached, TARGET, rtol=1e-3)
    assert reached.max() / reached.min() < 1.001
    for identity, row in table.iterrows():
        image = read_image(processed.path(int(identity), "micrograph"))
        assert image.pixel_size == pytest.approx(row["micrograph_pixel_size"], rel=1e-5)
        # the field is as large as it was
        field = np.array([row["height"], row["width"]]) * row["pixel_size"]
        assert np.array(image.data.shape) * row["micrograph_pixel_size"] == pytest.approx(field, abs=1.5 * TARGET)


def test_what_is_measured_is_in_the_same_angstrom(processed):
    table = processed.table()
    for _, row in table.iterrows():
        optics = OPTICS[row["group"]]
        assert row["defocus_u"] == pytest.approx(optics.defocus_u, abs=400)
        assert row["defocus_v"] == pytest.approx(optics.defocus_v, abs=400)
        assert row["ice_ring_position"] == pytest.approx(3.70, abs=0.04)
    for group in SIZES:
        verdict = next(verdict for verdict in sit(processed, group)[0] if verdict.check == "pixel_size")
        assert (verdict.word, verdict.of) == ("fine", 2), verdict.told
    movies = table[table["kind"] == "movie"]
    assert movies["dose_per_frame_measured"].to_numpy() == pytest.approx(5.0, rel=0.02)


def test_finer_pixels_than_recorded_are_refused(processed):
    low = processed.find("low")
    image = processed.find("image_low")
    processed.set_params("align_frames", level="group", key="low", target_pixel_size=0.9)
    processed.set_params("prepare_image", level="group", key="low", target_pixel_size=0.9)
    run(processed)
    table = processed.table()
    for identity, name in ((low, "low.tif"), (image, "image_low.mrc")):
        assert table.loc[identity, "status"] == "failed"
        assert f"{name}: its pixels of 1.06 Å cannot become finer ones of 0.9 Å" in table.loc[identity, "reason"]
    assert table.loc[processed.find("high"), "status"] == "done"
    for step in ("align_frames", "prepare_image"):
        processed.set_params(step, level="group", key="low", target_pixel_size=1.0601)
    run(processed)
    table = processed.table()
    assert list(table["status"]) == ["done"] * 4
    assert list(table.loc[[low, image], "micrograph_pixel_size"]) == [1.06, 1.06]
