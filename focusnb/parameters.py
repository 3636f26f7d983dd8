"""How a value is declared: once, with label, unit, limits and names, and read everywhere else.

A declared value is an annotated type made by a function named after the kind of thing it is:

    PixelSize = Annotated[float, quantity("Pixel size", unit="Å/px", star="rlnMicrographPixelSize", gt=0)]
    Micrograph = Annotated[str, image("Micrograph", file="micrograph.mrc", unit="counts/px")]

Models of such values derive from :class:`Declared`; ``specs()`` lists what was declared.
"""

from __future__ import annotations

import datetime
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from focusnb.errors import ParameterError

Kind = Literal["value", "file", "image", "picture", "table", "curve", "transient"]

PRODUCTS: frozenset[str] = frozenset({"image", "picture", "table", "curve"})
"""Kinds that are a file in the exposure's folder."""

_META = "focusnb"
_LIMITS = ("gt", "ge", "lt", "le", "multiple_of")
_TYPES: dict[type, str] = {float: "float", int: "int", str: "str", bool: "bool", datetime.datetime: "datetime"}


def quantity(
    label: str,
    *,
    unit: str | None = None,
    star: str | None = None,
    group: str = "General",
    advanced: bool = False,
    help: str = "",
    precision: int | None = None,
    **limits: float,
) -> Any:
    """Declare a value: its label, unit, STAR name, place in the form, digits shown and limits (gt, ge, lt, le).

    A number that has no unit on purpose says so with ``unit=""``.
    """
    return _declare(
        "value",
        label,
        unit=unit or "",
        unitless=unit == "",
        star=star,
        group=group,
        advanced=advanced,
        help=help,
        precision=precision,
        limits=limits,
    )


def file(label: str, *, group: str = "Files", advanced: bool = False, help: str = "", star: str | None = None) -> Any:
    """Declare a value that names a file; its content, not its name, decides whether results are stale."""
    return _declare("file", label, star=star, group=group, advanced=advanced, help=help)


def image(label: str, *, file: str, unit: str = "", star: str | None = None, help: str = "") -> Any:
    """Declare an image of floating-point values, kept as an MRC file of this name in the exposure's folder."""
    return _declare("image", label, file=file, unit=unit, star=star, group="Images", help=help)


def picture(label: str, *, file: str, help: str = "") -> Any:
    """Declare a preview for the eye, kept as a PNG file."""
    return _declare("picture", label, file=file, group="Previews", help=help)


def table(label: str, *, file: str, columns: Iterable[str] = (), star: str | None = None, help: str = "") -> Any:
    """Declare a table, kept as a STAR file with these columns."""
    return _declare("table", label, file=file, star=star, group="Tables", help=help, columns=tuple(columns))


def curve(label: str, *, file: str, help: str = "") -> Any:
    """Declare short curves (lists of numbers by name), kept as a JSON file."""
    return _declare("curve", label, file=file, group="Curves", help=help)


def transient(label: str, *, help: str = "") -> Any:
    """Declare what lives only within one task and is made again when it is needed."""
    return _declare("transient", label, group="Transient", help=help)


def _declare(kind: Kind, label: str, *, help: str = "", limits: Mapping[str, float] | None = None, **meta: Any) -> Any:
    unknown = set(limits or ()) - set(_LIMITS)
    if unknown:
        raise TypeError(f"{label}: {', '.join(sorted(unknown))} is no limit; use {', '.join(_LIMITS)}")
    extra: dict[str, Any] = {_META: {"kind": kind, **meta}}
    return Field(title=label, description=help or None, json_schema_extra=extra, **dict(limits or {}))  # type: ignore[call-overload]


