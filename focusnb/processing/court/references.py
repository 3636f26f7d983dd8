"""Judge the references of a camera: its gain reference and its list of defects."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping

from focusnb.ops.gain import MARGIN, Orientation
from focusnb.processing.court.bench import (
    Bench,
    Verdict,
    Witness,
    by_orientation,
    cannot_tell,
    lower,
    median_of,
    turned,
    unknown,
)
from focusnb.steps.statistics.merge_session import GOOD_GAIN, STRONG_GAIN

_MANY_UNLISTED, _MANY_UNKNOWN = 2e-4, 1e-3
"""Part of the pixels that may be bad beside a list of defects, and without one."""


def judge_orientation(bench: Bench) -> Verdict:
    """Whether the gain reference lies as it was given."""
    seen = bench.with_gain
    if not seen:
        return unknown("gain_orientation", bench, "no gain reference was given", any(bench.without_gain))
    ranked = sorted(bench.correlations.items(), key=lambda pair: pair[1], reverse=True)
    given, (best, most) = seen[0].given, ranked[0]
    second = ranked[1][1] if len(ranked) > 1 else 0.0
    as_given = bench.correlations.get(given, 0.0)
    if most - max(second, 0.0) <= MARGIN * bench.pattern_error:
        return cannot_tell(
            "gain_orientation",
            f"the counts fit no orientation of the gain reference better than others (correlation {most:.3f} at best): "
            "there are too few, or they do not show its pattern",
            len(seen),
        )
    numbers = {"correlation": round(most, 4), "correlation_as_given": round(as_given, 4)}
    if best == given:
        told = f"The gain reference lies as the counts say (correlation {most:.2f}, {second:.2f} for the next best)"
        return Verdict("gain_orientation", "fine", told, "", 0, len(seen), numbers)
    others = sum(one.found.get("gain_fit") == "another fits better" for one in seen)
    return Verdict(
        "gain_orientation",
        "wrong",
        f"The gain reference fits when it is {turned(best)} (correlation {most:.2f}), but was given {turned(given)} "
        f"({as_given + 0.0:.2f})",
        bench.again(gain_rotation=best.rotation, gain_flip=best.flip),
        max(others, 1),
        len(seen),
        {**numbers, "gain_rotation": best.rotation, "gain_flip": int(best.flip)},
    )


def judge_gain_use(bench: Bench) -> Verdict:
    """Whether a gain reference is given where the movies need one, and only there."""
    if bench.with_gain:
        return _applied(bench, bench.with_gain)
    if not bench.without_gain:
        return unknown("gain_use", bench)
    seen = bench.without_gain
    measured = bench.residual(seen)
    if measured is None:
        return cannot_tell(
            "gain_use", "no gain reference was given, and one movie does not tell whether it is needed", 1
        )
    residual, count = measured
    percent, clear = 100 * residual.fraction, residual.covariance > 5 * residual.uncertainty
    numbers = {"pattern_percent": round(percent, 2)}
    if clear and percent >= STRONG_GAIN:
        return Verdict(
            "gain_use",
            "wrong",
            f"No gain reference was given, and {count} movies show the same pattern of {percent:.1f} % (corrected ones "
            f"stay below {GOOD_GAIN:g} %)",
            bench.again(options="--gain GAIN"),
            count,
            count,
            numbers,
        )
    if clear and percent >= GOOD_GAIN:
        return Verdict(
            "gain_use",
            "suspicious",
            f"No gain reference was given, and {count} movies show the same pattern of {percent:.1f} % (good ones stay "
            f"below {GOOD_GAIN:g} %)",
            f"they were corrected by an old reference, or need one: {bench.again(options='--gain GAIN')}",
            count,
            count,
            numbers,
        )
    if 100 * residual.limit > STRONG_GAIN:
        told = f"{count} movies are too few: they may share a pattern of up to {100 * residual.limit:.1f} %"
        return cannot_tell("gain_use", told, count)
    told = f"No gain reference was given, and none is missed: {count} movies share no pattern above "
    return Verdict("gain_use", "fine", f"{told}{100 * residual.limit:.1f} %", "", 0, count, numbers)


def _applied(bench: Bench, seen: list[Witness]) -> Verdict:
    """Whether the counts know the gain reference they were multiplied with."""
    error = bench.slope(bench.pattern_error)
    if error > 0.08:
        told = f"the gain reference is too flat, or the counts are too few, to see its pattern (to ± {error:.2f})"
        return cannot_tell("gain_use", told, len(seen))
    slopes = [bench.slope(value) for value in bench.correlations.values()]
    strongest, weakest = max(slopes), min(slopes)
    numbers = {"pattern": round(strongest, 3)}
    if weakest < -0.5 and strongest < 0.5:
        return Verdict(
            "gain_use",
            "wrong",
            f"The counts show the inverse of the gain reference's pattern ({weakest:.2f} of it; 1 is right): it is "
            "to be divided by, not multiplied with",
            f"give its inverse with {bench.again(options='--gain INVERSE')}",
            len(seen),
            len(seen),
            {"pattern": round(weakest, 3)},
        )
    if strongest >= 0.3:
        told = f"The counts show {strongest:.2f} of the gain reference's pattern (1 is right)"
        return Verdict("gain_use", "fine", told, "", 0, len(seen), numbers)
    measured = bench.residual(seen)
    contrast = statistics.fmean(one.camera["gain_contrast"][0] for one in seen)
    left = None if measured is None else measured[0].covariance - contrast**2
    if left is not None and abs(left) < 0.4 * contrast**2:
        why = "the movies are corrected already, and correcting them again puts its pattern in"
        cure = f"import them into a new project without --gain, or take it back with {bench.again(gain_reference='')}"
    else:
        why = "it is of another camera, or the movies are corrected already"
        cure = f"give the right one with {bench.again(options='--gain GAIN')}, or none"
    return Verdict(
        "gain_use",
        "wrong",
        f"The counts show {strongest + 0.0:.2f} of the gain reference's pattern of {100 * contrast:.1f} % (1 is "
        f"right): {why}",
        cure,
        len(seen),
        len(seen),
        {**numbers, "gain_percent": round(100 * contrast, 2)},
    )


def judge_gain_age(bench: Bench) -> Verdict:
    """Whether the gain reference still fits the camera."""
    if not bench.with_gain:
        return unknown("gain_age", bench, "no gain reference was given", any(bench.without_gain))
    for first in (judge_orientation(bench), judge_gain_use(bench)):
        if first.is_bad:
            return cannot_tell("gain_age", f"first see to this: {lower(first.sentence)}", len(bench.with_gain))
    measured = bench.residual(bench.with_gain)
    if measured is None:
        return cannot_tell("gain_age", "one movie does not tell what the gain reference leaves", len(bench.with_gain))
    residual, count = measured
    percent, clear = 100 * residual.fraction, residual.covariance > 5 * residual.uncertainty
    numbers = {"pattern_percent": round(percent, 2), "limit_percent": round(100 * residual.limit, 2)}
    if clear and percent >= GOOD_GAIN:
        return Verdict(
            "gain_age",
            "wrong" if percent >= STRONG_GAIN else "suspicious",
            f"The gain reference leaves the same pattern of {percent:.1f} % in {count} movies (below {GOOD_GAIN:g} % "
            "is good): it is old, or of another setting of the camera",
            f"make a new one and give it with {bench.again(options='--gain GAIN')}",
            count,
            count,
            numbers,
        )
    if 100 * residual.limit > STRONG_GAIN:
        told = f"{count} movies are too few: the gain reference may leave up to {100 * residual.limit:.1f} % of pattern"
        return cannot_tell("gain_age", told, count)
    told = f"The gain reference leaves no pattern above {100 * residual.limit:.1f} % in {count} movies"
    return Verdict("gain_age", "fine", told, "", 0, count, numbers)


def judge_defects(bench: Bench) -> Verdict:
    """Whether the pixels that misbehave are those that the defects name."""
    seen = [one for one in bench.prepared if one.found.get("hot_pixels") is not None]
    if not seen:
        return unknown("defects", bench)
    size = statistics.median(int(one.facts.get("width") or 4096) * int(one.facts.get("height") or 4096) for one in seen)
    hot, dead, lines = (median_of(seen, name) for name in ("hot_pixels", "dead_pixels", "bad_lines"))
    known = max(median_of(seen, "bad_pixels") - hot, 0)
    numbers = {"hot": hot, "dead": dead, "lines": lines, "known": known}
    listed = [one for one in seen if one.facts.get("defects") and one.camera.get("defects_hits")]
    elsewhere = _elsewhere(bench, listed, numbers)
    if elsewhere is not None:
        return elsewhere
    cure = f"give a new list of defects with {bench.again(options='--defects FILE')}"
    many = max(_MANY_UNLISTED * size, 3 * known) if listed else max(_MANY_UNKNOWN * size, 3 * known)
    named = "gain reference and defects name" if listed else "the gain reference marks as bad"
    if hot + dead > many:
        over = sum((one.found.get("hot_pixels") or 0) + (one.found.get("dead_pixels") or 0) > many for one in seen)
        told = f"{hot} hot and {dead} dead pixels are found beside the {known} that {named}"
        return Verdict("defects", "suspicious", told, cure, over, len(seen), numbers)
    if lines:
        over = sum(bool(one.found.get("bad_lines")) for one in seen)
        told = f"{lines} whole rows or columns are unlike those beside them, and none of the defects"
        return Verdict("defects", "suspicious", told, cure, over, len(seen), numbers)
    told = f"{hot} hot and {dead} dead pixels are found beside the {known} that are known; they are replaced as well"
    return Verdict("defects", "fine", told, "", 0, len(seen), numbers)


def _elsewhere(bench: Bench, seen: list[Witness], numbers: Mapping[str, float]) -> Verdict | None:
    """A list of defects that names pixels which are as they should be, while others are not."""
    if not seen:
        return None
    sums: Counter[Orientation] = Counter()
    for one in seen:
        sums.update({o: int(hits) for o, hits in by_orientation(one, "defects", "defects_hits").items()})
    hits = {orientation: total / len(seen) for orientation, total in sums.items()}
    listed = round(statistics.median(one.camera["defects_listed"][0] for one in seen))
    odd = statistics.median(one.camera["defects_odd"][0] for one in seen)
    as_given = hits.get(Orientation(0, False), 0.0)
    best = max(hits, key=lambda orientation: hits[orientation])
    numbers = {**numbers, "listed": listed, "listed_odd": odd, "listed_odd_turned": round(hits[best])}
    if hits[best] >= 5 and hits[best] > 2 * as_given + 5:
        return Verdict(
            "defects",
            "wrong",
            f"{as_given:.0f} of the {listed} pixels that the defects name are hot or dead, but {hits[best]:.0f} would "
            f"be with the list {turned(best)}",
            f"write it for the frames as they lie and give it with {bench.again(options='--defects FILE')}",
            len(seen),
            len(seen),
            {**numbers, "rotation": best.rotation, "flip": int(best.flip)},
        )
    others = numbers["hot"] + numbers["dead"]
    if listed >= 20 and as_given < 0.05 * listed and others >= max(20, listed / 2):
        return Verdict(
            "defects",
            "suspicious",
            f"{as_given:.0f} of the {listed} pixels that the defects name are hot or dead, but {others:.0f} others are",
            f"is the list of this camera, and of frames of this size? Give another with "
            f"{bench.again(options='--defects FILE')}",
            len(seen),
            len(seen),
            numbers,
        )
    return None
