"""A library made again: from the records alone, and with what the old library still tells."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from focusnb.errors import ProjectError
from focusnb.project import lease, schema
from focusnb.project.project import Project
from focusnb.project.rebuilding import rebuild
from tests.projects import chain, left_overs, process, write_shots


@pytest.fixture
def done(project: Project, tmp_path: Path) -> Project:
    """A project of four processed exposures; the fourth fails."""
    project.add(write_shots(tmp_path / "more", d="fail scale\n"), facts={"tilt_angle": 5})
    process(project)
    return project


def test_from_the_records_alone(done: Project) -> None:
    before = done.table()
    done.close()
    (done.folder / "library.sqlite").unlink()
    project, told = rebuild(done.folder)
    with project:
        assert told == []
        pd.testing.assert_frame_equal(project.table(), before)
        assert project.facts(4).origin["tilt_angle"] == "set"
        assert project.stale(chain(project)) == {}
        assert list(project.runs().status) == ["done"] * 9 + ["done", "failed"]
        project.set_facts([1], voltage=200)
        assert set(project.stale(chain(project))) == {1}
        assert process(project).done == 1
    assert left_overs(done.folder) == []


def test_what_only_the_old_library_knew_is_taken_from_it(done: Project) -> None:
    done.flag([1, 3], "gold")
    done.move([2], "TRASH")
    done.comment([2], "cracked")
    done.set_params("judge", limit=7)
    done.set_params("judge", level="exposure", key=1, limit=8)
    done.override(3, scaled=1.0)
    done.select("best", [3, 1])
    process(done, [1], trial="again")
    with done.library.write() as transaction:
        row = {"name": "series", "kind": "tilt", "folder": "sets/series", "revision": transaction.revision}
        identity = transaction.execute(schema.sets.insert().values(**row)).inserted_primary_key[0]
        for position, exposure in enumerate((3, 1)):
            member = {"set_id": identity, "exposure_id": exposure, "position": position, "values": {"tilt_angle": 3.0}}
            transaction.execute(schema.set_members.insert().values(**member))
    before, revision, runs = done.table(), done.revision, done.runs()
    trial = done.table(trial="again")
    done.close()
    project, told = rebuild(done.folder)
    with project:
        assert told == []
        pd.testing.assert_frame_equal(project.table(), before)
        pd.testing.assert_frame_equal(project.runs(), runs)
        pd.testing.assert_frame_equal(project.table(trial="again"), trial)
        assert project.select("best") == [3, 1]
        assert project.params("judge", 1)[0].limit == 8  # type: ignore[attr-defined]
        assert project.params("judge", 3)[0].limit == 7  # type: ignore[attr-defined]
        assert project.ids() == [1, 3, 4]
        # a reader that saw the old library learns of everything in the new one
        assert project.revision > revision
        assert list(project.changes(revision).exposures.index) == [1, 2, 3, 4]
        with project.library.read() as connection:
            members = connection.exec_driver_sql(
                'SELECT exposure_id, position, included, "values" FROM set_members ORDER BY position'
            ).all()
        assert members == [(3, 0, 1, '{"tilt_angle": 3.0}'), (1, 1, 1, '{"tilt_angle": 3.0}')]
        project.clear_override(3)
        assert project.table().scaled[3] == 1800
    kept = list(done.folder.glob("library.*.old.sqlite"))
    assert len(kept) == 1
    with sqlite3.connect(kept[0]) as connection:
        assert connection.execute("SELECT count(*) FROM exposures").fetchone() == (4,)


def test_of_two_made_again_within_a_second_both_old_ones_are_kept(
    done: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("focusnb.project.rebuilding.now", lambda: "2026-03-04T05:06:07.890+00:00")
    done.close()
    for _ in range(2):
        rebuild(done.folder)[0].close()
    kept = sorted(path.name for path in done.folder.glob("library.*.old.sqlite"))
    assert kept == ["library.2026-03-04T050607.old.sqlite", "library.2026-03-04T050607_2.old.sqlite"]


def test_records_that_cannot_be_used_are_told_and_the_others_kept(done: Project, tmp_path: Path) -> None:
    (done.path(1) / "exposure.json").write_text('{"format": 1, "id": 1')
    (done.path(2) / "exposure.json").write_text('["no record"]')
    record = json.loads((done.path(3) / "exposure.json").read_text())
    (done.path(3) / "exposure.json").write_text(json.dumps({**record, "current": {"load": {}}}))
    done.close()
    project, told = rebuild(done.folder)
    with project:
        assert list(project.table().exposure) == ["d"]
        assert len(told) == 3
        for name, sentence in zip("abc", told, strict=True):
            assert f"exposures/camera/{name}/exposure.json" in sentence
            assert "the exposure was left out, import it again" in sentence
        # neither the id nor the folder of what was left out is given to another file; c is the very file
        (tmp_path / "camera" / "a.tif").write_text("another a\n")
        report = project.add(tmp_path / "camera")
        assert report.added == [5, 6, 7]
        assert list(project.table().folder[1:]) == [f"exposures/camera/{name}" for name in ("a_2", "b_2", "c")]
        assert (project.folder / "exposures/camera/a/raw/a.tif").read_text() == "1\n"


def test_a_copied_exposure_folder_does_not_take_the_place_of_the_original(done: Project) -> None:
    copy = done.folder / "exposures" / "camera" / "0_copy_of_c"
    shutil.copytree(done.path(3), copy)
    done.close()
    project, told = rebuild(done.folder)
    with project:
        assert list(project.table().exposure) == ["a", "b", "c", "d"]
        assert project.path(3).name == "c"
    assert len(told) == 1
    assert str(copy) in told[0]


def test_a_damaged_library_is_made_again_with_what_can_be_read(done: Project) -> None:
    done.flag([2], "red")
    before = done.table()
    done.close()
    path = done.folder / "library.sqlite"
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)
    project, _ = rebuild(done.folder)
    with project:
        names = [name for name in before.columns if name != "flag"]
        pd.testing.assert_frame_equal(project.table()[names], before[names])
        project.flag([2], "red")


def test_a_project_at_work_is_not_rebuilt(done: Project) -> None:
    epoch = lease.take_lease(done.library)
    try:
        with pytest.raises(ProjectError, match=rf"process {os.getpid()} on .* works on this project since .*; stop it"):
            rebuild(done.folder)
    finally:
        lease.release_lease(done.library, epoch)
    rebuild(done.folder)[0].close()


def test_a_rebuild_that_fails_leaves_the_old_library(done: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise RuntimeError("in the middle")

    before = done.table()
    done.close()
    monkeypatch.setattr("focusnb.project.records.restore", refuse)
    with pytest.raises(RuntimeError, match="in the middle"):
        rebuild(done.folder)
    assert left_overs(done.folder) == []
    with Project.open(done.folder) as project:
        pd.testing.assert_frame_equal(project.table(), before)


def test_decisions_survive_the_loss_of_the_library(done: Project) -> None:
    done.flag([1, 3], "gold")
    done.move([2], "TRASH")
    done.comment([2], "cracked")
    done.set_params("judge", limit=7)
    done.set_params("judge", level="exposure", key=1, limit=8)
    done.override(3, scaled=1.0)
    done.override(1, scaled=2.0)
    done.clear_override(1)
    done.select("best", [3, 1])
    before = done.table()
    done.close()
    (done.folder / "library.sqlite").unlink()
    project, told = rebuild(done.folder)
    with project:
        assert told == []
        pd.testing.assert_frame_equal(project.table(), before)
        assert project.params("judge")[0].limit == 7  # type: ignore[attr-defined]
        assert project.params("judge", 1)[0].limit == 8  # type: ignore[attr-defined]
        assert project.select("best") == [3, 1]
