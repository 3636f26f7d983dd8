"""What can be done with chosen exposures: run again, flag, move, correct by hand, take away; each told as code too."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

import anywidget
import ipywidgets as widgets
import traitlets

from focusnb.errors import ParameterError
from focusnb.panels.base import Panel
from focusnb.panels.forms import Form, labelled
from focusnb.panels.polling import in_thread
from focusnb.panels.theme import bundle
from focusnb.processing.queue import Queue
from focusnb.processing.workflow import Workflow
from focusnb.project.exports import tables
from focusnb.project.project import FLAGS, Project
from focusnb.project.sets import TRASH

WHOLE = "whole workflow"
"""In place of the name of a step."""

_TYPES = {
    "csv": "text/csv",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_MANY_IDS = 12
"""Ids, or ranges of them, that are named one by one in code."""

_WIDE = {"width": "auto", "flex": "1 1 auto"}


class Chosen(Protocol):
    """What the actions are about, as the explorer knows it."""

    @property
    def selection(self) -> list[int]:
        """Ids of the exposures chosen."""

    @property
    def shown(self) -> list[int]:
        """Ids of the rows shown, in their order."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns shown."""

    @property
    def selection_code(self) -> str:
        """Python lines that make ``ids`` the exposures chosen, without naming each; empty where that cannot be."""

    @property
    def shown_code(self) -> str:
        """The same for the rows shown."""


class CodeBox(anywidget.AnyWidget):
    """Shows code to be copied, and hands files to the browser."""

    _esm = bundle("actions.mjs")
    text = traitlets.Unicode().tag(sync=True)

    def download(self, name: str, content: bytes, type: str) -> None:
        """Hand a file to the browser under a name."""
        self.send({"kind": "download", "name": name, "type": type}, buffers=[content])


class Action(ABC):
    """One thing that can be done: its fields, its code, and doing it."""

    title = ""
    verb = ""

    def __init__(self, project: Project, chosen: Chosen, changed: Callable[[], None]) -> None:
        """``changed`` is called when a field changed, so that the code is written anew."""
        self.project = project
        self.chosen = chosen
        self.changed = changed
        self.fields: list[Any] = []

    def ready(self) -> str:
        """Why it cannot be done now; empty where it can."""
        return "" if self.chosen.selection else "no exposure is chosen: tick some, or click on a row"

    def renew(self) -> None:  # noqa: B027 - most offer nothing that ages
        """Bring what is offered up to date before the fields are shown."""

    @abstractmethod
    def code(self) -> str:
        """The lines of Python that do the same, without opening the project."""

    @abstractmethod
    def do(self) -> str:
        """Do it; returns what to tell."""

    def _observe(self, *controls: Any) -> None:
        for control in controls:
            control.observe(lambda _: self.changed(), names="value")


