"""The library: transactions, revisions, rights, versions, damage, other processes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import sqlalchemy as sa

from focusnb.errors import FocusError, ParameterError, ProgramMissing, ProjectError
from focusnb.parameters import Declared, quantity
from focusnb.project import library as module
from focusnb.project import schema
from focusnb.project.library import Declaration, Library
from focusnb.project.project import Project
from tests.projects import left_overs, make_project, process
from tests.unprivileged import run_as_nobody


def test_a_transaction_raises_the_revision_by_one_whatever_it_writes(project: Project) -> None:
    before = project.revision
    project.flag([1, 2, 3], "red")
    assert project.revision == before + 1
    project.move([2], "good")
    project.override(3, scaled=4.0)
    project.set_params("scale", factor=3)
    project.set_facts([1, 3], voltage=200)
    assert project.revision == before + 5
    changed = project.changes(before + 1)
    assert changed.revision == before + 5
    assert list(changed.exposures.index) == [1, 2, 3]
    assert list(project.changes(before + 2).exposures.index) == [1, 3]
    assert list(project.changes(before + 4).exposures.index) == [1, 3]
    assert project.changes(before + 5).exposures.empty


def test_nothing_is_kept_of_a_transaction_that_raises(project: Project) -> None:
    before = project.revision

    def interrupted() -> None:
        with project.library.write() as transaction:
            transaction.update_exposure(1, {"flag": "red"})
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        interrupted()
    assert project.revision == before
    assert project.table().flag.isna().all()


def test_all_or_none_of_the_exposures_named_are_changed(project: Project) -> None:
    with pytest.raises(ParameterError, match="1 of 3 exposures do not exist; none was changed"):
        project.flag([1, 2, 99], "red")
    assert project.table().flag.isna().all()


def test_reading_the_table_loses_nothing_written_by_others_or_after_it(project: Project) -> None:
    other = Project.open(project.folder)
    for comment in ("one", "two", "three"):
        project.table()
        project.comment([2], comment)
        other.table()
        other.flag([3], "gold")
        assert project.table()["comment"][2] == comment
    other.close()
    with sqlite3.connect(project.folder / "library.sqlite") as connection:
        rows = connection.execute("SELECT comment, flag FROM exposures ORDER BY id").fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert rows == [(None, None), ("three", None), (None, "gold")]


def test_a_deleted_row_leaves_a_tombstone(project: Project) -> None:
    before = project.revision
    with project.library.write() as transaction:
        transaction.execute(schema.exposures.delete().where(schema.exposures.c.id == 3))
        transaction.bury("exposures", 3)
    assert project.changes(before).deleted == (3,)
    assert project.changes(before + 1).deleted == ()


def test_ids_are_never_given_twice(project: Project, tmp_path: Path) -> None:
    with project.library.write() as transaction:
        transaction.execute(schema.exposures.delete().where(schema.exposures.c.id == 3))
    (tmp_path / "late.tif").write_text("late")
    assert project.add(tmp_path / "late.tif").added == [4]


def test_opening_again_writes_nothing(project: Project) -> None:
    project.close()
    with sqlite3.connect(project.folder / "library.sqlite") as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        Project.open(project.folder).close()
        assert connection.execute("PRAGMA data_version").fetchone() == before


def test_a_read_only_project_opens_for_reading_and_says_so_on_writing(project: Project, tmp_path: Path) -> None:
    project.close()
    folder = project.folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def look() -> tuple[int, list[str]]:
        told = []
        with Project.open(folder) as opened:
            for write in (
                lambda: opened.flag([1], "red"),
                lambda: opened.set_params("scale", factor=2),
                lambda: opened.add(tmp_path / "camera"),
                lambda: opened.set_facts([1], voltage=200),
                lambda: opened.use_steps("judge"),
            ):
                try:
                    write()
                except Exception as error:
                    told.append(f"{type(error).__name__}: {error}")
            return len(opened.table()), told

    try:
        count, told = run_as_nobody(look)
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert count == 3
    assert len(told) == 5
    for sentence in told:
        assert "cannot be written" in sentence
        assert str(folder) in sentence
        assert "write access" in sentence or "change its permissions" in sentence


def test_a_newer_library_is_refused_by_name(project: Project) -> None:
    set_schema(project, schema.VERSION + 3)
    with pytest.raises(ProjectError, match=rf"newer focusnb \(library version {schema.VERSION + 3}.*update focusnb"):
        Project.open(project.folder)


def test_an_older_library_is_migrated_after_a_backup(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    set_schema(project, 0)

    def migrate(connection: sa.Connection) -> None:
        connection.execute(sa.text("UPDATE exposures SET comment = 'migrated'"))

    monkeypatch.setitem(schema.MIGRATIONS, 0, migrate)
    monkeypatch.setitem(schema.MIGRATIONS, 1, lambda connection: None)  # the tables are present ones
    with Project.open(project.folder) as opened:
        assert list(opened.table().comment) == ["migrated"] * 3
    with Project.open(project.folder) as again:
        assert len(again.table()) == 3
    backup = project.folder / "library.version-0.backup.sqlite"
    with sqlite3.connect(backup) as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == ("0",)
        assert connection.execute("SELECT count(*) FROM exposures WHERE comment IS NULL").fetchone() == (3,)


def test_a_library_of_version_1_is_brought_up_to_date(project: Project) -> None:
    path = project.folder / "library.sqlite"
    project.close()
    with sqlite3.connect(path) as connection:
        for index in ("exposures_settled", "tasks_in_order"):
            connection.execute(f"DROP INDEX {index}")
        for table, names in {
            "exposures": ["settled_for"],
            "tasks": ["priority", "started_at", "finished_at"],
            "runs": ["worker"],
            "progress": ["worker", "finished"],
            "lease": ["machine", "dashboard"],
        }.items():
            for name in names:
                connection.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        connection.execute("CREATE INDEX tasks_by_state ON tasks (state, position)")
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")
    connection.close()
    with Project.open(project.folder) as opened:
        assert process(opened).done == 3
        with opened.library.read() as connection:
            inspector = sa.inspect(connection)
            for table in schema.metadata.sorted_tables:
                present = {column["name"] for column in inspector.get_columns(table.name)}
                assert {column.name for column in table.columns} <= present
                indexes = {index["name"] for index in inspector.get_indexes(table.name)}
                assert {index.name for index in table.indexes} == indexes - {None}


def test_a_migration_that_fails_leaves_the_library_as_it_was(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    set_schema(project, 0)

    def migrate(connection: sa.Connection) -> None:
        connection.execute(sa.text("UPDATE exposures SET comment = 'half'"))
        raise RuntimeError("in the middle")

    monkeypatch.setitem(schema.MIGRATIONS, 0, migrate)
    with pytest.raises(RuntimeError, match="in the middle"):
        Project.open(project.folder)
    with sqlite3.connect(project.folder / "library.sqlite") as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == ("0",)
        assert connection.execute("SELECT count(*) FROM exposures WHERE comment IS NULL").fetchone() == (3,)


def test_a_library_too_old_for_any_migration_says_so(project: Project) -> None:
    set_schema(project, 0)
    with pytest.raises(ProjectError, match="library version 0 is older than this focusnb can read"):
        Project.open(project.folder)


def set_schema(project: Project, version: int) -> None:
    project.close()
    with sqlite3.connect(project.folder / "library.sqlite") as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (str(version),))


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100], ids=["empty", "text"])
def test_a_library_that_is_none_tells_the_cure(project: Project, content: bytes) -> None:
    project.close()
    (project.folder / "library.sqlite").write_bytes(content)
    with pytest.raises(ProjectError, match=rf"library.sqlite: it is .*'focusnb rebuild {project.folder}'"):
        Project.open(project.folder)


def test_a_damaged_page_tells_the_cure_when_it_is_read(project: Project) -> None:
    project.close()
    path = project.folder / "library.sqlite"
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(ProjectError, match="damaged; 'focusnb rebuild"), Project.open(project.folder) as opened:
        opened.table()


def test_no_library_tells_the_cure(project: Project) -> None:
    project.close()
    (project.folder / "library.sqlite").unlink()
    with pytest.raises(ProjectError, match=r"there is no library; run 'focusnb rebuild"):
        Project.open(project.folder)


def test_a_folder_that_is_away_is_not_taken_for_one_without_write_access(project: Project) -> None:
    project.library.reopen()
    away = project.folder.rename(project.folder.with_name("away"))
    with pytest.raises(ProjectError, match=r"library\.sqlite: it is not there; bring the project's folder back"):
        project.flag([1], "gold")
    away.rename(project.folder)
    project.flag([1], "gold")
    assert project.ids(flag="gold") == [1]


LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE exposures SET comment = 'by the other process'")
print("locked", flush=True)
sys.stdin.readline()
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
"""


