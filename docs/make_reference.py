"""Write docs/reference.md from the declarations: every fact, every step with its parameters and what it makes."""

from __future__ import annotations

from pathlib import Path

from focusnb.parameters import Spec
from focusnb.quantities import Acquisition
from focusnb.steps.base import CATEGORIES, built_in_steps

TARGET = Path(__file__).parent / "reference.md"


def rows(specs: list[Spec], *, defaults: bool) -> list[str]:
    """A table of declared values."""
    head = ["name", "label", "unit", *(["default", "limits"] if defaults else []), "RELION", "meaning"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    for spec in specs:
        limits = ", ".join(f"{signs.get(key, key)} {value:g}" for key, value in spec.limits.items())
        limits = limits or ", ".join(map(str, spec.choices))
        default = "" if spec.default is None else str(spec.default)
        kind = "" if spec.file is None else f"File `{spec.file}`. "
        cells = [f"`{spec.name}`", spec.label, spec.unit, *([default, limits] if defaults else [])]
        cells += [f"`{spec.star}`" if spec.star else "", (kind + spec.help).strip()]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def text() -> str:
    """The whole page."""
    lines = [
        "# Reference",
        "",
        "Made from the declarations by `python docs/make_reference.py`; not edited by hand.",
        "",
        "## Facts",
        "",
        "What the microscope did; given with `--set NAME=VALUE`, read from metadata or from the file itself.",
        "",
        *rows(Acquisition.specs(), defaults=True),
        "",
        "## Steps",
    ]
    steps = sorted(built_in_steps().values(), key=lambda step: (list(CATEGORIES).index(step.category), step.name))
    for step in steps:
        needs = ", ".join(f"`{spec.name}`" for spec in step.Inputs.specs() if spec.required)
        helps = ", ".join(f"`{spec.name}`" for spec in step.Inputs.specs() if not spec.required)
        lines += ["", f"### {step.title}: `{step.name}`", "", " ".join((step.__doc__ or "").split()), ""]
        if step.over == "set":
            lines += [f"Runs on a set of exposures: those on which `{step.member_step}` is done."]
        else:
            lines += [f"Needs {needs}." + (f" Uses where known: {helps}." if helps else "")]
        if step.Params.specs():
            lines += ["", "Parameters:", "", *rows(step.Params.specs(), defaults=True)]
        lines += ["", "Makes:", "", *rows(step.Results.specs(), defaults=False)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
    print(f"{TARGET} written")
