"""Exposure metadata of EPU (Thermo Fisher): the XML beside each micrograph, root ``MicroscopeImage``.

Elements are found by their local names and list entries by their keys: both the name spaces and the order of entries
change from version to version.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from focusnb.errors import FormatError
from focusnb.io.files import ByteSource, read_unpacked
from focusnb.io.mdoc import grid_ratio, super_resolution

Facts = dict[str, float | int | str]

_OTHERS = {
    "Acquisition": "describes the fractions of a movie; give the XML beside it without _Fractions in its name",
    "EpuSessionXml": "describes an EPU session, not an exposure",
    "GridSquareXml": "describes a grid square, not an exposure",
    "AtlasSessionXml": "describes an atlas, not an exposure",
    "defects": "is a list of camera defects, not an exposure",
}
_BEGINNINGS = (b"<", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b" ", b"\r", b"\n", b"\t")
_KINDS = ((r"FoilHole_\d+_Data_", "exposure"), ("FoilHole_", "hole"), ("GridSquare_", "square"), ("Atlas_", "atlas"))
_DATA_NAME = re.compile(r"FoilHole_(\d+)_Data_(\d+_\d+|\d+)(?:_\d+)*_\d{8}_\d{6}")


@dataclass(frozen=True)
class EpuImage:
    """An exposure's XML: values by their path of local names below the root, and the lists of keys and values.

    values : for example ``microscopeData/gun/AccelerationVoltage``
    custom : EPU's own keys (Dose in e⁻/m², AppliedDefocus in m, PhasePlateUsed ...)
    camera : the camera's keys (ElectronCountingEnabled, SuperResolutionFactor ...)
    """

    path: Path
    values: Mapping[str, str]
    custom: Mapping[str, str]
    camera: Mapping[str, str]

    @property
    def kind(self) -> str:
        """What was recorded, told by the file's name: exposure, hole, square, atlas, or empty for another name."""
        return next((kind for pattern, kind in _KINDS if re.match(pattern, self.path.name)), "")

    def number(self, name: str) -> float | None:
        """Return a value as a number, None where it is missing or not one."""
        return _number(self.values.get(name))

    def facts(self, *, frame_shape: tuple[int, int] | None = None) -> Facts:
        """Return the exposure's facts by their names, in our units; what is not recorded is left out.

        exposure_dose in e⁻/Å², defocus_target in Å (positive is underfocus), stage in µm, tilt_angle in degrees;
        unbinned_pixel_size is that of the camera's pixels.

        frame_shape : (y, x) of the movie. The XML holds the pixel size of the image EPU saved, which may be binned
            while the movie is not; given this, pixel_size is the movie's, and left out where the sizes do not fit.
        """
        facts: Facts = {}
        for fact, (name, factor) in _NUMBERS.items():
            value = self.number(name)
            if value is not None and (fact in _SIGNED or value > 0):
                facts[fact] = _rounded(value * factor)
        if "pixel_size" in facts and float(facts.get("binning", 0.0)) >= 0.01:
            facts["unbinned_pixel_size"] = _rounded(float(facts["pixel_size"]) / float(facts["binning"]))
        if frame_shape is not None and "pixel_size" in facts:
            scale = self._scale(frame_shape)
            pixel_size = float(facts.pop("pixel_size"))
            if scale:
                facts["pixel_size"] = _rounded(pixel_size / scale)
                facts |= super_resolution(facts)
        defocus = _number(self.custom.get("AppliedDefocus"))
        if defocus is not None:
            facts["defocus_target"] = _rounded(-defocus * 1e10)
        if recorded := _moment(self.values.get("microscopeData/acquisition/acquisitionDateTime")):
            facts["recorded_at"] = recorded
        camera = self.custom.get("DetectorCommercialName") or self.values.get("microscopeData/acquisition/camera/Name")
        microscope = self.values.get("microscopeData/instrument/InstrumentModel")
        facts |= {name: text for name, text in (("camera", camera), ("microscope", microscope)) if text}
        if found := _DATA_NAME.search(self.path.name):
            facts |= {"hole": found[1], "acquisition_area": found[2]}
        return facts | self._doses()

    def _doses(self) -> Facts:
        """Dose and number of fractions; the dose of a fraction only where all are of one length."""
        facts: Facts = {}
        dose = _number(self.custom.get("Dose"))
        if dose is not None and dose > 0:
            facts |= {"exposure_dose": _rounded(dose * 1e-20), "dose_origin": "Dose"}
        equal = _number(self.camera.get("FractionationSettings/NumberOffractions"))
        listed = _number(self.camera.get("FractionationSettings/DoseFractions"))
        count = int(equal or listed or 0)
        if count > 0:
            facts["frame_count"] = count
        if equal and count > 0 and "exposure_dose" in facts:
            facts["dose_per_frame"] = _rounded(float(facts["exposure_dose"]) / count)
        return facts

    def _scale(self, frame_shape: tuple[int, int]) -> float | None:
        """How many times finer the movie is than the image EPU saved: a power of 2, None where the sizes do not fit."""
        camera = "microscopeData/acquisition/camera/ReadoutArea"
        height, width = (self.number(f"{camera}/{side}") or 0.0 for side in ("height", "width"))
        return grid_ratio(frame_shape, (height, width))


