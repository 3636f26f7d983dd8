"""A step: what it needs, what it can be told, what it makes, and how.

    class MeasureGold(Step):
        name = "measure_gold"
        title = "Count gold beads"
        version = "1"
        category = "statistics"

        class Inputs(StepInputs): ...
        class Params(StepParams): ...
        class Results(StepResults): ...

        def run(self, inputs, params, work): ...

Defining the class registers it. Inputs are looked up by name among the exposure's facts and among what other steps
make; this alone orders a workflow.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import model_validator

from focusnb.errors import ParameterError
from focusnb.parameters import PRODUCTS, Declared, Spec
from focusnb.quantities import Acquisition

if TYPE_CHECKING:
    from focusnb.steps.work import Work

FACTS = frozenset(spec.name for spec in Acquisition.specs())

CATEGORIES: dict[str, str] = {
    "prepare": "Prepare",
    "align": "Align frames",
    "statistics": "Measure the image",
    "ctf": "Fit the CTF",
    "pick": "Pick particles",
    "crystal": "2D crystals",
    "tomo": "Tilt series",
}
"""Categories in the order of the processing, with their titles."""


class StepInputs(Declared):
    """What a step needs: facts, findings and products of other steps, by name."""


class StepParams(Declared):
    """What a step can be told: choices with defaults."""


class StepResults(Declared):
    """What a step makes. Missing values are None; numbers that are not finite count as missing."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in values.items()}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain.items()}


@dataclass(frozen=True)
class Cost:
    """What a step occupies at its worst, from facts of the header alone: bytes and threads."""

    memory: int = 500_000_000
    gpu_memory: int = 0
    threads: int = 1

    def __or__(self, other: Cost) -> Cost:
        """The largest of both, for a chain of steps that run one after another."""
        return Cost(
            max(self.memory, other.memory), max(self.gpu_memory, other.gpu_memory), max(self.threads, other.threads)
        )


class Step(ABC):
    """One thing done to an exposure (or a set of them); see the module's text."""

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    version: ClassVar[str] = "1"
    category: ClassVar[str] = ""
    gpu: ClassVar[Literal["no", "uses", "needs"]] = "no"
    over: ClassVar[Literal["exposure", "set"]] = "exposure"
    origin: ClassVar[str] = ""
    """Hash of the text for steps that come from a file of the user's; it is part of the fingerprint."""

    Inputs: ClassVar[type[StepInputs]] = StepInputs
    Params: ClassVar[type[StepParams]] = StepParams
    Results: ClassVar[type[StepResults]] = StepResults

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if inspect.isabstract(cls) or not cls.__dict__.get("name"):
            return
        _check(cls)
        registry = _collecting[-1] if _collecting else _built_in
        known = _built_in.get(cls.name) or registry.get(cls.name)
        if known is not None and known.__qualname__ + known.__module__ != cls.__qualname__ + cls.__module__:
            raise ParameterError(
                f"step {cls.name} is defined twice: in {known.__module__} and in {cls.__module__}; rename one of them"
            )
        registry[cls.name] = cls

    @abstractmethod
    def run(self, inputs: Any, params: Any, work: Work) -> StepResults:
        """Do it. StepError says that this exposure cannot; any other exception is a fault."""

    def cost(self, facts: Mapping[str, Any], params: Any) -> Cost:
        """Estimate what :meth:`run` occupies."""
        return Cost()

    @classmethod
    def programs(cls) -> tuple[str, ...]:
        """Names of external programs whose versions belong to the fingerprint."""
        return ()

    @classmethod
    def needs(cls) -> list[Spec]:
        """Inputs that are made by other steps."""
        return [spec for spec in cls.Inputs.specs() if spec.name not in FACTS]

    @classmethod
    def facts(cls) -> list[Spec]:
        """Inputs that are facts."""
        return [spec for spec in cls.Inputs.specs() if spec.name in FACTS]

    @classmethod
    def makes(cls) -> list[Spec]:
        """What comes out."""
        return cls.Results.specs()


def _check(cls: type[Step]) -> None:
    if cls.category not in CATEGORIES:
        raise ParameterError(f"step {cls.name}: category {cls.category!r} is not one of {', '.join(CATEGORIES)}")
    for made in cls.Results.specs():
        if made.name in FACTS:
            raise ParameterError(f"step {cls.name} makes {made.name}, which is a fact; name the finding differently")
    clash = {s.name for s in cls.Params.specs()} & (FACTS | {s.name for s in cls.Results.specs()})
    if clash:
        raise ParameterError(f"step {cls.name}: {', '.join(sorted(clash))} is a choice and a fact or finding at once")


_built_in: dict[str, type[Step]] = {}
_collecting: list[dict[str, type[Step]]] = []


@dataclass
class _Loaded:
    stamp: tuple[tuple[str, int, int], ...] = ()
    steps: dict[str, type[Step]] = field(default_factory=dict)


_from_folder: dict[str, _Loaded] = {}


def built_in_steps() -> dict[str, type[Step]]:
    """All steps of focusnb itself, by name; their files are imported on the first call."""
    import focusnb.steps as package

    for category in CATEGORIES:
        folder = Path(package.__path__[0]) / category
        if not folder.is_dir():
            continue
        importlib.import_module(f"focusnb.steps.{category}")
        for module in pkgutil.iter_modules([str(folder)]):
            importlib.import_module(f"focusnb.steps.{category}.{module.name}")
    return dict(_built_in)


def steps_in(folder: Path | str | None) -> dict[str, type[Step]]:
    """All steps: the built-in ones and those of a trusted folder of the user's (Python files and scripts).

    Files are loaded again when they changed. Raises ParameterError for a file that cannot be loaded, naming it.
    """
    steps = built_in_steps()
    if folder is None:
        return steps
    folder = Path(folder)
    files = sorted(path for path in folder.glob("*") if path.suffix in (".py", ".sh") and not path.name.startswith("."))
    stamp = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    loaded = _from_folder.setdefault(str(folder), _Loaded())
    if loaded.stamp != stamp:
        loaded.steps = {}
        for path in files:
            loaded.steps.update(_load(path))
        loaded.stamp = stamp
    return {**steps, **loaded.steps}


def _load(path: Path) -> dict[str, type[Step]]:
    from focusnb.steps import scripts

    found: dict[str, type[Step]] = {}
    _collecting.append(found)
    try:
        if scripts.has_header(path):
            scripts.step_from_script(path)
        elif path.suffix == ".py":
            _load_module(path)
    except ParameterError:
        raise
    except Exception as error:
        raise ParameterError(f"{path}: cannot be loaded as a step: {type(error).__name__}: {error}") from error
    finally:
        _collecting.pop()
    return found


def _load_module(path: Path) -> None:
    import hashlib
    import importlib.util
    import sys

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"focusnb_user_steps.{path.stem}_{digest[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # declarations are resolved through their module
    before = set(_collecting[-1])
    spec.loader.exec_module(module)
    for step in set(_collecting[-1]) - before:
        _collecting[-1][step].origin = digest


def find_step(name: str, folder: Path | str | None = None) -> type[Step]:
    """Return a step by name; ParameterError lists those there are."""
    steps = built_in_steps()
    if name not in steps:
        steps = steps_in(folder)
    if name not in steps:
        raise ParameterError(f"there is no step {name}; there are {', '.join(sorted(steps))}")
    return steps[name]


def is_product(spec: Spec) -> bool:
    """Whether a declared result is a file in the exposure's folder."""
    return spec.kind in PRODUCTS
