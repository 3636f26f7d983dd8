"""Import: from a camera's files to exposures with their raw files and facts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.errors import FormatError
from focusnb.io import files
from focusnb.io.complete import read_structure, stand_of
from focusnb.io.folders import ask
from focusnb.project import facts as fact_rules
from focusnb.project import pairing, placing, records, schema, storing, tasks
from focusnb.project.activity import Activity
from focusnb.project.deleting import Deletion
from focusnb.project.finding import SUFFIXES, find, metadata_stems, stems
from focusnb.project.gains import Gains
from focusnb.project.gathering import ImportReport, gather_facts, metadata_file, sentence
from focusnb.project.known import COUNTED, Known, frame_counts, rows, told_by
from focusnb.project.library import Transaction, now
from focusnb.project.options import Options, Queueing, checked_facts, copy_reference, make_options
from focusnb.project.pairing import ALIGNED, AVERAGE, MOVIE, Key, Pairing, Shot
from focusnb.project.updating import add_file, rewrite, set_origin, update
from focusnb.project.updating import tell_disagreements as _tell_disagreements

if TYPE_CHECKING:
    from focusnb.project.project import Project

__all__ = ["SUFFIXES", "Importer", "Options", "Queueing", "add", "checked_facts", "copy_reference", "set_origin"]

_FACT = {MOVIE: "movie", ALIGNED: "aligned_movie", AVERAGE: "image"}
"""The fact that a file of a role becomes beside the exposure's main file."""


@dataclass
class _Draft:
    """The files of an exposure to be, made ready in a folder, and what is known of them."""

    raw: Path
    content: str
    kind: str
    candidates: fact_rules.Candidates


