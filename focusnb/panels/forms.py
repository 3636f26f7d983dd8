"""Forms made from declarations: one field for each value, with its label, unit, limits and what is wrong with it."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

from focusnb.parameters import Declared, Spec


class Field:
    """One value in a form. A field left empty means the value in force, which it shows as a placeholder."""

    def __init__(self, spec: Spec, value: Any, *, origin: str = "", on_change: Callable[[], None]) -> None:
        """``value`` : in force now; ``origin`` : the level it comes from, empty for the default."""
        self.spec = spec
        self._in_force = value
        self._control = self._make_control(value)
        self._control.observe(lambda _: on_change(), names="value")
        self._fault = widgets.HTML()
        self._fault.add_class("fnb-form-fault")
        row = labelled(spec.label, self._control, spec.unit)
        notes = [spec.help, spec.limits_text and f"{spec.limits_text} {spec.unit}".rstrip()]
        notes.append(f"set for the {origin}" if origin and origin != "default" else "")
        self._control.tooltip = ". ".join(note.rstrip(".") for note in notes if note)
        self.widget = widgets.VBox([row, self._fault])
        self.widget.add_class("fnb-form-field")

    def _make_control(self, value: Any) -> Any:
        spec, plain = self.spec, widgets.Layout(width="auto", flex="1 1 auto")
        if spec.type == "bool":
            return widgets.Checkbox(bool(value), indent=False, layout=plain)
        if spec.choices:
            options = [(str(choice), choice) for choice in spec.choices]
            if spec.optional:
                options.insert(0, ("none", None))
            return widgets.Dropdown(options=options, value=value, layout=plain)
        # a text, not a number's own control: those change what was typed without a word where it is beyond a limit
        return widgets.Text(placeholder=as_text(value), continuous_update=True, layout=plain)

    @property
    def is_changed(self) -> bool:
        """Whether something else than the value in force was chosen."""
        if isinstance(self._control, widgets.Text):
            text = self._control.value.strip()
            return text != "" and text != as_text(self._in_force)
        return bool(self._control.value != self._in_force)

    @property
    def value(self) -> Any:
        """What was chosen, as text where it was typed; the value in force where nothing was."""
        if not self.is_changed:
            return self._in_force
        if not isinstance(self._control, widgets.Text):
            return self._control.value
        text = self._control.value.strip()
        return None if self.spec.optional and text.lower() == "none" else text

    def set(self, value: Any) -> None:
        """Choose a value, as a user would."""
        self._control.value = as_text(value) if isinstance(self._control, widgets.Text) else value

    def clear(self) -> None:
        """Go back to the value in force."""
        self._control.value = "" if isinstance(self._control, widgets.Text) else self._in_force

    def tell(self, fault: str) -> None:
        """Show what is wrong under the field; nothing where it is empty."""
        self._fault.value = f'<span role="alert">{html.escape(fault)}</span>' if fault else ""
        (self.widget.add_class if fault else self.widget.remove_class)("fnb-form-wrong")

    @property
    def told(self) -> str:
        """What is shown to be wrong."""
        return str(self._fault.value)


class Form:
    """Fields for a model's values. ``changes`` are those that differ from what is in force, checked by the model."""

    def __init__(
        self,
        model: type[Declared],
        values: Mapping[str, Any] | None = None,
        *,
        origins: Mapping[str, str] | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """``values`` : in force now, by default the model's defaults; ``origins`` : the level each comes from.

        ``on_change`` is called after each change, when the faults are told already.
        """
        self.model = model
        self._tell_change = on_change
        in_force = {spec.name: spec.default for spec in model.specs()} | dict(values or {})
        self.fields = {
            spec.name: Field(
                spec, in_force[spec.name], origin=(origins or {}).get(spec.name, ""), on_change=self._changed
            )
            for spec in model.specs()
        }
        self._fault = widgets.HTML()
        self._fault.add_class("fnb-form-fault")
        self.widget = widgets.VBox([*self._groups(), self._fault])
        self.widget.add_class("fnb-form")

    def _groups(self) -> list[Any]:
        """Usual values by their groups; the advanced ones fold."""
        shown: dict[str, list[Any]] = {}
        folded = []
        for field in self.fields.values():
            (folded if field.spec.advanced else shown.setdefault(field.spec.group, [])).append(field.widget)
        boxes: list[Any] = []
        for name, members in shown.items():
            if len(shown) > 1:
                title = widgets.Label(name)
                title.add_class("fnb-form-group")
                members = [title, *members]
            boxes.append(widgets.VBox(members))
        if folded:
            box = widgets.Accordion([widgets.VBox(folded)], titles=["Advanced"])
            boxes.append(box)
        return boxes

    def _changed(self) -> None:
        self.check()
        if self._tell_change is not None:
            self._tell_change()

    def check(self) -> bool:
        """Tell each field what is wrong with it; returns whether nothing is."""
        faults = self.model.faults(self._given())
        for name, field in self.fields.items():
            field.tell(faults.get(name, ""))
        self._fault.value = html.escape(faults.get("", ""))
        return not faults

    def _given(self) -> dict[str, Any]:
        values = {name: field.value for name, field in self.fields.items()}
        return {name: value for name, value in values.items() if value is not None or self.fields[name].is_changed}

    @property
    def changes(self) -> dict[str, Any]:
        """The values chosen that differ from those in force; ParameterError where one is not valid.

        None stands for an optional value that was taken away.
        """
        model = self.model.make(self._given())
        return {name: getattr(model, name) for name, field in self.fields.items() if field.is_changed}

    def set(self, **values: Any) -> None:
        """Choose values by name, as a user would; ParameterError for a name the form does not have."""
        for name, value in values.items():
            self.model.spec(name)
            self.fields[name].set(value)

    def clear(self) -> None:
        """Go back to what is in force."""
        for field in self.fields.values():
            field.clear()


def labelled(label: str, control: Any, unit: str = "") -> Any:
    """A control with its label before it and its unit after it."""
    before, after = widgets.Label(label), widgets.Label(unit)
    before.add_class("fnb-form-label")
    after.add_class("fnb-caption")
    row = widgets.HBox([before, control, after])
    row.add_class("fnb-form-row")
    return row


def as_text(value: Any) -> str:
    """A value as it is typed."""
    if value is None:
        return "none"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
