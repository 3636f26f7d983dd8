"""What a CTF costs: CPU seconds from the sum in memory and from a file, beside one transform of the same image.

    python benchmarks/ctf.py [--repeat N]

A simulated micrograph of 3838 x 3710 pixels. "spectrum" averages the whole transform over the pixels of two spectra,
"fit" is search, refinement, verdict and curves; "from a file" reads a float32 MRC, and makes both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import _common  # noqa: E402

from focusnb.processing.heap import keep_freed_memory  # noqa: E402


def least(function: Callable[[], Any], repeat: int) -> float:
    """CPU seconds of the fastest call, the first not counted: it compiles."""
    function()
    times = []
    for _ in range(repeat):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return min(times)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=7)
    repeat = parser.parse_args().repeat
    import scipy.fft

    from focusnb.io.images import read_image
    from focusnb.io.mrc import write_mrc
    from focusnb.ops.ctf import Optics, estimate_ctf
    from focusnb.ops.fourier import fast_shape, pad_mean
    from focusnb.ops.simulate import simulate_micrograph, standard_case
    from focusnb.ops.spectrum import FAR_PIXEL_SIZE, Sampling, choose_sampling, power_spectra

    keep_freed_memory()
    spec = standard_case("large")
    image, _ = simulate_micrograph(spec, 1)
    sampling = choose_sampling(spec.pixel_size)
    wanted = [sampling, Sampling(512, FAR_PIXEL_SIZE / spec.pixel_size)]
    optics = Optics(spec.pixel_size * sampling.factor, 300.0, 2.7, 0.1)
    padded = pad_mean(image, fast_shape(image.shape))
    weak, _ = simulate_micrograph(replace(spec, specimen=replace(spec.specimen, ice_thickness=20.0)), 1)
    spectra = {name: power_spectra(values, wanted) for name, values in (("strong", image), ("weak", weak))}

    def fit(name: str = "strong", **options: Any) -> Any:
        near, far = spectra[name]
        return estimate_ctf(near, optics=optics, defocus_max=150_000.0, far=(far, FAR_PIXEL_SIZE), **options)

    rows = [
        {"what": "one transform of the image (floor)", "cpu": least(lambda: scipy.fft.rfft2(padded), repeat)},
        {"what": "spectrum, from the sum", "cpu": least(lambda: power_spectra(image, wanted), repeat)},
        {"what": "fit, from the spectrum", "cpu": least(fit, repeat)},
        {"what": "fit with a phase plate", "cpu": least(lambda: fit(phase_shift_search=(0.0, 180.0)), repeat)},
        {"what": "fit that fails, searched to 15 µm", "cpu": least(lambda: fit("weak"), repeat)},
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "micrograph.mrc"
        write_mrc(path, image, pixel_size=spec.pixel_size)

        def whole() -> Any:
            near, far = power_spectra(read_image(path).data, wanted)
            return estimate_ctf(near, optics=optics, defocus_max=150_000.0, far=(far, FAR_PIXEL_SIZE))

        rows.append({"what": "all, from a file", "cpu": least(whole, repeat)})
    rows = [{"what": row["what"], "cpu": round(float(row["cpu"]), 4)} for row in rows]
    _common.table(rows)
    _common.save("ctf", rows)


if __name__ == "__main__":
    main()
