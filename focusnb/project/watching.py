"""Watching folders of cameras: what is complete becomes exposures, by itself, for as long as a session lasts."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from focusnb.io.complete import WITH_METADATA, Patience
from focusnb.io.folders import PATIENCE, Look, Stand, Tree, Watch, look_at_all
from focusnb.project.activity import Activity
from focusnb.project.finding import METADATA, SUFFIXES, passed_by
from focusnb.project.gathering import ImportReport
from focusnb.project.importer import Importer
from focusnb.project.intake import Intake, Say, Space, TellingReport, UnderWay
from focusnb.project.options import Options, Queueing, make_options
from focusnb.project.pairing import Pairing
from focusnb.project.placing import sweep
from focusnb.project.project import Project
from focusnb.project.sources import ImportSource

INTERVAL = 1.0
"""Seconds between two looks at the folders."""

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
        without: Collection[Path] = (),
        held: Collection[str] = (),
        said: set[str] | None = None,
        made: Options | None = None,
    ) -> None:
        """Prepare to watch; ParameterError or FormatError where references or facts of the source are not right.

        activity : where it is noted what is read, for a source may not answer
        under_way : what other sources write at the same time
        without : folders of the source that do not answer, of which nothing is asked
        held : files that another thread is importing; what belongs to them waits for that one to end
        said : what was said of the source by another thread; what this one says is added
        made : how another thread of this process imports the source, whose references are not read again then
        """
        self.project, self.source = project, source
        self.report = TellingReport(say, said)
        self._clock, self._activity = clock, activity or Activity(clock)
        roots = [Path(folder) for folder in source.folders]
        if made is None:
            self._activity.turn_to(source.gain_reference or source.defects or source.folders[0])
            options = make_options(project, self.report, **options_of(source), queueing=queueing)
        else:
            options = replace(made, queueing=queueing)
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
        self.intake.absent.update(without)
        within = [(Path(path), root) for path in held for root in roots if Path(path).is_relative_to(root)]
        self.intake.elsewhere.update(together.read(path, root)[0].key for path, root in within)
        self._watches = [
            Watch(Tree(root, patterns=wanted, ignore=source.ignore, clock=clock, scandir=scandir))
            for root in roots
            if root not in without
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