class Rerun(Action):
    """Run the workflow again, with other parameters where wanted."""

    title, verb = "Run", "Run"

    def __init__(self, project: Project, chosen: Chosen, changed: Callable[[], None]) -> None:
        super().__init__(project, chosen, changed)
        self.what = widgets.Dropdown(options=self._steps(), value=WHOLE, layout=_WIDE)
        self.place = widgets.Dropdown(
            options=[
                ("these exposures", "exposure"),
                ("their groups", "group"),
                ("the project", "project"),
                ("a trial", "trial"),
            ],
            value="exposure",
            layout=_WIDE,
        )
        self.trial = widgets.Text(placeholder="name of the trial", layout=_WIDE)
        self.again = widgets.Checkbox(False, description="also what is up to date", indent=False)
        self.first = widgets.Checkbox(True, description="before all that waits", indent=False)
        self.form: Form | None = None
        self._form_box = widgets.VBox()
        self._place_row = labelled("Values for", self.place)
        self._trial_row = labelled("Trial", self.trial)
        tick = [labelled("", self.again), labelled("", self.first)]
        self.fields = [labelled("What", self.what), self._form_box, self._place_row, self._trial_row, *tick]
        self.what.observe(lambda _: self.renew(), names="value")
        self.place.observe(lambda _: self._show(), names="value")
        self._observe(self.place, self.trial, self.again, self.first)
        self._show()

    def _steps(self) -> list[tuple[str, str]]:
        names: list[str] = []
        for kind in self.project.mode.steps:
            names += [name for name in Workflow.of(self.project, kind).names if name not in names]
        return [("the whole workflow", WHOLE), *((self.project.step(name).title, name) for name in names)]

    def renew(self) -> None:
        """Show the parameters in force for the step and the first exposure chosen."""
        if self.what.value == WHOLE:
            self.form = None
        else:
            step = self.project.step(self.what.value)
            first = next(iter(self.chosen.selection), None)
            model, origins = self.project.params(step.name, first)
            self.form = Form(step.Params, model.model_dump(), origins=origins, on_change=self.changed)
        self._form_box.children = [self.form.widget] if self.form is not None else []
        self._show()
        self.changed()

    def _show(self) -> None:
        has_values = self.form is not None and bool(self.form.fields)
        self._place_row.layout.display = "" if has_values else "none"
        self._trial_row.layout.display = "" if has_values and self.place.value == "trial" else "none"

    def _changes(self) -> dict[str, Any]:
        return self.form.changes if self.form is not None else {}

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"first": True} if self.first.value else {}
        if self._in_trial():
            name = self.trial.value.strip()
            if not name:
                raise ParameterError("a trial needs a name")
            options |= {"steps": [self.what.value], "trial": name}
            if changes := self._changes():
                options["params"] = {self.what.value: changes}
        elif self.again.value:
            options["everything"] = True
            if self.what.value != WHOLE:
                options["steps"] = [self.what.value]
        return options

    def _in_trial(self) -> bool:
        return self.form is not None and self.place.value == "trial"

    def _keys(self) -> list[tuple[str, Any]]:
        """Where changed values are kept: the level and its key."""
        if self.place.value == "exposure":
            return [("exposure", self.chosen.selection)]
        if self.place.value == "group":
            return [
                ("group", group) for group in sorted({e.group for e in self.project.exposures(self.chosen.selection)})
            ]
        return [("project", "")]

    def code(self) -> str:
        lines = []
        changes = self._changes()
        if changes and not self._in_trial():
            given = ", ".join(f"{name}={value!r}" for name, value in changes.items())
            for level, key in self._keys():
                place = (
                    ""
                    if level == "project"
                    else f", level={level!r}, key={'ids' if level == 'exposure' else repr(key)}"
                )
                lines.append(f"project.set_params({self.what.value!r}{place}, {given})")
        options = "".join(f", {name}={value!r}" for name, value in self._options().items())
        lines.append(f"focusnb.Queue(project).ask(ids{options})")
        return "\n".join(lines)

    def do(self) -> str:
        ids, changes, options = self.chosen.selection, self._changes(), self._options()
        if changes and not self._in_trial():
            for level, key in self._keys():
                self.project.set_params(self.what.value, level=level, key=key, **changes)
        queue = Queue(self.project)
        queued = queue.ask(ids, **options)
        self.renew()
        told = f"{queued} of {len(ids)} queued"
        if queued < len(ids) and not self.again.value:
            told += "; the others are up to date"
        if queued and queue.holder() is None:
            told += "; nobody works on the project: start processing"
        return told


