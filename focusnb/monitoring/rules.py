"""The rules that watch a session: each is a declared model, with a hint at the usual cause.

The defaults were fixed before the rules were tried, in this order: as the facilities that use Scipion have them
(defocus outside 0.1-4 µm, U − V above 1000 Å); SCIENCE (iciness 1.5, the ice ring against the session's own baseline);
Focus (drift 50 Å, dark below 0.1, stripes above 30, fit resolution 6 Å, 12 of the last 15 images, 15 minutes without
an image). A rule that looks for a change compares the last images with the session's own history.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from focusnb.errors import ParameterError
from focusnb.io import files
from focusnb.monitoring.changes import Change, compare_last
from focusnb.monitoring.quantities import NO_LIMIT, Limit
from focusnb.monitoring.settings import monitoring_folder, read_json
from focusnb.monitoring.states import View, duration, hours_left
from focusnb.parameters import Declared, Spec, quantity

FILE_NAME = "rules.json"

CERTAIN = 0.9
"""Chance by which the last values must lie beyond those of the history."""

HISTORY = 300
"""Values of the history, at most."""

LEAST = 40
"""Values without which there is no history."""

PAUSE = 1200.0
"""Seconds without an image after which a new chapter begins, as with another grid."""

USUAL = 3 * 3600.0
"""Seconds after which what was a change has become usual."""

LOOK_BACK = 12 * 3600.0
"""Seconds over which a series is looked at."""

SETTLE = 180.0
"""Seconds in which what was recorded before the watch began is found, or a clock that was set is followed."""

OVER = 3600.0
"""Seconds without an image when the watch begins after which a session has ended."""

On = Annotated[bool, quantity("On", group="Rule")]
Severe = Annotated[bool, quantity("Severe", group="Rule", help="Marks the message as urgent.")]
OfLast = Annotated[int, quantity("Of the last", unit="images", group="Rule", ge=1, le=500)]
AtLeast = Annotated[int, quantity("At least", unit="images", group="Rule", ge=1, le=500)]
Window = Annotated[int, quantity("Compared", unit="images", group="Change", ge=5, le=200, advanced=True)]
CountsMin = Annotated[float, quantity("Smallest counts", unit="e⁻/px/frame", group="Limits", ge=0, precision=2)]
Fall = Annotated[float, quantity("Fall", unit="", group="Change", gt=0, lt=1, help="Part of the usual counts.")]
DefocusMin = Annotated[float, quantity("Smallest defocus", unit="Å", group="Limits", precision=0)]
DefocusMax = Annotated[float, quantity("Largest defocus", unit="Å", group="Limits", precision=0)]
Unusual = Annotated[
    int,
    quantity("Unusual", unit="images", group="Change", ge=1, help="Of those compared, outside what was usual before."),
]
Margin = Annotated[
    float, quantity("Margin", unit="Å", group="Change", ge=0, precision=0, help="Beyond which it is unusual.")
]
Shift = Annotated[float, quantity("Shift", unit="Å", group="Change", gt=0, precision=0, help="Of the usual defocus.")]
AstigmatismLimit = Annotated[
    float, quantity("Largest astigmatism", unit="Å", group="Limits", gt=0, precision=0, help="Defocus U less V.")
]
DriftLimit = Annotated[float, quantity("Largest drift", unit="Å", group="Limits", gt=0, precision=0)]
Rise = Annotated[float, quantity("Rise", unit="×", group="Change", gt=1, help="Of what is usual.")]
RiseMin = Annotated[float, quantity("Least rise", unit="Å", group="Change", ge=0, precision=0)]
IcinessLimit = Annotated[float, quantity("Largest iciness", unit="", group="Limits", gt=0, precision=2)]
IcinessRise = Annotated[float, quantity("Rise of the iciness", unit="", group="Change", gt=0, precision=2)]
RingRise = Annotated[float, quantity("Rise of the ring", unit="σ", group="Change", gt=0, precision=1)]
ResolutionLimit = Annotated[float, quantity("Coarsest CTF fit", unit="Å", group="Limits", gt=0, precision=1)]
StripeLimit = Annotated[float, quantity("Largest stripe measure", unit="", group="Limits", gt=0, precision=0)]
Minutes = Annotated[
    float, quantity("Minutes", unit="min", group="Limits", gt=0, help="0 images in so long; empty: from the cadence.")
]
MinutesFixed = Annotated[float, quantity("Minutes", unit="min", group="Limits", gt=0)]
HoursLeft = Annotated[float, quantity("Hours left", unit="h", group="Limits", gt=0)]
FreePart = Annotated[float, quantity("Free", unit="%", group="Limits", ge=0, le=100)]
InARow = Annotated[int, quantity("In a row", unit="images", group="Limits", ge=1, le=1000)]


@dataclass(frozen=True)
class Check:
    """What a rule says of the moment: whether something is wrong, in a sentence, with the usual cause.

    key : tells apart what one rule may find; quantity : the series to look at
    """

    key: str
    wrong: bool
    sentence: str = ""
    hint: str = ""
    quantity: str | None = None
    value: float | None = None
    limit: Limit = NO_LIMIT


Opened = Mapping[str, float]
"""When each alert that is still open began, by its key."""


class Rule(Declared):
    """Something to watch. ``check`` tells what it knows; what cannot be told now is left out."""

    rule: ClassVar[str] = ""
    title: ClassVar[str] = ""

    on: On = True
    severe: Severe = False

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        """Look at a session; ``opened`` tells what was wrong before."""
        raise NotImplementedError

    def limits(self) -> dict[str, Limit]:
        """Limits of quantities, for plots."""
        return {}


class _Counted(Rule):
    """A rule on how many of the last images lie beyond a limit."""

    of_last: OfLast = 15
    at_least: AtLeast = 12
    window: Window = 15

    def beyond(self, view: View, name: str, limit: Limit, opened: bool) -> tuple[bool, float, int, int] | None:
        """Whether enough of the last images lie beyond a limit; their median, how many do and of how many."""
        _, values = view.known(name, view.now - LOOK_BACK)
        if len(values) < self.of_last:
            return None
        last = values[-self.of_last :]
        beyond = np.zeros(len(last), dtype=bool)
        if limit.low is not None:
            beyond |= last < limit.low
        if limit.high is not None:
            beyond |= last > limit.high
        count = int(beyond.sum())
        needed = min(self.at_least, self.of_last)
        # over only when most are well again, so that it does not open and close around the limit
        wrong = count >= (max(1, needed // 3) if opened else needed)
        return wrong, float(np.median(last)), count, len(last)

    def change(self, view: View, name: str, key: str, opened: Opened) -> Change | None:
        """The last images against the session's history, which ends where the fault began."""
        time, values = view.known(name, view.now - LOOK_BACK)
        until = None
        if key in opened and view.now - opened[key] < USUAL:
            # a fault may have begun within the images that made it known
            until = opened[key] - (view.cadence or 0.0) * self.window
        return compare_last(time, values, window=self.window, history=HISTORY, least=LEAST, pause=PAUSE, until=until)


