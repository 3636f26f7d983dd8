"""Facts of exposures that are in the project, changed: by an origin, or read anew from files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focusnb.project import facts as fact_rules
from focusnb.project import records, storing
from focusnb.project.gathering import ImportReport, later_facts
from focusnb.project.options import Options
from focusnb.quantities import IMPORTED

if TYPE_CHECKING:
    from focusnb.project.library import Transaction
    from focusnb.project.project import Project


def update(project: Project, identity: int, path: Path, options: Options, report: ImportReport) -> None:
    """Give an exposure imported before the facts of this call."""
    if options.group is not None:
        project.move([identity], options.group)
    changed = set_origin(project, [identity], "set", options.facts, report)
    if options.pattern is not None or options.profile is not None:
        with project.library.read() as connection:
            present = records.row_of(connection, identity)["facts"]
        for origin, values in later_facts(path, present, report, options.pattern, options.profile).items():
            changed += set_origin(project, [identity], origin, values, report)
    if not changed:
        report.known += 1
        return
    report.updated.append(identity)


def set_origin(
    project: Project, exposures: Iterable[int], origin: str, values: Mapping[str, Any], report: ImportReport
) -> int:
    """Write what an origin says of facts; None takes back what it said. Returns how many exposures changed."""
    changed = 0
    with project.library.write() as transaction:
        for identity in exposures:
            row = records.row_of(transaction.connection, identity)
            candidates = _with_kind(fact_rules.add_origin(row["facts"], origin, values))
            if candidates == row["facts"]:
                continue
            changed += 1
            missing = dict.fromkeys(row["facts"].keys() - candidates.keys())
            transaction.update_exposure(identity, {"facts": candidates, **missing, **fact_rules.columns(candidates)})
            storing.write_record(project, transaction, identity)
            tell_disagreements(candidates, row["exposure"], report)
    return changed


def _with_kind(candidates: fact_rules.Candidates) -> fact_rules.Candidates:
    """The raw file under the name of the exposure's kind, where that was changed."""
    kind = str(fact_rules.resolve(candidates)["kind"][0])
    other = "image" if kind == "movie" else "movie"
    if kind in candidates or other not in candidates:
        return candidates
    return {kind: candidates[other], **{name: origins for name, origins in candidates.items() if name != other}}


def tell_disagreements(candidates: fact_rules.Candidates, exposure: str, report: ImportReport) -> None:
    for told in fact_rules.disagreements(candidates):
        report.tell(told.sentence, about=exposure, topic=told.topic)


def rewrite(
    project: Project,
    identity: int,
    fresh: fact_rules.Candidates,
    changed: Mapping[str, Any],
    report: ImportReport,
    *,
    keep: Iterable[str] = (),
    **columns: Any,
) -> None:
    """Write facts read anew from an exposure's files, keeping what people said and the files that are there.

    fresh : what the files say now
    changed : facts that are to be so, by origin
    keep : other origins of which what they said before stays where they say nothing now
    columns : other columns of the row
    """
    with project.library.write() as transaction:
        row = records.row_of(transaction.connection, identity)
        old: fact_rules.Candidates = row["facts"]
        references = ("gain_reference", "defects")
        candidates = {**fresh, **{name: old[name] for name in (*IMPORTED, "kind") if name in old}}
        candidates |= {name: {**fresh.get(name, {}), **old[name]} for name in references if name in old}
        for origin in keep:
            said = _said_by(old, origin)
            of_old_grid = _OF_THE_GRID if _grid(fresh) != _grid(old) else ()
            said = {name: value for name, value in said.items() if name not in of_old_grid}
            candidates = fact_rules.add_origin(candidates, origin, said | _said_by(fresh, origin))
        for origin in ("hand", "set"):
            candidates = fact_rules.add_origin(candidates, origin, _said_by(old, origin))
        candidates |= {name: {**candidates.get(name, {}), **origins} for name, origins in changed.items()}
        candidates = _with_kind(candidates)
        _write(project, transaction, row, candidates, **columns)
    tell_disagreements(candidates, row["exposure"], report)


_OF_THE_GRID = ("pixel_size", "super_resolution")
"""What holds for the pixels of one file and not for those of another, finer one."""


def _grid(candidates: fact_rules.Candidates) -> tuple[Any, ...]:
    return tuple(candidates.get(name, {}).get("header") for name in ("height", "width"))


def _said_by(candidates: fact_rules.Candidates, origin: str) -> dict[str, Any]:
    return {name: origins[origin] for name, origins in candidates.items() if origin in origins}


def add_file(project: Project, identity: int, fact: str, named: str) -> None:
    """Note a file that lies in an exposure's folder now, unless the exposure has one of this kind."""
    with project.library.write() as transaction:
        row = records.row_of(transaction.connection, identity)
        candidates = dict(row["facts"])
        candidates.setdefault(fact, {"header": named})
        _write(project, transaction, row, candidates)


def _write(
    project: Project,
    transaction: Transaction,
    row: Mapping[str, Any],
    candidates: fact_rules.Candidates,
    **columns: Any,
) -> None:
    """Write the facts of an exposure, and other columns of its row, if they are not so already."""
    if candidates == row["facts"] and not columns:
        return
    missing = dict.fromkeys(row["facts"].keys() - candidates.keys())
    values = {**columns, "facts": candidates, **missing, **fact_rules.columns(candidates)}
    transaction.update_exposure(row["id"], values)
    storing.write_record(project, transaction, row["id"])
