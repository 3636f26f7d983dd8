"""Finished work of other programs, as they leave it, with known values: of RELION, MotionCor2 and Focus."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from focusnb.io.mrc import write_mrc
from focusnb.io.relion import write_motion

PIXEL = 0.885
MOVIE_PIXEL = 0.4425

OPTICS = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMtfFileName #3
_rlnMicrographOriginalPixelSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
_rlnMicrographPixelSize #8
opticsGroup1 1 mtf.star 0.442500 200.000000 1.400000 0.100000 0.885000
"""

FITS = {
    "a": (10863.9, 10575.7, 77.97, 0.131, 4.81),
    "b": (9836.5, 9586.7, -160.0, 0.169, 3.62),
    "c": (37034.9, 35846.5, -14.85, 0.0175, 25.0),
}
"""Defocus U, V, angle, score and resolution; the third fit failed."""


def shifts_of(name: str, frames: int = 8) -> np.ndarray:
    """The motion of a micrograph, (t, 2) dy, dx in pixels of the movie."""
    return np.cumsum(np.random.default_rng(ord(name)).normal(0, 1.5, (frames, 2)), axis=0)


def write_image(path: Path, *, side: int = 128, seed: int = 1, pixel_size: float = PIXEL) -> Path:
    """A small micrograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mrc(path, np.random.default_rng(seed).normal(10, 3, (side, side)).astype(np.float32), pixel_size=pixel_size)
    return path


def write_relion(folder: Path, *, weighted: bool = True, fits: dict[str, tuple[float, ...]] | None = None) -> Path:
    """A RELION project of three micrographs; returns micrographs_ctf.star. Movies are there for a and b."""
    fits = FITS if fits is None else fits
    corrected, ctf = [], []
    job = folder / "MotionCorr" / "job002"
    for seed, name in enumerate(fits):
        base = f"MotionCorr/job002/Movies/{name}"
        write_image(folder / f"{base}.mrc", seed=seed)
        columns = [f"{base}_PS.mrc", f"{base}.mrc", f"{base}.star", "1"]
        if weighted:
            write_image(folder / f"{base}_noDW.mrc", seed=seed + 50)
            write_image(folder / f"{base}_EVN.mrc", seed=seed + 60)
            write_image(folder / f"{base}_ODD.mrc", seed=seed + 70)
            columns += [f"{base}_noDW.mrc", f"{base}_EVN.mrc", f"{base}_ODD.mrc"]
        steps = np.sqrt((np.diff(shifts_of(name), axis=0) ** 2).sum(axis=1))
        columns += [f"{steps.sum():.6f}", f"{steps[:3].sum():.6f}", f"{steps[3:].sum():.6f}"]
        corrected.append(" ".join(columns))
        coefficients = np.zeros(36)
        coefficients[[3, 24, 30]] = 0.1, -0.02, 0.05
        if name != "c":
            write_motion(
                folder / f"{base}.star",
                movie_name=f"Movies/{name}.mrcs",
                shape=(8, 256, 256),
                shifts=shifts_of(name),
                pixel_size=MOVIE_PIXEL,
                dose_per_frame=1.25,
                prior_dose=0.5,
                voltage=200,
                binning=2,
                local_coefficients=coefficients if name == "a" else None,
                gain_name="Movies/gain.mrc",
            )
            frames = np.random.default_rng(seed).poisson(2, (8, 256, 256)).astype(np.uint8).astype(np.float32)
            (folder / "Movies").mkdir(exist_ok=True)
            write_mrc(folder / "Movies" / f"{name}.mrcs", frames, pixel_size=MOVIE_PIXEL)
        u, v, angle, score, resolution = fits[name]
        image = f"CtfFind/job003/Movies/{name}_PS.ctf:mrc"
        ctf.append(f"{base}.mrc 1 {image} {u} {v} {abs(u - v):.4f} {angle} {score} {resolution}")
    labels = ["CtfPowerSpectrum", "MicrographName", "MicrographMetadata", "OpticsGroup"]
    labels += ["MicrographNameNoDW", "MicrographNameEven", "MicrographNameOdd"] * weighted
    labels += ["AccumMotionTotal", "AccumMotionEarly", "AccumMotionLate"]
    (job / "corrected_micrographs.star").write_text(_star(labels, corrected))
    labels = ["MicrographName", "OpticsGroup", "CtfImage", "DefocusU", "DefocusV", "CtfAstigmatism", "DefocusAngle"]
    labels += ["CtfFigureOfMerit", "CtfMaxResolution"]
    (folder / "CtfFind" / "job003").mkdir(parents=True, exist_ok=True)
    path = folder / "CtfFind" / "job003" / "micrographs_ctf.star"
    path.write_text(_star(labels, ctf))
    return path


def _star(labels: list[str], rows: list[str]) -> str:
    columns = "\n".join(f"_rln{label} #{number}" for number, label in enumerate(labels, start=1))
    return f"{OPTICS}\n\n# version 30001\n\ndata_micrographs\n\nloop_\n{columns}\n" + "\n".join(rows) + "\n\n"


OUTPUT = """MotionCor2 version 1.4.7
-InTiff          {folder}/{name}.tif
-InEer           
-OutMrc          /gone/{name}_c.mrc
-Gain            
-FtBin           2.00
-InitDose        0.50
-FmDose          1.25
-PixSize         0.4425
-kV              200
-Throw           1
-Trunc           0

