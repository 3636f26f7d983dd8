"""What a result depends on, as one hash; and which steps of a workflow are stale by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from focusnb.steps.base import Step


class Ordered(Protocol):
    """What is asked of a workflow: its steps in order, and which of them makes a value."""

    @property
    def steps(self) -> Sequence[type[Step]]: ...

    @property
    def makers(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Exposure:
    """What planning needs to know of an exposure."""

    id: int
    name: str
    folder: str
    group: str
    kind: str
    content: str
    facts: Mapping[str, Any]
    current: Mapping[str, Mapping[str, Any]]
    overrides: Mapping[str, Any]
    revision: int = 0


@dataclass(frozen=True)
class Planned:
    """One step to run on an exposure, resolved."""

    step: str
    params: Mapping[str, Any]
    fingerprint: str


def fingerprint(
    step: type[Step],
    params: Mapping[str, Any],
    exposure: Exposure,
    made_by: Mapping[str, str],
    programs: Mapping[str, str],
) -> str:
    """Hash step, version or text, programs, choices, the facts read and the fingerprints of what made the inputs."""
    facts = {}
    for spec in step.facts():
        value = exposure.facts.get(spec.name)
        # a raw file counts by its content; references carry their content's hash as their name
        facts[spec.name] = exposure.content if spec.name in ("movie", "image") and value else value
    inputs = {
        spec.name: exposure.overrides[spec.name] if spec.name in exposure.overrides else made_by.get(spec.name)
        for spec in step.needs()
    }
    known = {
        "step": step.name,
        "version": step.version,
        "origin": step.origin,
        "programs": {name: programs[name] for name in step.programs() if name in programs},
        "params": dict(params),
        "facts": facts,
        "inputs": inputs,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:32]


def plan(
    workflow: Ordered,
    exposure: Exposure,
    params: Mapping[str, Mapping[str, Any]],
    programs: Mapping[str, str],
    *,
    everything: bool = False,
    retry: bool = False,
    asked: Collection[str] = (),
) -> list[Planned]:
    """List the steps to run on an exposure, in order: the stale ones and the makers of transient values they need.

    A step that failed with today's fingerprint is not tried again unless ``retry`` is set or the machine, not the
    exposure, was the cause; what needs its results waits with it. A step whose results another program made is not
    run again unless ``everything`` is set or it is among those ``asked`` for.
    """
    prints: dict[str, str] = {}
    wanted: dict[str, bool] = {}
    blocked: set[str] = set()
    for step in workflow.steps:
        state = exposure.current.get(step.name, {})
        if is_adopted(state) and not (everything or step.name in asked):
            # the fingerprint of what was adopted: what follows is as new as that is
            prints[step.name] = str(state.get("fingerprint", ""))
            wanted[step.name] = False
            continue
        made_by = {
            spec.name: prints.get(workflow.makers.get(spec.name, ""), _present(spec.name, exposure))
            for spec in step.needs()
        }
        prints[step.name] = fingerprint(step, params.get(step.name, {}), exposure, made_by, programs)
        required = {spec.name for spec in step.Inputs.specs() if spec.required}
        if not everything and required & (blocked - exposure.overrides.keys()):
            blocked.update(spec.name for spec in step.makes())
            wanted[step.name] = False
            continue
        same = state.get("fingerprint") == prints[step.name]
        settled = (
            same
            and state.get("status") in ("failed", "broken")
            and state.get("error") != "ResourceError"
            and not state.get("beside")
        )
        if settled and not (retry or everything):
            blocked.update(spec.name for spec in step.makes())
        wanted[step.name] = everything or not ((same and state.get("status") == "done") or (settled and not retry))
    _add_transient_makers(workflow, wanted)
    return [
        Planned(step.name, params.get(step.name, {}), prints[step.name]) for step in workflow.steps if wanted[step.name]
    ]


def is_adopted(state: Mapping[str, Any]) -> bool:
    """Whether the present results of a step were made by another program and taken over."""
    return bool(state.get("adopted")) and state.get("status") == "done"


def _present(name: str, exposure: Exposure) -> str:
    """Fingerprint of the run that made a value outside this workflow."""
    for state in exposure.current.values():
        if name in state.get("makes", ()):
            return str(state.get("fingerprint", ""))
    return ""


def _add_transient_makers(workflow: Ordered, wanted: dict[str, bool]) -> None:
    for step in reversed(workflow.steps):
        if not wanted[step.name]:
            continue
        for spec in step.needs():
            if spec.kind == "transient" and spec.name in workflow.makers:
                wanted[workflow.makers[spec.name]] = True


def program_versions(steps: Iterable[type[Step]]) -> dict[str, str]:
    """Versions of the external programs these steps run; one that is missing counts as such."""
    from focusnb.errors import ProgramMissing
    from focusnb.steps import programs

    versions = {}
    for name in {name for step in steps for name in step.programs()}:
        try:
            versions[name] = programs.find(name).version
        except ProgramMissing:
            versions[name] = "missing"
    return versions
