"""EPU's XML: values by name, facts in our units, other XML refused with a reason."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from focusnb.errors import FormatError
from focusnb.io import epu

EXAMPLE = """<?xml version="1.0"?>
<MicroscopeImage xmlns="http://one" xmlns:a="http://two">
 <CustomData>
  <a:KeyValueOfstringanyType><a:Key>PhasePlateUsed</a:Key><a:Value>false</a:Value></a:KeyValueOfstringanyType>
  <a:KeyValueOfstringanyType><a:Key>AppliedDefocus</a:Key><a:Value>-1.25E-06</a:Value></a:KeyValueOfstringanyType>
  <a:KeyValueOfstringanyType><a:Key>Dose</a:Key><a:Value>3.043E+21</a:Value></a:KeyValueOfstringanyType>
 </CustomData>
 <SpatialScale><pixelSize><x><numericValue>1.3E-10</numericValue></x></pixelSize></SpatialScale>
 <microscopeData>
  <acquisition>
   <acquisitionDateTime>2023-10-18T12:27:06.3342256-07:00</acquisitionDateTime>
   <camera>
    <CameraSpecificInput>
     <a:KeyValueOfstringanyType><a:Key>FractionationSettings</a:Key>
      <a:Value><NumberOffractions>40</NumberOffractions></a:Value></a:KeyValueOfstringanyType>
    </CameraSpecificInput>
    <ExposureTime>3.5</ExposureTime><Name>EF-CCD</Name>
    <ReadoutArea><a:height>2046</a:height><a:width>2880</a:width></ReadoutArea>
   </camera>
  </acquisition>
  <gun><AccelerationVoltage>200000</AccelerationVoltage></gun>
  <optics><TemMagnification><NominalMagnification>105000</NominalMagnification></TemMagnification></optics>
  <stage><Position><A>0.5235987756</A><X>0.0006</X><Y>-0.0003</Y><Z>1E-05</Z></Position></stage>
 </microscopeData>
