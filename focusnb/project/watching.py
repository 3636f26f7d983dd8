"""Watching folders of cameras: what is complete becomes exposures, by itself, for as long as a session lasts."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from focusnb.errors import FocusError, FormatError, ParameterError
from focusnb.io.complete import WITH_METADATA, Patience
from focusnb.io.folders import PATIENCE, Look, Stand, Tree, Watch, look_at_all
from focusnb.project.activity import LEAVE, Activity, Left
from focusnb.project.finding import METADATA, SUFFIXES, passed_by
from focusnb.project.gathering import ImportReport, sentence
from focusnb.project.importer import Importer
from focusnb.project.intake import SPACE_AGAIN, Intake, Say, Space, TellingReport, UnderWay
from focusnb.project.library import LibraryBusy, LibraryFull
from focusnb.project.options import Queueing, make_options
from focusnb.project.pairing import Pairing
from focusnb.project.placing import sweep
from focusnb.project.project import Project
from focusnb.project.sources import ImportSource

INTERVAL = 1.0
"""Seconds between two looks at the folders."""

STUCK = 60.0
"""Seconds for which the thread of a source that is to end may wait for the project itself, as for a locked library."""

STOPS = 0.2
"""Seconds until it is seen at the latest that watching is to end."""

AGAIN = 10.0
"""Seconds until a source is watched again whose import ended by a fault."""

AT_A_TIME = 3.0
"""Seconds of copying, and of comparing what is to be deleted, after which the folders are looked at again."""


class Watcher:
    """Watches the folders of one source and imports what comes.

    say : is told what the user should know, each once
    """

    def __init__(
        self,
        project: Project,
        source: ImportSource,
        say: Say,
        *,
        queueing: Queueing | None = None,
        clock: Callable[[], float] = time.monotonic,
        scandir: Callable[[str], Any] = os.scandir,
        usage: Callable[[Path], Any] = shutil.disk_usage,
        activity: Activity | None = None,
        under_way: UnderWay | None = None,
    ) -> None:
        """Prepare to watch; ParameterError or FormatError where references or facts of the source are not right.

        activity : where it is noted what is read, for a source may not answer
        under_way : what other sources write at the same time
        """
        self.project, self.source = project, source
        self.report = TellingReport(say)
        self._clock, self._activity = clock, activity or Activity(clock)
        self._activity.turn_to(source.gain_reference or source.defects or source.folders[0])
        roots = [Path(folder) for folder in source.folders]
        options = make_options(project, self.report, **options_of(source), queueing=queueing)
        together = Pairing(source.pair)
        self._activity.rest()  # the library is read, which of a large project takes a while
        self.intake = Intake(
            Importer(project, options, self.report, together, roots, again=False, clock=clock, activity=self._activity),
            together,
            Patience(source.delay, clock=clock),
            Space(project.folder, source.reserve_of, usage, under_way or UnderWay()),
            say,
            alone=source.alone or source.kind is not None,
            newest_first=source.newest_first and not source.during,
            clock=clock,
        )
        wanted = (*(source.patterns or tuple(f"*{suffix}" for suffix in SUFFIXES)), *(f"*{end}" for end in METADATA))
        self._watches = [
            Watch(Tree(root, patterns=wanted, ignore=source.ignore, clock=clock, scandir=scandir)) for root in roots
        ]
        self._blocked: set[Path] = set()
        for raw in (project.folder / "exposures").glob("*/*/raw"):
            sweep(raw)

    def step(self, *, stopped: Callable[[], bool] = lambda: False, patience: float | None = None) -> list[int]:
        """Look at the folders once and import what is complete; returns ids of new exposures.

        patience : seconds to wait for folders that do not answer
        """
        for watch, look in look_at_all(self._watches, PATIENCE if patience is None else patience):
            there = look is not None and look.there
            (self.intake.absent.discard if there else self.intake.absent.add)(Path(watch.tree.root))
            self._note(watch, look)
            self._activity.rest()
        done = self.intake.take(self._clock() + AT_A_TIME, stopped)
        self.intake.importer.deletion.step(self.intake.absent, stopped=stopped, seconds=AT_A_TIME)
        for path in done:
            for watch in self._watches:
                watch.settle(path)
        for path in self.intake.importer.doubted:
            for watch in self._watches:
                watch.settle(path, False)
        added = list(self.report.added)
        # a session lasts for days: only what is new is of interest
        self.report.added.clear()
        self.report.updated.clear()
        return added

    @property
    def busy(self) -> bool:
        """Whether something is complete that could not be taken in the last step."""
        return len(self.intake.waiting) > len(self.intake.growing) and not self.intake.full

    def close(self) -> None:
        """Stop watching."""
        for watch in self._watches:
            watch.close()

    def _note(self, watch: Watch, look: Look | None) -> None:
        root = Path(watch.tree.root)
        if look is None:
            if root not in self._blocked:
                self._blocked.add(root)
                self.report.say(
                    f"{root}: does not answer; other folders are watched meanwhile, and this one again when it does; "
                    "check its mount and its server"
                )
            return
        if root in self._blocked:
            self._blocked.discard(root)
            self.report.say(f"{root}: answers again")
            # what was done with, as metadata without an exposure, may have been wanted meanwhile
            watch.settle(watch.tree.root, False)
        for message in (*look.faults, *look.mended):
            self.report.say(message)
        for path in look.gone:
            self.intake.lose(path)
        for path, stand in look.files.items():
            self._activity.turn_to(path)
            if path.lower().endswith(METADATA):
                settled = self.intake.see_metadata(path, stand)
            else:
                settled = self.intake.knows(path) or self._is_passed_by(path) or self.intake.see(path, root, stand)
            if settled:
                watch.settle(path)

    def _is_passed_by(self, name: str) -> bool:
        path, references = Path(name), self.intake.importer.options.references
        if references and path.resolve() in references:
            return True
        what = passed_by(path)
        if what is not None:
            self.report.tell(f"{path.parent}: files named like {what} are not imported as exposures", topic=what)
        return what is not None


def options_of(source: ImportSource) -> dict[str, Any]:
    """How a source's files are imported, as :func:`make_options` takes it."""
    names = (
        "kind", "gain_reference", "defects", "facts", "group", "link", "delete_source", "pattern", "microscope",
    )  # fmt: skip
    return {name: getattr(source, name) for name in names}