TIFF file size: 256  256  9
Stack mode: 0
Rendered size:  256  256  9
Full-frame alignment has been started.
Iteration  1  Error:     0.411

{table}

Global shifts are corrected: 0.26 sec
"""  # noqa: W291


def write_output(
    path: Path, name: str, shifts: np.ndarray, *, tabular: bool = False, folder: Path = Path("/x")
) -> Path:
    """MotionCor2's words on standard output, of before or since version 1.6; the first frame was thrown away."""
    if tabular:
        rows = ["Full-frame alignment", "  Frame   x Shift   y Shift"]
        rows += [f"{n:5d} {x:10.3f} {y:10.3f}" for n, (y, x) in enumerate(shifts, start=1)]
    else:
        rows = ["Full-frame alignment shift"]
        rows += [f"...... Frame ({n:3d}) shift: {x:9.3f} {y:9.3f}" for n, (y, x) in enumerate(shifts, start=1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OUTPUT.format(folder=folder, name=name, table="\n".join(rows)))
    return path


def write_motioncor(folder: Path) -> Path:
    """A folder of MotionCor2: movie a by its standard output, b by its -Patch-Full.log, with their sums."""
    for seed, stem in enumerate(("a_c", "b")):
        write_image(folder / f"{stem}.mrc", seed=seed)
        write_image(folder / f"{stem}_DW.mrc", seed=seed + 10)
    write_output(folder / "a_motioncor.log", "a", shifts_of("a"))
    rows = "\n".join(f"{n:4d}  {x:8.2f}  {y:8.2f}" for n, (y, x) in enumerate(shifts_of("b"), start=1))
    head = "# Patch based alignment\n# Initial alignment based upon full frames\n\n"
    (folder / "b-Patch-Full.log").write_text(f"{head}{rows}\n")
    patches = (
        "# Patch based alignment\n# Number of patches: 4\n# Shifts are listed per patch.\n# Movie size: 256  256  8\n\n"
    )
    (folder / "b-Patch-Patch.log").write_text(
        f"{patches}#Patch 001 raw and fit shifts\n   1    64.00    64.00     0.00\n"
    )
    return folder


PROJECT_CFG = """# 2dx_merge.cfg
#
# SYNC_WITH_UPPER_LEVEL: YES
set import_bin = "0"
set CS = "2.0"
set KV = "200.0"
set phacon = "0.9975"
set Calc_from_sample_pixel = "y"
"""


def write_focus(folder: Path) -> Path:
    """A Focus project: two groups and TRASH, four images; the third was not fitted, the fourth has no file."""
    (folder / "merge").mkdir(parents=True)
    (folder / "merge" / "2dx_merge.cfg").write_text(PROJECT_CFG)
    (folder / "2dx_master.cfg").symlink_to("merge/2dx_merge.cfg")
    images = {
        "grid1/0000000001": {
            "image_flag": "gold", "comment": "a good one", "defocus": "15120.5,14800.25,-35.5", "defocus_RESMAX": "3.9",
            "defocus_CCvalue": "0.21", "import_drift": "12.5", "specimen_name": "apo", "TLTANG": "-10.5",
            "TLTAXIS": "-53.2", "frame_dose": "1.1",
        },
        "grid2/0000000002": {
            "image_flag": "none", "comment": "-", "defocus": "14000,14500,10", "defocus_RESMAX": "4.5",
            "defocus_CCvalue": "0.15", "import_drift": "-", "TLTANG": "-", "TLTAXIS": "-",
        },
        "TRASH/0000000003": {"image_flag": "red", "defocus": "0,0,0", "comment": "empty"},
        "grid2/0000000004": {"image_flag": "green", "defocus": "0,0,0"},
    }  # fmt: skip
    for number, (name, values) in enumerate(images.items(), start=1):
        place = folder / name
        place.mkdir(parents=True)
        link = place.parent / "2dx_master.cfg"
        if not link.is_symlink():
            link.symlink_to("../2dx_master.cfg")
        values |= {
            "imagenumber": place.name, "imagename": "image_2dx", "nonmaskimagename": "image_2dx",
            "imagesidelength": "128", "sample_pixel": "1.06", "magnification": "47170", "stepdigitizer": "5.0",
            "import_original_time": f"{1_600_000_000_000 + 60_000 * number}", "movie_stackname": "movie_aligned",
        }  # fmt: skip
        lines = [f'# LOCKED: YES\nset {key} = "{value}"' for key, value in values.items()]
        (place / "2dx_image.cfg").write_text("# 2dx_image.cfg\n" + "\n".join(lines) + "\n")
        if number != 4:
            write_image(place / "movie_aligned_Sum.mrc", seed=number, pixel_size=1.06)
    rows = "\n".join(f"{x:.3f} {y:.3f}" for y, x in shifts_of("a"))
    (folder / "grid1" / "0000000001" / "motioncor2_shifts.txt").write_text(rows + "\n")
    return folder
