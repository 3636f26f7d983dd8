"""Profiles of microscopes: what a user's microscopes and cameras are, as ``~/.config/focusnb/microscopes.toml`` says.

[titan1]
voltage = 300
camera = "K3"
camera_pixels = "5760x4092"        # of a camera that is not one of CAMERAS: its physical pixels, width and height
gain_reference = "/data/references/titan1.mrc"

[titan1.pixel_size]                # Å/px of a physical pixel of the camera, by magnification
81000 = 1.058
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from focusnb.errors import ParameterError
from focusnb.io.files import write_text
from focusnb.io.settings_files import read_settings_file
from focusnb.project import facts as fact_rules
from focusnb.project.levels import configuration_folder
from focusnb.quantities import IMPORTED, Acquisition

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

_HEADER = re.compile(r"\s*\[\s*([A-Za-z0-9_-]+|\"[^\"]*\")\s*(?:\.[^\]]*)?\]")

REFERENCES = {"gain_reference": "gain reference", "defects": "defects file"}
"""Facts of a profile that are files, with their labels."""

_NOT_OF_A_MICROSCOPE = (
    *IMPORTED, "kind", "frame_count", "hardware_frames", "width", "height", "magnification", "recorded_at"
)  # fmt: skip
_SAME = 0.01
"""Relative difference below which two magnifications are one."""

CAMERAS: dict[str, tuple[int, int]] = {
    "k2": (3710, 3838), "k3": (4092, 5760), "falcon": (4096, 4096),
}  # fmt: skip
"""Physical pixels (y, x) of cameras, by a word of their names."""


@dataclass(frozen=True)
class Profile:
    """A microscope with its camera.

    facts : what holds for everything it records
    pixel_sizes : Å/px of a physical pixel of the camera, by magnification
    camera_pixels : physical pixels (y, x) of the camera, where the user tells them
    source : file and table, for messages
    """

    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    pixel_sizes: Mapping[float, float] = field(default_factory=dict)
    source: str = ""
    camera_pixels: tuple[int, int] | None = None

    @property
    def gain_reference(self) -> Path | None:
        """The file of its gain reference."""
        value = self.facts.get("gain_reference")
        return None if value is None else Path(value)

    def with_references(self, keep: Callable[[Path, str], str]) -> Profile:
        """The profile with its files as a project keeps them; ``keep`` takes a file and its label.

        Raises ParameterError, with the profile's name, for a file that is not there.
        """
        kept = dict(self.facts)
        for name, label in REFERENCES.items():
            if name in kept:
                path = Path(kept[name])
                if not path.is_file():
                    raise ParameterError(
                        f"{self.source}: its {label} {path} does not exist; correct it with "
                        f"'focusnb microscope set {self.name} {name}=FILE'"
                    )
                kept[name] = keep(path, label)
        return replace(self, facts=kept)

    def pixel_size_at(self, magnification: float) -> float | None:
        """The pixel size (Å/px, of a physical pixel) at a magnification, None where the profile has none for it."""
        near = min(self.pixel_sizes, key=lambda known: abs(known - magnification), default=None)
        if near is None or abs(near - magnification) > _SAME * magnification:
            return None
        return self.pixel_sizes[near]

    @property
    def magnifications(self) -> str:
        """The magnifications it knows, in words."""
        return ", ".join(f"{magnification:,g}" for magnification in sorted(self.pixel_sizes))


def config_file() -> Path:
    """Where profiles are kept."""
    return configuration_folder() / "microscopes.toml"


def profile_names() -> list[str]:
    """The names of all profiles, also of those in which something is wrong."""
    return list(read_settings_file(config_file()))


def read_profile(name: str) -> Profile:
    """Read one profile, whatever is wrong with others; ParameterError lists those there are."""
    path = config_file()
    tables = read_settings_file(path)
    if name not in tables:
        near = difflib.get_close_matches(name, tables, n=1)
        there_are = f"there are {', '.join(tables)}; " if tables else ""
        cure = (
            f"did you mean {near[0]}?" if near else f"{there_are}'focusnb microscope set {name} voltage=...' makes it"
        )
        raise ParameterError(f"{path}: there is no microscope {name}; {cure}")
    return _check(path, name, tables[name])


def change_profile(name: str, values: Mapping[str, str | None]) -> Profile:
    """Write values of a profile, made where there is none; a value of None, or an empty one, is taken out of it.

    values : facts by name, ``pixel_size@81000`` for the pixel size at a magnification, ``camera_pixels`` for the
        physical pixels of its camera as ``5760x4092``; files become absolute paths

    All are valid or none is written: ParameterError tells every fault. Tables of other microscopes, and what is written
    beside them, stay as they are.
    """
    if not NAME.fullmatch(name):
        raise ParameterError(f"{name!r}: name a microscope with letters, digits, dashes and underscores")
    path = config_file()
    tables = read_settings_file(path)
    present = tables.get(name, {})
    table: dict[str, Any] = dict(present) if isinstance(present, dict) else {}
    for key, value in values.items():
        _place(table, key, value)
    profile = _check(path, name, table)
    _write(path, name, _as_table(profile))
    return profile


def remove_profile(name: str) -> None:
    """Take a profile out of the file; ParameterError where there is none of this name."""
    path = config_file()
    if name not in read_settings_file(path):
        read_profile(name)
    _write(path, name, "")


def _place(table: dict[str, Any], key: str, value: str | None) -> None:
    """Put a value given as text in its place in a profile's table."""
    fact, at, magnification = key.partition("@")
    if not at:
        if fact == "pixel_size" and isinstance(table.get(fact), dict) and value:
            raise ParameterError(
                "pixel_size: this microscope has pixel sizes by magnification; give pixel_size@MAGNIFICATION=..., or "
                "take those out with pixel_size="
            )
        table.pop(fact, None)
        if value:
            table[fact] = _existing(fact, value) if fact in REFERENCES else value
        return
    if fact != "pixel_size":
        raise ParameterError(f"{key}: only pixel_size has values by magnification; give {fact}=...")
    sizes = table.get("pixel_size")
    sizes = dict(sizes) if isinstance(sizes, dict) else {}
    number = _magnification(magnification)
    sizes = {known: size for known, size in sizes.items() if _magnification(known) != number or number is None}
    if value:
        sizes[magnification] = value
    table.pop("pixel_size", None)
    if sizes:
        table["pixel_size"] = sizes


