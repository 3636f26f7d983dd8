"""Requests to the process that works on a project, as rows that it looks for."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from focusnb.project import schema
from focusnb.project.library import Library, now, who


class Request(NamedTuple):
    """What somebody asked for."""

    id: int
    kind: str
    argument: Any
    who: str | None


def ask(library: Library, kind: str, argument: Any = None) -> int:
    """Leave a request; returns its id."""
    with library.write() as transaction:
        row = schema.requests.insert().values(kind=kind, argument=argument, who=who(), at=now())
        return int(transaction.execute(row).inserted_primary_key[0])


def pending(library: Library) -> list[Request]:
    """Requests not answered yet."""
    r = schema.requests.c
    with library.read() as connection:
        rows = connection.execute(
            sa.select(r.id, r.kind, r.argument, r.who).where(r.answered_at.is_(None)).order_by(r.id)
        ).all()
    return [Request(*row) for row in rows]


def answer(library: Library, request: int, text: str) -> None:
    """Answer a request."""
    r = schema.requests
    with library.write() as transaction:
        transaction.execute(r.update().where(r.c.id == request).values(answered_at=now(), answer=text))


def answer_of(library: Library, request: int) -> str | None:
    """The answer to a request; None while there is none."""
    r = schema.requests.c
    with library.read() as connection:
        answered = connection.execute(sa.select(r.answer).where(r.id == request)).scalar()
    return None if answered is None else str(answered)
