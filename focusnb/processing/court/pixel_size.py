"""Judge the pixel size, where sharp rings of known spacing are seen."""

from __future__ import annotations

import statistics

import numpy as np

from focusnb.ops.rings import SAME, Ring, find_rings, find_scale, other_scales
from focusnb.processing.court.bench import Bench, Verdict, Word, cannot_tell, largest, rounded, unknown


def judge_pixel_size(bench: Bench) -> Verdict:
    """Whether sharp rings of ice, gold or graphene are where the pixel size has them."""
    usable = [one for one in bench.all if not one.stale & {"measure_image", "prepare_movie", "align_frames"}]
    seen = [one for one in usable if one.found.get("micrograph_pixel_size") and one.rings.get("amplitude")]
    seen = largest(seen, lambda one: (one.found["micrograph_pixel_size"], len(one.rings["amplitude"])))
    if not seen:
        return unknown("pixel_size", bench)
    frequency = np.array(seen[0].rings["frequency"], float)
    amplitudes = [np.array(one.rings["amplitude"], float) for one in seen]
    amplitudes = [values for values in amplitudes if (values > 0).all() and len(values) == len(frequency)]
    if not amplitudes:
        return cannot_tell("pixel_size", "the micrographs are empty", len(seen))
    rings = find_rings(frequency, np.exp(np.mean([np.log(values) for values in amplitudes], axis=0)))
    reached = float(seen[0].found["micrograph_pixel_size"])
    spacings = [reached / ring.frequency for ring in rings[:6]]
    if not spacings:
        return cannot_tell("pixel_size", "no sharp ring of ice, gold or graphene is seen", len(seen))
    found = find_scale(spacings)
    if found is None:
        told = f"a sharp ring at {spacings[0]:.2f} Å is of neither ice, gold nor graphene"
        return cannot_tell("pixel_size", told, len(seen))
    place = next(ring for ring, spacing in zip(rings, spacings, strict=False) if spacing == found.matches[0][0])
    times = sum(_shows(frequency, values, place) for values in amplitudes)
    at, known = found.matches[0]
    given = statistics.median(float(one.facts["pixel_size"]) for one in seen if one.facts.get("pixel_size"))
    numbers = {"ring": round(at, 3), "known": known, "pixel_size": given, "rings": len(found.matches)}
    if abs(found.scale - 1) <= SAME:
        told = (
            f"A sharp ring at {at:.2f} Å is where {found.material} has one ({known:.2f} Å): {given:.4g} Å/px is right"
        )
        return Verdict("pixel_size", "fine", told, "", 0, len(seen), numbers)
    better = given * found.scale
    factor = next((f"{n:g}" for n in (2.0, 0.5) if abs(found.scale / n - 1) <= 0.03), "")
    told = f"A sharp ring at {at:.2f} Å, where {found.material} has one at {known:.2f} Å: {given:.4g} Å/px would be "
    told += f"{better:.4g} Å/px"
    cure = bench.again(pixel_size=rounded(better))
    if factor:
        told += f", {'twice' if factor == '2' else 'half'} as much (is one of super-resolution or binned pixels?)"
    elif len(found.matches) == 1:
        others = other_scales(at, found.scale)
        told += "".join(f", or {given * scale:.4g} Å/px if it is that at {line:.2f} Å" for line, scale in others[:1])
    word: Word = "wrong" if factor or len(found.matches) > 1 else "suspicious"
    numbers["pixel_size_by_ring"] = round(better, 4)
    return Verdict("pixel_size", word, told, cure, max(times, 1), len(seen), numbers)


def _shows(frequency: np.ndarray, values: np.ndarray, ring: Ring) -> bool:
    return any(abs(one.frequency / ring.frequency - 1) < 0.015 for one in find_rings(frequency, values))
