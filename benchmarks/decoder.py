"""The decoder of LZW: speed beside the library, and damaged strips.

    python benchmarks/decoder.py [--fuzz 20000]

Frames of 3838×3710 counts are decoded from memory by the library, strip by strip into an array as it is done without
a decoder of our own, and by ours, flipped as TIFF frames are. Times are of the processor, the least of several runs;
with two threads each decodes a frame of its own and the time counts per frame of wall clock, least of several too.

Damaged strips are decoded in buffers between pages that must not be touched, beside the library: equal, refused by
both, refused without asking the library (whose process may end), right where the library takes the last byte for 0.
A record of more strips tried with the same decoder is kept: ``--fuzz 1000000`` takes about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

import _common

REPOSITORY = Path(__file__).resolve().parents[1]
SHAPE = (3838, 3710)
FUZZ = 20_000


def measure(mean: float, rows_per_strip: int, repeats: int = 6) -> dict[str, Any]:
    """Decode one frame by both decoders, and two by two threads."""
    from focusnb.io.lzw import decode_strips

    frame = np.random.default_rng(1).poisson(mean, SHAPE).astype(np.uint8)
    tops = range(0, SHAPE[0], rows_per_strip)
    strips = [imagecodecs.lzw_encode(frame[top : top + rows_per_strip].tobytes()) for top in tops]
    ends = np.cumsum([len(strip) for strip in strips])
    spans = np.stack((np.append(0, ends[:-1]), ends), axis=1)
    data = np.frombuffer(b"".join(strips), np.uint8)

    def library(decoded: np.ndarray) -> None:
        for top, strip in zip(tops, strips, strict=True):
            part = decoded[::-1][top : top + rows_per_strip]
            block = imagecodecs.lzw_decode(strip, out=part.size)
            part[...] = np.frombuffer(block, np.uint8).reshape(part.shape)

    def ours(decoded: np.ndarray) -> None:
        decode_strips(data, spans, decoded, rows_per_strip=rows_per_strip, flip=True)

    row: dict[str, Any] = {"mean": mean, "rows_per_strip": rows_per_strip, "packed": round(frame.nbytes / data.size, 2)}
    decoders = {"library": library, "ours": ours}
    frames = [np.zeros_like(frame), np.zeros_like(frame)]
    times: dict[str, list[float]] = {f"{name}{threads}": [] for name in decoders for threads in (1, 2)}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(repeats):  # in turn, so that other work on the machine slows both
            for name, decode in decoders.items():
                times[f"{name}1"].append(spent(time.thread_time, decode, frames[0]))
                times[f"{name}2"].append(spent(time.perf_counter, lambda: list(pool.map(decode, frames))) / 2)  # noqa: B023
                if not np.array_equal(frames[1][::-1], frame):
                    raise SystemExit(f"{name} decodes a frame of mean {mean} in strips of {rows_per_strip} wrongly")
    for name in decoders:
        row[f"{name}_ms"], row[f"{name}_ms_2_threads"] = min(times[f"{name}1"]), min(times[f"{name}2"])
        row[f"{name}_mb_s"] = round(frame.nbytes / row[f"{name}_ms"] / 1e3)
    row["times_faster"] = round(row["library_ms"] / row["ours_ms"], 2)
    row["times_faster_2_threads"] = round(row["library_ms_2_threads"] / row["ours_ms_2_threads"], 2)
    return row


def spent(clock: Callable[[], float], work: Callable[..., Any], *arguments: Any) -> float:
    """Milliseconds of a run."""
    started = clock()
    work(*arguments)
    return round((clock() - started) * 1e3, 2)


def fuzz(count: int) -> dict[str, Any]:
    """Try damaged strips in a process of their own; the longest record of the same decoder is kept."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.io.strips", str(count)], cwd=REPOSITORY, capture_output=True, text=True
    )
    if ended.returncode:
        raise SystemExit(f"damaged strips end the process with {ended.returncode}: {ended.stderr[-2000:]}")
    tried = json.loads(ended.stdout) | {"decoder": decoder_digest()}
    if tried["different"] or tried["short differs"] or tried["refused alone"]:
        raise SystemExit(f"damaged strips are decoded otherwise than by the library: {tried}")
    return tried


def longest_record(tried: dict[str, Any]) -> dict[str, Any]:
    """The record already kept where it is longer and of the same decoder."""
    path = _common.RESULTS / "decoder.json"
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())["results"].get("fuzz", {})
        if kept.get("decoder") == tried["decoder"] and kept["strips"] > tried["strips"]:
            return kept
    return tried


def decoder_digest() -> str:
    """What tells one version of the decoder from another."""
    return sha256((REPOSITORY / "focusnb" / "io" / "lzw.py").read_bytes()).hexdigest()[:16]


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz", type=int, default=FUZZ, metavar="N", help="damaged strips to try")
    count = parser.parse_args().fuzz
    rows = [measure(mean, strip) for mean in (0.25, 1.0, 5.0) for strip in (1, 64, SHAPE[0])]
    _common.table(rows)
    tried = fuzz(count)
    _common.table([tried])
    _common.save("decoder", {"speed": rows, "fuzz": longest_record(tried)})


if __name__ == "__main__":
    main()
