"""An array that refuses what a device array refuses, so that a hard-wired ``np.`` fails without a GPU.

``StrictArray`` wraps a numpy array. It is never converted silently (``__array__`` raises), its operators accept only
its own kind and Python's own numbers, and reductions give arrays without dimensions. ``strict()`` registers it with the
array backend; ``to_numpy`` brings it to the host.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
import scipy.ndimage

from focusnb.ops import backend

PYTHON_NUMBERS = (bool, int, float, complex)


def _operand(value: Any) -> Any:
    if isinstance(value, StrictArray):
        return value.unwrap()
    if type(value) in PYTHON_NUMBERS:
        return value
    raise TypeError(f"a strict array meets {type(value).__module__}.{type(value).__name__}: bring it over with like()")


def _index(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_index(part) for part in value)
    if value is None or value is Ellipsis or isinstance(value, slice) or type(value) is int:
        return value
    if isinstance(value, np.integer):  # a position found on the host
        return int(value)
    return _operand(value)


def _wrap(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return StrictArray(np.asarray(value))
    if isinstance(value, (tuple, list)):
        return type(value)(_wrap(part) for part in value)
    return value


class StrictArray:
    """A numpy array behind a glass wall."""

    __array_ufunc__ = None  # numpy's operators give way to ours, which refuse
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def unwrap(self) -> np.ndarray:
        return self._values

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("a strict array is not converted silently: use to_numpy()")

    def __getitem__(self, index: Any) -> StrictArray:
        values = self._values[_index(index)]
        return StrictArray(np.asarray(values))

    def __setitem__(self, index: Any, values: Any) -> None:
        self._values[_index(index)] = _operand(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # not the array interface, by which numpy would read the values
            raise AttributeError(name)
        value = getattr(self._values, name)
        if callable(value):
            return _guard(value, name)
        return _wrap(value) if isinstance(value, np.ndarray) else value

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Any:
        return (StrictArray(np.asarray(part)) for part in self._values)

    def __float__(self) -> float:
        return float(self._values)

    def __int__(self) -> int:
        return int(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __complex__(self) -> complex:
        return complex(self._values)

    def __repr__(self) -> str:
        return f"StrictArray({self._values!r})"


def _binary(function: Callable[[Any, Any], Any], swapped: bool) -> Callable[[StrictArray, Any], StrictArray]:
    def apply(self: StrictArray, other: Any) -> StrictArray:
        here, there = self._values, _operand(other)
        return StrictArray(np.asarray(function(there, here) if swapped else function(here, there)))

    return apply


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[[StrictArray, Any], StrictArray]:
    def apply(self: StrictArray, other: Any) -> StrictArray:
        self._values = function(self._values, _operand(other))
        return self

    return apply


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    _function = getattr(operator, f"__{_name}__")
    setattr(StrictArray, f"__{_name}__", _binary(_function, False))
    setattr(StrictArray, f"__r{_name}__", _binary(_function, True))
    setattr(StrictArray, f"__i{_name}__", _in_place(getattr(operator, f"__i{_name}__")))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(StrictArray, f"__{_name}__", _binary(getattr(operator, f"__{_name}__"), False))
for _name in ("neg", "pos", "abs", "invert"):
    _function = getattr(operator, f"__{_name}__")
    setattr(StrictArray, f"__{_name}__", lambda self, _function=_function: StrictArray(_function(self._values)))


def _unwrap(value: Any, name: str) -> Any:
    if isinstance(value, StrictArray):
        return value.unwrap()
    if isinstance(value, np.ndarray):
        raise TypeError(f"{name} of a strict array is given a numpy array: bring it over with like()")
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(part, name) for part in value)
    return value


def _guard(function: Callable[..., Any], name: str, *, takes_numpy: bool = False) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if takes_numpy and args and isinstance(args[0], np.ndarray):
            return _wrap(np.array(args[0], *args[1:], **kwargs))
        host = {key: _unwrap(value, name) for key, value in kwargs.items()}
        return _wrap(function(*(_unwrap(value, name) for value in args), **host))

    return call


class StrictNamespace:
    """A module whose functions take and give strict arrays."""

    def __init__(self, module: Any) -> None:
        self.__name__ = f"strict {module.__name__}"
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if isinstance(value, type) or not callable(value):
            return value
        return _guard(value, name, takes_numpy=name in ("array", "asarray", "ascontiguousarray"))


NAMESPACES = backend.Namespaces(StrictNamespace(np), StrictNamespace(scipy.fft), StrictNamespace(scipy.ndimage))


def strict(values: Any) -> StrictArray:
    """Return a strict copy of host values, registering the type with the backend."""
    backend.register_array(StrictArray, NAMESPACES)
    return StrictArray(np.array(values))