def _existing(fact: str, text: str) -> str:
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise ParameterError(f"{path}: the {REFERENCES[fact]} does not exist; check the path")
    return str(path)


def _check(path: Path, name: str, table: Any) -> Profile:
    where = f"{path}: [{name}]"
    if not isinstance(table, dict):
        raise ParameterError(f"{path}: {name} belongs to no microscope; write it below a line [name-of-the-microscope]")
    sizes: dict[float, float] = {}
    pixels: tuple[int, int] | None = None
    given: dict[str, Any] = {}
    faults: list[str] = []
    for key, value in table.items():
        if key == "pixel_size" and isinstance(value, dict):
            sizes = _pixel_sizes(value, faults)
        elif key == "camera_pixels":
            pixels = _camera_pixels(value, faults)
        elif key in _NOT_OF_A_MICROSCOPE:
            faults.append(f"{key} is of an exposure, not of a microscope; take it out")
        elif isinstance(value, dict | list):
            faults.append(f"{key} has several values; a fact has one")
        else:
            given[key] = value
    try:
        checked = fact_rules.check_facts(given)
    except ParameterError as error:
        faults.append(str(error))
    if faults:
        raise ParameterError(f"{where}: {'; '.join(faults)}")
    for reference in REFERENCES:
        if reference in checked:
            checked[reference] = str((path.parent / Path(checked[reference]).expanduser()).absolute())
    ordered = {spec.name: checked[spec.name] for spec in Acquisition.specs() if spec.name in checked}
    return Profile(name, ordered, sizes, where, pixels)


def _camera_pixels(value: Any, faults: list[str]) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d{2,6})\s*[x×]\s*(\d{2,6})", str(value).strip(), re.IGNORECASE)
    if found is None:
        faults.append(f"camera_pixels = {value!r} is no width and height; write for example 5760x4092")
        return None
    return int(found[2]), int(found[1])


def _pixel_sizes(table: Mapping[str, Any], faults: list[str]) -> dict[float, float]:
    sizes: dict[float, float] = {}
    for key, value in table.items():
        magnification = _magnification(key)
        if magnification is None:
            faults.append(f"{key!r} below pixel_size is no magnification; write for example 81000 = 1.06")
            continue
        try:
            sizes[magnification] = fact_rules.check_facts({"pixel_size": value})["pixel_size"]
        except ParameterError as error:
            faults.append(f"at magnification {key}: {error}")
    return sizes


def _magnification(text: str) -> float | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(k?)", text.strip().replace(",", ""), re.IGNORECASE)
    value = float(found[1]) * (1000 if found[2] else 1) if found else 0.0
    return value if value > 0 else None


def _as_table(profile: Profile) -> str:
    lines = [f"[{profile.name}]"]
    lines += [f"{key} = {_toml(value)}" for key, value in profile.facts.items()]
    if profile.camera_pixels is not None:
        lines.append(f'camera_pixels = "{profile.camera_pixels[1]}x{profile.camera_pixels[0]}"')
    if profile.pixel_sizes:
        lines += ["", f"[{profile.name}.pixel_size]"]
        for magnification in sorted(profile.pixel_sizes):
            key = f"{magnification:.12g}"
            lines.append(f"{key if key.isdecimal() else json.dumps(key)} = {profile.pixel_sizes[magnification]:.12g}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    # a JSON string is a TOML string, but for the character DEL, which JSON does not escape
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _write(path: Path, name: str, table: str) -> None:
    """Write the file with the table of one microscope replaced; the lines of the others are kept as they are."""
    text = path.read_text("utf-8-sig") if path.is_file() else ""
    others = {key: value for key, value in read_settings_file(path).items() if key != name}
    kept: list[str] = []
    remarks: list[str] = []
    within = False
    for line in text.split("\n"):
        if found := _HEADER.match(line):
            within = found[1].strip('"') == name
            # remarks above a table are of that table
            kept += [] if within else remarks
            remarks = []
        if not within:
            kept.append(line)
        elif not line.strip() or line.lstrip().startswith("#"):
            remarks.append(line)
        else:
            remarks = []
    kept += [line for line in remarks if line.strip()]
    rest = "\n".join(kept).strip()
    if _parsed(rest) != others:
        raise ParameterError(f"{path}: is written in a way that cannot be changed here; change [{name}] with an editor")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n\n".join(part for part in (rest, table.strip()) if part) + "\n")


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
