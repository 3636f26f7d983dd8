"""Looking through the library: sorting, filters, groups, ticks, and keeping up with what changes."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from focusnb.errors import ParameterError, ProjectError
from focusnb.project.browsing import Browser, FilterError, GroupLine, RowLine
from focusnb.project.browsing.columns import natural_key
from focusnb.project.browsing.layout import layout_path
from focusnb.project.library import LibraryBusy
from focusnb.project.project import Project
from tests.filled import change_rows, filled_project, plausible, remove_rows, write_rows
from tests.projects import make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project of 240 exposures in twelve groups."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with filled_project(tmp_path / "project", 240) as project:
        yield project


@pytest.fixture
def browser(project: Project) -> Browser:
    browser = Browser(project)
    browser.group_by(None)
    return browser


def rows_of(browser: Browser) -> list[RowLine]:
    return [line for line in browser.window(0, browser.lines) if isinstance(line, RowLine)]


def groups_of(browser: Browser) -> list[GroupLine]:
    return [line for line in browser.window(0, browser.lines) if isinstance(line, GroupLine)]


def column_of(browser: Browser, name: str) -> list[str]:
    place = browser.columns.index(name)
    return [row.cells[place] for row in rows_of(browser)]


# Order


def test_rows_come_in_the_order_of_their_ids(browser: Browser) -> None:
    assert browser.shown == list(range(1, 241))
    assert len(browser) == browser.shown_count == browser.lines == 240


def test_names_sort_as_people_count(browser: Browser) -> None:
    browser.sort("exposure")
    assert [row.cells[0] for row in rows_of(browser)[:12]] == [f"grid_{number}" for number in range(1, 13)]
    browser.sort("-exposure")
    assert browser.shown == list(range(240, 0, -1))
    assert sorted(["b10", "b9", "B1", "b"], key=natural_key) == ["b", "B1", "b9", "b10"]


@pytest.mark.parametrize("ascending", [True, False])
def test_numbers_sort_with_rows_without_a_value_last(browser: Browser, project: Project, ascending: bool) -> None:
    browser.sort([("defocus_u", ascending)])
    table = project.table()
    expected = table.sort_values("defocus_u", ascending=ascending, kind="stable", na_position="last")
    assert browser.shown == list(expected.index)
    assert column_of(browser, "defocus_u")[-1] == ""


def test_several_keys_count_in_their_order_and_ties_keep_the_order_of_recording(
    browser: Browser, project: Project
) -> None:
    browser.sort([("ctf_quality", True), ("pixel_size", False)])
    rank = {"ok": 0, "poor": 1, "failed": 2}
    table = project.table()
    key = table["ctf_quality"].map(rank).astype("float64")
    assert browser.shown == list(key.sort_values(kind="stable", na_position="last").index)
    browser.sort([("status", False), ("drift", True)])
    order = {"new": 0, "done": 3, "failed": 4}
    table["place"] = -table["status"].map(order)
    assert browser.shown == list(table.sort_values(["place", "drift"], kind="stable").index)
    browser.sort()
    assert browser.shown == list(range(1, 241))


def test_what_cannot_be_sorted_by_is_told_and_changes_nothing(browser: Browser) -> None:
    browser.sort("drift")
    with pytest.raises(ParameterError, match="there is no column defocus_x; did you mean defocus_"):
        browser.sort(["defocus_x"])
    assert browser.sorting == [("drift", True)]


# Filters


@pytest.mark.parametrize(
    ("column", "typed", "query"),
    [
        ("defocus_u", "1e4..1.5e4", "10000 <= defocus_u <= 15000"),
        ("defocus_u", "..12000 Å", "defocus_u <= 12000"),
        ("defocus_u", "20 000..", "defocus_u >= 20000"),
        ("drift", ">3", "drift > 3"),
        ("drift", ">= 3", "drift >= 3"),
        ("drift", "<=2.5", "drift <= 2.5"),
        ("drift", "<2.5", "drift < 2.5"),
        ("drift", "!1..3", "drift < 1 or drift > 3"),
        ("drift", "<1 | >5", "drift < 1 or drift > 5"),
        ("drift", "2.5", "2.45 <= drift <= 2.55"),
        ("astigmatism_angle", "−30..-10", "-30 <= astigmatism_angle <= -10"),
        ("frame_count", "40", "frame_count == 40"),
        ("drift", "=", "drift.isna()"),
        ("drift", "!", "drift.notna()"),
        ("drift", "empty", "drift.isna()"),
        ("status", "failed, new", "status in ['failed', 'new']"),
        ("status", "!done", "status != 'done'"),
        ("status", "FAILED|new", "status in ['failed', 'new']"),
        ("ctf_quality", "none", "ctf_quality.isna()"),
        ("ctf_quality", "poor, none", "ctf_quality == 'poor' or ctf_quality.isna()"),
        ("exposure", "GRID_2", "exposure.str.contains('grid_2')"),
        ("exposure", "=grid_2", "exposure == 'grid_2'"),
        ("exposure", "!2", "~exposure.str.contains('2')"),
        ("reason", "gain reference", "reason.notna()"),
        ("reason", "=", "reason.isna()"),
        ("quality_flags", "=", "quality_flags.isna() or quality_flags == ''"),
        ("quality_flags", "!", "quality_flags.str.len() > 0"),
        ("recorded_at", "2026-03-04 00:10", "'2026-03-04 00:10' <= recorded_at < '2026-03-04 00:11'"),
        ("recorded_at", ">2026-03-04 00:10", "recorded_at >= '2026-03-04 00:11'"),
        ("recorded_at", "<2026-03-04 00:10", "recorded_at < '2026-03-04 00:10'"),
        ("recorded_at", "2026-03-04 00:10..2026-03-04 00:12", "'2026-03-04 00:10' <= recorded_at < '2026-03-04 00:13'"),
        ("recorded_at", "2026-03-05", "recorded_at >= '2026-03-05'"),
    ],
)
def test_filters_show_what_they_say(browser: Browser, project: Project, column: str, typed: str, query: str) -> None:
    browser.filter(**{column: typed})
    table = project.table()
    assert browser.shown == list(table.query(query).index)
    browser.filter(**{column: None})
    assert browser.shown_count == 240


@pytest.mark.parametrize(
    ("column", "typed", "told"),
    [
        ("defocus_u", "1-2", "'1-2' is no filter of Defocus U; write for example 1.0..2.5, >3 or <=4"),
        ("defocus_u", "1,5", "is no filter of Defocus U"),
        ("defocus_u", "abc", "is no filter of Defocus U"),
        ("defocus_u", "..", "is no filter of Defocus U"),
        ("defocus_u", "2..1", "'2..1' ends before it begins; write 1..2"),
        ("status", "dne", "no Status is 'dne'; did you mean done"),
        ("status", "xyz", "there are broken, done, failed, new, queued, running and none"),
        ("flag", ",", "is no filter of Flag"),
        ("recorded_at", "tomorrow", "is no filter of Recorded at; write for example 2026-03-04"),
        ("recorded_at", "2026-03", "is no filter of Recorded at"),
        ("recorded_at", "2026-03-05..2026-03-04", "ends before it begins"),
        ("gain_flip", "perhaps", "is no filter of Gain flip; write for example yes or no"),
        ("drift", "|", "holds nothing but |"),
    ],
)
def test_a_filter_that_cannot_be_read_is_told_with_an_example_and_changes_nothing(
    browser: Browser, column: str, typed: str, told: str
) -> None:
    browser.filter(text="grid_1")
    before = browser.shown
    with pytest.raises(FilterError, match=told.replace("|", r"\|")):
        browser.filter(text="", iciness=">0.5", **{column: typed})
    assert browser.shown == before
    assert not browser.filters


def test_a_text_is_looked_for_in_names_comments_and_reasons(browser: Browser, project: Project) -> None:
    project.comment([7], "Torn film")
    browser.refresh()
    browser.filter(text="torn")
    assert browser.shown == [7]
    browser.filter(text="turn it")
    assert browser.shown == [37, 74, 111, 148, 185, 222]
    browser.clear_filters()
    assert browser.shown_count == 240


def test_choices_count_what_the_other_filters_let_pass(browser: Browser) -> None:
    counts = dict(browser.choices("status"))
    assert counts == {"new": 24, "queued": 0, "running": 0, "done": 210, "failed": 6, "broken": 0}
    browser.filter(status="failed", text="grid_1")
    assert dict(browser.choices("status"))["new"] == 11
    assert browser.choices("flag") == [("red", 0), ("green", 0), ("blue", 0), ("gold", 0), ("", browser_count(browser))]
    with pytest.raises(ParameterError, match="Drift holds numbers"):
        browser.choices("drift")


def browser_count(browser: Browser) -> int:
    return browser.shown_count


# Groups


def test_groups_have_counts_and_averages_of_what_is_shown(project: Project) -> None:
    browser = Browser(project)
    browser.filter(status="done")
    groups = groups_of(browser)
    assert [line.group.name for line in groups] == [f"square_{number}" for number in range(1, 13)]
    done = project.table().query("status == 'done'").groupby("group")
    place = browser.columns.index("drift")
    for line in groups:
        some = done.get_group(line.group.name)
        assert line.group.count == len(some)
        assert line.cells[place] == f"{some['drift'].mean():.1f}"
    # an angle turns round: its mean says nothing
    assert {line.cells[browser.columns.index("astigmatism_angle")] for line in groups} == {""}


def test_closed_groups_hide_their_rows_and_trash_comes_last(project: Project) -> None:
    browser = Browser(project)
    browser.trash([1, 2])
    assert browser.trashed_count == 2
    assert browser.shown_count == 238
    browser.show(trash=True)
    assert groups_of(browser)[-1].group.name == "TRASH"
    browser.fold()
    assert browser.lines == 13
    browser.fold("TRASH", closed=False)
    assert [row.id for row in rows_of(browser)] == [1, 2]
    assert browser.line_of(1) == 13
    assert browser.line_of(5) == -1
    assert browser.id_at(12) is None
    assert browser.group_ids("TRASH") == [1, 2]


def test_any_column_of_texts_groups_and_numbers_do_not(browser: Browser) -> None:
    browser.group_by("status")
    assert [(line.group.name, line.group.count) for line in groups_of(browser)] == [
        ("new", 24),
        ("done", 210),
        ("failed", 6),
    ]
    assert groups_of(browser)[2].unwell == 6
    with pytest.raises(ParameterError, match="Drift holds numbers; group by texts"):
        browser.group_by("drift")


def test_rows_without_a_group_come_below_an_empty_name(browser: Browser) -> None:
    browser.flag([3], "gold")
    browser.group_by("flag")
    assert [(line.group.name, line.group.count) for line in groups_of(browser)] == [("gold", 1), ("", 239)]


# Cells


def test_cells_have_the_declared_digits_and_nothing_where_there_is_no_value(project: Project) -> None:
    change_rows(project, {1: {"defocus_u": 12345.678, "drift": -0.04, "frame_count": 40, "gain_flip": True}})
    browser = Browser(project)
    browser.columns = ["defocus_u", "drift", "frame_count", "gain_flip", "recorded_at", "imported_at", "camera"]
    browser.group_by(None)
    assert browser.window(0, 1)[0].cells == [
        "grid_1",
        "12346",
        "0.0",
        "40",
        "yes",
        "2026-03-04 00:00:10",
        "2026-03-04 00:00:00",
        "",
    ]


def test_a_row_of_nothing_is_a_row(tmp_path: Path, project: Project) -> None:
    write_rows(project, [{"id": 1000, "exposure": "bare", "group": "", "status": "new", "folder": "exposures/a/bare"}])
    browser = Browser(project)
    browser.sort([("defocus_u", False), ("recorded_at", True)])
    bare = rows_of(browser)[browser.shown.index(1000)]
    assert bare.cells == ["bare", "new", *[""] * (len(browser.columns) - 2)]
    place = browser.columns.index("drift")
    line = next(line for line in groups_of(browser) if line.group.name == "")
    assert line.cells[place] == ""
    assert browser.frame.loc[1000, browser.columns[2:]].isna().all()


def test_text_among_numbers_is_shown_and_not_lost(project: Project) -> None:
    browser = Browser(project)
    browser.filter(drift=">1")
    change_rows(project, {5: {"drift": "a lot"}})
    browser.refresh()
    assert "filter of Drift was taken off" in browser.remark
    browser.filter(drift="a lot")
    assert browser.shown == [5]
    again = Browser(project)
    again.filter(drift="a lot")
    assert again.shown == [5]


def test_the_frame_is_typed_and_in_the_order_shown(browser: Browser, project: Project) -> None:
    browser.columns = ["defocus_u", "status", "frame_count", "gain_flip", "recorded_at", "imported_at", "quality_flags"]
    browser.filter(status="done")
    browser.sort("-defocus_u")
    frame, table = browser.frame, project.table()
    expected = table.query("status == 'done'").sort_values("defocus_u", ascending=False, kind="stable")[frame.columns]
    pd.testing.assert_frame_equal(frame, expected)
    assert frame.attrs["units"] == {"defocus_u": "Å", "imported_at": "UTC"}
    assert frame.attrs["labels"]["defocus_u"] == "Defocus U"


# Keeping up


def test_what_others_change_is_taken_up_and_order_filter_ticks_and_highlight_stay(
    project: Project, browser: Browser
) -> None:
    browser.sort("-drift")
    browser.filter(status="done")
    browser.tick([11, 12])
    browser.highlight([13, 14])
    shown = browser.shown
    with Project.open(project.folder) as other:
        write_rows(other, [plausible(300, random.Random(1)) | {"status": "done", "drift": 1e6}])
        other.flag([11], "gold")
        change_rows(other, {12: {"drift": 2e6}})
    difference = browser.refresh()
    assert difference is not None
    assert list(difference.added) == [300]
    assert sorted(difference.changed) == [11, 12]
    assert browser.shown == [12, 300, *(identity for identity in shown if identity != 12)]
    assert browser.selection == [11, 12]
    assert sorted(browser.highlighted) == [13, 14]
    assert column_of(browser, "flag")[browser.shown.index(11)] == "gold"
    assert browser.added == 1
    assert browser.refresh() is None


def test_rows_deleted_and_rows_with_smaller_ids_are_taken_up(project: Project, browser: Browser) -> None:
    browser.tick([100, 240])
    browser.highlight([101])
    remove_rows(project, [50, 240])
    browser.refresh()
    write_rows(project, [{"id": 50, "exposure": "late", "group": "", "folder": "exposures/a/late"}])
    browser.refresh()
    assert browser.shown == list(range(1, 240))
    assert browser.selection == [100]
    assert browser.highlighted == [101]
    browser.sort("exposure")
    assert browser.shown[-1] == 50
    assert column_of(browser, "pixel_size")[-1] == ""


def test_a_library_put_back_from_a_backup_is_read_anew(project: Project, browser: Browser) -> None:
    backup = project.library.backup("before")
    browser.tick([2])
    browser.columns = ["drift"]
    browser.filter(drift=">1")
    browser.highlight([3])
    project.close()
    for path in project.folder.glob("library.sqlite*"):
        path.unlink()
    backup.rename(project.folder / "library.sqlite")
    browser.refresh()
    assert browser.selection == []
    assert browser.highlighted == [3]
    assert browser.shown == list(project.table().query("drift > 1").index)


def test_overrides_win_and_end(project: Project, browser: Browser) -> None:
    project.override(5, drift=99.5)
    browser.refresh()
    assert column_of(browser, "drift")[4] == "99.5"
    again = Browser(project)
    again.sort("-drift")
    again.group_by(None)
    assert again.shown[0] == 5
    change_rows(project, {5: {"drift": 3.0}})
    browser.refresh()
    assert column_of(browser, "drift")[4] == "99.5"
    project.clear_override(5)
    browser.refresh()
    assert column_of(browser, "drift")[4] == "3.0"


def test_a_column_read_later_agrees_with_the_rows_there_are(project: Project, browser: Browser) -> None:
    write_rows(project, [plausible(500, random.Random(1)) | {"camera": "K3"}])
    browser.columns = ["camera"]
    assert column_of(browser, "camera") == [""] * 240
    browser.refresh()
    assert column_of(browser, "camera") == [*[""] * 240, "K3"]


def test_the_first_lines_need_no_column_of_all_rows(project: Project) -> None:
    project.override(13, drift=99.5)
    hasty, whole = Browser(project, eager=False), Browser(project)
    assert not hasty.is_loaded
    assert "drift" not in hasty.rows.columns
    lines = hasty.window(3, 40)
    assert [line for line in lines if isinstance(line, RowLine)] == [
        line for line in whole.window(3, 40) if isinstance(line, RowLine)
    ]
    assert set(groups_of(hasty)[0].cells) == {""}
    assert hasty.kind("drift") == "number"
    hasty.load()
    assert hasty.is_loaded
    assert hasty.window(0, hasty.lines) == whole.window(0, whole.lines)


def test_a_column_declared_meanwhile_can_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with make_project(tmp_path / "project", steps=False) as project:
        write_rows(project, [{"id": 1, "exposure": "a", "folder": "exposures/a/a"}])
        browser = Browser(project)
        with pytest.raises(ParameterError, match="no column scaled"):
            browser.show_column("scaled")
        with make_project(tmp_path / "other") as other:
            steps = other.folder / "steps" / "chain.py"
            (project.folder / "steps" / "chain.py").write_text(steps.read_text())
        from focusnb.steps import trust

        trust.trust(project.folder)
        with Project.open(project.folder) as declaring:
            change_rows(declaring, {1: {"scaled": 2.5}})
        browser.refresh()
        browser.show_column("scaled")
        assert column_of(browser, "scaled") == ["2.5"]


# Ticks and selections


def test_ticks_are_kept_in_the_project_and_seen_by_others(project: Project, browser: Browser) -> None:
    other = Browser(project)
    assert browser.tick([3, 4, 5]) == 3
    other.refresh()
    assert other.selection == [3, 4, 5]
    other.untick([4])
    # without a look in between: what the other did stays
    assert browser.tick([9]) == 3
    assert browser.selection == [3, 5, 9]
    assert Browser(project).selection == [3, 5, 9]
    assert browser.invert_ticks([3, 6]) == 3
    assert browser.selection == [5, 6, 9]
    browser.show(only_ticked=True)
    assert browser.shown == [5, 6, 9]
    browser.set_ticks([])
    assert browser.shown == []


def test_selections_are_saved_and_loaded_by_name(browser: Browser, project: Project) -> None:
    browser.tick([1, 2, 3])
    assert browser.save_selection(" best ") == 3
    browser.set_ticks([9])
    assert browser.selections() == {"best": 3}
    remove_rows(project, [2])
    browser.refresh()
    assert browser.load_selection("best") == 2
    assert browser.selection == [1, 3]
    with pytest.raises(ParameterError, match="no selection worst"):
        browser.load_selection("worst")
    with pytest.raises(ParameterError, match="needs a name"):
        browser.save_selection("ticked")


def test_auto_selection_ticks_what_lies_in_all_ranges_and_nothing_else(browser: Browser, project: Project) -> None:
    browser.tick([10])
    browser.flag([1, 2, 3, 4], "red")
    browser.flag([5], "blue")
    browser.trash([2])
    ranges = {"drift": (None, 3.0), "defocus_u": "1e4..", "astigmatism_angle": (20, 60)}
    table = project.table()
    table = table[table["group"] != "TRASH"]
    query = "drift <= 3 and defocus_u >= 10000 and 20 <= astigmatism_angle <= 60"
    assert browser.within(ranges) == list(table.query(query).index)
    absolute = table.assign(astigmatism_angle=table["astigmatism_angle"].abs())
    assert browser.auto_select(ranges, ignore_sign=True) == len(absolute.query(query))
    assert browser.selection == list(absolute.query(query).index)
    assert browser.within({}, flags=["red"]) == [1, 3, 4]
    assert browser.within({}, flags=["red", "blue"]) == [1, 3, 4, 5]
    assert len(browser.within({}, flags=[None])) == 235
    assert browser.within({}, flags=[]) == []
    with pytest.raises(FilterError, match="no filter of Drift"):
        browser.within({"drift": "much"})


# Editing


def test_flags_comments_and_groups_are_set_and_taken_back(browser: Browser, project: Project) -> None:
    browser.flag([1, 2], "red")
    browser.flag([2, 3], "gold")
    browser.comment([1], "torn")
    browser.move([1, 2], "best")
    assert browser.undoable == "2 exposures moved to best"
    table = project.table()
    assert table.loc[[1, 2, 3], "flag"].tolist() == ["red", "gold", "gold"]
    assert table.loc[1, "comment"] == "torn"
    assert browser.undo() == "2 exposures moved to best"
    assert project.table().loc[[1, 2], "group"].tolist() == ["square_2", "square_3"]
    browser.undo()
    assert pd.isna(project.table().loc[1, "comment"])
    browser.undo()
    assert project.table().loc[[1, 2], "flag"].tolist() == ["red", "red"]
    assert pd.isna(project.table().loc[3, "flag"])
    browser.undo()
    assert project.table()["flag"].isna().all()
    with pytest.raises(ParameterError, match="nothing to take back"):
        browser.undo()


def test_ticks_are_taken_back(browser: Browser) -> None:
    browser.tick([1, 2])
    browser.set_ticks([])
    browser.set_ticks([])
    browser.undo()
    assert browser.selection == [1, 2]
    browser.undo()
    assert browser.selection == []


def test_trash_and_back(browser: Browser, project: Project) -> None:
    browser.trash([1, 2])
    assert browser.shown == list(range(3, 241))
    browser.restore([1])
    assert project.table().loc[[1, 2], "group"].tolist() == ["camera", "TRASH"]
    browser.undo()
    assert project.table().loc[1, "group"] == "TRASH"
    browser.undo()
    assert project.table().loc[2, "group"] == "square_3"


def test_what_others_decided_since_is_not_taken_back(browser: Browser, project: Project) -> None:
    with Project.open(project.folder) as same:
        other = Browser(same)
        browser.flag([1, 2, 3], "red")
        other.flag([2], "gold")
        browser.undo()
        flags = project.table()["flag"]
        assert flags.loc[2] == "gold"
        assert flags.loc[[1, 3]].isna().all()
        browser.trash([4, 5])
        other.refresh()
        other.move([5], "best")
        browser.undo()
        assert project.table().loc[[4, 5], "group"].tolist() == ["square_5", "best"]
        browser.tick([1, 2])
        other.refresh()
        other.tick([9])
        browser.undo()
        assert project.select("ticked") == browser.selection == [9]


def test_what_could_not_be_taken_back_can_be_tried_again(
    browser: Browser, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.flag([1], "red")
    with monkeypatch.context() as patch:
        patch.setattr(Project, "flag", lambda *_: (_ for _ in ()).throw(LibraryBusy("kept locked")))
        with pytest.raises(LibraryBusy):
            browser.undo()
    assert browser.undo() == "1 exposure flagged red"
    assert project.table()["flag"].isna().all()


def test_what_is_written_is_taken_up_without_reading_unless_others_wrote_too(
    browser: Browser, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = type(browser.rows).refresh
    monkeypatch.setattr(type(browser.rows), "_select", lambda *_, **__: read.append("all"))
    browser.flag([1, 2], "red")
    assert read == []
    monkeypatch.undo()
    assert column_of(browser, "flag")[:3] == ["red", "red", ""]
    assert browser.within({}, flags=["red"]) == [1, 2]

    def refresh(rows: Any, **options: Any) -> Any:
        found = real(rows, **options)
        if not read:
            read.append("others")
            change_rows(project, {3: {"comment": "written meanwhile"}})
        return found

    monkeypatch.setattr(type(browser.rows), "refresh", refresh)
    browser.flag([2], None)
    assert read == ["others"]
    assert browser.rows.column("comment").texts(np.array([2])) == ["written meanwhile"]
    assert column_of(browser, "flag")[:3] == ["red", "", ""]


@pytest.mark.parametrize("reading", ["_load", "_overrides"])
def test_a_library_that_could_not_be_read_halfway_is_taken_up_later(
    browser: Browser, project: Project, monkeypatch: pytest.MonkeyPatch, reading: str
) -> None:
    browser.tick([1, 2])
    browser.highlight([3])
    write_rows(project, [plausible(241, random.Random(1))])
    for look in (browser.refresh, browser.reload):
        with monkeypatch.context() as patch:
            patch.setattr(type(browser.rows), reading, lambda *_, **__: (_ for _ in ()).throw(LibraryBusy("locked")))
            if reading == "_overrides" or look == browser.reload:
                with pytest.raises(LibraryBusy):
                    look()
        look()
        assert (len(browser), browser.selection, browser.highlighted) == (241, [1, 2], [3])
        assert len(rows_of(browser)) == 241


def test_groups_that_differ_in_capitals_are_two(browser: Browser, project: Project) -> None:
    browser.move([1], "Foil")
    browser.move([2], "foil")
    browser.move([3], "trash")
    browser.rename_group("foil", "best")
    assert project.table().loc[[1, 2], "group"].tolist() == ["Foil", "best"]
    assert 3 in browser.shown  # and it is processed, as TRASH is not
    assert browser.trashed_count == 0


def test_a_group_is_renamed(browser: Browser, project: Project) -> None:
    assert browser.rename_group("square_1", "ice") == 20
    assert "square_1" not in set(project.table()["group"])
    with pytest.raises(ParameterError, match="TRASH keeps its name"):
        browser.rename_group("TRASH", "x")
    with pytest.raises(ParameterError, match="a group needs a name"):
        browser.move([1], " ")


def test_what_does_not_exist_is_told_and_nothing_changes(browser: Browser, project: Project) -> None:
    with pytest.raises(ParameterError, match=r"1 of 2 exposures do not exist \(ids 999\)"):
        browser.flag([1, 999], "red")
    with pytest.raises(ParameterError, match="purple is no flag"):
        browser.flag([1], "purple")
    assert project.table()["flag"].isna().all()
    assert browser.undoable == ""
    write_rows(project, [{"id": 999, "exposure": "new", "folder": "exposures/a/new"}])
    assert browser.flag([999], "red") == 1


# Highlight


def test_highlight_is_of_this_browser_alone(browser: Browser, project: Project) -> None:
    browser.sort("-exposure")
    browser.highlight_lines(3, 1)
    assert browser.highlighted == [239, 238, 237]
    browser.highlight([240, 239], mode="toggle")
    assert browser.highlighted == [240, 238, 237]
    browser.highlight([1], mode="add")
    browser.highlight([240], mode="remove")
    assert browser.highlighted == [238, 237, 1]
    assert browser.highlighted_count == 3
    browser.filter(exposure="=grid_1")
    assert (browser.highlighted, browser.highlighted_count) == ([1], 1)  # nobody works on what cannot be seen
    browser.clear_filters()
    assert browser.highlighted == [238, 237, 1]
    assert Browser(project).highlighted == []
    with pytest.raises(ParameterError, match="no way to highlight"):
        browser.highlight([1], mode="all")


# What a user likes


def test_columns_widths_sorting_and_grouping_are_kept_for_the_next_session(project: Project) -> None:
    browser = Browser(project)
    assert browser.columns[:3] == ["exposure", "status", "flag"]
    browser.columns = ["status", "drift", "camera"]
    browser.show_column("defocus_u", before="drift")
    browser.show_column("status", False)
    browser.set_width("drift", 10)
    browser.sort("-drift")
    browser.group_by("status")
    again = Browser(project)
    assert again.columns == ["exposure", "defocus_u", "drift", "camera"]
    assert again.widths == {"drift": 48}
    assert again.sorting == [("drift", False)]
    assert again.grouped == "status"
    again.usual_columns()
    assert again.columns == browser_default(project)
    with pytest.raises(ParameterError, match="no column nothing"):
        again.columns = ["nothing"]
    assert again.columns == browser_default(project)


def browser_default(project: Project) -> list[str]:
    return [name for name in project.mode.columns if name != "group"]


@pytest.mark.parametrize("kept", ["", "{}", "[1]", '{"columns": 3}', '{"columns": ["gone"], "widths": 1}'])
def test_a_layout_that_cannot_be_read_is_as_none(project: Project, kept: str) -> None:
    path = layout_path(project)
    path.parent.mkdir(parents=True)
    path.write_text(kept)
    assert Browser(project).columns == browser_default(project)


def test_columns_that_are_gone_are_left_out(project: Project) -> None:
    browser = Browser(project)
    browser.columns = ["drift", "status"]
    path = layout_path(project)
    path.write_text(path.read_text().replace("drift", "gone"))
    assert Browser(project).columns == ["exposure", "status"]


def test_a_layout_that_cannot_be_kept_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(project.folder / "project.json"))
    browser = Browser(project)
    browser.sort("drift")
    assert "cannot be kept" in browser.remark


def test_the_arrangement_is_told_as_code(browser: Browser) -> None:
    browser.filter(text="grid", drift=">2")
    browser.sort("-drift")
    browser.show(only_ticked=True, trash=True)
    again = Browser(browser.project)
    exec(browser.code(), {"browser": again})
    assert (again.text, again.only_ticked, again.show_trash, again.grouped) == ("grid", True, True, None)
    assert again.shown == browser.shown
    assert again.sorting == browser.sorting


# Small and unwritable projects


def test_an_empty_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with Project.create(tmp_path / "empty", mode="drift") as project:
        browser = Browser(project)
        assert (browser.lines, browser.shown, browser.selection, browser.highlighted) == (0, [], [], [])
        browser.sort("drift")
        browser.filter(drift=">1", text="a")
        browser.fold()
        assert browser.window(0, 200) == []
        assert len(browser.frame) == 0
        assert browser.within({"drift": ">1"}) == []
        write_rows(project, [{"id": 1, "exposure": "a", "folder": "exposures/x/a", "drift": 2.0}])
        browser.refresh()
        assert browser.shown == [1]


def test_a_project_that_cannot_be_written_is_looked_through_and_ticked_for_oneself(
    project: Project, unprivileged_project: Path
) -> None:
    with Project.open(unprivileged_project) as read_only:
        browser = Browser(read_only)
        assert not browser.ticks_kept
        browser.tick([1, 2])
        browser.sort("drift")
        browser.refresh()
        assert browser.selection == [1, 2]
        with pytest.raises(ProjectError, match="cannot be written"):
            browser.flag([1], "red")
        assert Browser(read_only).selection == []


@pytest.fixture
def unprivileged_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project as a user without write access sees it."""
    project.library.checkpoint()
    folder, mode = project.folder, project.folder.stat().st_mode
    access = os.access

    def refuse(path: os.PathLike[str] | str, wanted: int, **options: bool) -> bool:
        return not (wanted & os.W_OK and Path(path).is_relative_to(folder)) and access(path, wanted, **options)

    # root may write anywhere, whatever the modes of a folder say
    monkeypatch.setattr(os, "access", refuse)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield folder
    folder.chmod(mode)


def test_random_changes_leave_what_a_new_browser_shows(project: Project) -> None:
    draw = np.random.default_rng(1)
    browser = Browser(project)
    browser.sort([("status", True), ("-drift"[1:], False)])
    browser.filter(drift=">1")
    for step in range(12):
        some = [int(i) for i in draw.choice(browser.rows.ids, 20, replace=False)]
        match step % 4:
            case 0:
                change_rows(project, {i: {"drift": float(draw.exponential(3)), "status": "done"} for i in some})
            case 1:
                project.move(some, f"group_{step}")
            case 2:
                remove_rows(project, some[:5])
            case _:
                first = 1000 + 100 * step
                write_rows(project, (plausible(n, random.Random(n)) for n in range(first, first + 15)))
        browser.refresh()
        fresh = Browser(project)
        fresh.filter(drift=">1")
        assert browser.window(0, browser.lines) == fresh.window(0, fresh.lines)