class Flag(Action):
    """Flag exposures, or note a word on them."""

    title, verb = "Flag", "Set"

    def __init__(self, project: Project, chosen: Chosen, changed: Callable[[], None]) -> None:
        super().__init__(project, chosen, changed)
        self.flag = widgets.ToggleButtons(options=[("none", None), *((flag, flag) for flag in FLAGS)], value=FLAGS[0])
        self.note = widgets.Text(placeholder="leave empty to keep the notes", layout=_WIDE)
        self.fields = [labelled("Flag", self.flag), labelled("Note", self.note)]
        self._observe(self.flag, self.note)

    def code(self) -> str:
        lines = [f"project.flag(ids, {self.flag.value!r})"]
        if self.note.value.strip():
            lines.append(f"project.comment(ids, {self.note.value.strip()!r})")
        return "\n".join(lines)

    def do(self) -> str:
        ids = self.chosen.selection
        self.project.flag(ids, self.flag.value)
        if self.note.value.strip():
            self.project.comment(ids, self.note.value.strip())
        return f"{len(ids)} {'flagged ' + self.flag.value if self.flag.value else 'without a flag'}"


class Move(Action):
    """Put exposures into a group."""

    title, verb = "Move", "Move"

    def __init__(self, project: Project, chosen: Chosen, changed: Callable[[], None]) -> None:
        super().__init__(project, chosen, changed)
        self.group = widgets.Combobox(placeholder="a group, there already or new", layout=_WIDE)
        self.fields = [labelled("Group", self.group)]
        self._observe(self.group)

    def renew(self) -> None:
        """Offer the groups there are, and TRASH."""
        self.group.options = [*(name for name in self.project.groups() if name != TRASH), TRASH]

    def code(self) -> str:
        return f"project.move(ids, {self.group.value.strip()!r})"

    def do(self) -> str:
        ids, group = self.chosen.selection, self.group.value.strip()
        self.project.move(ids, group)
        self.renew()
        return f"{len(ids)} moved to {group}"


class Override(Action):
    """Set a finding by hand; it wins until it is cleared."""

    title, verb = "Correct", "Set"

    def __init__(self, project: Project, chosen: Chosen, changed: Callable[[], None]) -> None:
        super().__init__(project, chosen, changed)
        names = dict.fromkeys(name for kind in project.mode.steps for name in project.step_names(kind))
        made = [(spec, name) for name in names for spec in project.step(name).makes() if spec.kind == "value"]
        self._makers = {spec.name: step for spec, step in made}
        self.name = widgets.Dropdown(
            options=sorted((spec.caption, spec.name) for spec, _ in made),
            layout=_WIDE,
        )
        self.value = widgets.Text(placeholder="empty: what was measured counts again", layout=_WIDE)
        self.fields = [labelled("Finding", self.name), labelled("By hand", self.value)]
        self._observe(self.name, self.value)

    def _value(self) -> Any:
        """What was typed in the type of the finding, None for nothing; ParameterError where it cannot be one."""
        text, name = self.value.value.strip(), self.name.value
        if not text:
            return None
        return getattr(self.project.step(self._makers[name]).Results.make({name: text}), name)

    def code(self) -> str:
        name, value = self.name.value, self._value()
        return f"project.clear_override(ids, {name!r})" if value is None else f"project.override(ids, {name}={value!r})"

    def do(self) -> str:
        ids, name, value = self.chosen.selection, self.name.value, self._value()
        if value is None:
            self.project.clear_override(ids, name)
        else:
            self.project.override(ids, **{name: value})
        return f"{self.name.label}: {'as measured' if value is None else f'{value} by hand'} on {len(ids)}"