def test_a_writer_waits_for_another_process(project: Project) -> None:
    path = str(project.folder / "library.sqlite")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", LOCK, path, "1.5"], **pipes) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        assert project.table().comment.isna().all()  # a reader does not wait
        assert other.poll() is None
        other.stdin.write(b"let it go, but not at once\n")
        other.stdin.flush()
        project.flag([2], "gold")
        assert other.wait() == 0
    assert list(project.table().comment) == ["by the other process"] * 3
    assert project.table().flag[2] == "gold"


def test_a_lock_that_stays_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.close()
    monkeypatch.setattr(module, "BUSY_TIMEOUT", 0.2)
    with Project.open(project.folder) as opened:
        other = sqlite3.connect(project.folder / "library.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ProjectError, match="another process kept it locked"):
            opened.flag([1], "red")
        other.execute("ROLLBACK")
        other.close()
        opened.flag([1], "red")


def test_a_full_disk_is_told_and_nothing_is_half_written(small_disk: Callable[[float], Path], tmp_path: Path) -> None:
    folder = small_disk(1.5) / "project"
    with make_project(folder) as project:
        movie = tmp_path / "a.tif"
        movie.write_text("1\n")
        project.add(movie)
        filling = folder.parent / "filling"
        fill(filling)
        before = project.revision

        def write_on() -> None:
            for _ in range(2000):
                project.comment([1], "x" * 3000)
                project.set_facts([1], specimen=os.urandom(200).hex())

        with pytest.raises(FocusError, match=r"the disk is full.*make room"):
            write_on()
        filling.unlink()
        assert left_overs(folder) == []
        project.flag([1], "red")
        assert project.revision > before
        assert len(project.table()) == 1


def fill(path: Path) -> None:
    """Take what is left of a small disk."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_second_host_is_refused_on_a_network_file_system(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.close()
    monkeypatch.setattr(module, "_file_system", lambda path: "nfs4")
    with Project.open(project.folder) as first:
        first.flag([1], "red")
    with sqlite3.connect(project.folder / "library.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    Project.open(project.folder).close()
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    with pytest.raises(ProjectError, match=r"network file system \(nfs4\) and is used from .*\(elsewhere\)"):
        Project.open(project.folder)


class Plugin(Declared):
    beads: Annotated[int, quantity("Gold beads", unit="1/image", ge=0)] = 0
    remark: Annotated[str, quantity("Remark")] = ""


def test_a_column_of_a_plugin_stays_readable_without_it(project: Project) -> None:
    project.library.declare([Declaration("finding", "measure_gold", spec) for spec in Plugin.specs()])
    with project.library.write() as transaction:
        transaction.update_exposure(2, {"beads": 12, "remark": "clean"})
    project.close()
    with Project.open(project.folder) as opened:
        table = opened.table()
        assert table.beads[2] == 12
        assert str(table.beads.dtype) == "Int64"
        assert table.attrs["units"]["beads"] == "1/image"
        assert table.attrs["labels"]["beads"] == "Gold beads"
        assert opened.specs()["beads"].limits == {"ge": 0}


def test_a_value_is_not_declared_with_two_types(project: Project) -> None:
    class Other(Declared):
        scaled: Annotated[str, quantity("Scaled")] = ""

    declarations = [Declaration("finding", "one", Plugin.spec("beads"))]
    with pytest.raises(ProjectError, match=r"scaled is value \(float\) by scale and value \(str\) by other"):
        project.library.declare(
            [
                *declarations,
                Declaration("finding", "scale", project.specs()["scaled"]),
                Declaration("finding", "other", Other.spec("scaled")),
            ]
        )
    assert "beads" not in project.specs()


def test_a_column_of_the_library_is_not_declared(project: Project) -> None:
    class Clash(Declared):
        status: Annotated[str, quantity("Status")] = ""

    with pytest.raises(ProjectError, match="status is a column of every library and cannot be declared by mine"):
        project.library.declare([Declaration("finding", "mine", Clash.spec("status"))])


def test_an_address_that_is_none_and_a_driver_that_is_missing_are_told(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="is no address of a database"):
        Library("postgresql://::/x://")
    try:
        import pg8000  # noqa: F401
    except ImportError:
        with pytest.raises(ProgramMissing, match=r"pip install 'focusnb\[postgres\]'"):
            Project.create(tmp_path / "p", mode="drift", library="postgresql://nobody@127.0.0.1:1/none")
    else:
        with pytest.raises(ProjectError, match=r"127\.0\.0\.1:1/none"):
            Project.create(tmp_path / "p", mode="drift", library="postgresql://nobody:secret@127.0.0.1:1/none")
    assert not (tmp_path / "p").exists()
