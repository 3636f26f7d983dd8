"""Watching folders of cameras: what is complete becomes exposures, by itself, for as long as a session lasts."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focusnb.errors import FocusError, FormatError, ParameterError
from focusnb.io.complete import WITH_METADATA, Patience
from focusnb.io.folders import PATIENCE, Look, Stand, Tree, Watch, look_at_all
from focusnb.project.finding import METADATA, SUFFIXES, passed_by
from focusnb.project.gathering import ImportReport, sentence
from focusnb.project.importer import Importer
from focusnb.project.intake import SPACE_AGAIN, Intake, Say, Space, TellingReport
from focusnb.project.library import LibraryBusy, LibraryFull
from focusnb.project.options import Queueing, make_options
from focusnb.project.pairing import Pairing
from focusnb.project.placing import sweep
from focusnb.project.sources import ImportSource

if TYPE_CHECKING:
    from focusnb.project.project import Project

INTERVAL = 1.0
"""Seconds between two looks at the folders."""

AT_A_TIME = 3.0
"""Seconds of copying after which the folders are looked at again."""


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
    ) -> None:
        """Prepare to watch; ParameterError or FormatError where references or facts of the source are not right."""
        self.project, self.source = project, source
        self.report = TellingReport(say)
        self._clock = clock
        roots = [Path(folder) for folder in source.folders]
        options = make_options(project, self.report, **options_of(source), queueing=queueing)
        together = Pairing(source.pair)
        self.intake = Intake(
            Importer(project, options, self.report, together, roots, again=False, clock=clock),
            together,
            Patience(source.delay, clock=clock),
            Space(project.folder, source.reserve_of, usage),
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
            self._note(watch, look)
            (self.intake.absent.discard if look is not None and look.there else self.intake.absent.add)(
                Path(watch.tree.root)
            )
        done = self.intake.take(self._clock() + AT_A_TIME, stopped)
        self.intake.importer.deletion.step(self.intake.absent)
        for path in done:
            for watch in self._watches:
                watch.settle(path)
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
                self.report.say(f"{root}: does not answer; other folders are watched meanwhile")
            return
        if root in self._blocked:
            self._blocked.discard(root)
            self.report.say(f"{root}: answers again")
        for message in (*look.faults, *look.mended):
            self.report.say(message)
        for path in look.gone:
            self.intake.lose(path)
        for path, stand in look.files.items():
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


def watch(
    project: Project,
    sources: Callable[[], Iterable[ImportSource]],
    say: Say,
    stop: threading.Event,
    *,
    queueing: Callable[[ImportSource], Queueing | None] = lambda source: None,
    on_added: Callable[[ImportSource, list[int]], None] = lambda source, ids: None,
    interval: float = INTERVAL,
) -> None:
    """Watch sources until told to stop.

    sources : those there are at the moment; asked before every look, so that they may change meanwhile
    queueing : how a source's exposures are queued
    on_added : called after each look with the exposures it brought
    """
    watchers: dict[str, Watcher] = {}
    faulty: dict[str, ImportSource] = {}
    told = _Once(say)
    try:
        while not stop.is_set():
            busy = False
            try:
                present = {source.name: source for source in sources()}
                _bring_in_step(project, present, watchers, faulty, told, queueing)
                for name, watcher in watchers.items():
                    added = watcher.step(stopped=stop.is_set)
                    if added:
                        on_added(present[name], added)
                    busy = busy or watcher.busy
                told.well()
            except (LibraryBusy, LibraryFull) as error:
                told(f"{error}; import waits for that")
            except (FocusError, OSError) as error:
                # the disk was filled by others, the project's folder is away: it is tried again
                told(f"{sentence(error)} It is tried again.")
                stop.wait(SPACE_AGAIN)
            stop.wait(0.0 if busy else interval)
    finally:
        for watcher in watchers.values():
            watcher.close()


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


def _bring_in_step(
    project: Project,
    present: Mapping[str, ImportSource],
    watchers: dict[str, Watcher],
    faulty: dict[str, ImportSource],
    say: Say,
    queueing: Callable[[ImportSource], Queueing | None],
) -> None:
    """Begin to watch sources that are new or changed, and leave those that were removed."""
    for name in list(watchers):
        if present.get(name) != watchers[name].source:
            watchers.pop(name).close()
    for name, source in present.items():
        if name in watchers or faulty.get(name) == source:
            continue
        faulty.pop(name, None)
        try:
            watchers[name] = Watcher(project, source, say, queueing=queueing(source))
        except (ParameterError, FormatError) as error:
            faulty[name] = source
            say(f"source {name} is not watched: {error}")


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
) -> ImportReport:
    """Import files when they are complete, and return when all are.

    found : files, each with the folder it was found below
    progress : called with files done, files in all, and what is waited for

    Raises ResourceError where the project's disk is too full, ParameterError for facts that are not valid.
    """
    report = ImportReport()
    named = list(found)
    files = dict(named)
    report.known += len(named) - len(files)
    options = make_options(project, report, **options_of(source), queueing=queueing)
    together = Pairing(source.pair)
    # metadata may lie in a folder that holds no recording
    roots = [*files.values(), *(Path(folder) for folder in source.folders if os.path.isdir(folder))]
    importer = Importer(project, options, report, together, roots, clock=clock)
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
    importer.deletion.finish(say, stopped, rest)
    return report