class Export(Action):
    """Take the table away as a file."""

    title, verb = "Export", "Download"

    def __init__(self, project: Project, chosen: Chosen, changed: Callable[[], None], code: CodeBox) -> None:
        super().__init__(project, chosen, changed)
        self._code = code
        self.rows = widgets.Dropdown(
            options=[("chosen rows", "chosen"), ("rows shown", "shown"), ("all rows", "all")],
            value="shown",
            layout=_WIDE,
        )
        self.columns = widgets.Dropdown(
            options=[("columns shown", "shown"), ("all columns", "all")], value="all", layout=_WIDE
        )
        self.format = widgets.Dropdown(options=tables.FORMATS, value="csv", layout=_WIDE)
        self.fields = [
            labelled("Rows", self.rows),
            labelled("Columns", self.columns),
            labelled("Format", self.format),
        ]
        self._observe(self.rows, self.columns, self.format)

    def ready(self) -> str:
        return super().ready() if self.rows.value == "chosen" else ""

    def _ids(self) -> Sequence[int] | None:
        if self.rows.value == "all":
            return None
        return self.chosen.selection if self.rows.value == "chosen" else self.chosen.shown

    def writer(self) -> Callable[[], tuple[str, int, bytes]]:
        """What writes the file asked for now, in a thread if need be: its name, its rows and its content."""
        ids, in_order = self._ids(), self.rows.value == "shown"
        columns = list(self._frame_columns()) if self.columns.value == "shown" else None
        name, format = self._name(), self.format.value

        def write() -> tuple[str, int, bytes]:
            frame = self.project.table(where=ids)
            if in_order:
                frame = frame.loc[[identity for identity in ids or () if identity in frame.index]]
            if columns is not None:
                frame = frame[[column for column in columns if column in frame.columns]]
            return name, len(frame), tables.encode_exposures(frame, format)

        return write

    def code(self) -> str:
        name = self._name()
        read = {"all": "project.table()", "chosen": "project.table(where=ids)"}
        frame = read.get(self.rows.value, "project.table(where=ids).loc[ids]")
        lines = ["from focusnb.project.exports import tables", "", f"frame = {frame}"]
        if self.columns.value == "shown":
            lines.append(f"frame = frame[{list(self._frame_columns())!r}]")
        data = f"tables.encode_exposures(frame, {self.format.value!r})"
        return "\n".join([*lines, f"open({name!r}, 'wb').write({data})"])

    def _frame_columns(self) -> Sequence[str]:
        first = [name for name in ("exposure", "group", "status", "reason") if name not in self.chosen.columns]
        return [*first, *self.chosen.columns]

    def _name(self) -> str:
        return f"{Path(self.project.folder).name}.{self.format.value}"

    def do(self) -> str:
        return self.hand_over(*self.writer()())

    def hand_over(self, name: str, rows: int, content: bytes) -> str:
        """Give a written file to the browser; returns what to tell."""
        self._code.download(name, content, _TYPES[Path(name).suffix.removeprefix(".")])
        return f"{name}: {rows:,} {'row' if rows == 1 else 'rows'}, {_size(len(content))}"


