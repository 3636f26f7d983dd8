"""What is done with chosen exposures: by the panel, and by the code it shows."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from focusnb.errors import ParameterError
from focusnb.panels import actions
from focusnb.panels.actions import ActionBar, _ids_as_code, _size
from focusnb.panels.table import LibraryTable
from focusnb.processing.queue import Queue
from focusnb.project.browsing import layout as layouts
from tests.filled import filled_project
from tests.projects import make_project, process, write_shots


class Chosen:
    """Exposures chosen, rows and columns shown."""

    def __init__(self) -> None:
        self.selection = [1, 2]
        self.shown = [3, 1, 2]
        self.columns = ["exposure", "level", "verdict"]
        self.selection_code = self.shown_code = ""


@pytest.fixture
def bar(tmp_path: Path) -> Iterator[ActionBar]:
    """Three processed exposures of which two are chosen."""
    with make_project(tmp_path / "project") as project:
        project.add(write_shots(tmp_path / "camera", a="1\n", b="2\n", c="3\n"))
        process(project)
        panel = ActionBar(project, Chosen())
        yield panel
        panel.close()


def run_code(panel: ActionBar) -> dict[str, Any]:
    """Run what the panel shows, as somebody would who copied it."""
    names: dict[str, Any] = {}
    text = panel._code.text
    assert text.startswith("import focusnb\n\nproject = focusnb.open_project(")
    exec(text, names)
    names["project"].close()
    return names


def as_code_and_by_hand(panel: ActionBar, prepare: Any, look: Any) -> None:
    """Both ways lead to the same."""
    prepare()
    run_code(panel)
    by_code = look(panel.project)
    panel.do()
    assert "fnb-message" not in panel._messages.text, panel._messages.text
    assert look(panel.project) == by_code


def test_flags_and_notes(bar: ActionBar) -> None:
    bar.choose("flag")
    bar.actions["flag"].flag.value = "gold"
    bar.actions["flag"].note.value = " next to 'a' crack "
    assert bar.project.table().flag.isna().all()
    bar.do()
    table = bar.project.table()
    assert table.flag[[1, 2]].tolist() == ["gold", "gold"]
    assert pd.isna(table.flag[3])
    assert table.comment[1] == "next to 'a' crack"
    bar.actions["flag"].flag.value = None
    assert run_code(bar)["ids"] == [1, 2]
    assert bar.project.table().flag.isna().all()


def test_groups(bar: ActionBar) -> None:
    bar.choose("move")
    bar.actions["move"].group.value = "good ones"
    as_code_and_by_hand(bar, lambda: None, lambda project: project.groups())
    assert bar.project.groups() == {"camera": 1, "good ones": 2}
    assert "TRASH" in bar.actions["move"].group.options


def test_a_group_without_a_name_is_told(bar: ActionBar) -> None:
    bar.choose("move")
    bar.do()
    assert "a group needs a name" in bar._messages.text


def test_findings_by_hand(bar: ActionBar) -> None:
    bar.choose("override")
    action = bar.actions["override"]
    action.name.value = "level"
    action.value.value = "4.5"
    as_code_and_by_hand(bar, lambda: None, lambda project: project.table().level.tolist())
    assert bar.project.table().level[[1, 2]].tolist() == [4.5, 4.5]
    action.value.value = "much"
    bar.do()
    assert "level" in bar._messages.text
    action.value.value = ""
    bar.do()
    assert bar._messages.text == ""
    assert bar.project.table().level.tolist() == [1.0, 1.0, 1.0]


def test_a_run_with_a_changed_parameter_is_queued_and_kept(bar: ActionBar) -> None:
    bar.choose("run")
    action = bar.actions["run"]
    assert bar._code.text.endswith("focusnb.Queue(project).ask(ids, first=True)")
    action.what.value = "judge"
    action.form.set(limit="-1")
    assert "project.set_params('judge', level='exposure', key=ids, limit=-1.0)" in bar._code.text
    run_code(bar)
    assert Queue(bar.project).counts()["queued"] == 2
    Queue(bar.project).clear()
    bar.project.set_params("judge", level="exposure", key=[1, 2], limit=None)
    bar.do()
    assert bar._said.value == "2 of 2 queued; nobody works on the project: start processing"
    assert action.form.changes == {}
    process(bar.project)
    assert bar.project.table().verdict.tolist() == ["good", "good", "bad"]


def test_a_changed_parameter_can_be_for_groups_or_the_project(bar: ActionBar) -> None:
    bar.project.move([1], "one")
    bar.choose("run")
    action = bar.actions["run"]
    action.what.value = "judge"
    for place, expected in (("group", [-1.0, -1.0, -1.0]), ("project", [-2.0, -2.0, -2.0])):
        action.place.value = place
        action.form.set(limit=str(expected[0]))
        bar.do()
        if place == "group":
            bar.project.set_params("judge", level="group", key="one", limit=None)
            assert bar.project.params("judge", 1)[0].limit == 3.0
            bar.project.set_params("judge", level="group", key="camera", limit=None)
    assert bar.project.params("judge", 3)[0].limit == -2.0


def test_a_value_that_is_not_valid_has_no_code_and_is_not_run(bar: ActionBar) -> None:
    bar.choose("run")
    action = bar.actions["run"]
    action.what.value = "judge"
    action.form.set(limit="high")
    assert bar._code.text == ""
    bar.do()
    assert "limit" in bar._messages.text
    assert Queue(bar.project).counts().get("queued", 0) == 0


def test_a_trial_keeps_its_results_apart(bar: ActionBar) -> None:
    bar.choose("run")
    action = bar.actions["run"]
    action.what.value = "judge"
    action.place.value = "trial"
    action.form.set(limit="-1")
    assert bar._code.text == ""
    action.trial.value = "mild"
    bar.do()
    process(bar.project)
    assert bar.project.table().verdict.tolist() == ["bad", "bad", "bad"]
    assert bar.project.table(trial="mild").verdict.tolist() == ["good", "good"]


@pytest.mark.parametrize("trial", ["", "mild"])
def test_a_step_runs_alone_though_what_it_begins_with_was_not_kept(bar: ActionBar, trial: str) -> None:
    bar.choose("run")
    action = bar.actions["run"]
    action.what.value = "scale"
    action.again.value = True
    if trial:
        action.place.value, action.trial.value = "trial", trial
    bar.do()
    process(bar.project)
    table = bar.project.table(trial=trial) if trial else bar.project.table()
    assert set(table.status) == {"done"}
    assert table.scaled.notna().all()


def test_again_runs_a_step_that_is_up_to_date(bar: ActionBar) -> None:
    bar.choose("run")
    action = bar.actions["run"]
    action.what.value = "judge"
    action.again.value = True
    before = len(bar.project.runs())
    bar.do()
    process(bar.project)
    assert bar.project.runs().step.tolist()[before:] == ["judge", "judge"]


def test_a_table_taken_away_holds_the_rows_and_columns_asked_for(
    bar: ActionBar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handed: list[tuple[str, bytes, str]] = []
    monkeypatch.setattr(bar._code, "download", lambda *file: handed.append(file))
    bar.choose("export")
    action = bar.actions["export"]
    action.columns.value = "shown"
    bar.do()
    (name, content, kind) = handed[0]
    frame = pd.read_csv(io.BytesIO(content))
    assert (name, kind) == ("project.csv", "text/csv")
    assert frame.exposure.tolist() == ["c", "a", "b"]
    assert list(frame.columns) == ["exposure", "group", "status", "reason", "id", "level", "verdict"]
    monkeypatch.chdir(tmp_path)
    run_code(bar)
    assert (tmp_path / "project.csv").read_bytes() == content
    action.rows.value = "chosen"
    action.format.value = "parquet"
    bar.do()
    assert pd.read_parquet(io.BytesIO(handed[1][1])).exposure.tolist() == ["a", "b"]


def test_a_long_table_is_written_beside_the_page(bar: ActionBar, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[str] = []
    threads: list[threading.Thread] = []
    go = threading.Event()
    real = actions.tables.encode_exposures

    def encode(frame: pd.DataFrame, format: str) -> bytes:
        threads.append(threading.current_thread())
        assert go.wait(60)
        if len(threads) == 1:
            raise ParameterError("a sheet of Excel holds fewer rows")
        return real(frame, format)

    monkeypatch.setattr(actions.tables, "encode_exposures", encode)
    monkeypatch.setattr(bar._code, "download", lambda name, content, kind: handed.append(name))

    async def export() -> None:
        bar.choose("export")
        for attempt in range(2):
            go.clear()
            bar.do()
            await asyncio.sleep(0)
            assert bar._do.disabled
            assert "is being written" in bar._said.value
            bar.chosen.shown = [1]  # the table goes on; the file holds what was asked for
            bar.choose("flag")
            assert not bar._do.disabled
            bar.choose("export")
            go.set()
            assert bar._task is not None
            await bar._task
            assert not bar._do.disabled
            assert ("holds fewer rows" in bar._messages.text) == (attempt == 0)
            bar.chosen.shown = [3, 1, 2]
        assert bar._said.value.startswith("project.csv: 3 rows")

    asyncio.run(export())
    assert handed == ["project.csv"]
    assert threading.main_thread() not in threads


def test_nothing_chosen_is_said_before_it_is_tried(bar: ActionBar) -> None:
    bar.chosen.selection = []
    bar.choose("flag")
    assert bar._do.disabled
    assert "no exposure is chosen" in bar._said.value
    bar.chosen.selection = [3]
    bar.update()
    assert not bar._do.disabled
    assert bar._said.value == ""
    assert bar._count.value == "1 chosen"


def test_ids_are_written_as_they_would_be_typed() -> None:
    assert _ids_as_code([3, 1, 2]) == ["3", "1", "2"]
    many = [7, *range(20, 40), 12, 50]
    assert _ids_as_code(many) == ["7", "*range(20, 40)", "12", "50"]
    assert eval(f"[{', '.join(_ids_as_code(many))}]") == many


def test_many_rows_are_found_by_code_as_the_table_found_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    with filled_project(tmp_path / "project", 400) as project:
        table = LibraryTable(project, alone=False)
        bar = ActionBar(project, table)
        browser = table.browser
        browser.filter(drift="..40", text="grid")
        browser.sort([("drift", False), ("exposure", True)])
        browser.group_by(None)
        liked = layouts.layout_path(project).read_text()
        shown = browser.shown
        assert 12 < len(shown) < 400
        bar.choose("export")
        assert len(bar._code.text) < 600
        assert run_code(bar)["ids"] == shown
        by_code = (tmp_path / "project.csv").read_bytes()
        assert pd.read_csv(io.BytesIO(by_code)).id.tolist() == shown
        assert layouts.layout_path(project).read_text() == liked, "what is run as code arranges nobody's table"
        # chosen: ticked, all that are shown, some
        bar.choose("flag")
        browser.tick(shown[::2])
        bar.update()
        assert len(bar._code.text) < 500
        assert sorted(run_code(bar)["ids"]) == sorted(shown[::2])
        browser.set_ticks([])
        table.highlight(shown)
        bar.update()
        assert len(bar._code.text) < 500
        assert run_code(bar)["ids"] == shown
        table.highlight(shown[::2])
        bar.update()
        assert run_code(bar)["ids"] == shown[::2]
        bar.close()
        table.close()


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0.1 kB"), (900, "0.9 kB"), (12_345, "12.3 kB"), (1_234_567_890, "1,234.6 MB")]
)
def test_a_size_has_the_unit_that_leaves_a_number_to_be_read(count: int, words: str) -> None:
    assert _size(count) == words
