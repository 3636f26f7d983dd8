"""Import of EER movies: the facts count fractions, whatever the metadata count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.io.eer_encoder import CODINGS, write_eer
from tests.projects import make_project

MDOC = """[FrameSet = 0]
PixelSpacing = 0.75
SubFramePath = D:\\frames\\shot.eer
NumSubFrames = 120
ExposureDose = 30
FrameDosesAndNumber = 0.25 120
ExposureTime = 3
"""


def test_the_dose_of_a_hardware_frame_is_not_that_of_a_fraction(tmp_path: Path) -> None:
    folder = tmp_path / "camera"
    folder.mkdir()
    write_eer(folder / "shot.eer", [[(0, 0)]] * 120, (16, 20), CODINGS["8+4"])
    (folder / "shot.eer.mdoc").write_text(MDOC)
    tifffile.imwrite(folder / "camera.gain", np.ones((32, 40), np.float32))
    project = make_project(tmp_path / "project", steps=False)
    report = project.add(folder / "shot.eer", facts={"gain_reference": str(folder / "camera.gain")})
    assert report.added == [1]
    assert not report.messages
    row = project.table().iloc[0]
    assert (row.kind, row.frame_count, row.hardware_frames) == ("movie", 40, 120)
    assert (row.width, row.height, row.exposure_dose) == (20, 16, pytest.approx(30))
    assert "dose_per_frame" not in row or row.isna().dose_per_frame