class ActionBar(Panel):
    """Buttons for what can be done with the chosen exposures; the one pressed shows its fields and its code."""

    def __init__(self, project: Project, chosen: Chosen) -> None:
        super().__init__(project, alone=False)
        self.chosen = chosen
        self._code = CodeBox()
        args = (project, chosen, self._changed)
        self.actions: dict[str, Action] = {
            "run": Rerun(*args),
            "flag": Flag(*args),
            "move": Move(*args),
            "override": Override(*args),
            "export": Export(*args, self._code),
        }
        self.open = ""
        self._writing = ""
        self._task: asyncio.Task[None] | None = None
        self._buttons = {name: self._button(name, action) for name, action in self.actions.items()}
        self._count = widgets.Label()
        self._count.add_class("fnb-caption")
        self._do = widgets.Button()
        self._do.add_class("fnb-button-first")
        self._do.on_click(lambda _: self.do())
        self._said = widgets.Label()
        self._said.add_class("fnb-caption")
        self._fields = widgets.VBox()
        self._fields.add_class("fnb-action-fields")
        row = widgets.HBox([self._do, self._said])
        row.add_class("fnb-action-do")
        self._sheet = widgets.VBox([self._fields, row, self._code])
        self._sheet.add_class("fnb-action-sheet")
        self._sheet.layout.display = "none"
        bar = widgets.HBox([*self._buttons.values(), self._count])
        bar.add_class("fnb-action-bar")
        self.body.children = [bar, self._sheet]
        self.start()

    def _button(self, name: str, action: Action) -> Any:
        button = widgets.Button(description=action.title, tooltip=(type(action).__doc__ or "").strip())
        button.on_click(lambda _: self.choose("" if self.open == name else name))
        return button

    def refresh(self, changes: Any) -> None:
        """Say how many are chosen."""
        self.update()

    def update(self) -> None:
        """Bring count, button and code up to date with what is chosen."""
        count = len(self.chosen.selection)
        self._count.value = f"{count} chosen" if count else "nothing chosen"
        self._changed()

    def choose(self, name: str) -> None:
        """Open the sheet of an action, or none."""
        self.open = name
        for other, button in self._buttons.items():
            (button.add_class if other == name else button.remove_class)("fnb-pressed")
        self._sheet.layout.display = "" if name else "none"
        self._said.value = ""
        if name:
            action = self.actions[name]
            with self.guard(f"open {action.title.lower()}"):
                action.renew()
            self._fields.children = action.fields
            self._do.description = action.verb
        self._changed()

    def _changed(self) -> None:
        if not self.open:
            self._code.text = ""
            return
        action = self.actions[self.open]
        reason = self._writing if self._writing and self.open == "export" else action.ready()
        self._do.disabled = bool(reason)
        self._do.tooltip = reason
        if reason:
            self._said.value = reason
        elif self._said.value.startswith("no exposure is chosen"):
            self._said.value = ""
        self._code.text = self.code()

    def code(self) -> str:
        """What the open action does, as code for a notebook; empty where a value is not valid yet."""
        action = self.actions[self.open]
        try:
            lines = action.code()
        except ParameterError:
            return ""
        head = ["import focusnb", "", f"project = focusnb.open_project({str(self.project.folder)!r})"]
        if "ids" in lines:
            head.append(self._ids_code(isinstance(action, Export) and action.rows.value == "shown"))
        return "\n".join([*head, lines])

    def _ids_code(self, shown: bool) -> str:
        """Lines that make ``ids`` the rows shown or chosen: named where they are few, else as they were found."""
        chosen = self.chosen
        parts = _ids_as_code(chosen.shown if shown else chosen.selection)
        found = (chosen.shown_code if shown else chosen.selection_code) if len(parts) > _MANY_IDS else ""
        return found or f"ids = [{', '.join(parts)}]"

    def do(self) -> None:
        """Do what is open."""
        action = self.actions[self.open]
        with self.guard(action.title.lower()):
            if isinstance(action, Export) and self._write(action):
                return
            self._said.value = action.do()
            self._changed()
        self.poke()

    def _write(self, action: Export) -> bool:
        """Write a file beside the page, as a long table takes its time; False where there is no loop to wait in."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        self._writing = "the file is being written and comes by itself"
        self._changed()
        self._task = loop.create_task(self._written(action, in_thread(action.writer())))
        return True

    async def _written(self, action: Export, writing: Future[tuple[str, int, bytes]]) -> None:
        told = ""
        with self.guard("export"):
            try:
                told = action.hand_over(*await asyncio.wrap_future(writing))
            finally:
                self._writing = ""
        self._said.value = told
        self._changed()


def _size(count: int) -> str:
    """Bytes in the unit that leaves a number to be read."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{max(count / 1e3, 0.1):.1f} kB"


def _ids_as_code(ids: Sequence[int]) -> list[str]:
    """Ids in their order as they would be typed into a list: ranges where many follow each other."""
    if len(ids) <= _MANY_IDS:
        return [str(identity) for identity in ids]
    runs: list[list[int]] = []
    for identity in ids:
        if runs and identity == runs[-1][1] + 1:
            runs[-1][1] = identity
        else:
            runs.append([identity, identity])
    return [str(a) if a == b else f"*range({a}, {b + 1})" for a, b in runs]
