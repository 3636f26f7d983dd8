"""Rules on sessions with one fault, and on a good one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from focusnb.errors import ParameterError, ProjectError
from focusnb.monitoring.alerts import evaluate
from focusnb.monitoring.rules import RULES, find_rule, read_rules, rule_specs, set_rule, silence_allowed
from focusnb.monitoring.snapshot import SnapshotMaker
from focusnb.project.project import Project
from tests.monitoring.conftest import Recorded
from tests.monitoring.nights import Fault, Recorder, make_night, make_project

RULE_OF = {"counts": "counts", "ice": "ice", "focus": "defocus", "drift": "drift", "silence": "silence", "disk": "disk"}


@pytest.mark.parametrize("kind", list(RULE_OF))
def test_each_fault_is_told_by_its_rule_and_is_over_when_it_ends(tmp_path: Path, kind: str) -> None:
    # seeds of its own: neither those of the campaign nor those the rules were tuned on
    night = make_night(7000 + list(RULE_OF).index(kind), hours=2.6, faults=[kind])
    fault: Fault = night.faults[0]
    with make_project(tmp_path / "p") as project:
        recorder = Recorder(project, night)
        maker = SnapshotMaker(project, clock=recorder.clock, disk=recorder.disk())
        rules = read_rules(project.folder)
        recorder.go(fault.begin - 60)
        evaluate(maker.book, rules, maker.view())
        for _ in recorder.run(120):
            evaluate(maker.book, rules, maker.view())
            if recorder.now > fault.end + 900:
                break
        own = [a for a in maker.book.all(recorder.now) if a.rule == RULE_OF[kind] and a.began >= fault.begin]
        assert own, f"{kind} ({fault.manner} {fault.size:.3g}) was not told"
        assert own[0].began - fault.begin <= 600
        assert own[0].hint
        assert all(alert.recovered is not None for alert in own)


def test_every_rule_is_declared() -> None:
    for name, rule in RULES.items():
        assert rule.rule == name
        assert rule.__doc__
        assert rule.title
        specs = {spec.name: spec for spec in rule_specs(name)}
        assert specs["on"].default is True
        for spec in specs.values():
            assert spec.label
            assert spec.type in ("bool", "str") or spec.unit or spec.unitless, f"{name}.{spec.name} has no unit"
    limits = read_rules(Path("/nowhere")).limits()
    assert tuple(limits["defocus"]) == (1000.0, 40_000.0)
    assert tuple(limits["astigmatism"]) == (None, 1000.0)
    assert tuple(limits["drift"]) == (None, 50.0)


def test_rules_are_set_in_a_project_all_or_none(empty: Project) -> None:
    folder = empty.folder
    set_rule(folder, "drift", {"high": 80.0, "rise": None})
    rule = read_rules(folder).rules["drift"]
    assert (rule.high, rule.rise) == (80.0, None)  # type: ignore[attr-defined]
    with pytest.raises(ParameterError, match="high = -1"):
        set_rule(folder, "drift", {"high": -1, "on": False})
    with pytest.raises(ParameterError, match="did you mean high"):
        set_rule(folder, "drift", {"hihg": 1})
    assert read_rules(folder).rules["drift"] == rule
    assert set_rule(folder, "drift", {}, reset=["rise"]).rise == 2.5  # type: ignore[attr-defined]
    set_rule(folder, "silence", {"on": False})
    assert json.loads((folder / "monitoring" / "rules.json").read_text()) == {
        "drift": {"high": 80.0},
        "silence": {"on": False},
    }
    with pytest.raises(ParameterError, match="there is no rule"):
        find_rule("weather")
    (folder / "monitoring" / "rules.json").write_text("{")
    with pytest.raises(ProjectError, match=r"rules\.json: cannot be read"):
        read_rules(folder)


@pytest.mark.parametrize(("cadence", "minutes"), [(5, 8), (12, 8), (30, 10), (65, 15), (600, 15)])
def test_silence_follows_the_cadence(cadence: float, minutes: float) -> None:
    assert silence_allowed(cadence) == 60 * minutes


def test_failures_in_a_row_and_work_that_waits(recorded: Recorded) -> None:
    project, maker = recorded.project, recorded.maker()
    rules = read_rules(project.folder)
    keys = lambda: {alert.key for alert in maker.book.all(recorder.now) if alert.open}  # noqa: E731
    recorder = recorded.recorder
    evaluate(maker.book, rules, maker.view())
    assert keys() == set()
    last = project.ids(status="done")[-5:]
    with project.library.write() as transaction:
        for identity in last:
            transaction.update_exposure(identity, {"status": "failed"})
    evaluate(maker.book, rules, maker.view())
    assert keys() == {"failures"}
    with project.library.write() as transaction:
        transaction.update_exposure(last[-1], {"status": "done"})
    evaluate(maker.book, rules, maker.view())
    assert keys() == set()
    recorder.now += 20 * 60
    evaluate(maker.book, rules, maker.view())
    assert keys() == {"processing", "silence"}


def test_astigmatism_is_u_less_v_as_the_facilities_have_it(recorded: Recorded) -> None:
    project, maker = recorded.project, recorded.maker()
    with project.library.write() as transaction:
        for identity in project.ids(status="done")[-15:]:
            transaction.update_exposure(identity, {"astigmatism": 990.0})
    rules = read_rules(project.folder)
    evaluate(maker.book, rules, maker.view())
    assert not maker.book.all(recorded.night.end)
    with project.library.write() as transaction:
        for identity in project.ids(status="done")[-12:]:
            transaction.update_exposure(identity, {"astigmatism": 1010.0})
    evaluate(maker.book, rules, maker.view())
    [alert] = maker.book.all(recorded.night.end)
    assert (alert.key, alert.value) == ("astigmatism", 1010.0)
    assert alert.sentence.startswith("Astigmatism of 12 of the last 15 images is above 1000 Å")


def test_a_rule_that_is_switched_off_lets_go_of_its_alerts(recorded: Recorded) -> None:
    maker = recorded.maker()
    recorded.recorder.now += 20 * 60
    evaluate(maker.book, read_rules(recorded.project.folder), maker.view())
    assert any(alert.rule == "silence" and alert.open for alert in maker.book.all(recorded.recorder.now))
    set_rule(recorded.project.folder, "silence", {"on": False})
    evaluate(maker.book, read_rules(recorded.project.folder), maker.view())
    assert not any(alert.rule == "silence" and alert.open for alert in maker.book.all(recorded.recorder.now))


def test_a_session_of_nothing_but_nan_breaks_no_rule(recorded: Recorded) -> None:
    with recorded.project.library.write() as transaction:
        for identity in recorded.project.ids()[-300:]:
            transaction.update_exposure(identity, dict.fromkeys(("drift", "iciness", "defocus_u", "mean_counts")))
    view = recorded.maker().view()
    assert np.isnan(view.session.values("defocus")[-200:]).all()
    new, _ = evaluate(recorded.maker().book, read_rules(recorded.project.folder), view)
    assert new == []