</MicroscopeImage>
"""
NAME = "FoilHole_111_Data_222_333_20240901_060108.xml"


def test_facts_are_found_by_name_and_converted(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(EXAMPLE)
    image = epu.read(tmp_path / NAME)
    assert image.kind == "exposure"
    assert image.custom["PhasePlateUsed"] == "false"
    assert image.facts() == {
        "pixel_size": 1.3, "voltage": 200.0, "magnification": 105000.0, "exposure_time": 3.5,
        "tilt_angle": pytest.approx(30),
        "stage_x": 600.0, "stage_y": -300.0, "stage_z": 10.0, "exposure_dose": 30.43, "dose_origin": "Dose",
        "dose_per_frame": 0.76075, "frame_count": 40, "defocus_target": 12500.0, "camera": "EF-CCD", "hole": "111",
        "acquisition_area": "222_333", "recorded_at": "2023-10-18T12:27:06.334225-07:00",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("frame_shape", "pixel_size"),
    [((2046, 2880), 1.3), ((4092, 5760), 0.65), ((11520, 8184), 0.325), ((4092, 4092), None)],
)
def test_pixel_size_of_a_movie_finer_than_the_image(tmp_path: Path, frame_shape: Any, pixel_size: float | None) -> None:
    (tmp_path / NAME).write_text(EXAMPLE)
    assert epu.read(tmp_path / NAME).facts(frame_shape=frame_shape).get("pixel_size") == pixel_size


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / NAME).write_bytes(EXAMPLE.replace('<?xml version="1.0"?>\n', "").encode(encoding))
    assert epu.read(tmp_path / NAME).facts()["voltage"] == 200.0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"II*\0\0\0\0\0", "is not XML .begins with 49 49 2a"),
        (b"voltage = 300", "is not XML"),
        (EXAMPLE[:700].encode(), "is not whole XML .*; 700 bytes.; was it copied while being written"),
        (
            b"<Acquisition><Info/></Acquisition>",
            "XML of Acquisition describes the fractions of a movie; give the XML beside",
        ),
        (b"<EpuSessionXml/>", "XML of EpuSessionXml describes an EPU session"),
        (b"<GridSquareXml/>", "XML of GridSquareXml describes a grid square"),
        (b"<html><body/></html>", "XML of html is not an exposure of EPU"),
        (b"<MicroscopeImage/>", "MicroscopeImage without microscopeData"),
        (b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><MicroscopeImage>&b;</MicroscopeImage>', "entities"),
        (b'<?xml version="1.0" encoding="klingon"?><MicroscopeImage/>', "XML"),
    ],
)
def test_what_is_no_exposure_is_refused_with_a_reason(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(FormatError, match=words) as caught:
        epu.read(tmp_path / "a.xml")
    assert str(caught.value).startswith(str(tmp_path / "a.xml"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_cut_at_any_byte_gives_a_format_error(tmp_path: Path, encoding: str) -> None:
    whole = EXAMPLE.rstrip().replace('<?xml version="1.0"?>\n', "").encode(encoding)
    for size in range(len(whole)):
        (tmp_path / "a.xml").write_bytes(whole[:size])
        with pytest.raises(FormatError):
            epu.read(tmp_path / "a.xml")


FUZZED = settings(max_examples=60)


def reordered(element: ElementTree.Element, draw: Any) -> None:
    """Put the children of every element into another order, and drop none."""
    children = list(element)
    for child in children:
        reordered(child, draw)
        element.remove(child)
    element.extend(draw(st.permutations(children)))


@FUZZED
@given(st.data(), st.sampled_from(["utf-8", "utf-16", "iso-8859-1", "us-ascii"]), st.sampled_from(["\n", "\r\n", "\r"]))
def test_order_line_ends_and_encoding_change_no_fact(tmp_path: Path, data: Any, encoding: str, end: str) -> None:
    (tmp_path / NAME).write_text(EXAMPLE)
    expected = epu.read(tmp_path / NAME).facts(frame_shape=(4092, 5760))
    root = ElementTree.fromstring(EXAMPLE.replace("EF-CCD", "EF-CCD µ"))
    reordered(root, data.draw)
    text = ElementTree.tostring(root, encoding="unicode").replace("\n", end)
    content = f'<?xml version="1.0" encoding="{encoding}"?>{end}{text}'.encode(encoding, "xmlcharrefreplace")
    (tmp_path / NAME).write_bytes(content)
    assert epu.read(tmp_path / NAME).facts(frame_shape=(4092, 5760)) == expected | {"camera": "EF-CCD µ"}


@FUZZED
@given(st.data())
def test_missing_elements_take_facts_away_and_change_none(tmp_path: Path, data: Any) -> None:
    (tmp_path / NAME).write_text(EXAMPLE)
    whole = epu.read(tmp_path / NAME).facts()
    root = ElementTree.fromstring(EXAMPLE)
    parents = [parent for parent in root.iter() for _ in parent]
    for number in data.draw(st.sets(st.integers(0, len(parents) - 1), max_size=6)):
        parent = parents[number]
        if len(parent):
            parent.remove(parent[data.draw(st.integers(0, len(parent) - 1))])
    (tmp_path / NAME).write_bytes(ElementTree.tostring(root))
    try:
        facts = epu.read(tmp_path / NAME).facts()
    except FormatError as error:
        assert "without microscopeData" in str(error)  # noqa: PT017
    else:
        # a part of the date's or the dose's tree may be what another fact is made of
        assert all(whole[name] == value for name, value in facts.items())


@FUZZED
@given(st.binary(max_size=200), st.integers(0, len(EXAMPLE)), st.integers(0, 60))
def test_damaged_bytes_give_facts_or_a_format_error(tmp_path: Path, damage: bytes, place: int, gone: int) -> None:
    whole = EXAMPLE.encode()
    (tmp_path / "a.xml").write_bytes(whole[:place] + damage + whole[place + gone :])
    with suppress(FormatError):
        facts = epu.read(tmp_path / "a.xml").facts(frame_shape=(100, 120))
        assert all(math.isfinite(value) for value in facts.values() if not isinstance(value, str))


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        EXAMPLE.replace("200000", "NaN").replace("1.3E-10", "").replace("3.043E+21", "many")
    )
    facts = epu.read(tmp_path / "a.xml").facts()
    assert not {"voltage", "pixel_size", "exposure_dose", "dose_per_frame", "hole"} & set(facts)


REAL: dict[str, dict[str, Any]] = {
    "Example1.xml": {
        "pixel_size": 0.749125623, "voltage": 200.0, "exposure_dose": 42.0197787, "defocus_target": 11000.0,
        "camera": "Falcon 4i", "magnification": 190000, "exposure_time": 3.52, "microscope": "GLACIOS-9960164",
    },
    "FoilHole_18890345_Data_18881924_18881926_20200320_090200.xml": {
        "pixel_size": 1.0684708, "exposure_dose": 40.0540525, "defocus_target": 32500.0, "stage_z": 105.984396,
        "hole": "18890345", "acquisition_area": "18881924_18881926",
    },
    "FoilHole_22011316_Data_19957701_19957703_20200323_100235.xml": {
        "pixel_size": 1.18367011, "frame_count": 40, "dose_per_frame": pytest.approx(25.1794065 / 40), "spot_size": 7,
    },
    "FoilHole_31933450_Data_31923928_31923930_20240901_060108.xml": {
        "pixel_size": 0.415015279, "energy_slit_width": 10.0, "defocus_target": 4000.0, "frame_count": None,
    },
    "FoilHole_31936319_Data_31923985_31923987_20240831_200517.xml": {"exposure_dose": 24.6703428, "hole": "31936319"},
    "FoilHole_31936319_Data_31924013_31924015_20240831_200551.xml": {
        "acquisition_area": "31924013_31924015", "recorded_at": "2024-08-31T20:05:53.449125+02:00",
    },
    "EMharvest_session/FoilHole_19513699_Data_19508496_19508498_20230919_154056.xml": {
        "frame_count": 50, "exposure_dose": 39.9231361, "camera": "BioQuantum K3", "pixel_size": 1.05588142,
    },
    "EMharvest_session/Atlas_19495690.xml": {"magnification": 135, "dose_per_frame": None},
    "EMharvest_session/GridSquare_20230919_140816.xml": {"magnification": 580, "hole": None},
    "EMharvest_session/FoilHole_19507368_20230919_142541.xml": {"magnification": 15000, "hole": None},
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_files(data: Path, name: str) -> None:
    facts = epu.read(data / "epu_xml" / name).facts()
    assert {key: facts.get(key) for key in REAL[name]} == REAL[name]
    assert all(math.isfinite(value) for value in facts.values() if not isinstance(value, str))


TEXT = st.one_of(
    st.floats().map(str), st.integers().map(str), st.sampled_from(["", "x", "1e300", "1e-300", "-1", "0", "2", "nan"])
)


@FUZZED
@given(st.lists(TEXT, min_size=12, max_size=12), st.tuples(st.integers(1, 20000), st.integers(1, 20000)))
def test_any_values_give_finite_facts(tmp_path: Path, values: list[str], frame_shape: tuple[int, int]) -> None:
    said = EXAMPLE.replace("<camera>", "<camera><Binning><x>1</x></Binning>", 1)
    numbers = ["1.3E-10", "-1.25E-06", "3.043E+21", ">40<", "3.5", "2046", "2880", "200000", "105000", "0.5235987756",
               "<x>1</x>", "0.0006"]  # fmt: skip
    for number, value in zip(numbers, values, strict=True):
        said = said.replace(number, number.replace(number.strip("<x>/") or number, value))
    (tmp_path / NAME).write_text(said)
    facts = epu.read(tmp_path / NAME).facts(frame_shape=frame_shape)
    assert all(math.isfinite(value) for value in facts.values() if not isinstance(value, str))


def test_a_fraction_of_a_fraction_is_none(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(EXAMPLE.replace(">40<", ">0.5<"))
    facts = epu.read(tmp_path / NAME).facts()
    assert "exposure_dose" in facts
    assert not {"frame_count", "dose_per_frame"} & facts.keys()


def test_every_real_xml_is_read_or_refused_with_a_reason(data: Path) -> None:
    refused = {}
    for path in data.rglob("*.xml"):
        try:
            assert epu.read(path).facts()["voltage"] in (200.0, 300.0)
        except FormatError as error:
            refused[path.name] = str(error)
    assert refused == {}


def test_a_whole_session_tree(data: Path) -> None:
    kinds: dict[str, str] = {}
    for path in sorted((data / "epu_xml" / "EMharvest_session").iterdir()):
        try:
            kinds[path.name.split("_")[0] + path.suffix + str("Data" in path.name)] = epu.read(path).kind
        except FormatError as error:
            kinds[path.name.split("_")[0] + path.suffix + str("Data" in path.name)] = str(error).partition(": ")[2][:16]
    assert kinds == {
        "Atlas.xmlFalse": "atlas", "GridSquare.xmlFalse": "square", "FoilHole.xmlFalse": "hole",
        "FoilHole.xmlTrue": "exposure", "FoilHole.jpgTrue": "is not XML (begi",
        "EpuSession.dm.dmFalse": "XML of EpuSessio",
    }  # fmt: skip


def test_super_resolution_is_told_by_the_size_of_the_movie(tmp_path: Path) -> None:
    binned = EXAMPLE.replace("<camera>", "<camera><Binning><x>2</x></Binning>", 1)
    (tmp_path / NAME).write_text(binned)
    image = epu.read(tmp_path / NAME)
    assert image.facts()["unbinned_pixel_size"] == 0.65
    assert [image.facts(frame_shape=shape).get("super_resolution") for shape in ((2046, 2880), (4092, 5760))] == [
        None,
        1,
    ]
    assert image.facts(frame_shape=(8184, 11520))["super_resolution"] == 2
    assert image.facts(frame_shape=(8184, 11520))["pixel_size"] == 0.325


def test_real_exposure_of_a_super_resolution_camera(data: Path) -> None:
    image = epu.read(data / "em-testdata" / "FoilHole_5850127_Data_5798426_5798428_20221104_061329.xml")
    assert image.facts()["pixel_size"] == pytest.approx(1.28519501)
    assert image.facts(frame_shape=(4092, 5760))["pixel_size"] == pytest.approx(0.642597505)
    assert image.camera["SuperResolutionFactor"] == "2"
