"""Which files belong to one exposure, by name, sub-folder and number of frames."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from focusnb.errors import ParameterError
from focusnb.project.pairing import AVERAGE, MOVIE, Pairing, Shot

ROOT = Path("/data/session")


def arranged(frames: dict[str, int], rules: Iterable[str] = (), known: Iterable[str] = ()) -> list[list[str]]:
    """Role and name of each file of each exposure, for files given with their numbers of frames."""
    pairing = Pairing(rules)
    found = {ROOT / name: ROOT for name in frames}
    keys = {pairing.read(ROOT / name, ROOT)[0].key for name in known}
    shots = pairing.shots(found, lambda path: frames[str(path.relative_to(ROOT))], keys)

    def words(shot: Shot) -> list[str]:
        pairs = [(shot.role, shot.main), *shot.others]
        return [f"{role} {path.relative_to(ROOT)}" for role, path in pairs]

    return [words(shot) for shot in shots]


@pytest.mark.parametrize(
    ("frames", "together"),
    [
        # EPU: movie and average
        ({"FoilHole_1_Data_2_3_20240101_000000.mrc": 1, "FoilHole_1_Data_2_3_20240101_000000_Fractions.mrc": 40},
         ["movie FoilHole_1_Data_2_3_20240101_000000_Fractions.mrc",
          "average FoilHole_1_Data_2_3_20240101_000000.mrc"]),
        ({"a_EER.eer": 900, "a.mrc": 1}, ["movie a_EER.eer", "average a.mrc"]),
        # MotionCor2 beside its movies
        ({"a.tif": 50, "a.mrc": 1, "a_DW.mrc": 1}, ["movie a.tif", "average a.mrc", "average a_DW.mrc"]),
        ({"a_DW.mrc": 1, "a_fractions.tiff": 50}, ["movie a_fractions.tiff", "average a_DW.mrc"]),
        ({"a_fractions_DW.mrc": 1, "a_fractions.tiff": 50}, ["movie a_fractions.tiff", "average a_fractions_DW.mrc"]),
        # version 1 of Focus: three sub-folders, and the names that it gave
        ({"aligned/a.mrc": 50, "averages/a.mrc": 1, "raw/a.mrc": 50},
         ["movie raw/a.mrc", "aligned aligned/a.mrc", "average averages/a.mrc"]),
        ({"a.tif": 50, "averages/a.mrc": 1}, ["movie a.tif", "average averages/a.mrc"]),
        ({"a_aligned.mrcs": 50, "a_avg.mrc": 1}, ["aligned a_aligned.mrcs", "average a_avg.mrc"]),
        ({"a_aligned.mrc": 1, "a_raw.tif": 50}, ["movie a_raw.tif", "average a_aligned.mrc"]),
        # Appion
        ({"a.frames.mrc": 50, "a-a.mrc": 1, "a-a-DW.mrc": 1},
         ["movie a.frames.mrc", "average a-a.mrc", "average a-a-DW.mrc"]),
    ],
)  # fmt: skip
def test_files_of_one_exposure(frames: dict[str, int], together: list[str]) -> None:
    assert arranged(frames) == [together]
    backwards = dict(reversed(frames.items()))
    assert arranged(backwards) == [together], "the order in which they are found does not matter"


@pytest.mark.parametrize(
    "frames",
    [
        {"a.tif": 50, "b.tif": 50},
        {"grid-a.tif": 50, "grid-b.tif": 50, "grid.tif": 50},
        {"x/a.tif": 50, "y/a.tif": 50},
        {"x/a.tif": 50, "y/a_avg.mrc": 1},
        {"a.tif": 50, "a.mrc": 50},
        {"a.tif": 1, "a.mrc": 1},
        {"a.tif": 0, "a.mrc": 0},
        {"grid-a.tif": 1, "grid-b.tif": 1},
    ],
)
def test_files_of_different_exposures(frames: dict[str, int]) -> None:
    assert sorted(len(shot) for shot in arranged(frames)) == [1] * len(frames)


def test_one_alone_is_what_its_name_says() -> None:
    assert arranged({"a_aligned.mrc": 50}) == [["aligned a_aligned.mrc"]]
    assert arranged({"a_avg.mrc": 1}) == [["average a_avg.mrc"]]
    assert arranged({"averages/a.mrc": 1}) == [["average averages/a.mrc"]]
    assert arranged({"a.mrc": 1}) == [["movie a.mrc"]], "nothing was asked"
    assert arranged({"a.mrc": 1}, known=["a_Fractions.tiff"]) == [["average a.mrc"]]
    assert arranged({"a-a.mrc": 1}, known=["a.tif"]) == [["average a-a.mrc"]]
    assert arranged({"_avg.mrc": 1, "_DW.mrc": 1}) == [["movie _avg.mrc"], ["movie _DW.mrc"]]


def test_averages_that_are_versions_of_one_are_one_exposure() -> None:
    assert arranged({"a_DW.mrc": 1, "a.mrc": 1}) == [["average a.mrc", "average a_DW.mrc"]]
    assert arranged({"a_DW.mrc": 1, "a_noDW.mrc": 1}) == [["average a_noDW.mrc", "average a_DW.mrc"]]


def test_rules_of_the_user() -> None:
    rules = ["average=_mean", "aligned=_mc", "average=Sums/"]
    frames = {"a.tif": 50, "a_mean.mrc": 1, "a_mc.mrc": 50, "sums/b.mrc": 1, "b.tif": 50}
    assert arranged(frames, rules) == [
        ["movie a.tif", "aligned a_mc.mrc", "average a_mean.mrc"],
        ["movie b.tif", "average sums/b.mrc"],
    ]
    for wrong in ("average", "sum=_x", "movie=", "aligned=/"):
        with pytest.raises(ParameterError, match="write ROLE=_end for the end of names"):
            Pairing([wrong])


def test_three_roots_named_by_what_is_in_them(tmp_path: Path) -> None:
    pairing = Pairing()
    found = {Path(f"/{disk}/{name}/grid/a.mrc"): Path(f"/{disk}/{name}")
             for disk, name in (("ssd", "raw"), ("nas", "aligned"), ("nas", "averages"))}  # fmt: skip
    frames = dict(zip(found, (50, 50, 1), strict=True))
    (shot,) = pairing.shots(found, lambda path: frames[path])
    assert [str(path) for path in shot.paths] == [
        "/ssd/raw/grid/a.mrc", "/nas/aligned/grid/a.mrc", "/nas/averages/grid/a.mrc"
    ]  # fmt: skip


def test_one_frame_is_no_average_where_its_name_says_movie() -> None:
    found = {
        Path(f"/c/{name}"): Path("/c") for name in ("a_Fractions.tiff", "a.mrc", "b_raw.tif", "c.tif", "d_sum.tif")
    }
    shots = Pairing().shots(found, lambda path: 1, every=True)
    assert [(shot.main.name, shot.role, [path.name for _, path in shot.others], shot.made) for shot in shots] == [
        ("a_Fractions.tiff", MOVIE, ["a.mrc"], False),
        ("b_raw.tif", MOVIE, [], False),
        ("c.tif", AVERAGE, [], False),
        ("d_sum.tif", AVERAGE, [], True),
    ]
    by_rule = Pairing(["movie=_m"]).shots({Path("/c/a_m.tif"): Path("/c")}, lambda path: 1, every=True)
    assert by_rule[0].role == MOVIE