def _told(count: int, of: int) -> str:
    return f"{count} of the last {of} images"


class CountsRule(_Counted):
    """Counts fall: fewer electrons reach the camera than usual."""

    rule: ClassVar[str] = "counts"
    title: ClassVar[str] = "Counts"

    severe: Severe = True
    low: CountsMin | None = 0.1
    fall: Fall | None = 0.25

    def limits(self) -> dict[str, Limit]:
        return {"mean_counts": Limit(self.low, None)}

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        name = "mean_counts"
        hint = "Usual causes: the slit of the energy filter, the beam (moved or blanked), the gun, a closed valve."
        limit = Limit(self.low, None)
        if self.low is not None and (found := self.beyond(view, name, limit, "counts.dark" in opened)):
            wrong, median, count, of = found
            told = f"{_told(count, of)} are dark: {median:.2f} e⁻/px/frame, below {self.low:g}"
            yield Check("counts.dark", wrong, told, hint, name, median, limit)
        if self.fall is not None and (change := self.change(view, name, "counts.fall", opened)):
            usual = change.baseline.median
            # another grid may be thicker: against what was before a long pause, only half as sensitive
            fall = min(0.9, self.fall * (2 if change.baseline.young else 1))
            part = 1 - change.median / usual if usual > 0 else 0.0
            still = "counts.fall" in opened and part > fall / 2
            wrong = still or (part > fall and change.larger < 1 - CERTAIN)
            told = f"Counts fell by {100 * part:.0f} %: {change.median:.2f} e⁻/px/frame, usual were {usual:.2f}"
            yield Check("counts.fall", wrong, told, hint, name, change.median, Limit(usual * (1 - fall), None))


