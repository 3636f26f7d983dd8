"""Folders as microscope programs leave them, with tiny movies and metadata, and what is true of each movie.

    tree = write_epu(folder)
    tree.truth[tree.movies[0]]["hole"]

Names, keys and the order of keys follow the real files in ``shared/data``; movies are Poisson counts of 3 frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff

FRAMES = 3
SHAPE = (32, 48)
"""Rows and columns of a frame."""

BEGIN = datetime(2024, 8, 31, 20, 5, 51)
BETWEEN = timedelta(seconds=17)


@dataclass
class Tree:
    """A session on disk.

    folder : what is to be imported
    truth : facts of each movie, by the names of facts, in the order of recording
    metadata : the mdoc or XML of each movie, or of its series
    gain : the gain reference beside the movies, None where there is none
    """

    folder: Path
    truth: dict[Path, dict[str, Any]] = field(default_factory=dict)
    metadata: dict[Path, Path] = field(default_factory=dict)
    gain: Path | None = None

    @property
    def movies(self) -> list[Path]:
        """The movies in the order of recording."""
        return list(self.truth)


def write_movie(path: Path, *, seed: int, shape: tuple[int, int] = SHAPE, frames: int = FRAMES) -> Path:
    """A movie of Poisson counts, as TIFF without a pixel size: a camera's programs leave that to the metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = np.random.default_rng(seed).poisson(3, (frames, *shape)).astype(np.uint8)
    write_tiff(path, counts)
    return path


def write_epu(
    folder: Path,
    *,
    squares: int = 2,
    holes: int = 2,
    areas: int = 2,
    super_resolution: bool = False,
    suffix: str = "_Fractions.tiff",
    overviews: bool = False,
    seed: int = 0,
) -> Tree:
    """A session of EPU: ``<folder>/Images-Disc1/GridSquare_<id>/Data/FoilHole_..._Data_..._Fractions.tiff`` with XML.

    super_resolution : the movie is twice as fine as the image that the XML describes
    overviews : with images of each square and hole, which are no exposures

    Beside each XML lies one of the fractions, which must not be taken for it.
    """
    tree = Tree(folder)
    number = 0
    shape = (2 * SHAPE[0], 2 * SHAPE[1]) if super_resolution else SHAPE
    for square in range(31900001, 31900001 + squares):
        place = folder / "Images-Disc1" / f"GridSquare_{square}"
        if overviews:
            write_overview(place / f"GridSquare_{BEGIN:%Y%m%d_%H%M%S}.mrc")
        for hole in range(square + 1000, square + 1000 + holes):
            if overviews:
                write_overview(place / "FoilHoles" / f"FoilHole_{hole}_{BEGIN:%Y%m%d_%H%M%S}.mrc")
            for area in range(areas):
                moment = BEGIN + number * BETWEEN
                pair = f"{5338216 + 68 * area}_{5338218 + 68 * area}"
                stem = f"FoilHole_{hole}_Data_{pair}_{moment:%Y%m%d_%H%M%S}"
                movie = write_movie(place / "Data" / f"{stem}{suffix}", seed=seed + number, shape=shape)
                stage = (600.0 + number, -300.0 - 2 * number, 10.0)
                xml = movie.with_name(f"{stem}.xml")
                xml.write_text(_epu_xml(stage, moment + timedelta(seconds=2)), "utf-8")
                movie.with_name(f"{stem}_Fractions.xml").write_text("<Acquisition><Info/></Acquisition>")
                tree.metadata[movie] = xml
                tree.truth[movie] = {
                    "session": folder.name, "square": str(square), "hole": str(hole), "acquisition_area": pair,
                    "voltage": 300.0, "magnification": 105000.0, "pixel_size": 0.415 if super_resolution else 0.83,
                    "exposure_dose": 40.0, "dose_per_frame": 40.0 / FRAMES, "exposure_time": 3.5, "frame_count": FRAMES,
                    "defocus_target": 12500.0, "tilt_angle": 0.0, "camera": "BioQuantum K3",
                    "stage_x": stage[0], "stage_y": stage[1], "stage_z": stage[2], "kind": "movie",
                    "width": shape[1], "height": shape[0],
                }  # fmt: skip
                number += 1
    return tree


