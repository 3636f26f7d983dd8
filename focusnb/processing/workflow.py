"""A workflow: steps ordered by what they need and make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from focusnb.errors import ParameterError
from focusnb.project.project import Project
from focusnb.steps.base import CATEGORIES, Step


class Workflow:
    """Steps in the order in which they can run.

    Raises ParameterError where two steps make one value or write one file, where a step is named twice, or where steps
    wait for each other. Values that no step makes are :meth:`needs`; they must be there already, as facts or earlier
    findings.
    """

    def __init__(self, *steps: type[Step]) -> None:
        names = [step.name for step in steps]
        for name in names:
            if names.count(name) > 1:
                raise ParameterError(f"step {name} is in the workflow twice")
        self.makers: Mapping[str, str] = _makers(steps)
        self.steps: tuple[type[Step], ...] = tuple(_ordered(steps, self.makers))

    @classmethod
    def of(cls, project: Project, kind: str) -> Workflow:
        """The workflow of a project for exposures of a kind (movie or image)."""
        return cls(*(project.step(name) for name in project.step_names(kind)))

    @classmethod
    def named(cls, project: Project, names: Iterable[str]) -> Workflow:
        """The workflow of steps given by name."""
        return cls(*(project.step(name) for name in names))

    @classmethod
    def asked(cls, project: Project, names: Iterable[str], kind: str) -> Workflow:
        """The workflow of steps asked for by name, with those of the project that make what they need and nobody keeps.

        Without them a step that begins with, say, corrected frames could not be run alone.

        kind : of the exposures (movie or image). What is made of another kind only comes where a step cannot do
            without it: its maker then says what is wrong
        """
        chosen = list(names)
        others = {name: maker for other in project.mode.steps for name, maker in cls.of(project, other).makers.items()}
        usual = cls.of(project, kind).makers
        made = {spec.name for name in chosen for spec in project.step(name).makes()}
        waiting = list(chosen)
        while waiting:
            needs = project.step(waiting.pop()).needs()
            for spec in [spec for spec in needs if spec.kind == "transient"]:
                maker = usual.get(spec.name) or (others.get(spec.name) if spec.required else None)
                if spec.name in made or maker is None:
                    continue
                chosen.append(maker)
                waiting.append(maker)
                made.update(spec.name for spec in project.step(maker).makes())
        return cls(*(project.step(name) for name in chosen))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the steps in their order."""
        return tuple(step.name for step in self.steps)

    def needs(self) -> list[str]:
        """Names of the findings and products that must be there before."""
        return sorted({spec.name for step in self.steps for spec in step.needs() if spec.required} - set(self.makers))

    def check_beside(self, project: Project) -> None:
        """ParameterError if a step here makes what another step makes in the project's own workflow.

        Run for good it would overwrite values that the workflow takes to be its own, and nothing would restore them.
        """
        usual = {name for kind in project.mode.steps for name in project.step_names(kind)}
        for kind in project.mode.steps:
            makers = Workflow.of(project, kind).makers
            for value, step in self.makers.items():
                if step not in usual and value in makers:
                    raise ParameterError(
                        f"{step} makes {value}, as {makers[value]} does in this project; run it as a trial"
                    )

    def __repr__(self) -> str:
        return f"Workflow({' → '.join(self.names)})"


def _makers(steps: Iterable[type[Step]]) -> dict[str, str]:
    makers: dict[str, str] = {}
    writers: dict[str, str] = {}
    for step in steps:
        for spec in step.makes():
            if spec.file is not None and writers.setdefault(spec.file, step.name) != step.name:
                raise ParameterError(
                    f"{writers[spec.file]} and {step.name} both write {spec.file}; name the file of one differently"
                )
            if spec.name in makers:
                raise ParameterError(
                    f"{makers[spec.name]} and {step.name} both make {spec.name}; take one of them, and "
                    "run the other as a trial"
                )
            makers[spec.name] = step.name
    return makers


def _ordered(steps: Iterable[type[Step]], makers: Mapping[str, str]) -> list[type[Step]]:
    """Order by need; among steps that could run next, by category and then as given."""
    categories = list(CATEGORIES)
    left = sorted(steps, key=lambda step: categories.index(step.category))
    done: list[type[Step]] = []
    while left:
        waiting = {step.name for step in left}
        for step in left:
            if not {makers.get(spec.name) for spec in step.needs()} & (waiting - {step.name}):
                done.append(step)
                left.remove(step)
                break
        else:
            raise ParameterError(f"{', '.join(sorted(waiting))} wait for each other's results; take one of them out")
    return done