class DefocusRule(_Counted):
    """Defocus lies outside its range, scatters or has moved: focusing does not work as it did."""

    rule: ClassVar[str] = "defocus"
    title: ClassVar[str] = "Defocus"

    low: DefocusMin | None = 1000.0
    high: DefocusMax | None = 40_000.0
    unusual: Unusual | None = 5
    margin: Margin = 2000.0
    shift: Shift | None = 7500.0

    def limits(self) -> dict[str, Limit]:
        return {"defocus": Limit(self.low, self.high)}

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        hint = "Usual causes: autofocus (its area, its interval), the height of the grid, a bent square."
        limit = Limit(self.low, self.high)
        if limit != NO_LIMIT and (found := self.beyond(view, "defocus", limit, "defocus.range" in opened)):
            wrong, median, count, of = found
            told = (
                f"Defocus of {_told(count, of)} is outside {_micrometres(limit)}; their median is {median / 1e4:.2f} µm"
            )
            yield Check("defocus.range", wrong, told, hint, "defocus", median, limit)
        # what was asked for varies on purpose: where it is known, only what is off it counts
        _, off = view.known("defocus_error", view.now - LOOK_BACK)
        name = "defocus_error" if len(off) >= LEAST + self.window else "defocus"
        told_of = "Defocus less its target" if name == "defocus_error" else "Defocus"
        change = self.change(view, name, "defocus.scatter", opened)
        if change is not None and change.baseline.young and name == "defocus":
            return  # another grid may be recorded at other defoci
        if self.unusual is not None and change is not None:
            margin = self.margin * (2 if change.baseline.young else 1)
            low, high = change.low - margin, change.high + margin
            count = int(((change.last < low) | (change.last > high)).sum())
            wrong = count >= (max(1, self.unusual // 2) if "defocus.scatter" in opened else self.unusual)
            usual = f"{change.low / 1e4:.2f} to {change.high / 1e4:.2f} µm"
            told = f"{told_of} of {_told(count, len(change.last))} is unusual; nearly all were {usual}"
            yield Check("defocus.scatter", wrong, told, hint, name, float(count), Limit(low, high))
        change = self.change(view, name, "defocus.shift", opened)
        if self.shift is not None and change is not None:
            by = change.median - change.baseline.median
            shift = self.shift * (2 if change.baseline.young else 1)
            certain = max(change.larger, 1 - change.larger) > CERTAIN
            wrong = abs(by) > 0.5 * shift if "defocus.shift" in opened else abs(by) > shift and certain
            told = f"{told_of} moved by {by / 1e4:+.2f} µm: now {change.median / 1e4:.2f} µm"
            yield Check("defocus.shift", wrong, told, hint, name, change.median)


def _micrometres(limit: Limit) -> str:
    low = "" if limit.low is None else f"{limit.low / 1e4:g}"
    high = "" if limit.high is None else f"{limit.high / 1e4:g}"
    return f"{low}-{high} µm" if low and high else f"{'above ' + low if low else 'below ' + high} µm"


class AstigmatismRule(_Counted):
    """Astigmatism (U less V) is large."""

    rule: ClassVar[str] = "astigmatism"
    title: ClassVar[str] = "Astigmatism"

    high: AstigmatismLimit | None = 1000.0

    def limits(self) -> dict[str, Limit]:
        return {"astigmatism": Limit(None, self.high)}

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        limit = Limit(None, self.high)
        if self.high is not None and (found := self.beyond(view, "astigmatism", limit, "astigmatism" in opened)):
            wrong, median, count, of = found
            told = f"Astigmatism of {_told(count, of)} is above {self.high:g} Å; their median is {median:.0f} Å"
            hint = "Usual causes: the stigmator of the objective, an aperture that is dirty or not centred."
            yield Check("astigmatism", wrong, told, hint, "astigmatism", median, limit)


class DriftRule(_Counted):
    """The specimen drifts far, or much farther than usual."""

    rule: ClassVar[str] = "drift"
    title: ClassVar[str] = "Drift"

    high: DriftLimit | None = 50.0
    rise: Rise | None = 2.5
    rise_min: RiseMin = 10.0

    def limits(self) -> dict[str, Limit]:
        return {"drift": Limit(None, self.high)}

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        hint = "Usual causes: the stage has not settled, the refilling of nitrogen, a grid that is loose or broken."
        limit = Limit(None, self.high)
        if self.high is not None and (found := self.beyond(view, "drift", limit, "drift.far" in opened)):
            wrong, median, count, of = found
            told = f"{_told(count, of)} drifted more than {self.high:g} Å; their median is {median:.0f} Å"
            yield Check("drift.far", wrong, told, hint, "drift", median, limit)
        if self.rise is not None and (change := self.change(view, "drift", "drift.rise", opened)):
            usual = change.baseline.median
            rise = self.rise * (2 if change.baseline.young else 1)
            high = max(rise * usual, usual + self.rise_min)
            middle = 0.5 * (usual + high)
            certain = change.larger > CERTAIN and change.median > high
            wrong = change.median > middle if "drift.rise" in opened else certain
            told = f"Drift rose to {change.median:.0f} Å; usual were {usual:.0f} Å"
            yield Check("drift.rise", wrong, told, hint, "drift", change.median, Limit(None, high))


class IceRule(_Counted):
    """Crystalline ice: the iciness is high or rises, or the ring of ice does."""

    rule: ClassVar[str] = "ice"
    title: ClassVar[str] = "Ice"

    high: IcinessLimit | None = 1.5
    rise: IcinessRise | None = 0.15
    ring_rise: RingRise | None = 5.0

    def limits(self) -> dict[str, Limit]:
        return {"iciness": Limit(None, self.high)}

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        hint = "Usual causes: the grid warms or has warmed, contamination in the column, a bad square."
        limit = Limit(None, self.high)
        if self.high is not None and (found := self.beyond(view, "iciness", limit, "ice.high" in opened)):
            wrong, median, count, of = found
            told = f"Iciness of {_told(count, of)} is above {self.high:g}; their median is {median:.2f}"
            yield Check("ice.high", wrong, told, hint, "iciness", median, limit)
        for name, key, rise in (("iciness", "ice.rise", self.rise), ("ice_ring_excess", "ice.ring", self.ring_rise)):
            change = self.change(view, name, key, opened) if rise is not None else None
            if rise is None or change is None:
                continue
            usual, by = change.baseline.median, change.median - change.baseline.median
            needed = max(rise * (2 if change.baseline.young else 1), 3 * change.baseline.spread)
            certain = by > needed and change.larger > CERTAIN
            wrong = by > needed / 2 if key in opened else certain
            what = "The ring of ice" if key == "ice.ring" else "Iciness"
            unit = " σ" if key == "ice.ring" else ""
            told = f"{what} rose to {change.median:.2f}{unit}; usual were {usual:.2f}{unit}"
            yield Check(key, wrong, told, hint, name, change.median, Limit(None, usual + needed))


class ResolutionRule(_Counted):
    """CTF fits reach less far than they should."""

    rule: ClassVar[str] = "resolution"
    title: ClassVar[str] = "CTF fit resolution"

    high: ResolutionLimit | None = 6.0

    def limits(self) -> dict[str, Limit]:
        return {"ctf_fit_resolution": Limit(None, self.high)}

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        name, limit = "ctf_fit_resolution", Limit(None, self.high)
        if self.high is not None and (found := self.beyond(view, name, limit, "resolution" in opened)):
            wrong, median, count, of = found
            told = f"The CTF fit of {_told(count, of)} ends before {self.high:g} Å; their median is {median:.1f} Å"
            hint = "Usual causes: thick ice, drift, coma or astigmatism, empty holes."
            yield Check("resolution", wrong, told, hint, name, median, limit)


class StripeRule(_Counted):
    """Images have stripes or parts of unequal brightness."""

    rule: ClassVar[str] = "stripes"
    title: ClassVar[str] = "Stripes"

    severe: Severe = True
    high: StripeLimit | None = 30.0

    def limits(self) -> dict[str, Limit]:
        return {"stripe_measure": Limit(None, self.high)}

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        name, limit = "stripe_measure", Limit(None, self.high)
        if self.high is not None and (found := self.beyond(view, name, limit, "stripes" in opened)):
            wrong, median, count, of = found
            told = f"{_told(count, of)} have stripes: {median:.0f}, above {self.high:g}"
            hint = "Usual causes: the gain reference, the camera, the edge of the beam or of the slit in the field."
            yield Check("stripes", wrong, told, hint, name, median, limit)


class SilenceRule(Rule):
    """No new image for longer than the session's own cadence explains."""

    rule: ClassVar[str] = "silence"
    title: ClassVar[str] = "No new image"

    severe: Severe = True
    minutes: Minutes | None = None

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        # a session of a few images is not under way yet, and one that ended yesterday is over
        if view.last is None or view.cadence is None or len(view.time) < 20 or not view.session.followed:
            return
        # a camera's clock may be put back meanwhile; what has only just come has been recorded as well
        age = view.now - max(view.last, view.arrived)
        if age > LOOK_BACK:
            return
        allowed = 60 * self.minutes if self.minutes is not None else silence_allowed(view.cadence)
        # this host's clock may have been put forward by an hour: silence is what was waited for since
        age = min(age, view.now - view.steady)
        if _unknown(view, allowed, age, "silence" in opened):
            return
        told = f"No new image for {duration(age)}; usual is one every {duration(view.cadence)}"
        hint = "Usual causes: recording has stopped or finished, the refilling of nitrogen, the import or its network."
        yield Check("silence", age > allowed, told, hint, None, age / 60)


def _unknown(view: View, allowed: float, age: float, opened: bool) -> bool:
    """Whether it cannot be told yet how long there was nothing.

    When the watch begins, what was recorded before has yet to be found. After a clock was set, what was told of before
    is not over because time is counted anew.
    """
    if opened:
        return age <= allowed and view.now - view.steady <= allowed + SETTLE
    return view.now - view.since < SETTLE


def silence_allowed(cadence: float) -> float:
    """Seconds without an image that a session of this cadence may take: twenty intervals, within 8 to 15 minutes."""
    return min(max(20 * cadence, 480.0), 900.0)


class DiskRule(Rule):
    """The project's disk will be full soon."""

    rule: ClassVar[str] = "disk"
    title: ClassVar[str] = "Disk"

    severe: Severe = True
    hours: HoursLeft | None = 8.0
    free: FreePart | None = 3.0

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        disk = view.disk
        if disk is None or disk.total <= 0:
            return
        part, left = 100 * disk.free / disk.total, hours_left(view)
        # well again only with some room to spare
        spare = 1.25 if "disk" in opened else 1.0
        full = self.free is not None and part < spare * self.free
        soon = self.hours is not None and left is not None and left < spare * self.hours
        if left is None and not full and "disk" in opened:
            return
        until = "" if left is None else f", full in {duration(3600 * left)} at the present speed"
        told = f"The disk has {disk.free / 1e9:.0f} GB left ({part:.1f} %){until}"
        yield Check("disk", full or soon, told, "Move finished data away, or record to another disk.", None, part)


class FailureRule(Rule):
    """Exposures fail one after the other."""

    rule: ClassVar[str] = "failures"
    title: ClassVar[str] = "Failures"

    in_a_row: InARow = 5

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        wrong = view.wrong[~view.waiting & (view.time > view.now - LOOK_BACK)]
        if len(wrong) == 0:
            return
        good = np.flatnonzero(~wrong)
        row = len(wrong) - 1 - int(good[-1]) if len(good) else len(wrong)
        told = f"{row} images in a row could not be processed"
        hint = "Usual causes: files that are not complete, a wrong gain reference, a full disk; the failures tell why."
        yield Check("failures", row >= (1 if "failures" in opened else self.in_a_row), told, hint, None, float(row))


class ProcessingRule(Rule):
    """Images wait and none is processed."""

    rule: ClassVar[str] = "processing"
    title: ClassVar[str] = "Processing"

    minutes: MinutesFixed = 15.0

    def check(self, view: View, opened: Opened) -> Iterator[Check]:
        waiting = int(view.waiting.sum())
        if waiting == 0:
            yield Check("processing", False)
            return
        processed = view.session.processed[np.isfinite(view.session.processed)]
        oldest = float(np.nanmin(view.session.arrived[view.waiting], initial=view.now))
        # what waited before anybody was there to process it waits no longer than they are
        idle = view.now - max(float(processed.max(initial=0.0)), oldest, view.since, view.steady)
        if _unknown(view, 60 * self.minutes, idle, "processing" in opened):
            return
        told = f"{waiting} images wait and none was processed for {duration(idle)}"
        hint = "Usual causes: nobody processes the project, the cluster gives no worker, a step hangs."
        yield Check("processing", idle > 60 * self.minutes, told, hint, None, idle / 60)


RULES: dict[str, type[Rule]] = {
    rule.rule: rule
    for rule in (
        CountsRule,
        DefocusRule,
        AstigmatismRule,
        DriftRule,
        IceRule,
        ResolutionRule,
        StripeRule,
        SilenceRule,
        DiskRule,
        FailureRule,
        ProcessingRule,
    )
}


@dataclass(frozen=True)
class RuleSet:
    """The rules of a project."""

    rules: Mapping[str, Rule]

    def check(self, view: View, opened: Opened) -> Iterator[tuple[Rule, Check]]:
        """What every rule that is on says of the moment."""
        # what was recorded before, such as finished work, can be cured no more
        past = not (view.session.live or view.session.followed) or (
            view.last is not None and view.since - max(view.last, view.arrived) > OVER
        )
        for rule in self.rules.values():
            if rule.on and not (past and isinstance(rule, _Counted | SilenceRule)):
                yield from ((rule, check) for check in rule.check(view, opened))

    def limits(self) -> dict[str, Limit]:
        """The limits of quantities."""
        return {name: limit for rule in self.rules.values() if rule.on for name, limit in rule.limits().items()}


def find_rule(name: str) -> type[Rule]:
    """A rule by name; ParameterError lists those there are."""
    if name not in RULES:
        raise ParameterError(f"there is no rule {name}; there are {', '.join(RULES)}")
    return RULES[name]


def rule_specs(name: str) -> list[Spec]:
    """What can be set of a rule."""
    return find_rule(name).specs()


def read_rules(project_folder: Path) -> RuleSet:
    """The rules of a project: the defaults, and what was set of them."""
    kept = read_json(monitoring_folder(project_folder) / FILE_NAME)
    return RuleSet({name: rule.read(dict(kept.get(name, {})))[0] for name, rule in RULES.items()})


def set_rule(project_folder: Path, name: str, values: Mapping[str, Any], *, reset: Iterable[str] = ()) -> Rule:
    """Set values of a rule in a project; all valid or none kept.

    None is no limit where a rule can do without one; ``reset`` names what goes back to its default.
    """
    path = monitoring_folder(project_folder) / FILE_NAME
    kept = read_json(path)
    own = {**dict(kept.get(name, {})), **values}
    for key in reset:
        find_rule(name).spec(key)
        own.pop(key, None)
    rule = find_rule(name).make(own)
    kept[name] = json.loads(rule.model_dump_json(exclude_defaults=True))
    path.parent.mkdir(exist_ok=True)
    files.write_json(path, kept)
    return rule