def write_overview(path: Path) -> None:
    """An image of a square or a hole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mrc(path, np.ones(SHAPE, np.float32), pixel_size=100.0)


def _epu_xml(stage: tuple[float, float, float], recorded: datetime) -> str:
    x, y, z = (1e-6 * value for value in stage)
    return f"""<?xml version="1.0" encoding="utf-8"?>
<MicroscopeImage xmlns="http://schemas.datacontract.org/2004/07/Fei.SharedObjects"
 xmlns:i="http://www.w3.org/2001/XMLSchema-instance" xmlns:a="http://schemas.microsoft.com/2003/10/Arrays">
 <CustomData>
  <a:KeyValueOfstringanyType><a:Key>Dose</a:Key><a:Value>4.0E+21</a:Value></a:KeyValueOfstringanyType>
  <a:KeyValueOfstringanyType><a:Key>DetectorCommercialName</a:Key><a:Value>BioQuantum K3</a:Value>
  </a:KeyValueOfstringanyType>
  <a:KeyValueOfstringanyType><a:Key>AppliedDefocus</a:Key><a:Value>-1.25E-06</a:Value></a:KeyValueOfstringanyType>
 </CustomData>
 <SpatialScale><pixelSize><x><numericValue>8.3E-11</numericValue></x></pixelSize></SpatialScale>
 <microscopeData>
  <acquisition>
   <acquisitionDateTime>{recorded.isoformat()}.4491251+02:00</acquisitionDateTime>
   <camera>
    <Binning><a:x>1</a:x><a:y>1</a:y></Binning>
    <CameraSpecificInput>
     <a:KeyValueOfstringanyType><a:Key>FractionationSettings</a:Key>
      <a:Value><NumberOffractions>{FRAMES}</NumberOffractions></a:Value></a:KeyValueOfstringanyType>
    </CameraSpecificInput>
    <ExposureTime>3.5</ExposureTime><Name>EF-CCD</Name>
    <ReadoutArea><a:height>{SHAPE[0]}</a:height><a:width>{SHAPE[1]}</a:width></ReadoutArea>
   </camera>
  </acquisition>
  <gun><AccelerationVoltage>300000</AccelerationVoltage></gun>
  <optics><TemMagnification><NominalMagnification>105000</NominalMagnification></TemMagnification></optics>
  <stage><Position><A>0</A><B>0</B><X>{x:.9g}</X><Y>{y:.9g}</Y><Z>{z:.9g}</Z></Position></stage>
 </microscopeData>