def add(
    project: Project,
    paths: list[Path],
    *,
    pair: Iterable[str] = (),
    alone: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> ImportReport:
    """Import files, or what folders hold, as exposures.

    pair : rules of what belongs to one exposure besides the usual ones, see :class:`Pairing`
    alone : every file is an exposure of its own; so it is as well where ``kind`` is given
    progress : called with exposures done, exposures in all and the name of the present one
    options : see :func:`make_options`

    A file imported before is not imported again; where facts, gain or defects are given it gets them, and what depends
    on them becomes stale. Files that cannot be read become exposures as well: processing them tells the reason in
    their row; one that cannot be copied is left out and told. Raises ParameterError for facts that are not valid and
    for paths that do not exist, ProjectError where the project cannot be written.
    """
    report = ImportReport()
    made = make_options(project, report, **options)
    named = find(paths, set(made.references), report.tell)
    found = dict(named)
    report.known += len(named) - len(found)
    together = Pairing(pair)
    importer = Importer(project, made, report, together, (*found.values(), *filter(Path.is_dir, paths)))
    if alone or "kind" in made.facts:
        shots = [Shot(path) for path in found]
    else:
        shots = together.shots(found, lambda path: read_structure(path).frames, importer.keys)
    for number, shot in enumerate(shots):
        if progress is not None:
            progress(number, len(shots), shot.main.name)
        try:
            importer.take(shot)
        except FormatError as error:
            report.tell(f"{sentence(error)} It was left out.")
    if progress is not None:
        progress(len(shots), len(shots), "")
    importer.deletion.finish(lambda text: None)
    return report


class Importer:
    """Takes the files of exposures into a project, each once; knows what was imported before.

    keys : the exposures of its folders by what the names of their files share
    roots : folders from which files come
    deletion : what is still to be deleted at its source
    absent : roots of which nothing can be read at the moment
    doubted : resolved paths of sources found to differ from their copies though size and time are the same
    """

    def __init__(
        self,
        project: Project,
        options: Options,
        report: ImportReport,
        together: Pairing,
        roots: Iterable[Path],
        *,
        again: bool = True,
        clock: Callable[[], float] = time.monotonic,
        activity: Activity | None = None,
    ) -> None:
        """Look at what the project holds.

        again : whether what was imported before gets the group and facts of these options; one that watches finds a
            file again that was only touched, and its exposure may have been moved meanwhile
        activity : where it is noted what is read, for a source may not answer
        """
        self.project, self.options, self.report = project, options, report
        placing.sweep_stages(project, report.tell)
        self._pairing, self._again = together, again
        self.activity = activity or Activity()
        self.deletion = Deletion(report, self._doubt, clock=clock, activity=self.activity)
        self.roots = list(dict.fromkeys(Path(root).absolute() for root in roots))
        self._known: dict[str, Known] = {}
        self._by_id: dict[int, Known] = {}
        self._contents: dict[str, list[Known]] = {}
        self._lacking: dict[str, set[int]] = {}
        self._gains = Gains(project, report, options.gain_shapes)
        self.doubted: set[str] = set()
        self.absent: set[Path] = set()
        self.keys: dict[Key, int] = {}
        with project.library.read() as connection:
            for row in connection.execute(rows()):
                self._remember(Known(*row))
            for source, *numbers in connection.execute(frame_counts()) if options.delete_source else ():
                self._note_frames(Path(source), *numbers)

    def _remember(self, known: Known) -> None:
        replaced = known.source in self._known
        self._known[known.source] = self._by_id[known.id] = known
        self._contents.setdefault(known.content, []).append(known)
        path = Path(known.source or "")
        for root in self.roots:
            if path.is_relative_to(root):
                key = self._pairing.read(path, root)[0].key
                # what comes now was made of the recording that has this name now
                self.keys[key] = known.id if replaced else self.keys.get(key, known.id)
                for stem in stems(path) if known.metadata is None else ():
                    self._lacking.setdefault(stem, set()).add(known.id)

    def _note_frames(self, path: Path, frames: int | None, hardware: int | None, height: int, width: int) -> None:
        """Remember how many frames the movies of a session have, where sources are to be deleted."""
        count = hardware or frames
        if count and height and width and any(path.is_relative_to(root) for root in self.roots):
            self.deletion.note_frames(path, count, (height, width))

    # Asking

    def holds(self, path: Path) -> int | None:
        """The exposure that a recording has become, while the file stands as it was imported; else None."""
        known = self._known.get(str(path)) or self._known.get(str(path.resolve()))
        if known is None or not self._is_as_imported(known, path):
            return None
        return known.id

    def find(self, source: Path) -> int | None:
        """The exposure that was imported from this file, whatever has become of the file."""
        known = self._known.get(str(source.resolve()))
        return None if known is None else known.id

    def awaiting(self, metadata: Path) -> list[int]:
        """The exposures, imported without metadata, that these metadata are about."""
        found = set().union(*(self._lacking.get(stem, set()) for stem in metadata_stems(metadata.name)))
        return [
            identity for identity in sorted(found) if self.metadata_file(Path(self._by_id[identity].source)) == metadata
        ]

    def metadata_file(self, path: Path) -> Path | None:
        """The mdoc or XML of a recording, in the roots that answer."""
        present = [root for root in self.roots if root not in self.absent]
        return metadata_file(path, present, beside=not self.is_away(path))

    def is_away(self, path: Path) -> bool:
        """Whether a file lies in a root of which nothing can be read at the moment; it is not asked for then."""
        return any(path.is_relative_to(root) for root in self.absent)

    def _doubt(self, path: Path) -> None:
        self.doubted.add(str(path.resolve()))

    def _is_as_imported(self, known: Known, path: Path) -> bool:
        if self.doubted and str(path.resolve()) in self.doubted:
            return False
        return known.raw is None or placing.is_as_placed(path, self.project.folder / known.folder / known.raw)

    # Taking

    def take(self, shot: Shot) -> int | None:
        """Import the files of one exposure, or what is new of them; returns its id, None for what was known before.

        Raises FormatError where a file changed meanwhile or cannot be read: nothing of it was imported.
        """
        for path in shot.paths:
            self.activity.turn_to(path)
            placing.check_name(path)
        self.activity.turn_to(shot.main)
        before = len(self.report.added)
        identity = self._take_known(shot) or self._add_to(shot)
        if identity is None and (identity := self._take_new(shot)) is None:
            identity = self._look_up(shot.main)
        for role, path in shot.others if len(self.report.added) == before and identity is not None else ():
            self._attach(identity, role, path)
        if identity is not None and shot.key is not None:
            self.keys.setdefault(shot.key, identity)
        return identity if len(self.report.added) > before else None

    def _take_known(self, shot: Shot) -> int | None:
        known = self._known.get(str(shot.main.resolve()))
        if known is None:
            return None
        if not self._is_as_imported(known, shot.main):
            placed = self.project.folder / known.folder / str(known.raw)
            self.doubted.discard(str(shot.main.resolve()))
            if files.hash_file(shot.main, progress=self.activity.go_on) != known.content:
                another = (
                    not placing.is_untimed(placed)
                    and read_structure(placed).whole
                    and not placing.has_grown(placed, shot.main)
                )
                if another and not placed.is_symlink():
                    self.report.tell(
                        f"was replaced by another recording after it was imported as {known.exposure}; both are kept",
                        about=str(shot.main),
                    )
                    return None
                self._renew(known, shot.main)
            else:
                placing.note_time(placed, shot.main)
        if self._again:
            before = len(self.report.updated)
            update(self.project, known.id, shot.main, self.options, self.report)
            if len(self.report.updated) > before:
                self._gains.check_row(known.id, shot.main)
        if known.raw is not None:
            placed = self.project.folder / known.folder / known.raw
            is_average = shot.role == AVERAGE and shot.made
            self._delete_placed(shot.main, placed, known.content, is_movie=not is_average)
        return known.id

    def _add_to(self, shot: Shot) -> int | None:
        """Add a file to the exposure that other files of the same names have become; None where there is none."""
        identity = self.keys.get(shot.key) if shot.key is not None else None
        known = None if identity is None else self._by_id[identity]
        if known is None or known.source == str(shot.main.resolve()):
            return None
        if shot.role == MOVIE and not (pairing.is_made(Path(known.source)) or self._is_image(known)):
            return None
        self._attach(known.id, shot.role, shot.main)
        return known.id

    def _look_up(self, path: Path) -> int | None:
        """Find an exposure that came to the project since this importer looked."""
        source = str(path.resolve())
        if source not in self._known:
            with self.project.library.read() as connection:
                row = connection.execute(rows().where(schema.exposures.c.source == source)).all()[-1:]
            for found in row:
                self._remember(Known(*found))
        return self.find(path)

    def _is_image(self, known: Known) -> bool:
        with self.project.library.read() as connection:
            return bool(records.row_of(connection, known.id)["kind"] == "image")

    def _take_new(self, shot: Shot) -> int | None:
        source = str(shot.main.resolve())
        if self._came_elsewhere(source):
            return None
        with placing.staging(self.project) as stage:
            draft = self._make_ready(shot, stage)
            if self._is_renamed(draft.content, shot.main):
                return None
            self.activity.rest()
            with placing.filling(self.project):
                if self._came_elsewhere(source):
                    return None
                known = self._enter(shot.main, source, draft)
        self.report.added.append(known.id)
        twins = self._contents.get(known.content)
        if twins:
            twin = twins[0].exposure
            self.report.tell(f"has the same content as {twin}; imported all the same", about=str(shot.main))
        self._remember(known)
        if self.options.delete_source:
            frames, hardware, height, width = (draft.candidates.get(name, {}).get("header") for name in COUNTED)
            self._note_frames(shot.main, frames, hardware, height or 0, width or 0)
        for role, path in shot.others:
            placed = self.project.folder / known.folder / placing.beside(role, path)
            self._delete(path, placed, is_movie=not self._is_average(role, path, known))
        placed = self.project.folder / known.folder / str(known.raw)
        self._delete(shot.main, placed, known.content, is_movie=not (shot.role == AVERAGE and shot.made))
        return known.id

    def _came_elsewhere(self, source: str) -> bool:
        """Whether another process, or the import of another source, was faster with this file."""
        replaced = self._known.get(source)
        e = schema.exposures.c
        with self.project.library.read() as connection:
            last = connection.execute(sa.select(sa.func.max(e.id)).where(e.source == source)).scalar()
        faster = last is not None and (replaced is None or last > replaced.id)
        self.report.known += faster
        return faster

    def _make_ready(self, shot: Shot, stage: Path) -> _Draft:
        """Copy the files of a new exposure and read their facts; nobody waits for this, however long it takes."""
        path, options = shot.main, self.options
        before = stand_of(path)
        candidates, frame_shape = self._gather(path, made=shot.made)
        if "kind" not in options.facts:
            candidates["kind"] = {"header": _kind_of(path, candidates)}
        kind = str(fact_rules.resolve(candidates)["kind"][0])
        if not shot.made:
            self._gains.check(path, frame_shape, candidates)
        raw = stage / "raw"
        content = self._place(path, raw / path.name, link=options.link)
        if stand_of(path) != before:
            raise FormatError(f"{path}: changed while it was imported; import it again when it is complete")
        candidates[kind] = {"header": f"raw/{path.name}"}
        metadata = self.metadata_file(path)
        if metadata is not None:
            self.activity.turn_to(metadata)
            self._place(metadata, raw / metadata.name, link=False)
            if any("metadata" in origins for origins in candidates.values()):
                # else they say nothing of it yet, and are looked at again when they change
                candidates["metadata"] = {"header": f"raw/{metadata.name}"}
        for role, other in shot.others:
            self.activity.turn_to(other)
            target = placing.beside(role, other)
            self._place(other, stage / target, link=options.link)
            candidates.setdefault(_FACT[role], {"header": str(target)})
        return _Draft(raw, content, kind, candidates)

    def _place(self, path: Path, target: Path, *, link: bool) -> str:
        """Copy or link a file to where it is made ready; returns the SHA-256 of its content."""
        return placing.place(path, target, link=link, progress=self.activity.go_on, into=self.project.folder)

    def _enter(self, path: Path, source: str, draft: _Draft) -> Known:
        """Move the files of a new exposure to a folder of its own and write its row."""
        project, candidates = self.project, draft.candidates
        if not os.path.lexists(draft.raw / path.name):
            # what was made ready after that would lie in its place without it
            raise FormatError(
                f"{path}: its copy was removed before it was entered, as by another host that took this import for one "
                "that is gone; import it again"
            )
        group = self.options.group or path.absolute().parent.name or "import"
        folder, name = placing.free_folder(project, group, placing.stem(path), draft.content)
        placing.move_folder(draft.raw, project.folder / folder / "raw")
        _tell_disagreements(candidates, name, self.report)
        with project.library.write() as transaction:
            row = {
                "exposure": name,
                "group": group,
                "status": "new",
                "folder": folder,
                "source": source,
                "content": draft.content,
                "imported_at": now(),
                "facts": candidates,
                "current": {},
                "revision": transaction.revision,
            }
            identity = int(transaction.execute(schema.exposures.insert().values(**row)).inserted_primary_key[0])
            transaction.update_exposure(identity, fact_rules.columns(candidates))
            self._queue(transaction, identity, draft.kind)
            storing.write_record(project, transaction, identity)
        return Known(identity, name, folder, f"raw/{path.name}", draft.content, told_by(candidates), source)

    def _gather(
        self, path: Path, *, made: bool = False, metadata: Path | None = None, content: Path | None = None
    ) -> tuple[fact_rules.Candidates, tuple[int, int] | None]:
        """Facts of a file; what was made of a movie elsewhere has been corrected there."""
        options, project = self.options, self.project
        candidates, shape = gather_facts(
            path,
            options.facts,
            self.report,
            keep=lambda named, label: copy_reference(project, named, label),
            pattern=options.pattern,
            profile=options.profile,
            roots=[root for root in self.roots if root not in self.absent],
            metadata=metadata,
            content=content,
        )
        if made:
            for name in ("gain_reference", "defects"):
                if candidates.pop(name, None) is not None:
                    self.report.tell(
                        f"was made by another program, so no {name.replace('_', ' ')} is applied to it", about=path.name
                    )
        return candidates, shape

    def _queue(self, transaction: Transaction, identity: int, kind: str) -> None:
        queueing = self.options.queueing
        chain = () if queueing is None else queueing.chain(kind)
        if queueing is None or not chain:
            return
        during = {"steps": list(queueing.during), "keep": queueing.held} if queueing.during else None
        tasks.submit_within(
            transaction,
            {identity: chain},
            first=queueing.first,
            held=queueing.held or during is not None,
            during=during,
        )

    # What changed since, and what comes later

    @property
    def _not_asked(self) -> list[str]:
        """Origins that these options do not name: what they said at an earlier import is not taken back."""
        options = self.options
        return ["name"] * (options.pattern is None) + ["profile"] * (options.profile is None)

    def _is_renamed(self, content: str, path: Path) -> bool:
        """Whether a file is one imported before whose name or place has changed: its source is gone, its time the same.

        Equal content under another name, while both are there, is another exposure.
        """
        twin = next((known for known in self._contents.get(content, ()) if self._has_left(known)), None)
        if twin is None:
            return False
        held = self.project.folder / twin.folder / str(twin.raw)
        if not placing.is_as_placed(path, held):
            return False
        if held.is_symlink():
            placing.place(path, held, link=True)
        source = str(path.resolve())
        self.activity.rest()  # nothing is written by a thread that was left
        with self.project.library.write() as transaction:
            transaction.update_exposure(twin.id, {"source": source})
            storing.write_record(self.project, transaction, twin.id)
        self._known[source] = twin
        twin.source = source
        self.report.known += 1
        self.report.tell(f"was imported as {twin.exposure} before it was renamed; not imported again", about=str(path))
        return True

    def _has_left(self, known: Known) -> bool:
        """Whether the source of an exposure lies no more where it was, though it was not deleted from here."""
        if not known.source or known.source in self.deletion.deleted:
            return False
        source = Path(known.source)

        def has_left() -> bool:
            return not source.exists() or not self._is_as_imported(known, source)

        # one that came from elsewhere may lie on a server that is gone, for which this import does not wait
        own = any(source.is_relative_to(root) for root in self.roots) and not self.is_away(source)
        return has_left() if own else ask(source, has_left, otherwise=False)

    def _renew(self, known: Known, path: Path) -> None:
        """Take a file that was imported before it was whole, or that a link leads to, as it is now."""
        folder = self.project.folder / known.folder
        held = folder / str(known.raw)
        with placing.staging(self.project) as stage:
            link = held.is_symlink()
            content = self._place(path, stage / held.name, link=link)
            fresh, _ = self._gather(path, made=pairing.is_made(path))
            kind = {"kind": {"header": _kind_of(path, fresh)}}
            self.activity.rest()
            with placing.filling(self.project):
                placing.sweep(folder / "raw")
                with placing.untimed(stage / held.name, held):
                    files.move_into_place(stage / held.name, held)
                    rewrite(self.project, known.id, fresh, kind, self.report, keep=self._not_asked, content=content)
        known.content = content
        self._gains.check_row(known.id, path)
        self.report.updated.append(known.id)
        self.report.tell(f"has changed after it was imported as {known.exposure}, which was renewed", about=str(path))

    def _attach(self, identity: int, role: str, path: Path) -> None:
        """Add a file to an exposure: what was made of its movie, or the movie of what was there before."""
        known = self._by_id[identity]
        folder = self.project.folder / known.folder
        target = folder / placing.beside(role, path)
        named = str(target.relative_to(folder))
        self.activity.turn_to(path)
        # what the exposure began with lies where it was before its movie came
        for held in (target, folder / "raw" / path.name):
            if self._is_attached(identity, role, path, held):
                self._delete_placed(path, held, is_movie=not self._is_average(role, path, known))
                return
        with placing.staging(self.project) as stage:
            content = self._place(path, stage / path.name, link=self.options.link)
            fresh = self._gather(path)[0] if role == MOVIE else {}
            self.activity.rest()
            with placing.filling(self.project):
                if self._is_attached(identity, role, path, target):
                    return
                placing.sweep(folder / "raw")
                files.move_into_place(stage / path.name, target)
                if role == MOVIE:
                    self._attach_movie(known, fresh, path, named, content)
                else:
                    add_file(self.project, identity, _FACT[role], named)
        self._delete(path, target, content, is_movie=not self._is_average(role, path, known))
        if identity not in self.report.added:
            self.report.updated.append(identity)

    def _is_attached(self, identity: int, role: str, path: Path, target: Path) -> bool:
        """Whether an exposure has a file already, and its row says all it can of it."""
        if not (target.exists() and placing.is_as_placed(path, target)):
            return False
        with self.project.library.read() as connection:
            row = records.row_of(connection, identity)
        named = str(target.relative_to(self.project.folder / str(row["folder"])))
        if role == MOVIE or target.parent.name == "raw":
            return bool(row.get(_FACT[role]) == named)
        return row.get(_FACT[role]) is not None  # of several averages it names one

    def _attach_movie(self, known: Known, fresh: fact_rules.Candidates, path: Path, named: str, content: str) -> None:
        with self.project.library.read() as connection:
            row = records.row_of(connection, known.id)
        changed: dict[str, Any] = {"movie": {"header": named}, "kind": {"header": "movie"}}
        if row.get("movie") is not None:
            changed["aligned_movie"] = {"header": row["movie"]}
        source = str(path.resolve())
        rewrite(
            self.project, known.id, fresh, changed, self.report, keep=self._not_asked, content=content, source=source
        )
        known.raw, known.content, known.source = named, content, source
        self._known[source] = known
        self._gains.check_row(known.id, path)

    def add_metadata(self, identity: int, metadata: Path) -> bool:
        """Take metadata that came after the import of their exposure; False where they say nothing of it yet."""
        known = self._by_id[identity]
        folder = self.project.folder / known.folder
        self.activity.turn_to(metadata)
        with placing.staging(self.project) as stage:
            source = Path(known.source)
            there = not self.is_away(source) and source.is_file()
            content = None if there else folder / str(known.raw)
            self._place(metadata, stage / metadata.name, link=False)
            fresh, _ = self._gather(source, made=pairing.is_made(source), metadata=metadata, content=content)
            fresh["metadata"] = {"header": f"raw/{metadata.name}"}
            if told_by(fresh) is None:
                return False
            self.activity.rest()
            with placing.filling(self.project):
                placing.sweep(folder / "raw")
                files.move_into_place(stage / metadata.name, folder / "raw" / metadata.name)
                told = {"metadata": fresh["metadata"]}
                rewrite(self.project, identity, fresh, told, self.report, keep=self._not_asked)
        known.metadata = told_by(fresh)
        self._gains.check_row(identity, source)
        for stem in stems(Path(known.source)):
            self._lacking.get(stem, set()).discard(identity)
        self.report.updated.append(identity)
        return True

    # Deleting

    def _is_average(self, role: str, path: Path, known: Known) -> bool:
        """Whether a file of an exposure is certain to be an average, by its name or for the movie beside it.

        A movie of which one frame was written looks like one.
        """
        return role == AVERAGE and (pairing.is_made(path) or not self._is_image(known))

    def _delete_placed(self, path: Path, placed: Path, content: str | None = None, *, is_movie: bool) -> None:
        """Let a source imported before be deleted; its copy is compared anew.

        content : SHA-256 that both must have, where it is known
        """
        if not self.options.delete_source or placed.is_symlink() or not placed.is_file():
            return
        if not self.deletion.may_delete(path):
            return
        held = files.hash_file(placed, progress=self.activity.go_on)
        if content in (None, held) and files.hash_file(path, progress=self.activity.go_on) == held:
            self._delete(path, placed, held, is_movie=is_movie)

    def _delete(self, path: Path, placed: Path, content: str = "", *, is_movie: bool) -> None:
        """Let a source be deleted whose copy was verified."""
        if self.options.delete_source:
            self.deletion.add(path, placed, self.metadata_file(path), content=content, is_movie=is_movie)


def _kind_of(path: Path, candidates: fact_rules.Candidates) -> str:
    # a file that cannot be read is taken for a movie: most are, and processing tells what is wrong with it; and one
    # frame of a movie is no picture
    frames = candidates.get("frame_count", {}).get("header", 2)
    return "movie" if frames > 1 or pairing.is_named_movie(path) else "image"
