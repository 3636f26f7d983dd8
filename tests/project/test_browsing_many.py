"""Keeping up where very many exposures change at once: what people decided comes first, the rest in parts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from focusnb.project.browsing import Browser
from focusnb.project.browsing import rows as reading
from focusnb.project.project import Project
from tests.filled import change_rows, filled_project, plausible, remove_rows, write_rows

MANY, CHUNK = 40, 50


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(reading, "MANY", MANY)
    monkeypatch.setattr(reading, "CHUNK", CHUNK)
    with filled_project(tmp_path / "project", 240) as project:
        yield project


def make_browser(project: Project) -> Browser:
    browser = Browser(project, eager=False)
    browser.load()
    browser.group_by(None)
    return browser


def all_rows(browser: Browser) -> list[object]:
    return list(browser.window(0, browser.lines))


def test_what_people_decide_comes_first_and_the_rest_by_parts(project: Project) -> None:
    browser = make_browser(project)
    browser.sort("-drift")
    browser.filter(status="done")
    browser.highlight([13])
    shown = browser.shown
    with Project.open(project.folder) as other:
        other.flag(other.ids(), "gold")
        change_rows(other, {number: {"drift": 1000.0 + number} for number in range(101, 201)})
    browser.refresh()
    assert (browser.shown, browser.highlighted) == (shown, [13])
    assert set(browser.rows.column("flag").texts(np.arange(240))) == {"gold"}
    assert browser.is_behind
    assert np.nanmax(browser.rows.column("drift").values) < 1000
    # those in sight are read first
    chunk = browser.fetch_behind((0, 10))()
    assert set(shown[:10]) <= set(chunk.asked.tolist())
    assert len(chunk.asked) == CHUNK
    browser.take_behind(chunk)
    parts = 1
    while browser.is_behind:
        browser.take_behind(browser.fetch_behind((0, 10))())
        parts += 1
    assert parts == 5
    assert browser.shown[:2] == [199, 198]
    assert all_rows(browser) == all_rows_anew(project)
    assert browser.refresh() is None


def all_rows_anew(project: Project) -> list[object]:
    fresh = Browser(project)
    fresh.group_by(None)
    fresh.sort("-drift")
    fresh.filter(status="done")
    fresh.highlight([13])
    return all_rows(fresh)


def test_a_part_that_changes_nothing_seen_moves_nothing(project: Project) -> None:
    browser = make_browser(project)
    with Project.open(project.folder) as other:
        other.flag(other.ids(), "red")
    browser.refresh()
    version = browser.version
    assert not browser.take_behind(browser.fetch_behind((0, 10))())
    assert browser.version == version


def test_few_changes_and_a_browser_of_a_program_are_read_at_once(project: Project) -> None:
    browser, program = make_browser(project), Browser(project)
    project.flag(range(1, MANY), "red")
    browser.refresh()
    assert not browser.is_behind
    project.flag(range(1, 241), "blue")
    program.refresh()
    assert not program.is_behind


def test_what_is_taken_away_and_selected_is_of_now(project: Project) -> None:
    browser = make_browser(project)
    change_rows(project, {number: {"drift": 5000.0} for number in range(1, 101)})
    browser.refresh()
    assert browser.is_behind
    assert (browser.frame["drift"] == 5000).sum() == 100
    change_rows(project, {number: {"drift": 6000.0} for number in range(1, 101)})
    browser.refresh()
    assert browser.within({"drift": (6000, None)}) == list(range(1, 101))


def test_all_that_happens_meanwhile_is_there_in_the_end(project: Project) -> None:
    """Whatever others write between reading a part and taking it up, and whoever looks meanwhile."""
    draw = random.Random(7)
    browser = make_browser(project)
    number = 240
    chunks = []
    for _ in range(80):
        what = draw.randrange(8)
        ids = project.ids()
        if what == 0:
            some = draw.sample(ids, 60)
            change_rows(project, {i: {"drift": draw.uniform(0, 9), "quality_flags": draw.choice("ab")} for i in some})
        elif what == 1:
            project.flag(draw.sample(ids, 100), draw.choice(("red", "gold")))
        elif what == 2:
            change_rows(project, {draw.choice(ids): {"drift": draw.uniform(10, 20)}})
        elif what == 3:
            write_rows(project, [plausible(number + n, draw) for n in range(1, 51)])
            number += 50
        elif what == 4:
            remove_rows(project, draw.sample(ids, 3))
        elif what == 5:
            browser.refresh()
        elif what == 6 and browser.is_behind and not chunks:
            chunks.append(browser.fetch_behind((0, 10))())
        elif chunks:
            browser.take_behind(chunks.pop())
    if chunks:
        browser.take_behind(chunks.pop())
    browser.refresh()
    browser.catch_up()
    fresh = make_browser(project)
    assert browser.shown == fresh.shown
    assert all_rows(browser) == all_rows(fresh)


def test_a_value_set_by_hand_wins_in_a_part_as_well(project: Project) -> None:
    browser = make_browser(project)
    project.override([3], drift=77.0)
    change_rows(project, {number: {"drift": 1.0} for number in range(1, 101)})
    browser.refresh()
    browser.catch_up()
    assert browser.rows.column("drift").values[:4].tolist() == [1, 1, 77, 1]


def test_all_read_anew_makes_a_part_void(project: Project) -> None:
    browser = make_browser(project)
    change_rows(project, {number: {"drift": 1.0} for number in range(1, 101)})
    browser.refresh()
    chunk = browser.fetch_behind((0, 10))()
    change_rows(project, {number: {"drift": 2.0} for number in range(1, 101)})
    browser.reload()
    assert not browser.is_behind
    assert not browser.take_behind(chunk)
    assert browser.rows.column("drift").values[0] == 2


def test_a_column_that_comes_between_two_parts_is_not_left_behind(project: Project) -> None:
    """Its values were read before the change, and the part under way knew nothing of it."""
    browser = Browser(project, eager=False)
    column = browser.fetch()
    change_rows(project, {number: {"drift": 7000.0} for number in range(1, 101)})
    browser.refresh()
    chunk = browser.fetch_behind((0, 10))()
    assert "drift" not in chunk.found
    browser.take(column)
    browser.take_behind(chunk)
    browser.catch_up()
    assert (browser.rows.column("drift").values == 7000).sum() == 100


def test_a_part_under_way_while_all_is_read_anew_is_void(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be of another library than the one that took its place."""
    browser = make_browser(project)
    change_rows(project, {number: {"drift": 1.0} for number in range(1, 101)})
    browser.refresh()
    real, read = reading.Rows._overrides, browser.fetch_behind((0, 10))

    def overrides(*given: object, **options: object) -> object:
        monkeypatch.setattr(reading.Rows, "_overrides", real)
        browser.reload()
        return real(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(reading.Rows, "_overrides", overrides)
    chunk = read()
    version = browser.version
    chunk.found["drift"] = [-5.0] * len(chunk.ids)
    assert not browser.take_behind(chunk)
    assert browser.version == version
    assert (browser.rows.column("drift").values[:100] == 1).all()
