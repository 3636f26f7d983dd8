"""Freed memory is kept for the next movie, and given back when none comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from focusnb.processing import heap

SCRIPT = """
import json, os, resource, sys
import numpy as np
from focusnb.processing.heap import give_freed_memory_back, keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def held():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

def use():
    before = faults()
    for _ in range(3):
        np.ones(50_000_000, np.uint8).sum()
    return faults() - before

if sys.argv[1] == "keep":
    keep_freed_memory()
first, again, kept = use(), use(), held()
give_freed_memory_back()
print(json.dumps([again, kept - held(), os.environ.get("MALLOC_ARENA_MAX")]))
"""


def used(how: str) -> list[int]:
    environment = {**os.environ, **heap.ONE_ARENA, "NUMPY_MADVISE_HUGEPAGE": "0"}
    command = [sys.executable, "-c", SCRIPT, how]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return json.loads(output)


@pytest.mark.skipif(heap._mallopt is None or sys.platform != "linux", reason="the C library is not that of GNU")
def test_freed_arrays_are_used_again_and_given_back_when_asked() -> None:
    again, given_back, inherited = used("keep")
    assert again < 100  # pages that had to be fetched anew, of 36,000
    assert given_back > 40e6
    assert inherited is None  # programs that are started choose for themselves
    assert used("plain")[0] > 10_000
