"""Ask memory for what a kernel will read soon, where the processor cannot see it coming."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from focusnb.compiled import compiled
from focusnb.ops.backend import Array

LINE = 64
"""Bytes that memory gives at a time."""


@intrinsic  # type: ignore[untyped-decorator]
def _ask(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the line of memory that holds an element of a flat array; nothing waits for it, nothing is checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, place = arguments
        data = context.make_array(signature.args[0])(context, builder, values).data
        pointer = builder.bitcast(builder.gep(data, [place]), ir.PointerType(ir.IntType(8)))
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        # to be read, into the second cache, as data
        builder.call(ask, [pointer, flag(0), flag(2), flag(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@compiled
def ask_for(image: Array, top: int, left: int, height: int, width: int) -> None:
    """Ask for a part of an image (y, x), C-contiguous, as far as it lies in it."""
    ny, nx = image.shape
    flat, step = image.reshape(-1), max(LINE // image.itemsize, 1)
    first, last = max(left, 0), min(left + width, nx) - 1
    for y in range(max(top, 0), min(top + height, ny)):
        for x in range(first, last, step):
            _ask(flat, y * nx + x)
        if last >= first:
            _ask(flat, y * nx + last)