_NUMBERS = {
    "pixel_size": ("SpatialScale/pixelSize/x/numericValue", 1e10),
    "voltage": ("microscopeData/gun/AccelerationVoltage", 1e-3),
    "magnification": ("microscopeData/optics/TemMagnification/NominalMagnification", 1.0),
    "exposure_time": ("microscopeData/acquisition/camera/ExposureTime", 1.0),
    "binning": ("microscopeData/acquisition/camera/Binning/x", 1.0),
    "spot_size": ("microscopeData/optics/SpotIndex", 1.0),
    "energy_slit_width": ("microscopeData/optics/EnergyFilter/EnergySelectionSlitWidth", 1.0),
    "tilt_angle": ("microscopeData/stage/Position/A", 180 / math.pi),
    "stage_x": ("microscopeData/stage/Position/X", 1e6),
    "stage_y": ("microscopeData/stage/Position/Y", 1e6),
    "stage_z": ("microscopeData/stage/Position/Z", 1e6),
    "beam_shift_x": ("microscopeData/optics/BeamShift/_x", 1.0),
    "beam_shift_y": ("microscopeData/optics/BeamShift/_y", 1.0),
    "beam_tilt_x": ("microscopeData/optics/BeamTilt/_x", 1.0),
    "beam_tilt_y": ("microscopeData/optics/BeamTilt/_y", 1.0),
}
_SIGNED = {
    "tilt_angle", "stage_x", "stage_y", "stage_z", "beam_shift_x", "beam_shift_y", "beam_tilt_x", "beam_tilt_y",
}  # fmt: skip


def read(path: str | os.PathLike[str]) -> EpuImage:
    """Read an exposure's XML. Raises FormatError with the reason for other XML, broken XML and other files."""
    source = ByteSource(path)
    try:
        head = source.read(0, 16)
    finally:
        source.close()
    if not head:
        raise FormatError(f"{path}: is empty (0 bytes)")
    if not head.startswith(_BEGINNINGS):
        raise FormatError(f"{path}: is not XML (begins with {head[:8].hex(' ')})")
    content = read_unpacked(path)
    try:
        root = fromstring(content)
    except ParseError as error:
        raise FormatError(
            f"{path}: is not whole XML ({error}; {len(content)} bytes); was it copied while being written?"
        ) from error
    except (DefusedXmlException, ValueError, LookupError) as error:
        raise FormatError(f"{path}: XML with entities or an unknown encoding is not read ({error})") from error
    name = _local(root)
    if name != "MicroscopeImage":
        raise FormatError(f"{path}: XML of {name} {_OTHERS.get(name, 'is not an exposure of EPU (MicroscopeImage)')}")
    values: dict[str, str] = {}
    custom: dict[str, str] = {}
    camera: dict[str, str] = {}
    for child in root:
        if _local(child) == "CustomData":
            custom |= _keys(child)
        else:
            _collect(child, _local(child), values, camera)
    if not any(key.startswith("microscopeData/") for key in values):
        raise FormatError(f"{path}: MicroscopeImage without microscopeData; is it complete?")
    return EpuImage(Path(path), values, custom, camera)


def _local(element: Any) -> str:
    return str(element.tag).rsplit("}", 1)[-1]


def _collect(element: Any, path: str, values: dict[str, str], camera: dict[str, str]) -> None:
    """Walk the tree without recursion, so that a file nested without end is no fault of ours."""
    waiting = [(element, path)]
    while waiting:
        node, name = waiting.pop()
        if _local(node) == "CameraSpecificInput":
            camera |= _keys(node)
        elif len(node):
            waiting += [(child, f"{name}/{_local(child)}") for child in node]
        elif node.text and node.text.strip():
            values.setdefault(name, node.text.strip())


def _keys(element: Any) -> dict[str, str]:
    """Read a list of Key and Value. Of a value that is a tree, each member is Key/member: its text, or its length."""
    found = {}
    for entry in element:
        parts = {_local(child): child for child in entry}
        if "Key" in parts and "Value" in parts and parts["Key"].text:
            name, value = parts["Key"].text.strip(), parts["Value"]
            found[name] = (value.text or "").strip()
            for child in value:
                found[f"{name}/{_local(child)}"] = str(len(child)) if len(child) else (child.text or "").strip()
    return found


_LARGEST = 1e30
"""Doses are in e⁻/m²; beyond this no number is of a microscope."""


def _number(text: str | None) -> float | None:
    try:
        # a value kept as text may be written as the language of the microscope's computer has it: 8,3E-11
        value = float(text.replace(",", ".") if text.count(",") == 1 else text) if text else math.nan
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None


def _moment(text: str | None) -> str | None:
    """ISO text with microseconds at most: Windows writes seven digits."""
    try:
        return datetime.fromisoformat(text).isoformat() if text else None
    except ValueError:
        return None


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")
