"""Sources watched side by side, each in a thread of its own, so that none waits for another that does not answer."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from focusnb.errors import FocusError, FormatError, ParameterError
from focusnb.project.activity import LEAVE, Activity, Left
from focusnb.project.gathering import sentence
from focusnb.project.intake import SPACE_AGAIN, Say, UnderWay
from focusnb.project.library import LibraryBusy, LibraryFull
from focusnb.project.options import Options, Queueing
from focusnb.project.project import Project
from focusnb.project.sources import ImportSource
from focusnb.project.watching import INTERVAL, Watcher

STUCK = 60.0
"""Seconds for which the thread of a source that is to end may wait for the project itself, as for a locked library."""

STOPS = 0.2
"""Seconds until it is seen at the latest that watching is to end."""

AGAIN = 10.0
"""Seconds until a source is watched again whose import ended by a fault."""

_Word = tuple[ImportSource | None, Any]
"""A sentence to say, or a source with the ids of exposures that it brought."""


class _Watching:
    """Watches one source in a thread of its own, so that one whose files do not answer holds up no other.

    Where one folder of a source does not answer, this thread is kept at it and ends with the file under way, and
    another one watches the other folders until then.

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
        said: set[str],
        kept: Collection[_Watching] = (),
        made: Options | None = None,
    ) -> None:
        """Begin to watch.

        said : what threads of this source have said
        kept : threads that are kept at other folders of the source
        made : how the thread before imported the source: its references may lie where nothing answers now
        """
        self.source, self.activity = source, Activity()
        self.at: frozenset[Path] = frozenset()
        self._said = said
        self._without = frozenset().union(*(one.at for one in kept))
        self._held = frozenset().union(*(one.taking for one in kept))
        self._made = made
        self._watcher: Watcher | None = None
        self._folder, self._words, self._queueing = folder, words, queueing
        self._under_way, self._interval = under_way, interval
        self._stop = threading.Event()
        self.is_to_begin_again = False
        self._silence = ""
        self._thread = threading.Thread(target=self._work, name=f"import {source.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the file under way, and watch no more."""
        self._stop.set()

    def begin_again(self) -> None:
        """Finish the file under way, for this source is to be watched by another thread then."""
        self.is_to_begin_again = True
        self.stop()

    def leave(self) -> None:
        """Wait for it no longer."""
        self.activity.leave()

    def is_kept(self) -> bool:
        """Whether it is kept by some folders of its source and others can be watched; it ends then when it comes back.

        Where it is to begin again others answer by now, though it may have none of them itself.
        Those folders are in ``at`` from now on, and the files that it will finish in ``taking``.
        """
        place = self.activity.silent(0.0) if self.activity.told() else ""
        folders = {Path(folder) for folder in self.source.folders} - self._without
        at = frozenset(folder for folder in folders if place and Path(place).is_relative_to(folder))
        if not at or (at == folders and not self.is_to_begin_again):
            return False
        self.stop()  # before it is asked what it takes: from now on that is the last
        self.at = at
        return True

    @property
    def taking(self) -> tuple[str, ...]:
        """The files that it imports at the moment."""
        return () if self._watcher is None else self._watcher.intake.taking

    @property
    def made(self) -> Options | None:
        """How it imports, None before that was made."""
        return self._made if self._watcher is None else self._watcher.intake.importer.options

    @property
    def ended(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def look(self, say: Say) -> None:
        """Say what does not answer, and that it does again."""
        told, before = self.activity.told(), self._silence
        if told and not before:
            others = "others of this source and other sources" if len(self.source.folders) > 1 else "other sources"
            say(f"source {self.source.name}: {told}; {others} go on, and this one when it answers")
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
                without=self._without,
                held=self._held,
                said=self._said,
                made=self._made,
            )
        except (ParameterError, FormatError) as error:
            self._say(f"source {self.source.name} is not watched: {error}")
            self._stop.set()  # until it is changed
            return
        self._watcher = watcher
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
    threads = _Threads(project.folder, say, words, queueing=queueing, under_way=UnderWay(), interval=interval)
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

    try:
        looked = -float("inf")
        while not stop.is_set():
            try:
                if time.monotonic() - looked >= interval:
                    looked = time.monotonic()
                    threads.turn({source.name: source for source in sources()})
                    told.well()
                hear(min(interval, STOPS))
                on_turn()
            except (FocusError, OSError) as error:
                told(f"{sentence(error)} It is tried again.")
                stop.wait(STOPS)
        while not threads.end():
            hear(STOPS / 4)
        hear(0.0)
    finally:
        threads.leave()


class _Threads:
    """The threads that watch sources, and those that wait for a folder that does not answer or are to end."""

    def __init__(self, folder: Path, say: Say, words: queue.SimpleQueue[_Word], **options: Any) -> None:
        """Begin with none; options are those of the threads."""
        self._folder, self._say, self._words, self._options = folder, say, words, options
        self._watched: dict[str, _Watching] = {}
        self._kept: dict[str, list[_Watching]] = {}
        self._ending: list[_Watching] = []
        self._said: dict[str, set[str]] = {}

    def turn(self, present: dict[str, ImportSource]) -> None:
        """Watch these sources and no others, each in as many threads as its folders need at the moment."""
        for name in list(self._watched):
            if present.get(name) != self._watched[name].source:
                self._ending += [self._watched.pop(name), *self._kept.pop(name, ())]
                self._said.pop(name, None)
        self._ending = [one for one in self._ending if not self._end(one)]
        for name in present.keys() - self._watched.keys() - {one.source.name for one in self._ending}:
            self._begin(present[name])
        for name, one in list(self._watched.items()):
            self._take_up(name)
            one.look(self._say)
            if one.is_kept():
                self._kept.setdefault(name, []).append(one)
                self._begin(one.source)
            elif one.is_to_begin_again and one.ended:
                self._begin(one.source)

    def end(self) -> bool:
        """Let all end; True when all have."""
        self._ending += [*self._watched.values(), *(one for kept in self._kept.values() for one in kept)]
        self._watched, self._kept = {}, {}
        self._ending = [one for one in self._ending if not self._end(one)]
        return not self._ending

    def leave(self) -> None:
        """Wait for none any longer."""
        self.end()
        for one in self._ending:
            one.leave()

    def _begin(self, source: ImportSource) -> None:
        before = self._watched.get(source.name)
        self._watched[source.name] = _Watching(
            self._folder,
            source,
            self._words,
            said=self._said.setdefault(source.name, set()),
            kept=self._kept.get(source.name, ()),
            made=None if before is None else before.made,
            **self._options,
        )

    def _take_up(self, name: str) -> None:
        """Let a source begin again with the folders that answer by now."""
        kept = self._kept.pop(name, [])
        for one in kept:
            one.look(self._say)
        still = [one for one in kept if not one.ended]
        if still:
            self._kept[name] = still
        if len(still) < len(kept):
            self._watched[name].begin_again()

    def _end(self, one: _Watching) -> bool:
        one.stop()
        silence = one.activity.silent(LEAVE) or (one.activity.seconds > STUCK and str(self._folder))
        if not one.ended and silence:
            one.leave()
            self._say(f"source {one.source.name}: {silence} does not answer, so it is left as it is")
            return True
        return one.ended


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