@dataclass(frozen=True)
class Spec:
    """What is declared of one value, as plain data."""

    name: str
    type: str = "float"
    label: str = ""
    kind: Kind = "value"
    unit: str = ""
    unitless: bool = False
    default: Any = None
    required: bool = False
    optional: bool = False
    star: str | None = None
    group: str = "General"
    advanced: bool = False
    help: str = ""
    precision: int | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    choices: tuple[Any, ...] = ()
    file: str | None = None
    columns: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        """Label and unit, as a column's or a field's caption shows them."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def limits_text(self) -> str:
        """The limits in signs."""
        signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
        return ", ".join(f"{signs.get(key, key)} {value:g}" for key, value in self.limits.items())

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data without the fields at their defaults."""
        blank = Spec(name="")
        data = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return {
            key: list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
            for key, value in data.items()
            if value != getattr(blank, key)
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Spec:
        """Inverse of :meth:`to_dict`; what a newer version added is left out."""
        known = {key: value for key, value in data.items() if key in cls.__dataclass_fields__}
        for key in ("choices", "columns"):
            if key in known:
                known[key] = tuple(known[key])
        return cls(**known)


class Declared(BaseModel):
    """A frozen record of declared values. Unknown names are refused on writing, dropped and reported on reading."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
    _specs: ClassVar[dict[type, list[Spec]]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        for name in cls.model_fields:
            if hasattr(Declared, name):
                raise TypeError(f"{cls.__name__}: {name} cannot be the name of a value; choose another")

    @classmethod
    def specs(cls) -> list[Spec]:
        """List what is declared, in the order of declaration."""
        if cls not in Declared._specs:
            hints = typing.get_type_hints(cls, include_extras=True)
            Declared._specs[cls] = [_spec(name, info, hints[name]) for name, info in cls.model_fields.items()]
        return Declared._specs[cls]

    @classmethod
    def spec(cls, name: str) -> Spec:
        """Return one declaration; ParameterError lists the names there are."""
        for spec in cls.specs():
            if spec.name == name:
                return spec
        raise ParameterError(_unknown(name, [spec.name for spec in cls.specs()], cls.__name__))

    @classmethod
    def make(cls, values: Mapping[str, Any]) -> Self:
        """Validate values into a model; ParameterError tells all faults, each with the value and its limit."""
        model, faults = cls._validate(values)
        if model is None:
            raise ParameterError("; ".join(told for _, told in faults))
        return model

    @classmethod
    def faults(cls, values: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with values, by name; what concerns several of them stands under the empty name."""
        told: dict[str, list[str]] = {}
        for name, sentence in cls._validate(values)[1]:
            told.setdefault(name, []).append(sentence)
        return {name: "; ".join(sentences) for name, sentences in told.items()}

    @classmethod
    def _validate(cls, values: Mapping[str, Any]) -> tuple[Self | None, list[tuple[str, str]]]:
        known = {spec.name: spec for spec in cls.specs()}
        faults = [(name, _unknown(name, list(known), cls.__name__)) for name in values if name not in known]
        if not faults:
            try:
                return cls.model_validate(dict(values)), []
            except ValidationError as error:
                for item in error.errors():
                    name = str(item["loc"][0]) if item["loc"] else ""
                    faults.append((name if name in known else "", _fault(known.get(name), item)))
        return None, faults

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """Validate stored values; returns the model and the names dropped because they are not declared any more."""
        known = {spec.name for spec in cls.specs()}
        return cls.make({name: value for name, value in values.items() if name in known}), sorted(set(values) - known)


def _unknown(name: str, names: list[str], where: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, n=1)
    return f"{name} is not a value of {where}" + (
        f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names) or 'none'}"
    )


def _fault(spec: Spec | None, item: Any) -> str:
    if spec is None:
        return str(item["msg"])
    unit = f" {spec.unit}" if spec.unit and item["type"].startswith(("greater", "less")) else ""
    if item["type"] == "missing":
        return f"{spec.name} ({spec.label}) is not known: give it"
    message = str(item["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    return f"{spec.name} = {item['input']!r}: {spec.label} {message}{unit}"


def _spec(name: str, info: FieldInfo, hint: Any) -> Spec:
    declared, plain, optional = _unwrap(hint)
    source = declared if declared is not None else info
    extra: Any = source.json_schema_extra
    meta: dict[str, Any] = dict(extra.get(_META, {})) if isinstance(extra, dict) else {}
    if not meta:
        raise TypeError(f"{name} is not declared: annotate it with quantity(), file(), image(), picture(), table() ...")
    limits = {
        key: getattr(item, key) for item in source.metadata for key in _LIMITS if getattr(item, key, None) is not None
    }
    choices = tuple(get_args(plain)) if get_origin(plain) is Literal else ()
    base = type(choices[0]) if choices else plain
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    return Spec(
        name=name,
        type=_TYPES.get(base, "str"),
        label=source.title or name,
        help=source.description or "",
        default=default,
        required=info.is_required(),
        optional=optional,
        limits=limits,
        choices=choices,
        **meta,
    )


def _unwrap(hint: Any) -> tuple[FieldInfo | None, Any, bool]:
    """Find the declaration, the plain type and whether None is allowed in ``Annotated[float, ...] | None``."""
    if get_origin(hint) in (Union, types.UnionType):
        inner = [arg for arg in get_args(hint) if arg is not type(None)]
        declared, plain, _ = _unwrap(inner[0])
        return declared, plain, len(inner) < len(get_args(hint))
    if get_origin(hint) is Annotated:
        base, *metadata = get_args(hint)
        declared = next((item for item in metadata if isinstance(item, FieldInfo)), None)
        inner_declared, plain, optional = _unwrap(base)
        return declared or inner_declared, plain, optional
    return None, hint, False
