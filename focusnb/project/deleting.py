"""Sources that are deleted once their copies were verified: late, and never one that somebody may still write to.

Deleted is a recording that is whole by its own format, of which no fewer frames were copied than there must be, that no
program of this host has open, and that, when its time has come, still has the size, the time and, read once more, the
content of its copy. How long it must have stood still until then grows with what is not known of it: a writer on
another host may pause, and nothing but time tells it from one that has finished.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from focusnb.errors import FormatError
from focusnb.io import files
from focusnb.io.complete import Structure, frames_said, lacks_frames, read_structure, stand_of
from focusnb.io.folders import Stand, is_shared, mount_of
from focusnb.project import placing
from focusnb.project.activity import Activity
from focusnb.project.gathering import ImportReport

STILL = 60.0
"""Seconds for which a source must have stood still after its copy was verified, where its metadata tell that it has all
its frames: a camera may pause between two."""

WITHOUT_METADATA = 5
"""How many times longer, where no metadata tell how many frames there must be."""

WITHOUT_OTHERS = 2
"""How many times longer still, where no other movie of the session shows how many frames are usual."""

ON_A_NETWORK = 2
"""How many times longer still where other hosts may write, as on a network file system: they may have it open."""

JITTER = 0.05
"""Part by which the frames of EER movies vary: a camera of events counts hundreds of them for one exposure."""


@dataclass
class _Due:
    """A source with its copy; how it stood when the copy was found to be as it is, and when that was.

    frames_told : whether metadata tell that it has all its frames
    of_kind : what movies of the same number of frames have in common, None for what is no movie
    """

    path: Path
    placed: Path
    stand: Stand
    since: float
    content: str
    structure: Structure
    frames_told: bool
    of_kind: str | None
    slowness: int


class Deletion:
    """Deletes sources some time after they were imported, if nothing has happened to them since.

    deleted : resolved paths of what it has deleted
    """

    def __init__(
        self,
        report: ImportReport,
        on_changed: Callable[[Path], None] = lambda path: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        activity: Activity | None = None,
        mount: Callable[[Path], tuple[str, str]] | None = None,
    ) -> None:
        """Begin with nothing to delete; what stays is told in the report.

        on_changed : told of a source whose content is not that of its copy though its size and time are
        mount : tells where a path's file system is mounted, and its type; by default as this host's kernel does
        """
        self.report, self._on_changed, self._clock = report, on_changed, clock
        self._activity, self._mount = activity or Activity(), mount or mount_of
        self._due: dict[str, _Due] = {}
        self._frames: dict[str, Counter[int]] = {}
        self.deleted: set[str] = set()

    def __len__(self) -> int:
        """How many sources are to be deleted."""
        return len(self._due)

    def note_frames(self, path: Path, frames: int, shape: tuple[int, int]) -> None:
        """Take note of how many frames a movie of the session has, for those of which nothing else tells."""
        self._frames.setdefault(_kind(path, shape), Counter())[frames] += 1

    def add(
        self, path: Path, placed: Path, metadata: Path | None = None, *, content: str = "", is_movie: bool = True
    ) -> None:
        """Let a source be deleted whose copy was verified, unless it is a link or has changed since.

        metadata : its mdoc or XML; one that says more frames than there are keeps it at its source, and so does
            whatever else shows that it is not whole
        content : SHA-256 of its copy, worked out where it is not given
        is_movie : whether it may have frames to come; so has all that is not certain to be an average, for a movie of
            which one frame was written looks like one
        """
        if path.is_symlink() or placed.is_symlink() or not placed.is_file():
            return
        self._activity.turn_to(path)
        if not self.may_delete(path):
            return
        stand = stand_of(path)
        if stand is None or not _is_copy(path, stand, placed, self._activity):
            return
        structure, said = read_structure(placed), _frames_said(metadata, path)
        if not structure.whole:
            self._keep(path, "is not whole, so it stays at its source", "not whole")
            return
        frames = structure.frames
        if metadata is not None and lacks_frames(path, frames, said, metadata) and (is_movie or frames > 1):
            told = f"holds {_counted(frames)} and its metadata say {said}, so it stays at its source"
            self._keep(path, told, f"{frames} of {said} frames")
            return
        self._due[str(path)] = _Due(
            path,
            placed,
            stand,
            self._clock(),
            content or files.hash_file(placed, progress=self._activity.go_on),
            structure,
            frames_told=said > 0 and (frames >= said or not is_movie),
            of_kind=_kind(path, structure.shape) if is_movie else None,
            slowness=ON_A_NETWORK if is_shared(self._mount(path.resolve())[1]) else 1,
        )

    def _keep(self, path: Path, told: str, topic: str = "") -> None:
        self.report.tell(told, about=str(path), topic=topic)

    def may_delete(self, path: Path) -> bool:
        """Whether this user may delete a source; told where not, before anything is read for that."""
        if os.access(path.parent, os.W_OK):
            return True
        told = (
            "was imported and stays, for this user may not delete it: its folder is read-only here; give write access "
            "to it, or import without --delete-source"
        )
        self._keep(path, told)
        return False

    def step(
        self,
        absent: Collection[Path] = (),
        *,
        last: bool = False,
        stopped: Callable[[], bool] = lambda: False,
        seconds: float = float("inf"),
    ) -> None:
        """Delete what has been still for long enough; what another program has open is kept until that closes it.

        absent : roots of which nothing can be read at the moment
        last : whether there is no later step
        stopped : whether to end after the source under way: each is read once more
        seconds : after which the others are left for the next step
        """
        now = self._clock()
        due = [
            held
            for held in self._due.values()
            if now - held.since >= STILL  # at least, and quickly known of thousands
            and now - held.since >= self._still(held)
            and not any(held.path.is_relative_to(root) for root in absent)
        ]
        opened = open_files() if due else set()
        for held in due:
            if stopped() or self._clock() - now > seconds:
                break
            self._activity.turn_to(held.path)
            if os.path.realpath(held.path) not in opened:
                del self._due[str(held.path)]
                self._delete(held)
            elif last:
                del self._due[str(held.path)]
                self._keep(held.path, "is open in another program, so it stays at its source")
            else:
                held.since = now
        self._activity.rest()

    def _still(self, held: _Due) -> float:
        """Seconds for which a source must have stood still, by what is known of it now."""
        if held.frames_told:
            return STILL * held.slowness
        alone = held.of_kind is not None and self._usual(held) == 0
        return STILL * WITHOUT_METADATA * (WITHOUT_OTHERS if alone else 1) * held.slowness

    def _usual(self, held: _Due) -> int:
        """How many frames most of the session's other movies of its kind have, 0 where there are none.

        Files of one frame, which may be pictures, count where there is nothing else.
        """
        others = Counter(self._frames.get(held.of_kind or "", {}))
        others[held.structure.frames] -= 1  # itself
        others = +others
        several = [frames for frames in others if frames > 1]
        return max(several or others, key=lambda frames: (others[frames], frames), default=0)

    def finish(
        self,
        say: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
        rest: Callable[[float], object] = time.sleep,
    ) -> None:
        """Wait until all was still for long enough, and delete it; what is left when stopped stays."""
        self._activity.rest()
        if self._due and STILL > 0:
            longest = max(map(self._still, self._due.values()))
            say(
                f"files to delete at their source: {len(self)}, each when it has not changed for {longest:.0f} s or "
                "less, as its format and metadata allow"
            )
        while self._due and not stopped():
            self.step(last=True, stopped=stopped)
            if self._due:
                rest(0.5)
        if self._due:
            self.report.tell(f"files that were to be deleted and stay: {len(self)}; import again to delete them")

    def _delete(self, held: _Due) -> None:
        path = held.path
        source = os.path.realpath(path)
        usual = 0 if held.frames_told or held.of_kind is None else self._usual(held)
        fewest = usual * (1 - JITTER) if path.suffix.lower() == ".eer" else usual
        frames = held.structure.frames
        if frames < fewest:
            told = (
                f"holds {_counted(frames)} where others of its session hold {usual}, and no metadata tell that "
                f"{'these are' if frames > 1 else 'this is'} all, so it stays at its source; delete it there yourself "
                "if it is whole"
            )
            self._keep(path, told, f"{frames} where {usual}")
            return
        if frames == 1 and not usual and not held.frames_told and held.of_kind is not None:
            told = (
                "holds one frame, and neither metadata nor other files tell whether it is a picture or the beginning "
                "of a movie, so it stays at its source; delete it there yourself if it is whole"
            )
            self._keep(path, told, "one frame")
            return
        try:
            if not os.path.lexists(path):
                return
            if stand_of(path) != held.stand or not _is_there(held):
                self._keep(path, "has changed since it was copied, so it stays until it was imported as it is now")
                return
            if files.hash_file(path, progress=self._activity.go_on) != held.content:
                told = "is not what was copied from it though its size and time are the same, so it stays"
                self._keep(path, f"{told} and is copied anew")
                self._on_changed(path)
                return
            if stand_of(path) != held.stand:
                self._keep(path, "changed while it was compared with its copy, so it stays at its source")
                return
            self._activity.go_on()  # nothing is deleted by a thread that was left
            path.unlink(missing_ok=True)
            self.deleted.add(source)
        except FormatError as error:
            self._keep(path, f"stays at its source: {error}")
        except OSError as error:
            self._keep(path, f"cannot be deleted ({error.strerror}); it was imported")


def open_files() -> set[str]:
    """Paths of the files that programs of this host have open, as far as the system tells this user."""
    found: set[str] = set()
    try:
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return found
    for process in processes:
        place = f"/proc/{process}/fd"
        try:
            # read as links and not followed: one may lead to a server that is dead
            for handle in os.listdir(place):
                found.add(os.readlink(f"{place}/{handle}"))
        except OSError:
            continue
    return found


def _kind(path: Path, shape: tuple[int, int]) -> str:
    """What movies have in common that have the same number of frames: their format and the size of their frames."""
    return f"{path.suffix.lower()} {shape[1]}×{shape[0]}"


def _counted(frames: int) -> str:
    return f"{frames} frames" if frames != 1 else "one frame"


def _is_there(held: _Due) -> bool:
    """Whether the copy is still there in its full size."""
    return held.placed.is_file() and held.placed.stat().st_size == held.stand.size


def _is_copy(path: Path, stand: Stand, placed: Path, activity: Activity) -> bool:
    """Whether a copy is that of a source as it stands; read anew where its time leaves that open."""
    if not placing.is_as_placed(path, placed):
        return False
    held = os.stat(placed)
    if (held.st_size, held.st_mtime_ns) == (stand.size, stand.changed_ns):
        return True
    try:
        return files.hash_file(path, progress=activity.go_on) == files.hash_file(placed, progress=activity.go_on)
    except FormatError:
        return False


def _frames_said(metadata: Path | None, path: Path) -> int:
    try:
        return (frames_said(metadata, path.name) or 0) if metadata is not None else 0
    except FormatError:
        return 0
