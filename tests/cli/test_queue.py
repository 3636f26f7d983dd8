"""The queue on the command line: what it shows, and how people change their minds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.project.project import Project
from tests.cli.test_cli import focusnb
from tests.projects import make_project, statuses, write_shots


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of five exposures, the last of which fails."""
    with make_project(tmp_path / "project") as project:
        project.add(write_shots(tmp_path / "camera", **dict.fromkeys("abcd", "1\n"), e="fail scale\n"))
    return tmp_path / "project"


def add(folder: Path, *arguments: object) -> str:
    """Queue the small steps."""
    steps = [word for step in ("load", "scale", "judge") for word in ("--step", step)]
    ended = focusnb("queue", "add", folder, *steps, *arguments)
    assert ended.status == 0, ended.err
    return ended.err


def waiting(folder: Path) -> list[str]:
    """Exposures in the order in which they would be taken."""
    ended = focusnb("queue", "show", folder, "--format", "json")
    return [row["exposure"] for row in json.loads(ended.out) if row["state"] in ("queued", "held")]


def work(folder: Path) -> list[str]:
    """Work until nothing waits; returns names in the order in which they were started."""
    names: list[str] = []
    with Project.open(folder) as project:
        Processor(project, InlineExecutor()).run(
            on_event=lambda event: names.append(event.name) if event.kind == "started" else None
        )
    return names


def test_a_batch_is_queued_shown_reordered_and_done(folder: Path) -> None:
    assert "4 of 4 exposures queued" in add(folder, "a", "b", "c", "d")
    assert waiting(folder) == ["a", "b", "c", "d"]
    assert "1 put on top" in focusnb("queue", "first", folder, "d").err
    assert waiting(folder) == ["d", "a", "b", "c"]
    assert "1 moved" in focusnb("queue", "move", folder, "c", "--before", "a").err
    assert waiting(folder) == ["d", "c", "a", "b"]
    assert "1 moved" in focusnb("queue", "move", folder, "d", "--after", "a").err
    assert waiting(folder) == ["c", "a", "d", "b"]
    assert "1 queued" in add(folder, "e", "--first").replace("1 of 1 exposures queued", "1 queued")
    shown = focusnb("queue", "show", folder)
    assert (shown.status, shown.out) == (0, b"")
    assert "5 waiting; so far nothing" in shown.err
    assert "First come, first served" in shown.err
    assert f"focusnb serve {folder}" in shown.err
    assert work(folder) == ["e", "c", "a", "d", "b"]
    assert "nothing waits; so far 4 done, 1 failed" in focusnb("queue", "show", folder).err


def test_the_newest_come_first_where_that_is_wanted(folder: Path) -> None:
    add(folder, "a", "b", "c")
    assert "The newest come first" in focusnb("queue", "order", folder, "newest-first").err
    add(folder, "d")
    assert waiting(folder) == ["d", "c", "b", "a"]
    focusnb("queue", "first", folder, "b")
    focusnb("queue", "move", folder, "a", "--before", "d")
    assert waiting(folder) == ["b", "a", "d", "c"]
    add(folder, "e")
    assert work(folder) == ["b", "e", "a", "d", "c"]
    assert focusnb("queue", "order", folder, "oldest").status == 2


def test_what_is_held_or_paused_waits(folder: Path) -> None:
    add(folder, "a", "b", "c")
    assert "1 held" in focusnb("queue", "hold", folder, "b").err
    assert work(folder) == ["a", "c"]
    assert "1 held" in focusnb("queue", "show", folder).err
    focusnb("queue", "pause", folder)
    assert "PAUSED" in focusnb("queue", "show", folder).err
    add(folder, "d")
    assert work(folder) == []
    ran = focusnb("run", folder, "--until-idle", "--workers", 0)
    assert ran.status == 0
    assert "wait, held or in a paused queue" in ran.err
    focusnb("queue", "cancel", folder, "a", "c", "e")
    focusnb("queue", "resume", folder)
    assert "1 released" in focusnb("queue", "release", folder, "--all").err
    assert {"b", "d"} <= set(work(folder))


def test_cancelled_exposures_keep_what_they_had_and_failed_ones_are_tried_again(folder: Path) -> None:
    add(folder)
    assert "2 cancelled" in focusnb("queue", "cancel", folder, "a", "b").err
    with Project.open(folder) as project:
        assert statuses(project) == {"a": "new", "b": "new", "c": "queued", "d": "queued", "e": "queued"}
    assert work(folder) == ["c", "d", "e"]
    assert "1 queued again" in focusnb("queue", "retry", folder).err
    with Project.open(folder) as project:
        (project.path(5) / "raw" / "e.tif").write_text("1\n")
    assert work(folder) == ["e"]
    assert "0 queued again" in focusnb("queue", "retry", folder).err
    add(folder, "a", "b", "--again")
    assert "2 cancelled" in focusnb("queue", "clear", folder).err
    assert waiting(folder) == []


def test_a_batch_has_parameters_of_its_own(folder: Path) -> None:
    add(folder, "a")
    work(folder)
    add(folder, "a", "--set", "judge.limit=1", "--trial", "mild")
    work(folder)
    with Project.open(folder) as project:
        assert project.table().verdict[1] == "bad"
        assert project.table(trial="mild").verdict[1] == "good"
    wrong = focusnb("queue", "add", folder, "a", "--step", "judge", "--set", "judge.limit=high")
    assert (wrong.status, "judge" in wrong.err or "limit" in wrong.err) == (2, True)
    assert "write --set STEP.NAME=VALUE" in focusnb("queue", "add", folder, "--set", "limit=3").err


def test_the_log_is_sorted_as_asked(folder: Path) -> None:
    add(folder)
    work(folder)
    for sort, column in {"exposure": "exposure", "step": "step", "worker": "worker", "status": "status"}.items():
        rows = json.loads(focusnb("queue", "log", folder, "--sort", sort, "--format", "json").out)
        assert len(rows) == 15
        assert [row[column] for row in rows] == sorted(row[column] for row in rows)
    rows = json.loads(focusnb("queue", "log", folder, "--format", "json").out)
    assert [row["started_at"] for row in rows] == sorted((row["started_at"] for row in rows), reverse=True)
    shown = focusnb("queue", "log", folder, "--rows", 3).err
    assert "judge" in shown
    assert "e: scale cannot" in focusnb("queue", "log", folder).err.replace("\n", " ")


def test_what_cannot_be_is_told(folder: Path) -> None:
    for arguments, words in (
        (["first", folder], "name exposures or tasks, or give --batch NUMBER"),
        (["cancel", folder], "or --all"),
        (["cancel", folder, "zebra"], "zebra names no exposure"),
        (["cancel", folder, "abcdef12"], "abcdef12 is the beginning of no task"),
        (["hold", folder, "--batch", 9], "there is no batch 9"),
        (["move", folder, "a", "--before", "b"], "a does not wait"),
        (["move", folder, "a", "--before", "b", "--after", "c"], "give --before or --after"),
        (["move", folder, "a"], "give --before or --after"),
        (["log", folder, "--sort", "size"], "size"),
        (["show", folder / "nowhere"], "is no focusnb project"),
    ):
        ended = focusnb("queue", *arguments)
        assert ended.status in (1, 2)
        assert words in ended.err, ended.err
        assert "Traceback" not in ended.err
