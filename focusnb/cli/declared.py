"""Options of the command line made from declarations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from focusnb.parameters import Spec

_TYPES: dict[str, Any] = {"float": float, "int": int, "str": str, "bool": bool, "datetime": datetime}


def option(spec: Spec) -> tuple[Any, Any]:
    """The annotation and the default of an option for a declared value; None means not given."""
    flag = "--" + spec.name.replace("_", "-")
    names = (f"{flag}/--no-{flag[2:]}",) if spec.type == "bool" else (flag,)
    kind = _TYPES[spec.type]
    if spec.choices and spec.type == "str":
        kind = StrEnum(spec.name, {str(choice): str(choice) for choice in spec.choices})
    notes = [spec.help] if spec.help else []
    notes += [f"One of {', '.join(map(str, spec.choices))}."] * bool(spec.choices)
    notes += [f"{spec.limits_text}."] * bool(spec.limits)
    notes += [f"Default: {spec.default}{f' {spec.unit}' * bool(spec.unit)}."] * (spec.default is not None)
    text = f"{spec.caption}. {' '.join(notes)}".rstrip()
    settings = {"help": text, "show_default": False, "rich_help_panel": f"Parameters: {spec.group}"}
    return Annotated[kind | None, typer.Option(*names, **settings)], None


def with_options(function: Callable[..., None], specs: Sequence[Spec]) -> Callable[..., None]:
    """Give a command the options of declared values; it receives those given as ``values``."""
    own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "values"]
    made = []
    for spec in specs:
        annotation, default = option(spec)
        made.append(
            inspect.Parameter(spec.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )

    def command(**arguments: Any) -> None:
        values = {spec.name: arguments.pop(spec.name) for spec in specs}
        given = {name: str(v) if isinstance(v, StrEnum) else v for name, v in values.items() if v is not None}
        function(**arguments, values=given)

    return _as_command(command, function, [*own, *made])


def with_values_of(options: Callable[..., dict[str, Any]], function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that another function takes, after its own; it receives what that makes of them as
    ``values``.
    """
    own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "values"]
    shared = list(inspect.signature(options, eval_str=True).parameters.values())

    def command(**arguments: Any) -> None:
        given = {p.name: arguments.pop(p.name) for p in shared}
        function(**arguments, values=options(**given))

    return _as_command(command, function, [*own, *shared])


def _as_command(
    command: Callable[..., None], function: Callable[..., None], parameters: Sequence[inspect.Parameter]
) -> Callable[..., None]:
    """Let the command line read the signature and the help of a command from elsewhere."""
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command
