"""The tables an analyst gets: types, units, missing values, Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from focusnb.project.project import Project
from tests.projects import make_project, process, write_shots


@pytest.fixture
def done(project: Project, tmp_path: Path) -> Project:
    project.add(write_shots(tmp_path / "more", d="fail load\n"), facts={"recorded_at": "2026-03-04T05:06:07"})
    process(project)
    return project


def test_columns_are_typed(done: Project) -> None:
    table = done.table()
    types = {name: str(kind) for name, kind in table.dtypes.items()}
    assert types["scaled"] == types["level"] == types["voltage"] == "float64"
    assert types["size"] == types["frame_count"] == types["gain_rotation"] == "Int64"
    assert types["sure"] == types["gain_flip"] == "boolean"
    assert types["exposure"] == types["verdict"] == types["reason"] == types["flag"] == types["plane"] == "str"
    for name in ("imported_at", "processed_at"):
        assert isinstance(table.dtypes[name], pd.DatetimeTZDtype)
    assert pd.api.types.is_datetime64_dtype(table["recorded_at"])
    assert "object" not in set(types.values())


def test_missing_values_are_missing_of_their_type(done: Project) -> None:
    row = done.table().loc[4]
    assert np.isnan(row["scaled"])
    assert row["size"] is pd.NA
    assert row["sure"] is pd.NA
    assert pd.isna(row["verdict"])
    assert row["recorded_at"] == pd.Timestamp("2026-03-04T05:06:07")
    assert done.table()["recorded_at"].isna().tolist() == [True, True, True, False]


def test_the_first_columns_are_what_people_look_for_and_the_index_is_the_id(done: Project) -> None:
    table = done.table()
    assert list(table.columns[:6]) == ["exposure", "group", "status", "reason", "flag", "comment"]
    assert table.index.name == "id"
    assert list(table.index) == [1, 2, 3, 4]
    findings, facts = table.columns.get_loc("scaled"), table.columns.get_loc("voltage")
    assert findings < table.columns.get_loc("plane") < facts
    for hidden in ("facts", "current", "revision", "content", "stack", "frames"):
        assert hidden not in table.columns


def test_units_and_labels_come_along_and_survive_parquet(done: Project, tmp_path: Path) -> None:
    table = done.table()
    assert table.attrs["units"]["voltage"] == "kV"
    assert table.attrs["units"]["scaled"] == "counts"
    assert "size" not in table.attrs["units"]
    assert table.attrs["labels"]["scaled"] == "Scaled"
    table.to_parquet(tmp_path / "table.parquet")
    back = pd.read_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(back, table)
    assert back.attrs == table.attrs


def test_an_empty_project_has_a_table_of_the_same_types(tmp_path: Path, done: Project) -> None:
    with make_project(tmp_path / "empty") as project:
        table = project.table()
        assert len(table) == 0
        assert table.dtypes.to_dict() == done.table().dtypes.to_dict()
        assert len(project.runs()) == 0
        assert project.changes(0).exposures.empty
        table.to_parquet(tmp_path / "empty.parquet")
        assert len(pd.read_parquet(tmp_path / "empty.parquet")) == 0


def test_some_exposures_are_given_by_id(done: Project) -> None:
    assert list(done.table(where=[4, 2]).index) == [2, 4]
    assert done.table(where=[]).empty
    assert list(done.table(where=[1, *range(100, 1000)]).index) == [1]


def test_an_override_keeps_the_type_of_its_column(done: Project) -> None:
    before = done.table().dtypes.to_dict()
    done.override(1, size=5, sure=False, verdict="bad", scaled=3)
    table = done.table()
    assert table.dtypes.to_dict() == before
    assert table.loc[1, ["size", "sure", "verdict", "scaled"]].tolist() == [5, False, "bad", 3.0]
    assert table.loc[2, "verdict"] == "good"


def test_a_column_that_holds_what_its_declaration_does_not_promise_is_shown_as_text(done: Project) -> None:
    with done.library.write() as transaction:
        transaction.update_exposure(2, {"scaled": "high"})
    table = done.table()
    assert str(table.dtypes["scaled"]) == "str"
    assert table["scaled"].tolist()[:3] == ["600.0", "high", "1800.0"]
    assert table["scaled"].isna()[4]


def test_runs_tell_the_history(done: Project) -> None:
    runs = done.runs()
    assert list(runs.step) == ["load", "scale", "judge"] * 4
    assert list(runs[runs.exposure_id == 4].status) == ["failed", "skipped", "skipped"]
    assert runs[runs.status == "failed"].reason.item() == "d: load cannot"
    assert runs[runs.status == "failed"].error.item() == "StepError"
    assert isinstance(runs.dtypes["started_at"], pd.DatetimeTZDtype)
    assert runs.seconds.dtype == runs.cpu_seconds.dtype == np.float64
    assert runs.run.is_unique
    assert list(done.runs(exposure=2).exposure) == ["b"] * 3
    assert runs.loc[runs.step == "judge", "params"].iloc[0] == '{"limit": 3.0}'


def test_facts_tell_where_they_come_from(done: Project) -> None:
    facts = done.facts(4)
    assert "voltage" not in facts.index
    assert facts.loc["spherical_aberration", ["value", "unit", "origin"]].tolist() == [2.7, "mm", "default"]
    assert facts.loc["movie", "origin"] == "header"
    assert facts.loc["recorded_at", "origin"] == "set"
