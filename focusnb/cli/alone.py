"""What commands share that work on files without a project: the steps' parameters, folders, and what is moved there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from focusnb.errors import ParameterError

if TYPE_CHECKING:
    from focusnb.steps.base import Step
    from focusnb.steps.task import StepCall


def calls_of(chain: Sequence[type[Step]], assignments: list[str]) -> tuple[StepCall, ...]:
    """The steps with their parameters."""
    from focusnb.project.facts import parse_assignments
    from focusnb.steps.task import StepCall

    values: dict[str, dict[str, str]] = {step.name: {} for step in chain}
    for name, value in parse_assignments(assignments).items():
        step, dot, parameter = name.partition(".")
        if not dot or step not in values:
            raise ParameterError(f"{name!r} is not STEP.NAME of the steps that run: {', '.join(values)}")
        values[step][parameter] = value
    return tuple(StepCall(s.name, s.name, s.Params.make(values[s.name]).model_dump()) for s in chain)


def folders_of(movies: list[Path], out: Path) -> dict[Path, Path]:
    """The folder of each movie's results; ParameterError where two movies would share one."""
    if len(movies) == 1:
        return {movies[0]: out}
    folders: dict[Path, Path] = {}
    for movie in movies:
        folder = out / movie.stem
        other = next((known for known, taken in folders.items() if taken == folder), None)
        if other is not None:
            raise ParameterError(f"{other} and {movie} would both be written to {folder}; run them one by one")
        folders[movie] = folder
    return folders


def place(run_folder: Path, folder: Path, made: list[str], old: list[str]) -> list[str]:
    """Move what was made to the folder and remove what an earlier run left; returns the names."""
    names = [name for name in [*made, "log.txt"] if (run_folder / name).is_file()]
    for name in old:
        (folder / name).unlink(missing_ok=True)
    for name in names:
        os.replace(run_folder / name, folder / name)
    return names


def sentence(error: Exception) -> str:
    """What is wrong, in words."""
    from focusnb.steps.task import describe_os_error

    return describe_os_error(error, "") if isinstance(error, OSError) else str(error)
