"""Judge what is counted: the frames of movies, and the electrons in them."""

from __future__ import annotations

import shlex
import statistics
from collections import Counter
from collections.abc import Iterable

from focusnb.processing.court.bench import Bench, Verdict, Witness, Word, cannot_tell, rounded, some_of, unknown
from focusnb.steps.prepare.camera import BLANK, HIGH, LOW

FACTORS = (2, 4, 12, 16)
"""By which programs scale what a camera counted, or doses are mistaken."""

LEAST_DOSE, MOST_DOSE = 0.6, 1.2
"""Counted over given dose that nothing is said of: ice takes a part (1,500 Å a third), cameras miss some electrons, and
none counts more than there are."""

_WRONG_LEAST, _WRONG_MOST = 0.35, 1.5


def judge_frames(bench: Bench) -> Verdict:
    """Whether files are whole, hold the frames their metadata tell, and these are alike."""
    movies = [one for one in bench.movies if one.failed or "prepare_movie" not in one.stale]
    if not movies:
        return unknown("frames", bench)
    found = [*_unread(movies), *_missing(bench, movies), *_not_whole(movies), *_uneven(bench, movies), *_short(movies)]
    if not found:
        frames = Counter(int(one.facts["frame_count"]) for one in movies if one.facts.get("frame_count"))
        held = " or ".join(str(number) for number in sorted(frames)[:3]) or "their"
        return Verdict("frames", "fine", f"The movies hold {held} frames, all with alike counts", "", 0, len(movies))
    worst = next((one for one in found if one.word == "wrong"), found[0])
    others = [one.sentence for one in found if one is not worst]
    return Verdict(
        "frames", worst.word, "; ".join([worst.sentence, *others]), worst.cure, worst.seen, worst.of, worst.numbers
    )


def _unread(movies: list[Witness]) -> Iterable[Verdict]:
    failed = [one for one in movies if one.failed]
    if 4 * len(failed) > len(movies):  # single ones are told where they fail
        word: Word = "wrong" if 2 * len(failed) > len(movies) else "suspicious"
        reason = failed[0].failed.rstrip(".")
        told = f"{some_of(len(failed), len(movies))} cannot be read ({reason})"
        yield Verdict("frames", word, told, "compare the files with those at the camera", len(failed), len(movies))


def _missing(bench: Bench, movies: list[Witness]) -> Iterable[Verdict]:
    """Movies whose metadata tell of another number of frames than the file has; an EER's are cut at will."""
    pairs = []
    for one in movies:
        origins = one.origins.get("frame_count", {})
        told = next((origins[name] for name in ("hand", "set", "metadata") if origins.get(name)), None)
        held = origins.get("header")
        if told and held and not one.facts.get("hardware_frames") and int(told) != int(held):
            pairs.append((int(held), int(told)))
    if pairs:
        held, told = Counter(pairs).most_common(1)[0][0]
        yield Verdict(
            "frames",
            "wrong",
            f"{some_of(len(pairs), len(movies))} hold {held} frames where {told} were told",
            f"compare their size with that at the camera and copy them again into {shlex.quote(str(bench.source))}"
            if held < told
            else "correct the number of frames in the mdoc or XML",
            len(pairs),
            len(movies),
            {"frames_held": held, "frames_told": told},
        )


def _not_whole(movies: list[Witness]) -> Iterable[Verdict]:
    blank = [one for one in movies if max(one.camera.get("frame_blank", [0.0]), default=0.0) > BLANK]
    if blank:
        part = max(max(one.camera["frame_blank"]) for one in blank)
        yield Verdict(
            "frames",
            "wrong",
            f"{some_of(len(blank), len(movies))} hold frames without counts in up to {100 * part:.0f} % of their rows",
            "copy them again; if they are so at the camera, its read-out or its writing fails",
            len(blank),
            len(movies),
            {"empty_part": round(part, 3)},
        )


def _uneven(bench: Bench, movies: list[Witness]) -> Iterable[Verdict]:
    """Movies with frames of far fewer or more counts than the rest: a shutter that opens late, or a beam that fails."""
    odd: list[tuple[Witness, list[int]]] = []
    for one in movies:
        counts = one.camera.get("frame_counts", [])
        frames = [number for number, value in enumerate(counts, start=1) if not LOW <= value <= HIGH]
        if frames:
            odd.append((one, frames))
    if len(odd) < min(2, len(movies)):
        return
    places = Counter(number for _, frames in odd for number in frames)
    number, often = places.most_common(1)[0]
    values = [one.camera["frame_counts"][number - 1] for one, frames in odd if number in frames]
    numbers = {"frame": number, "counts": round(statistics.median(values), 3)}
    first = {1, 2, 3} & {number for number, times in places.items() if 2 * times >= len(odd)}
    if 1 in first and often * 2 >= len(odd):
        leading = next(number for number in range(1, 5) if number not in first)
        step = f"focusnb step set {shlex.quote(str(bench.project))} align_frames --first-frame {leading}"
        cure = f"leave {'it' if leading == 2 else 'them'} out with {step}"
        number, values = 1, [one.camera["frame_counts"][0] for one, frames in odd if 1 in frames]
        numbers = {"frame": 1, "counts": round(statistics.median(values), 3)}
    else:
        cure = "look at the shutter, the beam and the camera's read-out"
    yield Verdict(
        "frames",
        "suspicious",
        f"frame {number} has {100 * statistics.median(values):.0f} % of the counts of the others "
        f"({len(odd)} of {len(movies)} movies have such frames)",
        cure,
        len(odd),
        len(movies),
        numbers,
    )


