"""The library: one database of what is known of a project, with a revision that every change raises.

Only code in ``focusnb.project`` writes it. Transactions are short and immediate; readers never wait for them.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import getpass
import json
import re
import shutil
import socket
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from focusnb.errors import ProgramMissing, ProjectError
from focusnb.parameters import Spec
from focusnb.project import schema

if TYPE_CHECKING:
    import pandas as pd

BUSY_TIMEOUT = 30.0
"""Seconds a writer waits for another one."""

FILE_NAME = "library.sqlite"

_FAULTS = (sa.exc.DBAPIError, sqlite3.Error)

_CURES = {
    ("malformed", "not a database"): ("it is damaged; 'focusnb rebuild {folder}' makes it again from the exposures"),
    ("no such table",): ("it is no library of focusnb; 'focusnb rebuild {folder}' makes one from the exposures"),
    ("full",): "the disk is full; make room and run again",
    ("readonly", "read-only", "unable to open"): (
        "it cannot be written; give this user write access to the project's folder"
    ),
    ("locked",): "another process kept it locked for more than {timeout:.0f} s; end that process and try again",
}
"""What SQLite's words mean for the user."""

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "lustre", "gpfs", "beegfs", "9p", "ceph", "afs"}


def now() -> str:
    """The present time in UTC as ISO text, as the library keeps times."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def who() -> str:
    """User and host, for the record of who did something."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


class LibraryBusy(ProjectError):
    """Another process keeps the library locked; it can be tried again."""


class LibraryFull(ProjectError):
    """The disk the library lies on is full; it can be tried again when there is room."""


class Declaration(NamedTuple):
    """A declared value with its kind (fact or finding) and the step that makes it."""

    kind: str
    step: str | None
    spec: Spec