</MicroscopeImage>
"""


def write_serialem(
    folder: Path, *, movies: int = 6, shots: int = 3, super_resolution: bool = False, mdoc: bool = True, seed: int = 0
) -> Tree:
    """Single exposures of SerialEM, each with its mdoc of one FrameSet, and their gain reference in the same folder."""
    tree = Tree(folder)
    shape = (2 * SHAPE[0], 2 * SHAPE[1]) if super_resolution else SHAPE
    for number in range(1, movies + 1):
        moment = BEGIN + number * BETWEEN
        stem = f"apo_grid2_{number:05d}_{moment:%b%d_%H.%M.%S}"
        movie = write_movie(folder / f"{stem}.tif", seed=seed + number, shape=shape)
        hole, shot = divmod(number - 1, shots)
        pixel_size = 0.53 if super_resolution else 1.06
        stage = (-114.718 + number, -37.9638)
        keys = {
            "TiltAngle": "0.000488", "StagePosition": f"{stage[0]:g} {stage[1]:g}", "StageZ": "83.3138",
            "Magnification": "81000", "ExposureDose": "0", "DoseRate": "15.0", "PixelSpacing": f"{pixel_size:g}",
            "ImageShift": f"{0.5 * shot:g} -0.25", "RotationAngle": "178.2", "ExposureTime": "3.6",
            "Binning": "0.5" if super_resolution else "1", "TargetDefocus": "-1.8",
            "SubFramePath": f"X:\\Data\\apo grid2\\{movie.name}", "NumSubFrames": str(FRAMES),
            "FrameDosesAndNumber": f"16.0 {FRAMES}", "DateTime": f"{moment:%d-%b-%y  %H:%M:%S}",
            "MultiShotHoleAndPosition": f"{hole + 1} {shot + 1}", "NavigatorLabel": f"{hole + 7}-A",
            "GainReference": "CountRef_apo.mrc",
        }  # fmt: skip
        if mdoc:
            tree.metadata[movie] = movie.with_name(f"{movie.name}.mdoc")
            text = "T = SerialEM: Acquired on Titan Krios3 D3593\nVoltage = 300\n\n[FrameSet = 0]\n"
            text += "".join(f"{key} = {value}\n" for key, value in keys.items()) + "\n"
            tree.metadata[movie].write_bytes(text.replace("\n", "\r\n").encode())
        tree.truth[movie] = {
            "series": "apo_grid2", "exposure_number": number, "frame_count": FRAMES, "kind": "movie",
            "width": shape[1], "height": shape[0],
        }  # fmt: skip
        if mdoc:
            tree.truth[movie] |= {
                "voltage": 300.0, "magnification": 81000.0, "pixel_size": pixel_size, "dose_per_frame": 16.0,
                "exposure_dose": 48.0, "exposure_time": 3.6, "defocus_target": 18000.0, "tilt_angle": 0.000488,
                "stage_x": stage[0], "stage_y": stage[1], "stage_z": 83.3138, "image_shift_x": 0.5 * shot,
                "image_shift_y": -0.25, "hole": str(hole + 1), "acquisition_area": str(shot + 1),
                "recorded_at": moment.isoformat(),
            }  # fmt: skip
    tree.gain = folder / "CountRef_apo.mrc"
    write_mrc(tree.gain, np.ones(shape, np.float32), pixel_size=1.0)
    return tree


def dose_symmetric(tilts: int, step: float = 3.0) -> list[float]:
    """Tilt angles as Hagen's scheme records them: 0, 3, -3, -6, 6, 9, ..."""
    angles, sign = [0.0], 1.0
    while len(angles) < tilts:
        size = step * ((len(angles) + 1) // 2)
        angles.append(sign * size)
        if len(angles) % 2 == 0:
            sign = -sign
    return angles[:tilts]


def write_serialem_tilts(folder: Path, *, series: int = 1, tilts: int = 5, seed: int = 0) -> Tree:
    """Tilt series of SerialEM: movies in ``<folder>/frames``, an mdoc for each series in the folder above them."""
    tree = Tree(folder / "frames")
    for position in range(1, series + 1):
        name = f"TS_{position:02d}"
        mdoc = folder / f"{name}.mrc.mdoc"
        sections = [
            f"PixelSpacing = 5.4\nVoltage = 300\nImageFile = {name}.mrc\nImageSize = {SHAPE[1] // 4} {SHAPE[0] // 4}\n"
            "DataMode = 1\n\n[T =     Tilt axis angle = 85.3, binning = 4  spot = 8  camera = 0]\n"
        ]
        for number, angle in enumerate(dose_symmetric(tilts)):
            moment = BEGIN + (100 * position + number) * BETWEEN
            movie = tree.folder / f"{name}_{number:03d}_{angle:.1f}.tif"
            write_movie(movie, seed=seed + 100 * position + number)
            sections.append(
                f"[ZValue = {number}]\nTiltAngle = {angle + 0.0069:.4f}\nStagePosition = 12.5 -33.25\nStageZ = 163.8\n"
                f"Magnification = 64000\nExposureDose = 3\nPixelSpacing = 5.4\nBinning = 4\nExposureTime = 0.8\n"
                f"TargetDefocus = -3\nPriorRecordDose = {3 * number}\nImageShift = -0.01 0.02\nRotationAngle = 175.3\n"
                f"SubFramePath = D:\\DATA\\Session\\frames\\{movie.name}\nNumSubFrames = {FRAMES}\n"
                f"DateTime = {moment:%d-%b-%y  %H:%M:%S}\n"
            )
            tree.metadata[movie] = mdoc
            tree.truth[movie] = {
                "series": name, "exposure_number": number, "tilt_angle": angle + 0.0069, "tilt_axis": 85.3,
                "voltage": 300.0, "magnification": 64000.0, "pixel_size": 1.35, "exposure_dose": 3.0,
                "dose_per_frame": 3.0 / FRAMES, "prior_dose": 3.0 * number, "defocus_target": 30000.0,
                "frame_count": FRAMES, "recorded_at": moment.isoformat(), "kind": "movie",
            }  # fmt: skip
        mdoc.write_text("\n".join(sections) + "\n")
    return tree


def write_tomo5(
    folder: Path,
    *,
    positions: int = 2,
    tilts: int = 3,
    suffix: str = "_fractions.tiff",
    old: bool = False,
    seed: int = 0,
) -> Tree:
    """Tilt series of Tomo5: ``Position_1_001_0.00_<date>_<time>_fractions.tiff`` and an mdoc for each position.

    old : as older versions write it, the angle in brackets
    """
    tree = Tree(folder)
    for position in range(1, positions + 1):
        name = "Position_1" if position == 1 else f"Position_1_{position}"
        sections = ["PixelSpacing = 2.68\nVoltage = 300\nDataMode = 1\n\n[T = Tilt axis angle = -95.0, binning = 1]\n"]
        for number, angle in enumerate(dose_symmetric(tilts), start=1):
            moment = BEGIN + (100 * position + number) * BETWEEN
            shown = f"[{angle:.2f}]" if old else f"{angle:.2f}"
            movie = folder / f"{name}_{number:03d}_{shown}_{moment:%Y%m%d_%H%M%S}{suffix}"
            write_movie(movie, seed=seed + 100 * position + number)
            sections.append(
                f"[ZValue = {number - 1}]\nTiltAngle = {angle + 0.0112:.4f}\nStagePosition = 1.5 -2.5\n"
                "Magnification = 42000\nExposureDose = 2.5\nPixelSpacing = 2.68\nBinning = 1\nExposureTime = 1.2\n"
                f"TargetDefocus = -4\nImageShift = 0 0\nSubFramePath = Z:\\tomo\\{movie.name}\n"
                f"NumSubFrames = {FRAMES}\nDateTime = {moment:%d-%b-%Y  %H:%M:%S}\n"
            )
            tree.metadata[movie] = folder / f"{name}.mdoc"
            tree.truth[movie] = {
                "series": name, "exposure_number": number, "tilt_angle": angle + 0.0112, "tilt_axis": None,
                "recorded_at": moment.isoformat(), "exposure_dose": 2.5, "frame_count": FRAMES, "kind": "movie",
                "defocus_target": 40000.0, "magnification": 42000.0, "voltage": 300.0,
            }  # fmt: skip
        (folder / f"{name}.mdoc").write_text("\n".join(sections) + "\n")
        (folder / f"{name}_override.mdoc").write_text(
            "\n".join(sections).replace("ExposureDose = 2.5", "ExposureDose = 9")
        )
    return tree


def write_leginon(folder: Path, *, squares: int = 2, holes: int = 2, shots: int = 2, seed: int = 0) -> Tree:
    """A session of Leginon: names only, for its metadata are in a database."""
    tree = Tree(folder)
    number = 0
    for square in range(3, 3 + squares):
        for hole in range(5, 5 + holes):
            for shot in range(2, 2 + shots):
                chain = f"00012gr_{square:05d}sq_v01_{hole:05d}hl"
                movie = folder / f"19jan04a_{chain}_{shot:05d}en.frames.tif"
                write_movie(movie, seed=seed + number)
                tree.truth[movie] = {
                    "session": "19jan04a", "grid": "00012gr", "square": f"00012gr_{square:05d}sq", "hole": chain,
                    "exposure_number": shot, "preset": "en", "frame_count": FRAMES, "kind": "movie",
                }  # fmt: skip
                number += 1
    return tree


def differing(truth: dict[str, Any], found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What was found that is not the truth: (true, found) by fact; numbers may differ by a millionth."""
    wrong = {}
    for name, true in truth.items():
        value = found.get(name)
        if isinstance(true, float) and value is not None:
            same = math.isclose(true, float(value), rel_tol=1e-6, abs_tol=1e-9)
        else:
            same = value == true
        if not same:
            wrong[name] = (true, value)
    return wrong
