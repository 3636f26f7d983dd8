"""A project: a folder with a library, its exposures, and everything that may be asked of them."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.errors import ParameterError, ProjectError
from focusnb.io import files
from focusnb.modes import Mode, find_mode
from focusnb.parameters import Spec
from focusnb.project import decisions, fingerprints, levels, records, schema, sets, storing, tables
from focusnb.project import facts as fact_rules
from focusnb.project.library import FILE_NAME as LIBRARY_NAME
from focusnb.project.library import Declaration, Library, now
from focusnb.project.planning import Plan
from focusnb.project.sets import TRASH
from focusnb.project.tasks import MANY
from focusnb.quantities import Acquisition
from focusnb.steps.base import FACTS, Step, StepParams, faults_in, find_step, steps_in
from focusnb.steps.task import Outcome
from focusnb.steps.trust import is_trusted

if TYPE_CHECKING:
    import pandas as pd

    from focusnb.project.gathering import ImportReport

SETTINGS_NAME = "project.json"
_FOLDERS = ("exposures", "references", "sets", "steps")
FLAGS = ("red", "green", "blue", "gold")


@dataclass(frozen=True)
class Changes:
    """What changed after a revision."""

    revision: int
    exposures: pd.DataFrame
    deleted: tuple[int, ...]


class Project:
    """An open project. Use :meth:`create` or :meth:`open`, and close it or use it in a ``with`` block."""

    def __init__(self, folder: Path, settings: dict[str, Any], library: Library) -> None:
        self.folder = folder
        self.settings = settings
        self.library = library
        self._remembered: dict[str, type[Step]] | None = None

    # Life

    @classmethod
    def create(cls, folder: str | os.PathLike[str], *, mode: str, library: str | None = None) -> Project:
        """Make a new project in a folder that does not exist or is empty.

        ``mode`` is one of drift, single-particle, crystal, tomography; ``library`` a database URL where several
        hosts write. Raises ParameterError for a mode that cannot be used, ProjectError for a folder in use.
        """
        chosen = find_mode(mode)
        path = Path(folder).resolve()
        if (path / SETTINGS_NAME).exists():
            raise ProjectError(f"{path}: is a project already; open it, or choose another folder")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ProjectError(f"{path}: exists and is not empty; choose a new folder")
        defaults = levels.user_defaults()
        settings = {"name": path.name, "id": uuid.uuid4().hex, "mode": chosen.name, "created": now(), "steps": []}
        if library:
            settings["library"] = library
        existed = path.exists()
        try:
            for name in _FOLDERS:
                (path / name).mkdir(parents=True, exist_ok=True)
            project = cls(path, settings, Library(library or path / LIBRARY_NAME, create=True))
            project.declare()
            for step, values in defaults.items():
                project.set_params(step, **values)
            # last: what has no settings is no project yet, and may be made again
            files.write_json(path / SETTINGS_NAME, settings)
        except BaseException as error:
            for name in (*_FOLDERS, *(p.name for p in path.glob(f"{LIBRARY_NAME}*"))):
                shutil.rmtree(path / name, ignore_errors=True)
                with contextlib.suppress(OSError):
                    (path / name).unlink()
            if not existed:
                with contextlib.suppress(OSError):
                    path.rmdir()
            if isinstance(error, OSError):
                reason = f"cannot be made ({error.strerror}); choose a folder you may write"
                raise ProjectError(f"{path}: {reason}") from error
            raise
        return project

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Project:
        """Open a project. Raises ProjectError if there is none, or if it cannot be read."""
        path = Path(folder).resolve()
        settings = read_settings(path)
        project = cls(path, settings, Library(settings.get("library") or path / LIBRARY_NAME))
        project.declare()
        return project

    def close(self) -> None:
        """Release the library."""
        self.library.close()

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Project {self.name!r} ({self.mode.name}) in {self.folder}>"

    @property
    def name(self) -> str:
        """The project's name."""
        return str(self.settings["name"])

    @property
    def mode(self) -> Mode:
        """The project's mode."""
        return find_mode(str(self.settings["mode"]))

    @property
    def revision(self) -> int:
        """The revision of the last change."""
        return self.library.revision

    # Steps

    @property
    def steps_folder(self) -> Path | None:
        """The folder of the project's own steps if it holds any and the user trusts it."""
        folder = self.folder / "steps"
        return folder if folder.is_dir() and any(folder.iterdir()) and is_trusted(self.folder) else None

    def steps(self) -> dict[str, type[Step]]:
        """All steps that may run here, by name."""
        return steps_in(self.steps_folder)

    def step(self, name: str) -> type[Step]:
        """One step; ParameterError if there is none, if its code is not trusted, or if it needs what nothing makes."""
        if self._remembered is not None and name in self._remembered:
            return self._remembered[name]
        try:
            step = find_step(name, self.steps_folder)
        except ParameterError as error:
            hint = self.untrusted()
            raise ParameterError(f"{error}. {hint}" if hint else str(error)) from error
        self._check_needs(step)
        if self._remembered is not None:
            self._remembered[name] = step
        return step

    def remember_steps(self, on: bool = True) -> None:
        """Take steps as they are now instead of looking at their files each time, until this is called again."""
        self._remembered = {} if on else None

    def untrusted(self) -> str:
        """A sentence about steps of this project that do not run before they are trusted; empty if there are none."""
        folder = self.folder / "steps"
        if self.steps_folder is not None or not folder.is_dir() or not any(folder.iterdir()):
            return ""
        return (
            f"The steps in {folder} are not trusted yet, or changed since: none of them runs before "
            f"'focusnb step trust {self.folder}'"
        )

    def step_faults(self) -> tuple[str, ...]:
        """Why files of the project's own steps could not be loaded."""
        return faults_in(self.steps_folder)

    def _check_needs(self, step: type[Step]) -> None:
        made = {spec.name for other in self.steps().values() for spec in other.makes()} | set(self.specs())
        for spec in step.needs():
            if spec.name not in made:
                near = difflib.get_close_matches(spec.name, [*made, *FACTS], n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ParameterError(f"step {step.name} needs {spec.name}, which is no fact and made by no step{hint}")

    @property
    def own_steps(self) -> list[str]:
        """Names of the steps that run in addition to the mode's."""
        return list(self.settings.get("steps", []))

    def is_usual(self, step: str) -> bool:
        """Whether a step belongs to a workflow of the project: others are run beside it and make no exposure worse."""
        usual = [*self.mode.steps.values(), *self.mode.set_steps.values()]
        return step in self.own_steps or any(step in names for names in usual)

    def step_names(self, kind: str) -> list[str]:
        """The steps run on exposures of a kind: the mode's, and those of the project's own that find what they need."""
        names = list(self.mode.steps[kind])
        left = self.own_steps
        if not left:
            return names
        made = {spec.name for name in names for spec in self.step(name).makes()}
        while True:
            fitting = [n for n in left if all(s.name in made for s in self.step(n).needs() if s.required)]
            if not fitting:
                return names
            names += fitting
            made |= {spec.name for name in fitting for spec in self.step(name).makes()}
            left = [name for name in left if name not in fitting]

    def use_steps(self, *names: str) -> None:
        """Choose the steps that run besides the mode's; ParameterError for one that never finds what it needs."""
        self.library.check_writable()
        before, self.settings = self.settings, {**self.settings, "steps": list(names)}
        try:
            fitting = {name for kind in self.mode.steps for name in self.step_names(kind)}
            for name in names:
                if name not in fitting:
                    needed = ", ".join(spec.name for spec in self.step(name).needs() if spec.required)
                    raise ParameterError(f"step {name} needs {needed}, which the workflows of this project do not make")
            files.write_json(self.folder / SETTINGS_NAME, self.settings)
        except BaseException:
            self.settings = before
            raise
        dropped = set(before.get("steps", [])) - set(names)
        if dropped:
            storing.leave_workflow(self, dropped)

    def declare(self) -> None:
        """Give every declared value its column."""
        facts = [Declaration("fact", None, spec) for spec in Acquisition.specs()]
        of_exposures = [step for step in self.steps().values() if step.over == "exposure"]
        findings = [Declaration("finding", step.name, spec) for step in of_exposures for spec in step.makes()]
        self.library.declare([*facts, *findings])

    def specs(self) -> dict[str, Spec]:
        """The declaration of every fact and finding of this project."""
        return self.library.column_specs()

    # Adding and reading exposures

    def add(self, *paths: str | os.PathLike[str], **options: Any) -> ImportReport:
        """Import movies and images; see :func:`focusnb.project.importer.add` for the options."""
        from focusnb.project import importer

        return importer.add(self, [Path(path) for path in paths], **options)

    def adopt(self, *sources: str | os.PathLike[str], **options: Any) -> ImportReport:
        """Adopt what other programs finished; see :func:`focusnb.project.adopting.adopt` for the options."""
        from focusnb.project import adopting

        return adopting.adopt(self, [Path(source) for source in sources], **options)

    def table(self, *, trial: str | None = None, where: Sequence[int] | None = None) -> pd.DataFrame:
        """All exposures as a DataFrame, one row each, typed; ``attrs`` holds units and labels.

        trial : show the results of this trial in place of the adopted ones
        where : only these exposures, by id
        """
        makes = {name: [spec.name for spec in step.makes()] for name, step in self.steps().items()} if trial else None
        return tables.exposures(self.library, trial=trial, ids=where, makes=makes)

    def counts(self) -> dict[str, int]:
        """How many exposures there are by status, those in TRASH left out."""
        return tables.status_counts(self.library)

    @property
    def is_empty(self) -> bool:
        """Whether there is no exposure, not even in TRASH."""
        return tables.is_empty(self.library)

    def runs(self, *, exposure: int | None = None) -> pd.DataFrame:
        """The history: one row per attempt of a step on an exposure."""
        return tables.runs(self.library, exposure)

    def sets(self) -> pd.DataFrame:
        """The sets of exposures with their results, one row each; ``session`` is the set of all."""
        return sets.frame(self.library)

    def set_path(self, name: str, product: str | None = None) -> Path:
        """The folder of a set, or the file of one of its products."""
        group = sets.find(self.library, name)
        if product is None:
            return self.folder / group.folder
        if product not in group.values:
            raise ParameterError(f"set {name} has no {product}")
        return self.folder / group.folder / str(group.values[product])

    def changes(self, since: int) -> Changes:
        """What changed after a revision; costs what changed, not what there is."""
        revision = self.revision
        return Changes(
            revision, tables.exposures(self.library, since=since), tables.deleted(self.library, "exposures", since)
        )

    def facts(self, exposure: int) -> pd.DataFrame:
        """The facts of one exposure with unit and origin."""
        return tables.facts(self.library, exposure)

    def path(self, exposure: int, product: str | None = None) -> Path:
        """The folder of an exposure, or the file of one of its products."""
        with self.library.read() as connection:
            row = records.row_of(connection, exposure)
        folder = self.folder / str(row["folder"])
        if product is None:
            return folder
        if row.get(product) is None:
            raise ParameterError(f"{row['exposure']} has no {product}")
        return folder / str(row[product])

    # Facts and choices

    def set_facts(self, exposures: Iterable[int], *, origin: str = "hand", **values: Any) -> None:
        """Set facts of exposures by hand; all valid or none written. What depends on them becomes stale.

        A value of None takes back what was set; a gain reference or defects file is copied into the project.
        """
        from focusnb.project import importer
        from focusnb.project.gathering import ImportReport

        if origin not in fact_rules.ORIGINS:
            raise ParameterError(f"{origin} is no origin of facts; there are {', '.join(fact_rules.ORIGINS)}")
        checked = importer.checked_facts(self, values)
        importer.set_origin(self, exposures, origin, checked, ImportReport())

    def params(self, step: str, exposure: int | None = None) -> tuple[StepParams, dict[str, str]]:
        """The choices in force for a step, and the level each comes from."""
        group = None
        if exposure is not None:
            with self.library.read() as connection:
                group = str(records.row_of(connection, exposure)["group"])
        with self.library.read() as connection:
            stored = levels.read_levels(connection, step)
        return levels.resolve(self.step(step), stored, group=group, exposure=exposure)

    def set_params(
        self, step: str, *, level: str = "project", key: str | int | Iterable[int] = "", **values: Any
    ) -> None:
        """Set choices of a step for the project, a group or exposures (``key``); all valid or none written.

        key : the name of the group, the id of an exposure, or the ids of several
        A value of None clears the choice on this level.
        """
        if level not in levels.LEVELS[1:]:
            raise ParameterError(f"{level} is no level; there are {', '.join(levels.LEVELS[1:])}")
        if (level == "project") != (key == ""):
            raise ParameterError(f"level {level} needs {'no key' if level == 'project' else 'a key: a group or an id'}")
        declared = self.step(step)
        for name in values:
            declared.Params.spec(name)
        given = {name: value for name, value in values.items() if value is not None}
        keys = [str(key)] if isinstance(key, str | int) else [str(int(identity)) for identity in key]
        if level == "exposure":
            self._check_ids([int(identity) for identity in keys])
        with self.library.write() as transaction:
            stored = levels.read_levels(transaction.connection, step)
            for place in keys:
                kept = {name: value for name, value in stored.get((level, place), {}).items() if name not in values}
                stored[level, place] = {**kept, **given}
            levels.check(transaction.connection, declared, stored)
            checked = levels.as_stored(declared, given)
            levels.write(transaction, declared, level, keys, checked, list(values))
        decisions.write(self.library, self.folder)

    def _check_ids(self, ids: Sequence[int]) -> None:
        e = schema.exposures.c
        with self.library.read() as connection:
            known = {
                int(identity)
                for start in range(0, len(ids), MANY)
                for identity in connection.execute(sa.select(e.id).where(e.id.in_(ids[start : start + MANY]))).scalars()
            }
        missing = sorted(set(ids) - known)
        if missing:
            raise ParameterError(f"there is no exposure {missing[0]}; see 'focusnb table {self.folder}'")

    # What people decide

    def ids(self, *, group: str | None = None, status: str | None = None, flag: str | None = None) -> list[int]:
        """Ids of the exposures of a group, status or flag; TRASH only where asked for by name."""
        e = schema.exposures
        query = sa.select(e.c.id).order_by(e.c.id)
        query = query.where(e.c.group == group) if group is not None else query.where(e.c.group != TRASH)
        if status is not None:
            query = query.where(e.c.status == status)
        if flag is not None:
            query = query.where(e.c.flag == flag)
        with self.library.read() as connection:
            return [int(value) for value in connection.execute(query).scalars()]

    def groups(self) -> dict[str, int]:
        """The groups there are, TRASH too, with the number of their exposures."""
        e = schema.exposures.c
        with self.library.read() as connection:
            rows = connection.execute(sa.select(e.group, sa.func.count()).group_by(e.group).order_by(e.group))
            return {str(name): int(count) for name, count in rows}

    def find(self, name: str) -> int:
        """The id of an exposure by its name, or by its id as text; ParameterError if there is none or several."""
        e = schema.exposures
        with self.library.read() as connection:
            found = list(connection.execute(sa.select(e.c.id).where(e.c.exposure == name)).scalars())
            if not found and name.isdigit():
                found = list(connection.execute(sa.select(e.c.id).where(e.c.id == int(name))).scalars())
        if len(found) != 1:
            told = f"ids {', '.join(map(str, found))}; give the id" if found else "see 'focusnb table'"
            raise ParameterError(f"{name} names {len(found) or 'no'} exposure{'s' * (len(found) > 1)} ({told})")
        return int(found[0])

    def move(self, exposures: Iterable[int], group: str) -> int:
        """Put exposures into a group (TRASH is one); no file moves. Returns how many there were."""
        if not group.strip():
            raise ParameterError("a group needs a name")
        return self._set_column(exposures, {"group": group.strip()})

    def flag(self, exposures: Iterable[int], flag: str | None) -> int:
        """Flag exposures red, green, blue or gold; None takes the flag away."""
        if flag is not None and flag not in FLAGS:
            raise ParameterError(f"{flag} is no flag; there are {', '.join(FLAGS)}, or None")
        return self._set_column(exposures, {"flag": flag})

    def comment(self, exposures: Iterable[int], text: str | None) -> int:
        """Note a comment on exposures."""
        return self._set_column(exposures, {"comment": text or None})

    def _set_column(self, exposures: Iterable[int], values: Mapping[str, Any]) -> int:
        ids = [int(identity) for identity in exposures]
        e = schema.exposures
        with self.library.write() as transaction:
            changed = 0
            for start in range(0, len(ids), MANY):
                part = e.update().where(e.c.id.in_(ids[start : start + MANY]))
                changed += transaction.execute(part.values(**values, revision=transaction.revision)).rowcount
            if changed != len(set(ids)):
                raise ParameterError(
                    f"{len(set(ids)) - changed} of {len(set(ids))} exposures do not exist; none was changed"
                )
        decisions.write(self.library, self.folder)
        return changed

    def override(self, exposures: int | Iterable[int], **values: Any) -> None:
        """Set findings by hand, of one exposure or several; they win in the table until cleared.

        A rerun renews only the values beneath.
        """
        storing.override(self.library, _several(exposures), values)
        decisions.write(self.library, self.folder)

    def clear_override(self, exposures: int | Iterable[int], *names: str) -> None:
        """Take overrides back, all of them where no name is given."""
        storing.clear_override(self.library, _several(exposures), names)
        decisions.write(self.library, self.folder)

    def select(self, name: str, exposures: Iterable[int] | None = None) -> list[int]:
        """Save a selection under a name, or load it."""
        ids = storing.selection(self.library, name, exposures)
        if exposures is not None:
            decisions.write(self.library, self.folder)
        return ids

    # Processing

    def exposures(self, ids: Iterable[int] | None = None) -> Iterator[fingerprints.Exposure]:
        """What planning needs to know of exposures."""
        return storing.planning_rows(self.library, ids)

    def plan(
        self,
        workflow: fingerprints.Ordered,
        ids: Iterable[int] | None = None,
        *,
        params: Mapping[str, Mapping[str, Any]] | None = None,
        everything: bool = False,
        retry: bool = False,
    ) -> dict[int, list[fingerprints.Planned]]:
        """The steps of a workflow to run on each exposure, resolved; exposures with nothing to do are left out."""
        return Plan(self, workflow, params=params, everything=everything, retry=retry).steps(ids)

    def settle(self, workflow: fingerprints.Ordered, ids: Iterable[int]) -> None:
        """Mark those of these exposures that are up to date, so that planning passes them by."""
        plan = Plan(self, workflow)
        plan.steps(ids)
        plan.settle()

    def stale(self, workflow: fingerprints.Ordered, ids: Iterable[int] | None = None) -> dict[int, list[str]]:
        """Names of the steps that would run today, by exposure."""
        return {identity: [step.step for step in steps] for identity, steps in self.plan(workflow, ids).items()}

    def store(self, outcome: Outcome) -> bool:
        """Adopt the results of a task: files by rename and rows in one transaction. False if it was stored before."""
        return storing.store(self, outcome)


def _several(exposures: int | Iterable[int]) -> list[int]:
    return [int(identity) for identity in exposures] if isinstance(exposures, Iterable) else [int(exposures)]


def create_project(folder: str | os.PathLike[str], *, mode: str, library: str | None = None) -> Project:
    """Make a new project; see :meth:`Project.create`."""
    return Project.create(folder, mode=mode, library=library)


def open_project(folder: str | os.PathLike[str]) -> Project:
    """Open a project; see :meth:`Project.open`."""
    return Project.open(folder)


def read_settings(folder: Path) -> dict[str, Any]:
    """Read ``project.json``; ProjectError tells what is wrong with it."""
    path = folder / SETTINGS_NAME
    if not path.is_file():
        raise ProjectError(
            f"{folder}: is no focusnb project; make one with 'focusnb new {folder} --mode single-particle'"
        )
    try:
        settings = json.loads(path.read_text())
        settings["name"], settings["mode"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProjectError(f"{path}: cannot be read ({error}); restore it from a backup") from error
    return dict(settings)