class Library:
    """An open library; safe to use from one thread at a time."""

    def __init__(self, location: str | Path, *, create: bool = False) -> None:
        self.location = location
        self.path = None if isinstance(location, str) and "://" in location else Path(location)
        if self.path is not None and not create and not self.path.is_file():
            raise ProjectError(f"{self.path}: there is no library; run 'focusnb rebuild {self.path.parent}'")
        self.read_only = self.path is not None and not _writable(self.path)
        self.engine = _engine(self.path, str(location), self.read_only)
        self._columns: dict[str, Spec] | None = None
        try:
            if create:
                self._create()
            self._migrate()
            if self.path is not None and not self.read_only:
                self._claim_host()
        except sa.exc.DBAPIError as error:
            self.engine.dispose()
            raise self._explain(error) from error
        except BaseException:
            self.engine.dispose()
            raise

    def close(self) -> None:
        """Release the file."""
        self.engine.dispose()

    def reopen(self) -> None:
        """Connect anew at the next use: the file was replaced, or its folder was away."""
        self.engine.dispose()
        self.forget_columns()

    def forget_columns(self) -> None:
        """Read the declarations again at their next use: another process may have added some."""
        self._columns = None

    def _explain(self, error: sa.exc.DBAPIError | Exception) -> ProjectError:
        text = str(error.orig if isinstance(error, sa.exc.DBAPIError) else error).strip()
        for words, cure in _CURES.items():
            if any(word in text for word in words) and self.path is not None:
                told = cure.format(folder=self.path.parent, timeout=BUSY_TIMEOUT)
                if "unable to open" in text and not self.path.exists():
                    told = "it is not there; bring the project's folder back, or mount its disk, and try again"
                kind = {"locked": LibraryBusy, "full": LibraryFull}.get(words[0], ProjectError)
                return kind(f"{self.location}: {told} ({text})")
        if getattr(error, "connection_invalidated", False) or "network error" in text:
            return LibraryBusy(f"{self._told()}: the connection was lost ({text}); it is made again when it can be")
        if "lock timeout" in text:
            return LibraryBusy(f"{self._told()}: another process kept it locked for more than {BUSY_TIMEOUT:.0f} s")
        return ProjectError(f"{self._told()}: {text}")

    def _told(self) -> str:
        """The library's place as messages name it, without a password."""
        return str(self.path) if self.path is not None else self.engine.url.render_as_string(hide_password=True)

    # Transactions

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """Open a transaction that raises the revision by one; nothing is kept if the block raises."""
        self.check_writable()
        try:
            with self._begin() as connection:
                yield Transaction(connection)
        except _FAULTS as error:
            raise self._explain(error) from error

    def check_writable(self) -> None:
        """ProjectError where this user cannot write here."""
        if self.read_only:
            raise ProjectError(f"{self.path}: cannot be written; give this user write access to the project's folder")

    @contextlib.contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            connection = connection.execution_options(focusnb_write=True)
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a connection that sees one state of the library."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except _FAULTS as error:
            raise self._explain(error) from error

    @property
    def revision(self) -> int:
        """The revision of the last change."""
        with self.read() as connection:
            return int(self._meta(connection, "revision") or 0)

    @staticmethod
    def _meta(connection: sa.Connection, key: str) -> str | None:
        value = connection.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == key)).scalar()
        return None if value is None else str(value)

    # Schema

    def _create(self) -> None:
        with self.engine.begin() as connection:
            schema.metadata.create_all(connection)
            if self._meta(connection, "schema") is not None:
                raise ProjectError(f"{self._told()}: holds a project's library already; give each project a database")
            rows = {"schema": str(schema.VERSION), "revision": "0", "created": now()}
            connection.execute(schema.meta.insert(), [{"key": k, "value": v} for k, v in rows.items()])

    def _migrate(self) -> None:
        with self.read() as connection:
            found = int(self._meta(connection, "schema") or 0)
        if found == schema.VERSION:
            return
        if found > schema.VERSION:
            raise ProjectError(
                f"{self.location}: written by a newer focusnb (library version {found}, this one reads up to "
                f"{schema.VERSION}); update focusnb"
            )
        missing = [version for version in range(found, schema.VERSION) if version not in schema.MIGRATIONS]
        if missing:
            raise ProjectError(
                f"{self._told()}: library version {found} is older than this focusnb can read; open it with the "
                "focusnb that made it, or rebuild it from the exposures with 'focusnb rebuild'"
            )
        if self.read_only:
            raise ProjectError(
                f"{self.location}: library version {found} must be brought to {schema.VERSION}, and the folder "
                "cannot be written; open it once with write access"
            )
        if self.path is not None:
            self.engine.dispose()
            self.backup(f"version-{found}")
        with self._begin() as connection:
            # another process may have migrated it while this one waited for the lock
            for version in range(int(self._meta(connection, "schema") or 0), schema.VERSION):
                schema.MIGRATIONS[version](connection)
            schema.metadata.create_all(connection)
            connection.execute(
                schema.meta.update().where(schema.meta.c.key == "schema").values(value=str(schema.VERSION))
            )

    def backup(self, label: str) -> Path:
        """Copy a SQLite library beside itself, with everything committed so far."""
        assert self.path is not None
        target = self.path.with_name(f"{self.path.stem}.{label}.backup{self.path.suffix}")
        with (
            contextlib.closing(sqlite3.connect(self.path)) as source,
            contextlib.closing(sqlite3.connect(target)) as out,
        ):
            source.backup(out)
        return target

    def checkpoint(self) -> None:
        """Bring a SQLite library into its one file."""
        with self.engine.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]

    def _claim_host(self) -> None:
        """On a network file system SQLite's locks do not hold between hosts: one host only."""
        assert self.path is not None
        kind = _file_system(self.path)
        if kind not in _NETWORK:
            return
        with self._begin() as connection:
            owner = self._meta(connection, "host")
            here = socket.gethostname()
            if owner is None:
                connection.execute(schema.meta.insert().values(key="host", value=here))
            elif owner != here:
                raise ProjectError(
                    f"{self.path}: lies on a network file system ({kind}) and is used from {owner}; a second host "
                    f"({here}) would damage it. Create projects for several hosts with --library postgresql://..., or "
                    "move the project to a local disk"
                )

    # Declared columns

    def column_specs(self) -> dict[str, Spec]:
        """The declaration of every fact and finding that has a column."""
        if self._columns is None:
            with self.read() as connection:
                rows = connection.execute(sa.select(schema.columns.c.name, schema.columns.c.spec)).all()
            self._columns = {row.name: Spec.from_dict(row.spec) for row in rows}
        return self._columns

    def declare(self, declarations: Iterable[Declaration]) -> None:
        """Make sure that every declared value has its column and its present declaration.

        Where several steps make a value, the declaration given first counts. ProjectError where a name is taken by
        the library itself, or where two steps give it different types.
        """
        wanted: dict[str, Declaration] = {}
        for declaration in declarations:
            spec = declaration.spec
            if spec.name in schema.exposures.c:
                raise ProjectError(
                    f"{spec.name} is a column of every library and cannot be declared by "
                    f"{declaration.step or declaration.kind}; name it differently"
                )
            first = wanted.setdefault(spec.name, declaration)
            if (first.spec.type, first.spec.kind) != (spec.type, spec.kind):
                raise ProjectError(
                    f"{spec.name} is {first.spec.kind} ({first.spec.type}) by {first.step or first.kind} and "
                    f"{spec.kind} ({spec.type}) by {declaration.step or declaration.kind}; name one of them differently"
                )
        known = self.column_specs()
        changed = [item for name, item in wanted.items() if known.get(name) != item.spec]
        if not changed or self.read_only:
            return
        with self.write() as transaction:
            connection = transaction.connection
            present = {column["name"] for column in sa.inspect(connection).get_columns("exposures")}
            c = schema.columns.c
            for kind, step, spec in changed:
                if spec.kind != "transient" and spec.name not in present:
                    name = connection.dialect.identifier_preparer.quote_identifier(spec.name)
                    connection.execute(sa.text(f"ALTER TABLE exposures ADD COLUMN {name} {schema.column_type(spec)}"))
                connection.execute(schema.columns.delete().where(c.name == spec.name))
                connection.execute(
                    schema.columns.insert().values(name=spec.name, kind=kind, step=step, spec=spec.to_dict())
                )
        self._columns = None

    # Reading tables

    def frame(self, query: str, parameters: tuple[Any, ...] = ()) -> pd.DataFrame:
        """Read a query into a DataFrame, column by column through Arrow.

        By the library's own connections: a driver that brings a second copy of SQLite into this process would undo
        their locks and delete the log they write (sqlite.org/howtocorrupt.html, 2.2.1).
        """
        import pandas as pd
        import pyarrow as pa

        with self.read() as connection:
            result = connection.exec_driver_sql(
                query if self.path is not None else query.replace("?", "%s"), parameters
            )
            names = list(result.keys())
            rows = result.cursor.fetchall() if result.cursor is not None else []
        columns: dict[str, Any] = {}
        for name, values in zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True):
            try:
                columns[name] = pa.array(values).to_pandas()
            except pa.ArrowInvalid:  # text among numbers
                columns[name] = pd.Series(values, dtype=object)
        return pd.DataFrame(columns)


