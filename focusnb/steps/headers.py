"""The header of a script that is a step: TOML in its leading comments, made into declarations.

The format is described in :mod:`focusnb.steps.scripts`. Every fault is a ParameterError that names the file, the line
and what to write instead.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import create_model

from focusnb import parameters as declare
from focusnb.errors import ParameterError
from focusnb.parameters import Declared
from focusnb.steps import programs
from focusnb.steps.base import CATEGORIES, NAME, StepInputs, StepParams, StepResults, known_values

_START = re.compile(r"#\s*///\s*focusnb-step\s*")
_END = re.compile(r"#\s*///\s*")
_LONGEST_HEADER = 1 << 16

_TYPES: dict[str, type] = {"float": float, "int": int, "text": str, "bool": bool}
_LIMITS = ("gt", "ge", "lt", "le", "multiple_of")
_KEYS = (
    "name", "title", "manual", "category", "version", "gpu", "timeout", "needs", "programs",
    "parameters", "inputs", "results",
)  # fmt: skip
_VALUE_KEYS = ("type", "label", "unit", "star", "group", "advanced", "help", "precision", "choices", *_LIMITS)
_FILE_KEYS: dict[str, tuple[str, ...]] = {
    "image": ("file", "unit", "star"),
    "picture": ("file",),
    "table": ("file", "columns", "star"),
    "curve": ("file",),
}
_RESERVED = ("results", "exposure")


@dataclass(frozen=True)
class Header:
    """What a script declares of itself."""

    name: str
    title: str
    manual: str
    version: str
    category: str
    gpu: str
    timeout: float
    programs: tuple[str, ...]
    Inputs: type[Declared]
    Params: type[Declared]
    Results: type[Declared]


def has_header(path: Path | str) -> bool:
    """Whether the leading comments of a script declare a step."""
    with open(path, "rb") as file:
        text = file.read(_LONGEST_HEADER).decode("utf-8", "replace")
    return any(_START.fullmatch(line) for line in _leading_comments(text))


def read_header(path: Path, text: str) -> Header:
    """Read the declaration of a script; ParameterError names the file, the line and what to write instead."""
    return _Reader(path, text).read()


def _leading_comments(text: str) -> list[str]:
    lines: list[str] = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            break
        lines.append(line.strip())
    return lines


class _Reader:
    """The declaration of one script, and where its lines are, for messages."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        lines = _leading_comments(text)
        starts = [number for number, line in enumerate(lines) if _START.fullmatch(line)]
        if not starts:
            self.fault("has no header; begin it with a comment line '# /// focusnb-step' and end it with '# ///'")
        self.first = starts[0] + 1
        end = next((n for n in range(self.first, len(lines)) if _END.fullmatch(lines[n])), None)
        if end is None:
            self.fault("the header has no end; close it with a comment line '# ///'", self.first)
        if len(starts) > 1:
            self.fault("has a second header; a script is one step", starts[1] + 1)
        self.lines = [re.sub(r"^#\s?", "", line) for line in lines[self.first : end]]
        try:
            self.data = tomllib.loads("\n".join(self.lines))
        except tomllib.TOMLDecodeError as error:
            place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
            reason = str(error).split(" (at ")[0]
            number = self.first + int(place.group(1)) if place else self.first
            self.fault(f'{reason}; the header is TOML: name = "text", name = 3.0, name = true, [section.name]', number)

    def fault(self, message: str, line: int | None = None) -> NoReturn:
        where = f", line {line}" if line else ""
        raise ParameterError(f"{self.path}{where}: {message}")

    def fault_at(self, key: str, message: str) -> NoReturn:
        """Raise for a key of the header, or for a section where key is ``[section.name]``."""
        pattern = re.compile(re.escape(key) + (r"\s*=" if not key.startswith("[") else ""))
        number = next((n for n, line in enumerate(self.lines, self.first + 1) if pattern.match(line.strip())), None)
        self.fault(f"{key}: {message}", number or self.first)

    def read(self) -> Header:
        self._check_keys()
        name = self._text("name", self.path.stem.lower().replace("-", "_"))
        if not NAME.fullmatch(name):
            self.fault_at("name", f'{name!r} is no name for a step; write name = "small_letters_and_digits"')
        known = known_values()
        header = Header(
            name=name,
            title=self._text("title"),
            manual=self._text("manual", self._text("title")),
            version=self._text("version", "1"),
            category=self._one_of("category", tuple(CATEGORIES)),
            gpu=self._one_of("gpu", ("no", "uses", "needs"), "no"),
            timeout=self._timeout(),
            programs=self._names("programs"),
            Inputs=self._model(StepInputs, self._inputs(known)),
            Params=self._model(StepParams, self._parameters()),
            Results=self._model(StepResults, self._results(known)),
        )
        self._check_variables(header)
        return header

    def _check_keys(self) -> None:
        for key in self.data:
            if key not in _KEYS:
                self.fault_at(key, _unknown(key, _KEYS))
        for section in ("parameters", "inputs", "results"):
            for name, entry in self._section(section).items():
                place = f"[{section}.{name}]"
                if not isinstance(entry, dict):
                    self.fault_at(name, f"write it as a section {place}")
                if not NAME.fullmatch(name):
                    self.fault_at(place, "a name is small letters, digits and underscores, a letter first")
                if hasattr(Declared, name):
                    self.fault_at(place, f"{name} cannot be the name of a value; choose another")

    def _section(self, name: str) -> dict[str, Any]:
        section = self.data.get(name, {})
        if not isinstance(section, dict):
            self.fault_at(name, f"write sections [{name}.NAME]")
        return section

    def _text(self, key: str, default: str | None = None) -> str:
        value = self.data.get(key, default)
        if value is None:
            self.fault(f'{key} is missing; write {key} = "..." in the header', self.first)
        if not isinstance(value, str) or not value.strip():
            self.fault_at(key, f"{value!r} is not text; write it in quotes")
        return value

    def _one_of(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        value = self._text(key, default)
        if value not in choices:
            self.fault_at(key, f"{value!r} is not one of {', '.join(choices)}")
        return value

    def _names(self, key: str) -> tuple[str, ...]:
        value = self.data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            self.fault_at(key, f'{value!r} is not a list of names; write {key} = ["one", "two"]')
        return tuple(value)

    def _timeout(self) -> float:
        value = self.data.get("timeout", programs.TIMEOUT)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            self.fault_at("timeout", f"{value!r} is not a number of seconds above 0")
        return float(value)

    def _inputs(self, known: Mapping[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        declared = self._section("inputs")
        for item in self._names("needs"):
            name, optional = item.removesuffix("?"), item.endswith("?")
            if name not in known and name not in declared:
                cure = f"or declare it in a section [inputs.{name}] with type or kind, label and unit"
                self.fault_at("needs", f"{_unknown(name, known)}, {cure}")
            hint = self._declaration("inputs", name, declared[name], known) if name in declared else known[name]
            if _probe(hint).spec("value").kind == "transient":
                self.fault_at(
                    "needs", f"{name} lives in memory only, where a script cannot reach it; write a Python step"
                )
            fields[name] = (hint | None, None) if optional else (hint, ...)
        for name in declared:
            if name not in fields:
                self.fault_at(f"[inputs.{name}]", f'is declared but not needed; add "{name}" to needs or remove it')
        return fields

    def _parameters(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, entry in self._section("parameters").items():
            place = f"[parameters.{name}]"
            if "default" not in entry:
                self.fault_at(place, "default is missing; a step must run without being told anything")
            hint = self._value(place, {key: value for key, value in entry.items() if key != "default"})
            try:
                _probe(hint, entry["default"]).make({})
            except ParameterError as error:
                self.fault_at(place, f"default: {str(error).removeprefix('value = ')}")
            fields[name] = (hint, entry["default"])
        return fields

    def _results(self, known: Mapping[str, Any]) -> dict[str, Any]:
        section = self._section("results")
        if not section:
            self.fault(
                "no results are declared; add a section [results.NAME] with type (or kind) and label", self.first
            )
        return {
            name: (self._declaration("results", name, entry, known) | None, None) for name, entry in section.items()
        }

    def _declaration(self, section: str, name: str, entry: dict[str, Any], known: Mapping[str, Any]) -> Any:
        place = f"[{section}.{name}]"
        if name in known:
            if entry:
                self.fault_at(
                    place, "focusnb declares this name already; leave its section empty or choose another name"
                )
            return known[name]
        kind = entry.get("kind", "value")
        rest = {key: value for key, value in entry.items() if key != "kind"}
        if kind == "value":
            return self._value(place, rest)
        if kind not in _FILE_KEYS:
            self.fault_at(place, f"kind {kind!r} is not one of value, {', '.join(_FILE_KEYS)}")
        return self._file(place, kind, rest)

    def _value(self, place: str, entry: dict[str, Any]) -> Any:
        self._check_entry(place, entry, _VALUE_KEYS)
        type_name = entry.get("type") or _type_of(entry.get("default"), entry.get("choices"))
        if type_name not in _TYPES:
            self.fault_at(place, f"type {type_name!r} is not one of {', '.join(_TYPES)}")
        hint: Any = _TYPES[type_name]
        if choices := entry.get("choices"):
            if not isinstance(choices, list) or hint is float or any(type(item) is not hint for item in choices):
                self.fault_at(place, f"choices {choices!r} are not a list of {type_name} (text or int)")
            hint = Literal[tuple(choices)]
        rest = {key: value for key, value in entry.items() if key not in ("type", "label", "choices")}
        # a script's number without a word about its unit has none
        return Annotated[hint, declare.quantity(entry["label"], **{"unit": "", **rest})]

    def _file(self, place: str, kind: str, entry: dict[str, Any]) -> Any:
        self._check_entry(place, entry, ("label", "help", *_FILE_KEYS[kind]))
        file = entry.get("file")
        if not isinstance(file, str) or Path(file).name != file or file.startswith("."):
            self.fault_at(place, f'file {file!r} is not a plain file name; write file = "name.mrc"')
        rest = {key: value for key, value in entry.items() if key != "label"}
        return Annotated[str, getattr(declare, kind)(entry["label"], **rest)]

    def _check_entry(self, place: str, entry: dict[str, Any], keys: Collection[str]) -> None:
        for key, value in entry.items():
            if key not in keys:
                self.fault_at(place, _unknown(key, keys))
            if key in _LIMITS and (isinstance(value, bool) or not isinstance(value, (int, float))):
                self.fault_at(place, f"{key} = {value!r} is not a number")
            if key in ("label", "unit", "star", "group", "help") and not isinstance(value, str):
                self.fault_at(place, f"{key} = {value!r} is not text; write it in quotes")
        if not entry.get("label"):
            self.fault_at(place, "label is missing; write what forms and tables shall call it")

    def _model(self, base: type[Declared], fields: dict[str, Any]) -> type[Declared]:
        model: type[Declared] = create_model(base.__name__, __base__=base, __module__=__name__, **fields)
        return model

    def _check_variables(self, header: Header) -> None:
        names = [spec.name for model in (header.Inputs, header.Params) for spec in model.specs()]
        taken: dict[str, str] = {programs.variable_of(name): name for name in _RESERVED}
        for name in (*names, *header.programs):
            variable = programs.variable_of(name)
            if variable in taken:
                self.fault(f"{name} and {taken[variable]} would both be {variable}; rename {name}", self.first)
            taken[variable] = name


def _probe(hint: Any, default: Any = ...) -> type[Declared]:
    """A model of this one value, to see whether its declaration holds."""
    model: type[Declared] = create_model("Probe", __base__=Declared, value=(hint, default))
    return model


def _unknown(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    listed = f"; there are {', '.join(names)}" if len(names) < 20 else ""
    return f"{name} is not known" + (f"; did you mean {near[0]}?" if near else listed)


def _type_of(default: Any, choices: Any) -> str:
    """The type of a value whose header does not say: that of its words or flags; a number is a float."""
    example = choices[0] if isinstance(choices, list) and choices else default
    return "bool" if isinstance(example, bool) else "text" if isinstance(example, str) else "float"
