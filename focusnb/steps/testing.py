"""Run one step by itself: for its test, and to try it in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from focusnb.steps.base import FACTS, Step
from focusnb.steps.work import Work


def run_step(
    step: type[Step],
    folder: Path,
    *,
    params: Mapping[str, Any] | None = None,
    exposure: str = "exposure",
    from_disk: bool = False,
    **inputs: Any,
) -> Any:
    """Run a step on values given by name and return its results; its files are in ``folder``.

    folder : an existing folder
    params : choices of the step; what is left out has its default
    inputs : facts and findings as values; images as (y, x) float32 arrays; transient values as objects
    from_disk : write images first and let the step read them, as it would in a later session
    """
    specs = {spec.name: spec for spec in [*step.Inputs.specs(), *step.makes()]}
    work = Work(folder, exposure_folder=folder, specs=specs, exposure=exposure)
    values: dict[str, Any] = {}
    for name, value in inputs.items():
        spec = step.Inputs.spec(name)
        if name in FACTS or spec.kind == "value":
            values[name] = value
        elif spec.kind == "transient":
            work[name] = value
            values[name] = name
        elif from_disk:
            work.save(name, value, **({"pixel_size": inputs.get("pixel_size", 1.0)} if spec.kind == "image" else {}))
            values[name] = spec.file
        else:
            work[name] = value
            values[name] = spec.file
    if from_disk:
        work = Work(folder, exposure_folder=folder, specs=specs, exposure=exposure)
    return step().run(step.Inputs.make(values), step.Params.make(params or {}), work)
