"""RELION's ``micrographs_ctf.star``: the CTF of each micrograph, and the optics they share.

Since version 3.1 the optics are in a table of their own, numbered groups to which the micrographs refer; before, and in
Gctf's ``micrographs_all_gctf.star``, they are repeated in each row of a single table. Phase shifts are in degrees.
RELION's defocus angle is counted from +x towards the rising row of the MRC file, as ours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focusnb.errors import FormatError
from focusnb.io import star
from focusnb.io.ctf_record import CtfLimits, CtfOptics, MicrographCtf, finite, judge_ctf, order_defocus, positive
from focusnb.io.ctffind import complete_lines
from focusnb.parameters import Declared
from focusnb.quantities import (
    AmplitudeContrast,
    Astigmatism,
    AstigmatismAngle,
    CtfFitResolution,
    CtfScore,
    DefocusU,
    DefocusV,
    MicrographDoseWeighted,
    MicrographPixelSize,
    PhaseShift,
    PixelSize,
    SphericalAberration,
    Voltage,
)

if TYPE_CHECKING:
    from pandas import DataFrame


class _Columns(Declared):
    """The values these files hold, from whose declarations their STAR names are taken."""

    micrograph: MicrographDoseWeighted
    defocus_u: DefocusU
    defocus_v: DefocusV
    astigmatism: Astigmatism
    astigmatism_angle: AstigmatismAngle
    phase_shift: PhaseShift
    ctf_score: CtfScore
    ctf_fit_resolution: CtfFitResolution
    pixel_size: PixelSize
    voltage: Voltage
    spherical_aberration: SphericalAberration
    amplitude_contrast: AmplitudeContrast
    micrograph_pixel_size: MicrographPixelSize


STAR_NAMES: dict[str, str] = {spec.name: spec.star for spec in _Columns.specs() if spec.star}
_GROUP, _GROUP_NAME, _MTF, _IMAGE = "rlnOpticsGroup", "rlnOpticsGroupName", "rlnMtfFileName", "rlnCtfImage"
_GCTF_RESOLUTION = "rlnFinalResolution"
_MAGNIFICATION, _DETECTOR_PIXEL = "rlnMagnification", "rlnDetectorPixelSize"  # µm
_MISSING = "None"
_WORST_RESOLUTION = 25.0  # Å; RELION writes this for every worse or missing one


def read_micrographs_ctf(path: str | os.PathLike[str], *, limits: CtfLimits | None = None) -> list[MicrographCtf]:
    """Read RELION's ``micrographs_ctf.star``, old or new, or Gctf's table; one judged record for each micrograph.

    Raises FormatError where there is no such table, a column that is needed or an optics group is missing, or words
    stand where numbers belong.
    """
    path = Path(path)
    complete_lines(path)
    try:
        blocks = star.read(path)
    except OverflowError as error:
        raise FormatError(f"{path}: holds a number no microscope gives ({error}); is the file damaged?") from error
    table = _micrographs(path, blocks)
    groups = read_groups(path, blocks.get("optics"))
    rows: list[dict[str, Any]] = [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]
    gctf = _GCTF_RESOLUTION in table.columns
    records = []
    for number, values in enumerate(rows, start=1):
        row = Row(path, number, values)
        u, v, angle = order_defocus(row.number("defocus_u"), row.number("defocus_v"), row.number("astigmatism_angle"))
        resolution = _GCTF_RESOLUTION if gctf else STAR_NAMES["ctf_fit_resolution"]
        told = [
            name
            for name, label in (("ctf_score", STAR_NAMES["ctf_score"]), ("ctf_fit_resolution", resolution))
            if label in values
        ]
        record = MicrographCtf(
            micrograph=row.text(STAR_NAMES["micrograph"]),
            defocus_u=u,
            defocus_v=v,
            astigmatism_angle=angle,
            phase_shift=row.number("phase_shift"),
            ctf_score=row.number("ctf_score"),
            ctf_fit_resolution=positive(row.labelled(resolution)),
            ctf_image=row.text(_IMAGE),
            optics=group_of(path, groups, row) if groups else row.optics(),
            program="Gctf" if gctf else "RELION",
            number=number,
        )
        records.append(judge_ctf(record, told=told, limits=limits))
    return records


def write_micrographs_ctf(
    path: str | os.PathLike[str], micrographs: Sequence[MicrographCtf], *, comment: str = ""
) -> list[str]:
    """Write ``micrographs_ctf.star`` as RELION 3.1 and later read it, atomically; returns the names left out.

    A micrograph whose fit failed or has no defocus is left out: RELION has no mark for it and would use the numbers.
    Micrographs of the same optics share a group; groups without a name are called opticsGroup1, opticsGroup2 ...

    comment : one line at the top

    Raises ValueError where no micrograph is left, optics are not complete, or two different optics have one name.
    """
    import pandas

    written = [ctf for ctf in micrographs if _is_usable(ctf)]
    if not written:
        raise ValueError(f"{path}: none of {len(micrographs)} micrographs has a defocus that did not fail")
    groups = _number_groups(path, written)
    optics = pandas.DataFrame([_optics_row(group, number) for group, number in groups.items()])
    if not any(group.mtf_name for group in groups):
        optics = optics.drop(columns=_MTF)
    rows = pandas.DataFrame([_micrograph_row(ctf, groups[ctf.optics]) for ctf in written])
    unused = {
        _IMAGE: not any(ctf.ctf_image for ctf in written),
        STAR_NAMES["phase_shift"]: not any(ctf.phase_shift for ctf in written),
        STAR_NAMES["ctf_score"]: all(ctf.ctf_score is None for ctf in written),
        STAR_NAMES["ctf_fit_resolution"]: all(ctf.ctf_fit_resolution is None for ctf in written),
    }
    rows = rows.drop(columns=[name for name, drop in unused.items() if drop])
    star.write(path, {"optics": optics, "micrographs": rows}, comment=comment)
    return [ctf.micrograph for ctf in micrographs if not _is_usable(ctf)]


class Row:
    """One row of a table, with the file and its number for messages."""

    def __init__(self, path: Path, number: int, values: Mapping[str, Any]) -> None:
        """Keep a row; number from 1."""
        self.path, self.place, self.values = path, number, values

    def text(self, label: str) -> str:
        """Return a column as text, empty where it is missing or None."""
        value = self.values.get(label, "")
        return "" if value is None or value != value or str(value) == _MISSING else str(value)

    def labelled(self, label: str) -> float | None:
        """Return a column as a finite number, None where it is missing or not finite."""
        value = self.values.get(label)
        if value is None or value == _MISSING:
            return None
        try:
            return finite(float(value))
        except (TypeError, ValueError, OverflowError) as error:
            raise FormatError(
                f"{self.path}: row {self.place} has {value!r} for {label} where a number belongs; is the file complete?"
            ) from error

    def number(self, name: str) -> float | None:
        """Return a declared value as a finite number, None where it is missing or not finite."""
        return self.labelled(STAR_NAMES[name])

    def optics(self) -> CtfOptics:
        """Return the optics that stand in the row."""
        recorded, aligned = self.number("pixel_size"), self.number("micrograph_pixel_size")
        detector, magnification = self.labelled(_DETECTOR_PIXEL), self.labelled(_MAGNIFICATION)
        if aligned is None and detector and magnification:
            aligned = 1e4 * detector / magnification
        return CtfOptics(
            micrograph_pixel_size=aligned or recorded,
            voltage=self.number("voltage"),
            spherical_aberration=self.number("spherical_aberration"),
            amplitude_contrast=self.number("amplitude_contrast"),
            pixel_size=recorded,
            name=self.text(_GROUP_NAME),
            mtf_name=self.text(_MTF),
        )


def _is_usable(ctf: MicrographCtf) -> bool:
    return ctf.ctf_quality != "failed" and None not in (ctf.defocus_u, ctf.defocus_v, ctf.astigmatism_angle)


def _micrographs(path: Path, blocks: Mapping[str, Any]) -> DataFrame:
    """Find the table of micrographs; the old format gives it no name."""
    needed = [STAR_NAMES[name] for name in ("micrograph", "defocus_u", "defocus_v", "astigmatism_angle")]
    if "particles" in blocks:
        raise FormatError(f"{path}: holds particles (data_particles); give the table of micrographs")
    tables = {name: block for name, block in blocks.items() if name != "optics" and hasattr(block, "itertuples")}
    complete = [name for name, block in tables.items() if not set(needed) - set(block.columns)]
    if len(complete) != 1:
        names = ", ".join(f"data_{name}" for name in blocks)
        best = min((sorted(set(needed) - set(block.columns)) for block in tables.values()), key=len, default=needed)
        fault = f"lacks {', '.join(best)}" if not complete else f"has {len(complete)} tables of micrographs"
        raise FormatError(f"{path}: {fault} ({names}); is it micrographs_ctf.star, and complete?")
    table: DataFrame = tables[complete[0]]
    if not len(table):
        raise FormatError(f"{path}: data_{complete[0]} has 0 micrographs; is the file complete?")
    return table


def read_groups(path: Path, block: Any) -> dict[int, CtfOptics]:
    """Return the optics of ``data_optics`` by the number of the group; none where there is no such table."""
    if block is None:
        return {}
    values = block.to_dict("records") if hasattr(block, "itertuples") else [block]
    groups: dict[int, CtfOptics] = {}
    for number, row in enumerate((Row(path, place, entry) for place, entry in enumerate(values, start=1)), start=1):
        group = row.labelled(_GROUP)
        if group is None:
            raise FormatError(f"{path}: row {number} of data_optics has no {_GROUP}; is the file complete?")
        groups[int(group)] = row.optics()
    return groups


def group_of(path: Path, groups: Mapping[int, CtfOptics], row: Row) -> CtfOptics:
    """Return the optics of a row; FormatError where its group is not among them."""
    group = row.labelled(_GROUP)
    if group is None or int(group) not in groups:
        raise FormatError(
            f"{path}: row {row.place} belongs to optics group {row.values.get(_GROUP)}, data_optics has "
            f"{', '.join(map(str, groups))}; is the file complete?"
        )
    return groups[int(group)]


def _number_groups(path: str | os.PathLike[str], micrographs: Sequence[MicrographCtf]) -> dict[CtfOptics, int]:
    """Number different optics from 1 in the order in which they occur."""
    groups: dict[CtfOptics, int] = {}
    names: dict[str, CtfOptics] = {}
    for ctf in micrographs:
        if ctf.optics in groups:
            continue
        needed = ("micrograph_pixel_size", "voltage", "spherical_aberration", "amplitude_contrast")
        if missing := [name for name in needed if getattr(ctf.optics, name) is None]:
            raise ValueError(f"{path}: {ctf.micrograph} has no {', '.join(missing)}, which RELION needs")
        groups[ctf.optics] = len(groups) + 1
        name = _group_name(ctf.optics, groups[ctf.optics])
        if name in names:
            raise ValueError(f"{path}: two optics groups are called {name}: {names[name]} and {ctf.optics}")
        names[name] = ctf.optics
    return groups


def _group_name(optics: CtfOptics, number: int) -> str:
    return optics.name or f"opticsGroup{number}"


def _optics_row(optics: CtfOptics, number: int) -> dict[str, Any]:
    return {
        _GROUP_NAME: _group_name(optics, number),
        _GROUP: number,
        _MTF: optics.mtf_name or _MISSING,
        STAR_NAMES["pixel_size"]: optics.pixel_size or optics.micrograph_pixel_size,
        STAR_NAMES["voltage"]: optics.voltage,
        STAR_NAMES["spherical_aberration"]: optics.spherical_aberration,
        STAR_NAMES["amplitude_contrast"]: optics.amplitude_contrast,
        STAR_NAMES["micrograph_pixel_size"]: optics.micrograph_pixel_size,
    }


def _micrograph_row(ctf: MicrographCtf, group: int) -> dict[str, Any]:
    u, v, angle = order_defocus(ctf.defocus_u, ctf.defocus_v, ctf.astigmatism_angle)
    ordered = replace(ctf, defocus_u=u, defocus_v=v, astigmatism_angle=angle)
    return {
        STAR_NAMES["micrograph"]: ctf.micrograph,
        _GROUP: group,
        _IMAGE: ctf.ctf_image or _MISSING,
        STAR_NAMES["defocus_u"]: u,
        STAR_NAMES["defocus_v"]: v,
        STAR_NAMES["astigmatism"]: ordered.astigmatism,
        STAR_NAMES["astigmatism_angle"]: angle,
        STAR_NAMES["phase_shift"]: ctf.phase_shift or 0.0,
        STAR_NAMES["ctf_score"]: ctf.ctf_score or 0.0,
        STAR_NAMES["ctf_fit_resolution"]: (
            _WORST_RESOLUTION if ctf.ctf_fit_resolution is None else ctf.ctf_fit_resolution
        ),
    }
