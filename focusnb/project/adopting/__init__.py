"""Adoption: exposures whose work was done by RELION, MotionCor2 or 3, Focus or 2dx, with what those found.

What is adopted is history, not an override: each step's worth of values is a run that tells the program, its version
and the file it was read from. Such a step is not run again by itself; steps that were not done elsewhere run on what
was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focusnb.errors import FormatError, ParameterError
from focusnb.io.motioncor import read_motioncor
from focusnb.project import decisions, importer
from focusnb.project.adopting.finished import AdoptionReport, Source
from focusnb.project.adopting.focus_project import finished_by_focus, is_focus_project
from focusnb.project.adopting.motioncor import find_logs, finished_by_motioncor
from focusnb.project.adopting.relion import TABLES, finished_by_relion
from focusnb.project.adopting.writing import Options, Writer

if TYPE_CHECKING:
    from focusnb.project.project import Project

__all__ = ["AdoptionReport", "adopt"]

_SHOWN = 6


def adopt(
    project: Project,
    sources: Iterable[Path],
    *,
    facts: Mapping[str, Any] | None = None,
    group: str | None = None,
    copy: bool = False,
    movies: bool = False,
    without_files: bool = False,
    pictures: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> AdoptionReport:
    """Adopt what other programs finished.

    sources : tables of RELION (micrographs_ctf.star, corrected_micrographs.star), folders or logs of MotionCor, project
        folders of Focus or 2dx
    facts : values of :class:`Acquisition` by name, stronger than what the sources tell
    group : the group of new exposures; by default that of the source, or the folder of the sums
    copy : copy sums and movies into the project instead of linking to them
    movies : let exposures start from the recorded movie where it is there, instead of from its sum
    without_files : adopt the values of exposures whose file is not there as well
    pictures : draw trajectories, and the sums of exposures that start from movies
    progress : called with exposures done, exposures in all and the name of the present one

    Adopted again, a source adds what is new and renews what changed. An exposure for which focusnb has results of its
    own keeps them.

    Raises ParameterError for facts that are not valid and sources that are none, FormatError where a table cannot be
    read, ProjectError where the project cannot be written.
    """
    project.library.check_writable()
    report = AdoptionReport()
    options = Options(importer.checked_facts(project, facts or {}), group, copy, movies, without_files, pictures)
    found = [source for path in sources for source in _sources(project, Path(path), report)]
    writer, done, total = Writer(project, options, report), 0, sum(source.count for source in found)
    for source in found:
        for finished in source.finished:
            if progress is not None:
                progress(done, total, finished.name)
            writer.add(finished)
            done += 1
        # a later source may tell more of the same exposures
        writer.flush()
    if progress is not None:
        progress(total, total, "")
    if report.added:
        decisions.write(project.library, project.folder)
    return report


def _sources(project: Project, path: Path, report: AdoptionReport) -> list[Source]:
    """What a file or a folder offers; a folder of RELION may hold both of its tables."""
    if path.is_file():
        if path.suffix.lower() == ".star":
            return [finished_by_relion(path, report)]
        read_motioncor(path)  # a file that was asked for by name and cannot be read is an error, not one left out
        return [finished_by_motioncor([path], report)]
    if not path.is_dir():
        raise ParameterError(f"{path}: does not exist; check the path")
    if is_focus_project(path):
        keep = functools.partial(importer.copy_reference, project)
        return [finished_by_focus(path, report, keep=keep)]
    tables = [path / name for name in TABLES if (path / name).is_file()]
    if tables:
        return [finished_by_relion(table, report) for table in tables]
    jobs = sorted(str(found.relative_to(path)) for name in TABLES for found in path.glob(f"*/job*/{name}"))
    if jobs:
        told = ", ".join(jobs[-_SHOWN:])
        raise ParameterError(f"{path}: is a RELION project; give the table to adopt: {told}")
    logs = find_logs(path)
    if not logs:
        raise FormatError(
            f"{path}: holds nothing that can be adopted: no {' or '.join(TABLES)}, no logs of MotionCor, no "
            "2dx_image.cfg of Focus"
        )
    return [finished_by_motioncor(logs, report)]
