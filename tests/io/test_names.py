"""Names of EPU, Tomo5, SerialEM and Leginon, and patterns of the user's: what is read, and what is not."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from focusnb.errors import ParameterError
from focusnb.io.names import Pattern, recognise, stem_of, try_pattern

EPU = {"hole": "31936319", "acquisition_area": "31924013_31924015", "recorded_at": "2024-08-31T20:05:51"}
LEGINON = {
    "session": "23oct13a", "grid": "a_00034gr", "square": "a_00034gr_00008sq", "hole": "a_00034gr_00008sq_v02_00017hl",
    "exposure_number": 3, "preset": "ex",
}  # fmt: skip

KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "FoilHole_31936319_Data_31924013_31924015_20240831_200551_Fractions.mrc": ("EPU", EPU),
    "FoilHole_31936319_Data_31924013_31924015_20240831_200551_fractions.tiff": ("EPU", EPU),
    "FoilHole_31936319_Data_31924013_31924015_20240831_200551_EER.eer": ("EPU", EPU),
    "FoilHole_31936319_Data_31924013_31924015_20240831_200551.xml": ("EPU", EPU),
    "FoilHole_31936319_Data_31924013_31924015_20240831_200551_Fractions_DW.mrc": ("EPU", EPU),
    "FoilHole_31936319_Data_31924013_31924015_0_20240831_200551": ("EPU", EPU),
    "Position_1_001_0.00_20240831_200551_fractions.tiff": (
        "Tomo5",
        {"series": "Position_1", "exposure_number": 1, "tilt_angle": 0.0, "recorded_at": "2024-08-31T20:05:51"},
    ),
    "Position_12_3_041_-60.01_20240831_200551_EER.eer": (
        "Tomo5",
        {"series": "Position_12_3", "exposure_number": 41, "tilt_angle": -60.01, "recorded_at": "2024-08-31T20:05:51"},
    ),
    "lam_ts_7_002_[3.00]_20210203_040506_fractions.mrc": (
        "Tomo5",
        {"series": "lam_ts_7", "exposure_number": 2, "tilt_angle": 3.0, "recorded_at": "2021-02-03T04:05:06"},
    ),
    "prefix_00001_Sep22_18.10.51.tif": ("SerialEM", {"series": "prefix", "exposure_number": 1}),
    "img_h1_s2_i374_movie_00001_Jul30_07.56.47.tif": (
        "SerialEM",
        {"series": "img_h1_s2_i374_movie", "exposure_number": 1},
    ),
    "x_00000_-15.0_Oct08_01.59.24.tif": ("SerialEM", {"series": "x", "exposure_number": 0, "tilt_angle": -15.0}),
    "TS_01_000_0.0.mrc": ("SerialEM", {"series": "TS_01", "exposure_number": 0, "tilt_angle": 0.0}),
    "name_026_-54.0.tif": ("SerialEM", {"series": "name", "exposure_number": 26, "tilt_angle": -54.0}),
    "chrom_07_ts_010_167_000_-0.0.mrc": (
        "SerialEM",
        {"series": "chrom_07_ts_010_167", "exposure_number": 0, "tilt_angle": 0.0},
    ),
    "a_001_02_003_Feb29_00.00.00.mrc.gz": ("SerialEM", {"series": "a_001_02", "exposure_number": 3}),
    "23oct13a_a_00034gr_00008sq_v02_00017hl_00003ex.mrc": ("Leginon", LEGINON),
    "23oct13a_a_00034gr_00008sq_v02_00017hl_v01_00003ex-a.mrc": ("Leginon", LEGINON),
    "19jan04a_00012gr_00003sq_v01_00005hl_00002en.frames.mrc": (
        "Leginon",
        {
            "session": "19jan04a", "grid": "00012gr", "square": "00012gr_00003sq",
            "hole": "00012gr_00003sq_v01_00005hl", "exposure_number": 2, "preset": "en",
        },
    ),
    "14sep05c_c_00003gr_00014sq_00005hl_00003es.frames.tif": (
        "Leginon",
        {
            "session": "14sep05c", "grid": "c_00003gr", "square": "c_00003gr_00014sq",
            "hole": "c_00003gr_00014sq_00005hl", "exposure_number": 3, "preset": "es",
        },
    ),
    "my_session_00001gr_00002sq_00003en.mrc": (
        "Leginon",
        {
            "session": "my_session", "grid": "00001gr", "square": "00001gr_00002sq", "exposure_number": 3,
            "preset": "en",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_names_of_the_programs(name: str) -> None:
    found = recognise(name)
    assert found is not None
    assert (found.software, found.image, found.facts) == (KNOWN[name][0], "exposure", KNOWN[name][1])


@pytest.mark.parametrize(
    ("name", "image", "facts"),
    [
        ("FoilHole_19507368_20230919_142541.mrc", "hole", {"hole": "19507368", "recorded_at": "2023-09-19T14:25:41"}),
        ("GridSquare_20230919_140816.mrc", "square", {"recorded_at": "2023-09-19T14:08:16"}),
        ("Atlas_19495690.mrc", "atlas", {}),
        ("19jan04a_00012gr_00003sq.mrc", "square", {"session": "19jan04a", "grid": "00012gr",
         "square": "00012gr_00003sq", "exposure_number": 3, "preset": "sq"}),
    ],
)  # fmt: skip
def test_images_of_wholes_are_told_from_exposures(name: str, image: str, facts: dict[str, Any]) -> None:
    found = recognise(name)
    assert found is not None
    assert (found.image, found.facts) == (image, facts)


@pytest.mark.parametrize(
    "name",
    [
        "m_0012.tif", "shot.mrc", "", "grid1", "movie_001.tif", "a_001_1.25.mrc", "a_01_1.5.mrc",
        "20170629_00021_frameImage.tiff",
        "FoilHole_1_Data_2_3.mrc", "FoilHole_x_Data_2_3_20240831_200551.mrc", "a_FoilHole_1_Data_2_3_20240831_200551",
        "FoilHole_1_Data_2_3_20241331_200551.mrc", "FoilHole_1_Data_2_3_20240831_256000.mrc",
        "FoilHole_1_Data_2_3_20240831_200551_copy.mrc", "Position_1_001_95.00_20240831_200551_EER.eer",
        "Position_1_001_0_20240831_200551_EER.eer", "Position_1_001_0.00_20240231_200551_EER.eer",
        "prefix_00001_Sep32_18.10.51.tif", "prefix_00001_Sep22_25.10.51.tif", "prefix_00001_Foo22_18.10.51.tif",
        "prefix_Sep22_18.10.51.tif", "TS_01_000_120.5.mrc", "TS_01_000_95.0.mrc", "19jan04a_00012gr.mrc",
        "19jan04a_00012en_00003en.mrc", "19jan04a_12gr_03sq_02en.mrc", "07jan05b_12gr_02en_00.dwn.mrc",
        "20220605_75157_20220605-aav2spr_1-1_counted_frames.mrc",
    ],
)  # fmt: skip
def test_other_names_tell_nothing(name: str) -> None:
    assert recognise(name) is None


def test_folders_of_epu_tell_square_and_session() -> None:
    name = "FoilHole_1_Data_2_3_20240831_200551_EER.eer"
    whole = recognise(Path("/data/apo session/Images-Disc2/GridSquare_777/Data") / name)
    assert whole is not None
    assert (whole.facts["square"], whole.facts["session"]) == ("777", "apo session")
    part = recognise(Path("GridSquare_777/Data") / name)
    assert part is not None
    assert part.facts["square"] == "777"
    assert "session" not in part.facts
    other = recognise(Path("/Images-Disc1/GridSquare_x") / name)
    assert other is not None
    assert not {"square", "session"} & set(other.facts)
    assert recognise("/data/s/Images-Disc1/GridSquare_777/Data/shot.mrc") is None


def test_names_in_the_real_data(data: Path) -> None:
    software = {path.name: found.software for path in data.rglob("*") if path.is_file() and (found := recognise(path))}
    assert {name for name, program in software.items() if program == "EPU"} >= {
        path.name for path in data.rglob("FoilHole_*.xml")
    }
    assert software["img_h1_s2_i374_movie_00001_Jul30_07.56.47.tif.mdoc"] == "SerialEM"
    assert software["08mar13e_00010gr_00004sq_v02_00005hl.mrc"] == "Leginon"
    assert not any("frameImage" in name for name in software)


@given(st.text(max_size=60))
def test_any_text_is_read_or_not(text: str) -> None:
    found = recognise(text)
    assert found is None or found.software in ("EPU", "Tomo5", "SerialEM", "Leginon")


WORD = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}(_[A-Za-z0-9]{1,6}){0,2}", fullmatch=True)
MOMENT = st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)).map(lambda moment: moment.replace(microsecond=0))
TILT = st.integers(-700, 700).map(lambda tenths: tenths / 10)


@given(WORD, st.integers(0, 999999), TILT, MOMENT, st.booleans())
def test_what_is_written_into_a_name_is_read_from_it(
    series: str, number: int, tilt: float, moment: datetime, old: bool
) -> None:
    shown = f"[{tilt:.2f}]" if old else f"{tilt:.2f}"
    tomo = recognise(f"{series}_{number:03d}_{shown}_{moment:%Y%m%d_%H%M%S}_EER.eer")
    assert tomo is not None
    assert tomo.facts == {
        "series": series, "exposure_number": number, "tilt_angle": tilt, "recorded_at": moment.isoformat()
    }  # fmt: skip
    serialem = recognise(f"{series}_{number:03d}_{tilt:.1f}_{moment:%b%d_%H.%M.%S}.tif")
    assert serialem is not None
    assert serialem.facts == {"series": series, "exposure_number": number, "tilt_angle": tilt}


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a_1.5.mrc", "a_1.5"), ("a_1.5", "a_1.5"), ("a.tif.mdoc", "a"), ("a.TIFF.gz", "a"), (".mrc", ".mrc"), ("", "")],
)
def test_a_stem_keeps_its_numbers(name: str, stem: str) -> None:
    assert stem_of(name) == stem


# ------------------------------------------------------------------------------------------------- patterns of the user


@pytest.mark.parametrize(
    ("pattern", "example", "facts"),
    [
        ("{specimen}_{tilt_angle}_{number}", "lam2_-12.5_003.tif",
         {"specimen": "lam2", "tilt_angle": -12.5, "exposure_number": 3}),
        ("{specimen}_{tilt_angle}_{number}", "lam_a_2_+3_003.mrc",
         {"specimen": "lam_a_2", "tilt_angle": 3.0, "exposure_number": 3}),
        ("{specimen}-{tilt_angle}-{number}", "lam1--12.5-7",
         {"specimen": "lam1", "tilt_angle": -12.5, "exposure_number": 7}),
        ("{specimen}-{tilt_angle}-{number}", "lam1-12.5-7",
         {"specimen": "lam1", "tilt_angle": 12.5, "exposure_number": 7}),
        ("{specimen}_{number}", "lam1__7", {"specimen": "lam1_", "exposure_number": 7}),
        ("{_}_{number}_{_}", "a_7_b.tif", {"exposure_number": 7}),
        ("run{exposure_number}", "run007.eer", {"exposure_number": 7}),
        ("{number}_{pixel_size}A.mrc", "12_1.06A.mrc", {"exposure_number": 12, "pixel_size": 1.06}),
        ("{grid}/{square}/{number}.tif", "/x/y/grid 1/sq_3/0001.tif",
         {"grid": "grid 1", "square": "sq_3", "exposure_number": 1}),
        ("{recorded_at}_{number}", "20240831_200551_003.tif",
         {"recorded_at": "2024-08-31T20:05:51", "exposure_number": 3}),
        ("{recorded_at}_{number}", "2024-08-31_003.tif", {"recorded_at": "2024-08-31T00:00:00", "exposure_number": 3}),
        ("{kind}_{number}", "image_3.mrc", {"kind": "image", "exposure_number": 3}),
        ("x{gain_flip}_{number}", "xno_3.mrc", {"gain_flip": False, "exposure_number": 3}),
        ("{specimen} ({number})", "été (3).tif", {"specimen": "été", "exposure_number": 3}),
        ("{ specimen }_{number}.{_}", "a_1.x", {"specimen": "a", "exposure_number": 1}),
    ],
)  # fmt: skip
def test_a_pattern_reads_its_example(pattern: str, example: str, facts: dict[str, Any]) -> None:
    assert try_pattern(pattern, example) == facts
    assert set(Pattern(pattern).fields) == set(facts)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{specimn}_{number}", r"pattern \{specimn\}_\{number\}: \{specimn\} is no field; did you mean \{specimen\}\?"),
        ("{qqqqqqq}", r"is no field; there are number, .*voltage.* and _ for what is to be skipped"),
        ("{movie}", r"\{movie\} is no field"),
        ("{specimen}{number}", r"nothing separates \{specimen\} and \{number\}; write what stands between"),
        ("{specimen}_{_}{_}", "nothing separates"),
        ("{number}_{exposure_number}", "exposure_number is in it twice; skip one of them"),
        ("{specimen", r"a brace is open or closed alone at '\{specimen'"),
        ("specimen}_{number}", "a brace is open or closed alone"),
        ("plain", "has no field; write for example"),
        ("{_}_x", "has no field"),
        ("", "has no field"),
    ],
)
def test_a_wrong_pattern_is_refused_in_words(pattern: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        Pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "example", "words"),
    [
        ("{specimen}_{tilt_angle}_{number}", "a_b_c.tif",
         r"a_b_c: does not fit the pattern .*: after 'a_b_' it asks for \{tilt_angle\}, a number, and there is 'c'"),
        ("{specimen}_{tilt_angle}_{number}", "a_3.5_x7.tif",
         r"after 'a_3\.5_' it asks for \{number\}, a whole number, and there is 'x7'"),
        ("{specimen}_{number}", "a.tif", "after 'a' it asks for '_'$"),
        ("{specimen}_{number}_end", "a_3_.tif", r"after 'a_3' it asks for '_end', and there is '_'"),
        ("x{number}", "x3y", "after 'x3' the name goes on with 'y' where the pattern ends"),
        ("x{number}", "y3", "it asks for 'x', and there is 'y3'"),
        ("{kind}_{number}", "stack_3", r"it asks for \{kind\}, one of movie, image, and there is 'stack_3'"),
        ("{recorded_at}_{number}", "20241331_3", r"it asks for \{recorded_at\}, a date"),
        ("{square}/{number}", "a/b/c", r"b/c: does not fit .* after 'b/' it asks for \{number\}"),
        ("{specimen}_{tilt_angle}", "a_200.0",
         r"a_200\.0: read with the pattern .*tilt_angle = 200\.0: Tilt angle .* 180 °"),
        ("{number}", "-3", r"exposure_number = -3: Exposure number should be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_a_name_that_does_not_fit_is_told_where(pattern: str, example: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        try_pattern(pattern, example)


def test_several_ways_to_read_a_name_are_told() -> None:
    reading = Pattern("{specimen}_{hole}_{number}").read("a_b_c_3.tif")
    assert reading.facts == {"specimen": "a_b", "hole": "c", "exposure_number": 3}
    assert reading.others == ({"specimen": "a", "hole": "b_c", "exposure_number": 3},)
    assert Pattern("{specimen}_{hole}-{number}").read("a_b-3.tif").others == ()
    assert Pattern("{specimen}-{tilt_angle}").read("a--3.0").others == ()
    # what is skipped may lie anywhere: the facts are the same
    assert Pattern("{_}_{_}_{number}").read("a_b_c_3.tif").others == ()


def test_a_long_name_of_many_parts_is_read() -> None:
    with pytest.raises(ParameterError, match="does not fit"):
        try_pattern("_".join(["{_}"] * 8) + "_{number}", "_".join("a" * 100))
    assert try_pattern("_".join(["{_}"] * 8) + "_{number}", "_".join("a" * 100) + "_7") == {"exposure_number": 7}


@given(
    st.from_regex(r"[A-Za-z]{1,6}(_[A-Za-z]{1,4}){0,2}", fullmatch=True),
    st.floats(-90, 90).map(lambda value: round(value, 2)),
    st.integers(0, 10**6),
    st.sampled_from([("_", "_"), ("-", "-"), (" at ", "_no"), ("__", "_")]),
)
def test_a_pattern_reads_what_was_written_with_it(
    specimen: str, tilt: float, number: int, between: tuple[str, str]
) -> None:
    pattern = f"{{specimen}}{between[0]}{{tilt_angle}}{between[1]}{{number}}"
    name = f"{specimen}{between[0]}{tilt:.2f}{between[1]}{number:04d}"
    assert try_pattern(pattern, name) == {"specimen": specimen, "tilt_angle": tilt, "exposure_number": number}


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_pattern_and_name_give_facts_or_a_parameter_error(pattern: str, name: str) -> None:
    with suppress(ParameterError):
        assert try_pattern(pattern, name)
