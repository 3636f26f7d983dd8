"""Whether gain references are of the size of the frames they are for, looked at when these are imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from focusnb.project import facts as fact_rules
from focusnb.project import pairing, records
from focusnb.project.gathering import ImportReport
from focusnb.project.options import gain_shape

if TYPE_CHECKING:
    from focusnb.project.project import Project

Shape = tuple[int, int]


class Gains:
    """Tells of gain references that do not fit, whoever named them: each once for frames of a size."""

    def __init__(self, project: Project, report: ImportReport, shapes: Mapping[str, Shape | None]) -> None:
        """Take the sizes (y, x) known already of references, by their place in the project; others are read once."""
        self._project, self._report, self._shapes = project, report, dict(shapes)

    def check(self, path: Path, frame_shape: Shape | None, candidates: fact_rules.Candidates) -> None:
        """Compare the size of the gain reference in force with that of the frames (y, x) of a movie."""
        named = fact_rules.resolve(candidates).get("gain_reference", (None, ""))[0]
        if named is None or frame_shape is None:
            return
        if named not in self._shapes:
            self._shapes[named] = gain_shape(self._project.folder / str(named), self._report)
        shape = self._shapes[named]
        if shape is None:
            return  # it cannot be read, which was told
        told = fact_rules.gain_contradiction(
            frame_shape, shape, candidates, name=Path(named).name, scaled="hardware_frames" in candidates
        )
        if told is not None:
            self._report.tell(told.sentence, about=path.name, topic=f"{named} {told.topic}")

    def check_row(self, identity: int, path: Path) -> None:
        """The same for an exposure in the library, whose facts have changed."""
        with self._project.library.read() as connection:
            candidates = records.row_of(connection, identity)["facts"]
        height, width = (candidates.get(name, {}).get("header") for name in ("height", "width"))
        if height and width and not pairing.is_made(path):
            self.check(path, (height, width), candidates)