def _short(movies: list[Witness]) -> Iterable[Verdict]:
    counts = [int(one.facts["frame_count"]) for one in movies if one.facts.get("frame_count")]
    if len(counts) < 3 or any(one.facts.get("hardware_frames") for one in movies):
        return
    usual = statistics.mode(counts)
    short = [count for count in counts if count < 0.9 * usual]
    if short:
        told = f"{some_of(len(short), len(movies))} hold only {min(short)} frames where most hold {usual}"
        cure = "were they copied while being written, or stopped early?"
        yield Verdict("frames", "suspicious", told, cure, len(short), len(movies), {"frames": min(short)})


def judge_dose(bench: Bench) -> Verdict:
    """Whether the electrons counted are those that were given."""
    seen = [(one, ratio) for one in bench.prepared if (ratio := _dose_ratio(one)) is not None]
    if not seen:
        return _dose_unknown(bench)
    ratio = statistics.median(value for _, value in seen)
    given = statistics.median(_given_dose(one) or 0.0 for one, _ in seen)
    measured = statistics.median(float(one.found["dose_per_frame_measured"]) for one, _ in seen)
    fact = measured * statistics.median(_made_of_each(one) for one, _ in seen)
    numbers = {"given": round(given, 4), "measured": round(measured, 4), "ratio": round(ratio, 3)}
    if LEAST_DOSE <= ratio <= MOST_DOSE:
        told = f"{measured:.3g} e⁻/Å² per frame are counted and {given:.3g} were given ({ratio:.2f} of them)"
        return Verdict("dose", "fine", told, "", 0, len(seen), numbers)
    outside = sum(not LEAST_DOSE <= value <= MOST_DOSE for _, value in seen)
    counts = _noise_scale([one for one, _ in seen])
    factor = next((n for n in FACTORS if LEAST_DOSE <= ratio / n <= MOST_DOSE or 0.7 <= ratio * n <= MOST_DOSE), None)
    named = "" if factor is None else f", {factor} times {'as much' if ratio > 1 else 'less'}"
    told = f"{measured:.3g} e⁻/Å² per frame are counted where {given:.3g} were given{named}"
    held = statistics.median(float(one.facts.get("counts_per_electron") or 1.0) for one, _ in seen)
    if counts is not None and not 0.67 <= counts <= 1.5 and LEAST_DOSE <= ratio / counts <= 1.3:
        scale = next((n for n in FACTORS if abs(counts / n - 1) < 0.2), counts)
        per_electron = scale * held if ratio > 1 else 1.0
        told = f"{told}; by its noise an electron adds {counts * held:.3g} counts and not {held:.3g}"
        cure = bench.again(counts_per_electron=rounded(per_electron))
    elif ratio > 1:
        cure = f"give the dose with {bench.again(dose_per_frame=rounded(fact))}, or correct the pixel size"
    else:
        cure = (
            f"unless the specimen is very thick, give the dose with {bench.again(dose_per_frame=rounded(fact))}, "
            "or correct the pixel size"
        )
    wrong = ratio < _WRONG_LEAST or ratio > _WRONG_MOST
    return Verdict("dose", "wrong" if wrong else "suspicious", told, cure, outside, len(seen), numbers)


def _dose_unknown(bench: Bench) -> Verdict:
    """Without a dose there is only the noise to tell whether counts are electrons."""
    if not bench.prepared:
        return unknown("dose", bench)
    counts = _noise_scale(bench.prepared)
    held = statistics.median(float(one.facts.get("counts_per_electron") or 1.0) for one in bench.prepared)
    if counts is None or counts < 1.7:
        return cannot_tell("dose", "no dose was given: it is taken from the counts", len(bench.prepared))
    scale = next((n for n in FACTORS if abs(counts / n - 1) < 0.2), counts)
    return Verdict(
        "dose",
        "suspicious",
        f"No dose was given, and by its noise an electron adds {counts * held:.3g} counts and not {held:.3g}: the dose "
        "taken from the counts is too large",
        f"give the dose with {bench.again(dose_per_frame='...')}, or "
        + bench.again(counts_per_electron=rounded(scale * held)),
        len(bench.prepared),
        len(bench.prepared),
        {"counts_per_electron": round(counts * held, 3)},
    )


def _given_dose(one: Witness) -> float | None:
    """The dose per frame as it was given; an EER's is of the frames it was cut into."""
    if one.found.get("dose_origin") not in ("given", "exposure"):
        return None
    return one.found.get("dose_per_frame_used")


def _made_of_each(one: Witness) -> float:
    """How many frames were made of each that the facts count: an EER's are cut at will, its dose is of the facts'."""
    made, told = len(one.camera.get("frame_counts", [])), one.facts.get("frame_count")
    return made / int(told) if one.facts.get("hardware_frames") and made and told else 1.0


def _dose_ratio(one: Witness) -> float | None:
    given, measured = _given_dose(one), one.found.get("dose_per_frame_measured")
    return float(measured) / given if given and measured else None


def _noise_scale(seen: list[Witness]) -> float | None:
    """What an electron adds by the noise of the counts, over what it was said to add."""
    values = [
        float(one.found["counts_per_electron_measured"]) / float(one.facts.get("counts_per_electron") or 1.0)
        for one in seen
        if one.found.get("counts_per_electron_measured")
    ]
    return statistics.median(values) if values else None
