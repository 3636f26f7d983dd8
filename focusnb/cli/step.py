"""step: list, describe, tune and run single steps; options come from their declarations."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from focusnb.cli.console import say
from focusnb.cli.declared import with_options
from focusnb.cli.processing import process
from focusnb.cli.projects import Folder
from focusnb.errors import ParameterError

app = typer.Typer(help="List, describe, tune and run single steps.", no_args_is_help=True)

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
StepName = Annotated[str, typer.Argument(metavar="STEP", help="Name of the step, as 'focusnb step list' shows it.")]


@app.command("list")
def list_steps(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Also the steps of this project.")] = None,
) -> None:
    """List the steps: name, category, title."""
    for step in sorted(_steps(folder).values(), key=lambda s: (s.category, s.name)):
        print(f"{step.name:24s} {step.category:12s} {step.title}")


@app.command("show")
def show(
    arguments: Annotated[
        list[str], typer.Argument(metavar="[DIR] STEP", help="A step, and the project it belongs to if it is its own.")
    ],
) -> None:
    """Describe a step: what it needs, what it can be told, what it makes."""
    from focusnb.project.project import SETTINGS_NAME

    if len(arguments) > 2:
        raise ParameterError("give one step, and the folder of its project if it is the project's own")
    projects = [text for text in arguments if len(arguments) == 2 and (Path(text) / SETTINGS_NAME).is_file()]
    name = next(text for text in arguments if text not in projects)
    steps = _steps(Path(projects[0]) if projects else None)
    if name not in steps:
        hint = "" if projects else "; for a step of a project: focusnb step show DIR STEP"
        raise ParameterError(f"there is no step {name}; there are {', '.join(sorted(steps))}{hint}")
    step = steps[name]
    print(f"{step.title} ({step.name}, version {step.version})\n\n{inspect.cleandoc(step.__doc__ or '')}")
    for title, model in (("Needs", step.Inputs), ("Parameters", step.Params), ("Makes", step.Results)):
        if not model.specs():
            continue
        print(f"\n{title}:")
        for spec in model.specs():
            default = f" [{spec.default}]" if title == "Parameters" and spec.default is not None else ""
            optional = " (optional)" if title == "Needs" and not spec.required else ""
            limits = f" {spec.limits_text}" * bool(spec.limits) + f" one of {', '.join(map(str, spec.choices))}" * bool(
                spec.choices
            )
            print(f"  {spec.name:28s} {spec.caption}{default}{limits}{optional}  {spec.help}".rstrip())


@app.command("trust")
def trust(
    folder: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let the code in a project's folder run as your own; ask first, showing what it is."""
    from focusnb.project.project import read_settings
    from focusnb.steps import trust as rules

    read_settings(folder.resolve())
    say(rules.describe(folder))
    if not yes and not typer.confirm("Do you trust these files?", err=True):
        raise typer.Exit(1)
    rules.trust(folder)
    say(f"The steps in {folder / 'steps'} may run until one of them is changed")


@app.command("use")
def use(
    folder: Folder,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[STEP...]", help="Steps to add; none: list them.")
    ] = None,
) -> None:
    """Add steps to those that run on every exposure, after a check that they go together."""
    from focusnb.processing.workflow import Workflow
    from focusnb.project.project import Project

    with Project.open(folder) as project:
        added = [name for name in names or [] if name not in project.own_steps]
        # two makers of one value, or steps that wait for each other, are refused before anything is written
        Workflow.named(project, [*project.mode.steps["movie"], *project.own_steps, *added])
        project.use_steps(*project.own_steps, *added)
        for kind in project.mode.steps:
            say(f"{kind.capitalize()}s: {' → '.join(Workflow.of(project, kind).names)}")


@app.command("drop")
def drop(
    folder: Folder, names: Annotated[list[str], typer.Argument(metavar="STEP...", help="Steps to take out.")]
) -> None:
    """Take steps out of those that run on every exposure; what they made stays."""
    from focusnb.project.project import Project

    with Project.open(folder) as project:
        for name in names:
            if name not in project.own_steps:
                own = ", ".join(project.own_steps) or "none"
                raise ParameterError(f"{name} is not among the steps added to this project: {own}")
        project.use_steps(*(name for name in project.own_steps if name not in names))
        say(f"Movies: {' → '.join(project.step_names('movie'))}")


