"""Sources: validated, remembered, changed by several at once, and never half written."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from focusnb.errors import ParameterError, ProjectError
from focusnb.project.sources import ImportSource, add_source, make_source, read_sources, remove_source
from tests.projects import make_project


def test_what_is_remembered_is_read_back(tmp_path: Path) -> None:
    with make_project(tmp_path / "project", steps=False) as project:
        assert read_sources(project.folder) == []
        given = {
            "folders": [tmp_path / "camera", "~/other"], "name": "titan 1", "patterns": ["*.tif"], "ignore": ["Search"],
            "facts": {"voltage": "300"}, "delay": 5, "during": ["load"], "process": False, "pair": ["average=_mean"],
        }  # fmt: skip
        assert add_source(project, make_source(given))
        assert add_source(project, make_source({"folders": [tmp_path / "second"]}))
        first, second = read_sources(project.folder)
        assert first == make_source(given)
        assert first.folders == (str(tmp_path / "camera"), str(Path.home() / "other"))
        assert (first.patterns, first.facts, first.delay, first.process) == (("*.tif",), {"voltage": "300"}, 5.0, False)
        assert second == ImportSource(name="second", folders=(str(tmp_path / "second"),))
        # the same name: replaced
        assert not add_source(project, make_source({**given, "delay": 9}))
        assert [source.delay for source in read_sources(project.folder)] == [9.0, None]
        assert remove_source(project, "titan 1").name == "titan 1"
        with pytest.raises(ParameterError, match="there is no source titan 1; there are second"):
            remove_source(project, "titan 1")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "a source needs a folder"),
        ({"link": True, "delete_source": True}, "delete_source goes with copies only"),
        ({"pair": ["sum=_x"]}, "ROLE=_end"),
        ({"ignore": [""]}, "is empty"),
        ({"delay": -1}, "greater than or equal to 0 s"),
        ({"delya": 1}, "did you mean delay"),
        ({"facts": {"volts": 300}}, "did you mean voltage"),
        ({"name": "../x"}, "is no name of a source"),
    ],
)
def test_what_cannot_be_watched_is_refused(values: dict[str, object], words: str) -> None:
    folders = {} if words == "a source needs a folder" else {"folders": ["/camera"]}
    with pytest.raises(ParameterError, match=words):
        make_source({**folders, **values})


def test_a_folder_is_not_watched_twice(tmp_path: Path) -> None:
    with make_project(tmp_path / "project", steps=False) as project:
        add_source(project, make_source({"folders": ["/camera"], "name": "one"}))
        with pytest.raises(ParameterError, match="/camera is watched by source one already"):
            add_source(project, make_source({"folders": ["/camera"], "name": "two"}))
        add_source(project, make_source({"folders": ["/camera"], "name": "two", "patterns": ["*.eer"]}))


def test_several_add_at_once_and_none_is_lost(tmp_path: Path) -> None:
    with make_project(tmp_path / "project", steps=False) as project:
        threads = [
            threading.Thread(target=add_source, args=(project, make_source({"folders": [f"/camera_{n}"]})))
            for n in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(read_sources(project.folder)) == 12


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"folders": []}]', '[{"folders": ["/x"], "delay": "soon"}]'])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "sources.json").write_text(text)
    with pytest.raises(ProjectError, match=r"sources\.json: .*correct or remove it"):
        read_sources(tmp_path)


def test_what_a_newer_version_added_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "sources.json").write_text('[{"name": "x", "folders": ["/x"], "later": 1}]')
    assert read_sources(tmp_path) == [ImportSource(name="x", folders=("/x",))]