_Word = tuple[ImportSource | None, Any]
"""A sentence to say, or a source with the ids of exposures that it brought."""


class _Watching:
    """Watches one source in a thread of its own, so that one whose files do not answer holds up no other.

    The thread is a daemon with a library of its own, and holds no lock while it reads from the source: it may be kept
    by the system for ever.
    """

    def __init__(
        self,
        folder: Path,
        source: ImportSource,
        words: queue.SimpleQueue[_Word],
        *,
        queueing: Callable[[Project, ImportSource], Queueing | None],
        under_way: UnderWay,
        interval: float,
    ) -> None:
        self.source, self.activity = source, Activity()
        self._folder, self._words, self._queueing = folder, words, queueing
        self._under_way, self._interval = under_way, interval
        self._stop = threading.Event()
        self._silence = ""
        self._thread = threading.Thread(target=self._work, name=f"import {source.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the file under way, and watch no more."""
        self._stop.set()

    def leave(self) -> None:
        """Wait for it no longer."""
        self.activity.leave()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def look(self, say: Say) -> None:
        """Say what does not answer, and that it does again."""
        told, before = self.activity.told(), self._silence
        if told and not before:
            say(f"source {self.source.name}: {told}; other sources go on, and this one when it answers")
        elif before and not told:
            say(f"source {self.source.name}: answers again")
        self._silence = told

    def _say(self, text: str) -> None:
        self._words.put((None, text))

    def _work(self) -> None:
        told = _Once(self._say)
        with contextlib.suppress(Left):
            while not self._stop.is_set():
                try:
                    with Project.open(self._folder) as project:
                        self._watch(project, told)
                except (FocusError, OSError) as error:
                    told(f"source {self.source.name}: {sentence(error)} It is tried again.")
                except Exception:
                    name, trace = self.source.name, traceback.format_exc().rstrip()
                    self._say(f"source {name}: its import ended by a fault of focusnb and begins again\n{trace}")
                self.activity.rest()
                self._stop.wait(AGAIN)

    def _watch(self, project: Project, told: _Once) -> None:
        try:
            watcher = Watcher(
                project,
                self.source,
                self._say,
                queueing=self._queueing(project, self.source),
                activity=self.activity,
                under_way=self._under_way,
            )
        except (ParameterError, FormatError) as error:
            self._say(f"source {self.source.name} is not watched: {error}")
            self._stop.set()  # until it is changed
            return
        try:
            while not self._stop.is_set():
                try:
                    added = watcher.step(stopped=self._stop.is_set)
                    if added:
                        self._words.put((self.source, added))
                    told.well()
                except (LibraryBusy, LibraryFull) as error:
                    told(f"{error}; import waits for that")
                except (FocusError, OSError) as error:
                    # the disk was filled by others, the project's folder is away: it is tried again
                    told(f"{sentence(error)} It is tried again.")
                    self._stop.wait(SPACE_AGAIN)
                self.activity.rest()
                self._stop.wait(0.0 if watcher.busy else self._interval)
        finally:
            watcher.close()


def watch(
    project: Project,
    sources: Callable[[], Iterable[ImportSource]],
    say: Say,
    stop: threading.Event,
    *,
    queueing: Callable[[Project, ImportSource], Queueing | None] = lambda project, source: None,
    on_added: Callable[[ImportSource, list[int]], None] = lambda source, ids: None,
    on_turn: Callable[[], None] = lambda: None,
    interval: float = INTERVAL,
) -> None:
    """Watch sources until told to stop, each in a thread of its own; what is told is told in this one.

    sources : those there are at the moment; asked before every look, so that they may change meanwhile
    queueing : how a source's exposures are queued; takes the project as the source's thread has it
    on_added : called after each look with the exposures it brought
    on_turn : called from time to time

    Told to stop, it returns when each has finished the file under way; one that does not answer is left behind.
    """
    words: queue.SimpleQueue[_Word] = queue.SimpleQueue()
    watched: dict[str, _Watching] = {}
    ending: list[_Watching] = []
    options: dict[str, Any] = {"queueing": queueing, "under_way": UnderWay(), "interval": interval}
    told = _Once(say)

    def hear(seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            source, word = words.get(timeout=seconds) if seconds else words.get_nowait()
            while True:
                if source is None:
                    say(word)
                else:
                    on_added(source, word)
                source, word = words.get_nowait()

    def end(one: _Watching) -> bool:
        one.stop()
        silence = one.activity.silent(LEAVE) or (one.activity.seconds > STUCK and str(project.folder))
        if not one.ended and silence:
            one.leave()
            say(f"source {one.source.name}: {silence} does not answer, so it is left as it is")
            return True
        return one.ended

    try:
        looked = -float("inf")
        while not stop.is_set():
            try:
                if time.monotonic() - looked >= interval:
                    looked = time.monotonic()
                    present = {source.name: source for source in sources()}
                    ending += [watched.pop(name) for name in list(watched) if present.get(name) != watched[name].source]
                    ending = [one for one in ending if not end(one)]
                    for name in present.keys() - watched.keys() - {one.source.name for one in ending}:
                        watched[name] = _Watching(project.folder, present[name], words, **options)
                    for one in watched.values():
                        one.look(say)
                    told.well()
                hear(min(interval, STOPS))
                on_turn()
            except (FocusError, OSError) as error:
                told(f"{sentence(error)} It is tried again.")
                stop.wait(STOPS)
        ending += watched.values()
        while ending := [one for one in ending if not end(one)]:
            hear(STOPS / 4)
        hear(0.0)
    finally:
        for one in (*watched.values(), *ending):
            one.stop()
            one.leave()


class _Once:
    """Says what goes wrong once, until all was well again."""

    def __init__(self, say: Say) -> None:
        self._say, self._last = say, ""

    def __call__(self, text: str) -> None:
        if text != self._last:
            self._say(text)
        self._last = text

    def well(self) -> None:
        self._last = ""


def import_complete(
    project: Project,
    found: Iterable[tuple[Path, Path]],
    source: ImportSource,
    say: Say,
    *,
    queueing: Queueing | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    rest: Callable[[float], Any] = time.sleep,
    activity: Activity | None = None,
    then: Callable[[], object] = lambda: None,
) -> ImportReport:
    """Import files when they are complete, and return when all are.

    found : files, each with the folder it was found below
    progress : called with files done, files in all, and what is waited for
    activity : where it is noted what is read, for a source may not answer
    then : called when all are imported, before it is waited for what is to be deleted at its source

    Raises ResourceError where the project's disk is too full, ParameterError for facts that are not valid.
    """
    report = ImportReport()
    named = list(found)
    files = dict(named)
    report.known += len(named) - len(files)
    activity = activity or Activity()
    activity.turn_to(source.gain_reference or source.defects or source.folders[0])
    options = make_options(project, report, **options_of(source), queueing=queueing)
    together = Pairing(source.pair)
    # metadata may lie in a folder that holds no recording
    roots = [*files.values(), *(Path(folder) for folder in source.folders if os.path.isdir(folder))]
    activity.rest()
    importer = Importer(project, options, report, together, roots, clock=clock, activity=activity)
    intake = Intake(
        importer,
        together,
        Patience(source.delay, clock=clock),
        Space(project.folder, source.reserve_of),
        say,
        alone=source.alone or source.kind is not None,
        newest_first=source.newest_first,
        live=False,
        clock=clock,
    )
    left, began, told = dict(files), clock(), False
    while left and not stopped():
        for path, root in left.items():
            importer.activity.turn_to(path)
            try:
                stat = os.stat(path)
            except OSError as error:
                report.tell(f"{path}: is not there any more ({error.strerror}); it was left out")
                intake.lose(str(path))
                continue
            intake.see(str(path), root, Stand(stat.st_size, stat.st_mtime_ns, stat.st_ino))
        held = set(intake.waiting)
        left = {path: root for path, root in left.items() if str(path) in held}
        for done in intake.take(stopped=stopped):
            left.pop(Path(done), None)
        growing = len(intake.growing)
        words = f"waiting for {growing} file{'s' * (growing != 1)} that may still grow" if growing else ""
        progress(len(files) - len(left), len(files), words)
        if left:
            if growing and not told and clock() - began > WITH_METADATA:
                told = True
                say(words)
            rest(min(INTERVAL, WITH_METADATA) / 2)
    activity.rest()
    then()
    importer.deletion.finish(say, stopped, rest)
    return report