@app.command("run", context_settings=_PASS_ON, add_help_option=False)
def run(context: typer.Context, folder: Folder, name: StepName) -> None:
    """Run one step on exposures, as a trial or for good: focusnb step run DIR STEP --help lists its parameters."""
    _with_parameters(folder, name, list(context.args), _run, "run")


@app.command("set", context_settings=_PASS_ON, add_help_option=False)
def set_parameters(context: typer.Context, folder: Folder, name: StepName) -> None:
    """Set parameters of a step for the project, a group or an exposure; --help lists them."""
    _with_parameters(folder, name, list(context.args), _set, "set")


def _steps(folder: Path | None) -> dict[str, Any]:
    if folder is None:
        from focusnb.steps.base import built_in_steps

        return dict(built_in_steps())
    from focusnb.project.project import Project

    with Project.open(folder) as project:
        for told in (*project.step_faults(), project.untrusted()):
            if told:
                say(told)
        return dict(project.steps())


def _with_parameters(folder: Path, name: str, arguments: list[str], function: Any, verb: str) -> None:
    """Parse the rest of a command line by what the step declares, then do it."""
    from focusnb.project.project import Project

    if name in ("-h", "--help") or str(folder) in ("-h", "--help"):
        say(f"Usage: focusnb step {verb} DIR STEP [OPTIONS]; focusnb step {verb} DIR STEP --help lists the parameters")
        return
    with Project.open(folder) as project:
        step = project.step(name)
        inner = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        made = with_options(function, step.Params.specs())
        inner.command(help=f"{step.title}: {(step.__doc__ or '').strip()}")(made)
        _current.update(project=project, step=step)
        inner(arguments, prog_name=f"focusnb step {verb} {folder} {name}", standalone_mode=True)


_current: dict[str, Any] = {}


def _run(
    exposures: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPOSURE...]", help="Names or ids; default: all but TRASH.")
    ] = None,
    trial: Annotated[str | None, typer.Option(help="Keep the results apart under this name.")] = None,
    everything: Annotated[bool, typer.Option("--again", help="Run it where it is not stale as well.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that work side by side; 0 works in this one.")] = 0,
    values: Any = None,
) -> None:
    project, step = _current["project"], _current["step"]
    ids = [project.find(name) for name in exposures or []] or None
    workflow = _chain(project, step)
    files = {spec.name for s in workflow.steps for spec in s.Inputs.specs() if spec.required} & {"movie", "image"}
    asked = list(project.exposures(ids or project.ids()))
    ids = [exposure.id for exposure in asked if all(exposure.facts.get(name) for name in files)]
    if len(ids) < len(asked):
        say(f"{len(asked) - len(ids)} exposures have no {' or '.join(sorted(files))} and are left out")
    if not ids:
        return
    if trial is None:
        workflow.check_beside(project)
    process(
        project,
        workers=workers,
        submit=lambda processor: processor.submit(
            workflow, ids, trial=trial, params={step.name: values}, everything=everything
        ),
        leave=True,
    )


def _chain(project: Any, step: Any) -> Any:
    """The step with the makers of the transient values it needs."""
    from focusnb.processing.workflow import Workflow

    steps = {step.name: step}
    todo = [step]
    while todo:
        for spec in todo.pop().needs():
            if spec.kind != "transient" or not spec.required:
                continue
            maker = next((s for s in project.steps().values() if spec.name in {made.name for made in s.makes()}), None)
            if maker is not None and maker.name not in steps:
                steps[maker.name] = maker
                todo.append(maker)
    return Workflow(*steps.values())


def _set(
    group: Annotated[str | None, typer.Option(help="Only for this group.")] = None,
    exposure: Annotated[str | None, typer.Option(help="Only for this exposure.")] = None,
    values: Any = None,
) -> None:
    project, step = _current["project"], _current["step"]
    if group is not None and exposure is not None:
        raise ParameterError("give a group or an exposure, not both")
    level, key = "project", ""
    if group is not None:
        level, key = "group", group
    elif exposure is not None:
        level, key = "exposure", str(project.find(exposure))
    project.set_params(step.name, level=level, key=key, **values)
    model, origins = project.params(step.name)
    for spec in step.Params.specs():
        say(f"{spec.name} = {getattr(model, spec.name)} ({origins[spec.name]})")