_RAISE_REVISION = (
    schema.meta.update()
    .where(schema.meta.c.key == "revision")
    .values(value=sa.cast(sa.cast(schema.meta.c.value, sa.Integer) + 1, sa.Text))
    .returning(schema.meta.c.value)
)


@functools.cache
def _update(table: sa.Table, names: tuple[str, ...]) -> sa.Update:
    """A statement that sets columns by id, put together once: that takes longer than executing it."""
    values = {name: sa.bindparam(f"b_{name}") for name in names}
    return table.update().where(table.c.id == sa.bindparam("b_id")).values(values)


def placeholder(connection: sa.Connection) -> str:
    """How the driver marks a value in a statement."""
    return "?" if connection.dialect.paramstyle == "qmark" else "%s"


class Transaction:
    """A write in progress: its connection and the revision its rows carry."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self._revision: int | None = None

    @property
    def revision(self) -> int:
        """The revision of this change; the first use raises the library's."""
        if self._revision is None:
            value = self.connection.execute(_RAISE_REVISION).scalar_one()
            self._revision = int(value)
        return self._revision

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Execute within this transaction."""
        return self.connection.execute(statement, parameters)

    def update(self, table: sa.Table, identity: Any, values: Mapping[str, Any]) -> None:
        """Set columns of the row with this id, and its revision."""
        data = {**values, "revision": self.revision}
        bound = {f"b_{name}": value for name, value in data.items()}
        self.connection.execute(_update(table, tuple(data)), {"b_id": identity, **bound})

    def update_exposure(self, exposure: int, values: Mapping[str, Any]) -> None:
        """Set columns of an exposure, those of declared values included."""
        quote = self.connection.dialect.identifier_preparer.quote_identifier
        # whoever changes a row of facts and results does not know whether it is up to date thereafter
        data = {"settled_for": None, **values, "revision": self.revision}
        mark = placeholder(self.connection)
        assignments = ", ".join(f"{quote(name)} = {mark}" for name in data)
        # a hundred columns: as SQLAlchemy's own statement it would take longer to write than to execute
        self.connection.exec_driver_sql(
            f"UPDATE exposures SET {assignments} WHERE id = {mark}", (*map(encode, data.values()), exposure)
        )

    def bury(self, table: str, identity: object) -> None:
        """Leave a tombstone for a deleted row."""
        tombstones = schema.tombstones
        key = (tombstones.c.table == table) & (tombstones.c.id == str(identity))
        self.connection.execute(tombstones.delete().where(key))
        self.connection.execute(tombstones.insert().values(table=table, id=str(identity), revision=self.revision))


def encode(value: Any) -> Any:
    """A value as its column keeps it."""
    if isinstance(value, dict | list | tuple):
        return json.dumps(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return value


def _engine(path: Path | None, location: str, read_only: bool) -> sa.Engine:
    if path is None:
        return _server_engine(location)
    network = _file_system(path) in _NETWORK

    def connect() -> Any:
        connection = sqlite3.connect(_uri(path, read_only), uri=True, timeout=BUSY_TIMEOUT, check_same_thread=False)
        connection.isolation_level = None  # SQLAlchemy's own BEGIN below, so that writers take the lock at once
        if not read_only:
            connection.execute(f"PRAGMA journal_mode = {'DELETE' if network else 'WAL'}")
        connection.execute(f"PRAGMA synchronous = {'FULL' if network else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool, pool_size=2)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # a transaction that reads first and writes later would fail at once where another one writes meanwhile
        write = connection.get_execution_options().get("focusnb_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _server_engine(location: str) -> sa.Engine:
    # the driver of the extra 'postgres', where the URL names none
    url = re.sub(r"^postgres(ql)?://", "postgresql+pg8000://", location)
    try:
        engine = sa.create_engine(url, isolation_level="REPEATABLE READ", pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise ProgramMissing(f"{error.name} is not installed: pip install 'focusnb[postgres]'") from error
    except (sa.exc.ArgumentError, ValueError) as error:
        raise ProjectError(f"{location}: is no address of a database; write postgresql://user@host/name") from error

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("focusnb_write", False):
            # one writer at a time, as with a file: before the first look, which fixes what this transaction sees;
            # two that raise the revision at once would otherwise end one of them
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_TIMEOUT:.0f}s'")
            connection.exec_driver_sql("LOCK TABLE meta IN EXCLUSIVE MODE")

    return engine


def _uri(path: Path, read_only: bool) -> str:
    from urllib.parse import quote

    uri = f"file:{quote(str(path.resolve()))}"
    if not read_only:
        return uri
    # in a folder that cannot be written SQLite cannot make the shared-memory file WAL needs; where it is there
    # already somebody else writes, and then the file is not immutable
    return uri + ("?mode=ro" if path.with_name(path.name + "-shm").exists() else "?mode=ro&immutable=1")


def _writable(path: Path) -> bool:
    import os

    if path.exists() and not os.access(path, os.W_OK):
        return False
    folder = path.parent
    if not os.access(folder, os.W_OK):
        return False
    return not _mounted_read_only(folder)


def _mounted_read_only(folder: Path) -> bool:
    import os

    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def _file_system(path: Path) -> str:
    """Type of the file system a path lies on, from the kernel's list of mounts; empty where there is none."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    where = str(path.resolve())
    best, kind = "", ""
    for fields in mounts:
        point = fields[1].replace("\\040", " ")
        if (where == point or where.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def remove_sqlite(path: Path, *, into: Path) -> None:
    """Move a SQLite file and its companions away."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            shutil.move(old, into.with_name(into.name + suffix))
