"""Fifty simulated nights under watch: which planted faults were told within ten minutes, and what was told for nothing.

Each night is 9.5 to 12 hours of findings at 300 to 700 images an hour (``tests/monitoring/nights.py``), with three of
six faults at random times, pauses for nitrogen and for another grid. They go through the snapshots, rules and book of
alerts that serve uses, every 30 s of session time. Rules were tuned on nights of other seeds (from 9000 on), never on
those of this campaign (from 0 on).
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import _common

from focusnb.monitoring.alerts import Alert, evaluate
from focusnb.monitoring.rules import read_rules
from focusnb.monitoring.snapshot import SnapshotMaker
from tests.monitoring.nights import FAULTS, Fault, Night, Recorder, make_night, make_project

RULE_OF = {
    "counts": "counts",
    "ice": "ice",
    "focus": "defocus",
    "drift": "drift",
    "silence": "silence",
    "disk": "disk",
}
"""The rule that has to tell of each fault."""

ALLOWED = 600.0
"""Seconds of session time within which a fault has to be told."""

AFTERMATH = 900.0
"""Seconds after a fault in which what is told may still be of it."""

STEP = 30.0
"""Seconds of session time between two looks, as serve has them."""

_SNAPSHOT_EVERY = 20  # looks; a snapshot is made each time in serve, and costs the campaign a third of its time


def main() -> None:
    """Watch the nights, print what was missed and what was told for nothing, and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="seed of the first night")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    seeds = range(options.first, options.first + options.nights)
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        nights = pool.map(watch_seed, seeds, chunksize=1)
    results = summarise(nights)
    print(f"{time.monotonic() - began:.0f} s")
    _common.table(results["faults"])
    for name in ("missed", "late"):
        for row in results[name]:
            print(f"{name}: night {row['night']}, {row['kind']} {row['manner']} {row['size']:.3g} {row['minutes']}")
    print(f"false alarms a night: {results['false_alarms_per_night']:.2f}; of each rule: {results['false_alarms']}")
    for alarm in results["false_alarms_told"]:
        print(f"  night {alarm['night']}, minute {alarm['minute']}: {alarm['sentence']}")
    print(f"silence told in a pause on purpose, a night: {results['pauses_told_per_night']:.2f}")
    if not options.no_save:
        _common.save("nights", results)
    if results["missed"] or results["late"]:
        sys.exit("a fault was not told in time")


def watch_seed(seed: int) -> dict[str, Any]:
    """Let the night of a seed pass."""
    return watch(make_night(seed))


def watch(night: Night) -> dict[str, Any]:
    """Let a night pass and return its alerts beside what was planted."""
    folder = Path(tempfile.mkdtemp(prefix="focusnb-night-"))
    try:
        with make_project(folder / "project") as project:
            recorder = Recorder(project, night)
            maker = SnapshotMaker(project, clock=recorder.clock, disk=recorder.disk())
            rules = read_rules(project.folder)
            for number, _ in enumerate(recorder.run(STEP)):
                view = maker.view()
                evaluate(maker.book, rules, view)
                if number % _SNAPSHOT_EVERY == 0:
                    maker.make(view=view)
            alerts = maker.book.all(night.end)
    finally:
        shutil.rmtree(folder)
    return judge(night, alerts)


def judge(night: Night, alerts: list[Alert]) -> dict[str, Any]:
    """Which faults were told and when, and which alerts told of nothing that was planted."""
    faults = []
    for fault in night.faults:
        own = [a.began for a in alerts if a.rule == RULE_OF[fault.kind] and fault.begin <= a.began <= fault.end]
        minutes = (min(own) - fault.begin) / 60 if own else None
        faults.append(
            {
                "night": night.seed,
                "kind": fault.kind,
                "manner": fault.manner,
                "size": round(fault.size, 3),
                "minutes": None if minutes is None else round(minutes, 1),
            }
        )
    false: list[dict[str, Any]] = []
    told_pauses = 0
    beside = 0
    for alert in alerts:
        near = [f for f in night.faults if f.begin <= alert.began <= f.end + AFTERMATH]
        if any(_explains(fault, alert) for fault in near):
            continue
        if alert.rule == "silence" and any(p.begin <= alert.began <= p.end + 60 for p in night.pauses):
            told_pauses += 1
        elif near:
            beside += 1
        else:
            minute = round((alert.began - night.begin) / 60)
            false.append({"night": night.seed, "minute": minute, "key": alert.key, "sentence": alert.sentence})
    return {"faults": faults, "false": false, "pauses_told": told_pauses, "beside": beside, "images": len(night.images)}


def _explains(fault: Fault, alert: Alert) -> bool:
    return RULE_OF[fault.kind] == alert.rule


def summarise(nights: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of all nights."""
    faults = [fault for night in nights for fault in night["faults"]]
    rows = []
    for kind in FAULTS:
        own = [fault for fault in faults if fault["kind"] == kind]
        told = sorted(fault["minutes"] for fault in own if fault["minutes"] is not None)
        rows.append(
            {
                "fault": kind,
                "planted": len(own),
                "told": len(told),
                "median min": told[len(told) // 2] if told else None,
                "worst min": told[-1] if told else None,
            }
        )
    false = [alarm for night in nights for alarm in night["false"]]
    return {
        "nights": len(nights),
        "images": sum(night["images"] for night in nights),
        "allowed_minutes": ALLOWED / 60,
        "faults": rows,
        "missed": [fault for fault in faults if fault["minutes"] is None],
        "late": [f for f in faults if f["minutes"] is not None and f["minutes"] > ALLOWED / 60],
        "false_alarms_per_night": round(len(false) / len(nights), 3),
        "false_alarms": dict(Counter(alarm["key"] for alarm in false)),
        "false_alarms_told": false,
        "nights_without_false_alarm": sum(not night["false"] for night in nights),
        "pauses_told_per_night": round(sum(night["pauses_told"] for night in nights) / len(nights), 3),
        "other_alerts_during_a_fault": sum(night["beside"] for night in nights),
    }


if __name__ == "__main__":
    main()
