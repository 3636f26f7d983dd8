"""mdoc files: every key kept, facts in our units."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from focusnb.errors import FormatError
from focusnb.io import mdoc

EXAMPLE = r"""T = SerialEM: a microscope
Voltage = 200

[T = TiltAxisAngle = -91.81  Binning = 1  SpotSize = 7]

[FrameSet = 0]
TiltAngle = -12.5
StagePosition = 10.5 -20.25
StageZ = 3.5
ImageShift = 0.5 -0.25
targetdefocus = -1.8
PixelSpacing = 0.5
Binning = 0.5
NumSubFrames = 12
FrameDosesAndNumber = 0.5 8  1.5 4
ExposureTime = 2.5
PriorRecordDose = 6
Note = a = b, kept
SubFramePath = D:\data\a b\c_001.tif
GainReference = CountRef_x.dm4
DefectFile = C:\gain/defects_x.txt
MultiShotHoleAndPosition = 12 3
NavigatorLabel = 7-A
SpotSize = 4
RotationAndFlip = 3
DateTime = 05-Sep-24  07:08:09

[ZValue = 0]
TiltAngle = 1
"""
RATE = "DoseRate = 10\nExposureTime = 4\nPixelSpacing = 4\nBinning = 2\nNumSubFrames = 5"
COUNTS = "MinMaxMean = 0 9 60\nCountsPerElectron = 3\nPixelSpacing = 2\n"


def read(folder: Path, text: str, encoding: str = "utf-8") -> mdoc.Mdoc:
    (folder / "a.mdoc").write_bytes(text.encode(encoding))
    return mdoc.read(folder / "a.mdoc")


def section(folder: Path, kind: str, lines: str, before: str = "") -> mdoc.Facts:
    document = read(folder, f"{before}\n\n[{kind} = 0]\n{lines}")
    return mdoc.exposure_facts(document, document.sections[0])


def test_every_key_is_kept_in_order(tmp_path: Path) -> None:
    document = read(tmp_path, EXAMPLE)
    assert document.globals.items == (("T", "SerialEM: a microscope"), ("Voltage", "200"))
    assert document.titles == ("SerialEM: a microscope", "TiltAxisAngle = -91.81  Binning = 1  SpotSize = 7")
    assert [(s.kind, s.name, s.index) for s in document.sections] == [("FrameSet", "0", 0), ("ZValue", "0", 0)]
    keys = [key for key, _ in document.sections[0].items]
    assert keys[:3] == ["TiltAngle", "StagePosition", "StageZ"]
    assert len(keys) == 20
    assert document.sections[0].text("Note") == "a = b, kept"
    assert "note" in document.sections[0]
    assert document.exposure is document.sections[0]
    assert document.find("/elsewhere/c_001.tif") is document.sections[0]
    assert document.find("other.tif") is None
    assert list(document.of_kind("zvalue")) == [document.sections[1]]


def test_facts_of_a_frame_set(tmp_path: Path) -> None:
    document = read(tmp_path, EXAMPLE)
    assert mdoc.exposure_facts(document, document.sections[0]) == {
        "voltage": 200.0, "tilt_angle": -12.5, "tilt_axis": -91.81, "stage_x": 10.5, "stage_y": -20.25, "stage_z": 3.5,
        "image_shift_x": 0.5, "image_shift_y": -0.25, "defocus_target": 18000.0, "pixel_size": 0.5,
        "unbinned_pixel_size": 1.0, "super_resolution": 2, "binning": 0.5, "frame_count": 12, "exposure_dose": 10.0,
        "dose_origin": "FrameDosesAndNumber", "dose_per_frame": pytest.approx(10 / 12), "exposure_time": 2.5,
        "prior_dose": 6.0, "movie": "c_001.tif", "gain_reference": "CountRef_x.dm4", "defects": "defects_x.txt",
        "hole": "12", "acquisition_area": "3", "navigator_label": "7-A", "spot_size": 4, "rotation_and_flip": 3,
        "recorded_at": "2024-09-05T07:08:09",
    }  # fmt: skip


@pytest.mark.parametrize(
    "change", [lambda text: text, lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text]
)
def test_writing_and_reading_keep_everything(tmp_path: Path, change: Any) -> None:
    document = read(tmp_path, change(EXAMPLE))
    mdoc.write(tmp_path / "b.mdoc", document)
    again = mdoc.read(tmp_path / "b.mdoc")
    assert (again.globals, again.headings, again.sections) == (document.globals, document.headings, document.sections)
    assert (tmp_path / "b.mdoc").read_text() == EXAMPLE


def test_latin_1_comments_and_keys_after_a_blank_line(tmp_path: Path) -> None:
    text = "[ZValue = 0]\n# a comment\nStage = 5 µm\n\nVoltage = 300\n"
    document = read(tmp_path, text, "latin-1")
    assert document.sections[0].items == (("Stage", "5 µm"),)
    assert document.globals.items == (("Voltage", "300"),)


@pytest.mark.parametrize(
    ("lines", "total", "per_frame", "origin"),
    [
        ("ExposureDose = 40\nFrameDosesAndNumber = 0.7 50\nNumSubFrames = 50", 40, 0.7, "ExposureDose"),
        ("ExposureDose = 40\nFrameDosesAndNumber = 0 50\nNumSubFrames = 50", 40, 0.8, "ExposureDose"),
        ("ExposureDose = 0\nFrameDosesAndNumber = 1 2 3 4", 14, 14 / 6, "FrameDosesAndNumber"),
        ("FrameDosesAndNumbers = 1 2", 2, 1, "FrameDosesAndNumber"),
        (RATE, 10, 2, "DoseRate × ExposureTime"),
        (COUNTS, 5, None, "MinMaxMean / CountsPerElectron"),
        (COUNTS + "DividedBy2 = 1", 10, None, "MinMaxMean / CountsPerElectron"),
        ("ExposureDose = 0\nFrameDosesAndNumber = 0 50\nDoseRate = 8", None, None, None),
        ("FrameDosesAndNumber = 1 2 3", None, None, None),
        ("FrameDosesAndNumber = 1 2.5", None, None, None),
        ("ExposureDose = nan", None, None, None),
    ],
)  # fmt: skip
def test_dose_is_taken_in_order_and_never_guessed(
    tmp_path: Path, lines: str, total: float | None, per_frame: float | None, origin: str | None
) -> None:
    facts = section(tmp_path, "ZValue", lines)
    assert facts.get("exposure_dose") == (None if total is None else pytest.approx(total))
    assert facts.get("dose_per_frame") == (None if per_frame is None else pytest.approx(per_frame))
    assert facts.get("dose_origin") == origin


@pytest.mark.parametrize(
    ("frame_shape", "pixel_size"),
    [(None, None), ((3838, 3710), 1.35), ((7676, 7420), 0.675), ((7420, 7676), 0.675), ((3838, 2000), None)],
)
def test_pixel_size_of_frames_beside_a_binned_image(tmp_path: Path, frame_shape: Any, pixel_size: float | None) -> None:
    lines = "PixelSpacing = 5.4\nBinning = 4\nSubFramePath = D:\\a.mrc\n"
    document = read(tmp_path, f"ImageSize = 924 958\n\n[ZValue = 0]\n{lines}")
    facts = mdoc.exposure_facts(document, document.sections[0], frame_shape=frame_shape)
    assert facts.get("pixel_size") == pixel_size
    assert facts["unbinned_pixel_size"] == 1.35


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("05-Jun-22  23:45:28", "2022-06-05T23:45:28"),
        ("01-Aug-2022  18:58:31", "2022-08-01T18:58:31"),
        ("2024-03-01 10:00:00", "2024-03-01T10:00:00"),
        ("31-Feb-22  23:45:28", None),
        ("05-Xyz-22  23:45:28", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_dates(text: str | None, iso: str | None) -> None:
    assert mdoc.recorded_at(text) == iso


@pytest.mark.parametrize(
    ("before", "lines", "axis"),
    [
        ("[T =     Tilt axis angle = 85.3, binning = 4  spot = 8]", "RotationAngle = 175", 85.3),
        ("TiltAxisAngle = -12", "", -12),
        ("", "RotationAngle = 175.3", 85.3),
        ("", "RotationAngle = -179.4", 90.6),
        ("", "", None),
    ],
)
def test_tilt_axis(tmp_path: Path, before: str, lines: str, axis: float | None) -> None:
    facts = section(tmp_path, "ZValue", f"TiltAngle = 0\n{lines}", before)
    assert facts.get("tilt_axis") == (None if axis is None else pytest.approx(axis))


@pytest.mark.parametrize(
    ("path", "name"),
    [(r"D:\a\b.tif", "b.tif"), ("/a/b.tif", "b.tif"), (r"\\1.2.3.4\x\\y\b c.mrc", "b c.mrc"), ("b", "b"), ("", None)],
)
def test_file_names_of_windows_and_unix(path: str, name: str | None) -> None:
    assert mdoc.file_name(path) == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ZValue = 0]\nTiltAngle\n", "line 2, 'TiltAngle', is neither key = value nor"),
        ("[ZValue 0]\n", r"line 1, '\[ZValue 0\]'"),
        ("[ZValue = 0\nTiltAngle = 1\n", "line 1"),
        (" = 5\n", "line 1"),
        ("", r"a\.mdoc: is empty \(0 bytes\)"),
        ("# only a comment\n", "holds no key = value"),
        ("II*\0\0\0", "is not text: byte 3 of 6 is zero"),
    ],
)
def test_what_is_no_mdoc_names_the_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        read(tmp_path, text)


FUZZED = settings(max_examples=100)
LINES = EXAMPLE[EXAMPLE.index("TiltAngle = -12.5") : EXAMPLE.index("[ZValue")].strip().split("\n")


@FUZZED
@given(st.permutations(LINES), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_order_line_ends_and_encoding_change_no_fact(tmp_path: Path, lines: list[str], end: str, data: Any) -> None:
    expected = mdoc.exposure_facts(read(tmp_path, EXAMPLE), mdoc.read(tmp_path / "a.mdoc").sections[0])
    text = end.join(["# µm and °", *EXAMPLE.split("\n")[:5], "[FrameSet = 0]", *lines, ""])
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "utf-16-be"]))
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    document = read(tmp_path, mark + text, encoding)
    assert mdoc.exposure_facts(document, document.sections[0]) == expected


@FUZZED
@given(st.sets(st.sampled_from(LINES)), st.sets(st.sampled_from(LINES)))
def test_missing_and_empty_keys_take_facts_away_and_change_none(
    tmp_path: Path, missing: set[str], emptied: set[str]
) -> None:
    whole = mdoc.exposure_facts(read(tmp_path, EXAMPLE), mdoc.read(tmp_path / "a.mdoc").sections[0])
    kept = [line.partition("=")[0] + "=" if line in emptied else line for line in LINES if line not in missing]
    document = read(tmp_path, "Voltage = 200\n\n[FrameSet = 0]\n" + "\n".join(kept))
    facts = mdoc.exposure_facts(document, document.sections[0], frame_shape=(100, 100))
    # one that is taken from several keys may be taken from others
    by_several = {"dose_per_frame", "exposure_dose", "dose_origin", "dose_behind_specimen"}
    assert all(whole[name] == value for name, value in facts.items() if name not in by_several)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_cut_at_any_byte_gives_a_document_or_a_format_error(tmp_path: Path, encoding: str) -> None:
    whole = EXAMPLE.encode(encoding)
    refused = 0
    for size in range(len(whole)):
        (tmp_path / "a.mdoc").write_bytes(whole[:size])
        try:
            mdoc.read(tmp_path / "a.mdoc")
        except FormatError as error:
            refused += 1
            assert str(error).startswith(str(tmp_path / "a.mdoc"))  # noqa: PT017
    assert 20 < refused < len(whole)


@FUZZED
@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"[ZValue = 0]\n"]))
def test_any_bytes_give_a_document_or_a_format_error(tmp_path: Path, content: bytes, before: bytes) -> None:
    (tmp_path / "a.mdoc").write_bytes(before + content)
    with suppress(FormatError):
        document = mdoc.read(tmp_path / "a.mdoc")
        for section in document.sections:
            mdoc.exposure_facts(document, section, frame_shape=(10, 10))


KEYS = sorted(
    {line.partition(" =")[0] for line in LINES}
    | {"DoseRate", "CountsPerElectron", "MinMaxMean", "ExposureDose", "DividedBy2", "RotationAngle", "ImageSize", "Cs"}
)
NUMBER = st.one_of(
    st.floats(), st.integers(), st.sampled_from(["", "x", "0x3", "1e999", "-0", "1,5", "nan", "1e300", "1e-300", 1, 2])
)


@FUZZED
@given(
    st.dictionaries(st.sampled_from(KEYS), st.lists(NUMBER, min_size=1, max_size=4)),
    st.sampled_from(["FrameSet", "ZValue"]),
    st.one_of(st.none(), st.tuples(st.integers(1, 20000), st.integers(1, 20000))),
)
def test_any_values_give_finite_facts(
    tmp_path: Path, values: dict[str, list[Any]], kind: str, frame_shape: tuple[int, int] | None
) -> None:
    lines = "".join(f"{key} = {' '.join(map(str, numbers))}\n" for key, numbers in values.items())
    document = read(tmp_path, f"ImageSize = {' '.join(map(str, values.get('ImageSize', [])))}\n\n[{kind} = 0]\n{lines}")
    facts = mdoc.exposure_facts(document, document.sections[0], frame_shape=frame_shape)
    assert all(math.isfinite(value) for value in facts.values() if not isinstance(value, str))


def test_a_section_is_found_by_its_movie_also_in_another_format(tmp_path: Path) -> None:
    text = "".join(f"[ZValue = {n}]\nSubFramePath = D:\\x\\TS_{n:03d}.mrc\n\n" for n in (1, 2, 2))
    document = read(tmp_path, text + "[ZValue = 3]\nTiltAngle = 1\n")
    assert document.find("TS_001.tif") is document.sections[0]
    assert document.find("ts_001.EER") is document.sections[0]
    assert document.find("TS_002.mrc") is document.sections[1]
    assert document.find("TS_002.tif") is None  # two sections could be meant
    assert document.find("TS_003.tif") is None


@pytest.mark.parametrize(
    ("lines", "super_resolution"),
    [
        ("PixelSpacing = 0.5\nBinning = 0.5", 2),
        ("PixelSpacing = 1\nBinning = 1", 1),
        ("PixelSpacing = 2\nBinning = 2\nSubFramePath = a.tif", None),
        ("PixelSpacing = 1", None),
    ],
)
def test_super_resolution_is_told_where_both_pixel_sizes_are(
    tmp_path: Path, lines: str, super_resolution: int | None
) -> None:
    assert section(tmp_path, "FrameSet", lines).get("super_resolution") == super_resolution


def test_the_dose_at_the_camera_is_told_beside_the_dose_of_the_exposure(tmp_path: Path) -> None:
    facts = section(tmp_path, "ZValue", f"ExposureDose = 12\n{RATE}")
    assert (facts["exposure_dose"], facts["dose_behind_specimen"]) == (12, 10)
    assert "dose_behind_specimen" not in section(tmp_path, "ZValue", "ExposureDose = 12")


def test_cut_or_damaged_text_gives_format_errors_only(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    whole = EXAMPLE.encode()
    refused = 0
    for trial in range(400):
        damaged = bytearray(whole)
        for _ in range(random.integers(0, 30)):
            damaged[random.integers(len(whole))] = random.integers(1, 256)
        (tmp_path / "a.mdoc").write_bytes(damaged[: random.integers(len(whole))] if trial % 2 else damaged)
        try:
            document = mdoc.read(tmp_path / "a.mdoc")
            for found in document.sections:
                mdoc.exposure_facts(document, found, frame_shape=(100, 100))
        except FormatError:
            refused += 1
    assert 20 < refused < 390


REAL = {
    "TS_01.mrc.mdoc": (41, {"movie": "TS_01_000_0.0.mrc", "tilt_axis": 85.3, "unbinned_pixel_size": 1.35}),
    "TS_41.mrc.mdoc": (40, {"exposure_dose": 3.08367, "dose_per_frame": 0.1186, "prior_dose": 129.755}),
    "TS_42.mrc.mdoc": (36, {"tilt_angle": -60.999, "frame_count": 26, "recorded_at": "2023-05-03T14:32:23"}),
    "frame_set_multiple.mdoc": (21, {"dose_per_frame": 0.63882, "frame_count": 243, "pixel_size": 1.2827}),
    "frame_set_single.mdoc": (
        1, {"dose_per_frame": 0.63824, "gain_reference": "SuperRef_s_mmm_00000_-15.0_Oct08_01.59.24.dm4"},
    ),
    "gm.mrc.mdoc": (26, {"voltage": 120.0, "pixel_size": 2312.0, "stage_x": -834.368}),
    "img_h1_s2_i374_movie_00001_Jul30_07.56.47.tif.mdoc": (
        1,
        {
            "exposure_dose": 30.0, "dose_per_frame": 0.75, "pixel_size": 0.50226, "defocus_target": 23000.0,
            "defects": "defects_00000_Aug11_14.13.17.txt", "movie": "00000_Aug11_14.13.17.tif",
            "spherical_aberration": 2.7,
        },
    ),
    "20220605_75157_20220605-aav2spr_1-1_counted_frames.mrc.mdoc": (
        1, {"hole": "1", "acquisition_area": "1", "navigator_label": "726", "frame_count": 46,
            "magnification": 75000.0},
    ),
    "montage_section.mdoc": (63, {"pixel_size": 656.139}),
    "montage_section_multiple.mdoc": (100, {"pixel_size": 76.8, "unbinned_pixel_size": 38.4}),
    "test_1.mdoc": (
        11, {"movie": "chrom_07_ts_010_167_000_-0.0.mrc", "exposure_dose": 2.162033,
             "dose_origin": "DoseRate × ExposureTime"},
    ),
    "tilt_series.mdoc": (41, {"image_shift_x": -0.0108126, "stage_z": 163.803, "exposure_time": 0.8}),
}  # fmt: skip


def test_every_real_file_is_in_the_list(data: Path) -> None:
    assert {path.name for path in data.rglob("*.mdoc")} == set(REAL)


@pytest.mark.parametrize("name", REAL)
def test_real_files(data: Path, tmp_path: Path, name: str) -> None:
    document = mdoc.read(data / "mdoc" / name)
    count, known = REAL[name]
    assert len(document.sections) == count
    facts = mdoc.exposure_facts(document, document.exposure or document.sections[0])
    assert {key: facts.get(key) for key in known} == known
    lines = (data / "mdoc" / name).read_text("latin-1").splitlines()
    kept = len(document.globals.items) + len(document.headings) + sum(1 + len(s.items) for s in document.sections)
    assert kept == sum(bool(line.strip()) for line in lines)
    mdoc.write(tmp_path / "b.mdoc", document)
    assert mdoc.read(tmp_path / "b.mdoc").sections == document.sections


def test_empiar_10164_was_recorded_in_super_resolution(data: Path) -> None:
    document = mdoc.read(data / "mdoc" / "TS_01.mrc.mdoc")
    facts = mdoc.exposure_facts(document, document.sections[3], frame_shape=(7420, 7676))
    assert facts["pixel_size"] == 0.675
    assert "dose_per_frame" not in facts


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("-1,25 3,5", [-1.25, 3.5]), ("1, 25", [1, 25]), ("1.5,2.5", [1.5, 2.5]), ("1,2,3", [1, 2, 3])],
)
def test_a_comma_between_digits_is_that_of_a_decimal_number(text: str, numbers: list[float]) -> None:
    section = mdoc.Section("ZValue", "0", (("StagePosition", text), ("TiltAngle", text.split()[0])))
    assert section.numbers("StagePosition") == numbers
    assert section.number("TiltAngle") == numbers[0]


def test_a_list_that_is_one_word_has_its_comma_between_two_numbers() -> None:
    section = mdoc.Section("ZValue", "0", (("ImageSize", "5760,4092"), ("TiltAngle", "-5,25")))
    assert section.numbers("ImageSize") == [5760, 4092]
    assert section.number("TiltAngle") == -5.25
