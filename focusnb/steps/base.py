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

import hashlib
import importlib
import importlib.util
import inspect
import math
import pkgutil
import re
import sys
import threading
import typing
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""What steps and declared values may be called."""

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
    member_step: ClassVar[str] = ""
    """For a step over a set: the step that must be done on a member for it to count, and whose run is its key."""
    timeout: ClassVar[float] = 1800.0
    """Seconds after which it counts as hanging and its worker is ended."""
    grace: ClassVar[float] = 0.0
    """Seconds more that a step has which ends by itself after its time-out."""
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

    @classmethod  # noqa: B027 - most steps read no file of the camera's
    def check_files(cls, files: Mapping[str, str]) -> None:
        """Raise FormatError for files among the inputs that cannot be read; asked before a missing fact is told.

        files : paths by the name of the input
        """

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
    if not NAME.fullmatch(cls.name):
        raise ParameterError(f"step {cls.name}: a name is small letters, digits and underscores, a letter first")
    if cls.category not in CATEGORIES:
        raise ParameterError(f"step {cls.name}: category {cls.category!r} is not one of {', '.join(CATEGORIES)}")
    for made in cls.Results.specs():
        if made.name in FACTS:
            raise ParameterError(f"step {cls.name} makes {made.name}, which is a fact; name the finding differently")
    without = [spec.name for spec in cls.Params.specs() if spec.required]
    if without:
        raise ParameterError(f"step {cls.name}: parameter {without[0]} has no default; give it one")
    others = {spec.name for spec in [*cls.Inputs.specs(), *cls.Results.specs()]}
    clash = {spec.name for spec in cls.Params.specs()} & (FACTS | others)
    if clash:
        raise ParameterError(f"step {cls.name}: {', '.join(sorted(clash))} is a choice and a fact or finding at once")


_built_in: dict[str, type[Step]] = {}
_collecting: list[dict[str, type[Step]]] = []
_loading = threading.RLock()
"""Held while files are loaded: two threads of a worker must not collect each other's steps."""


@dataclass
class _Loaded:
    stamp: tuple[tuple[str, int, int], ...] = ()
    steps: dict[str, type[Step]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


_from_folder: dict[str, _Loaded] = {}
_imported: set[str] = set()


def built_in_steps() -> dict[str, type[Step]]:
    """All steps of focusnb itself, by name, in the order of their files; these are imported on the first call."""
    with _loading:
        for category in [name for name in CATEGORIES if name not in _imported]:
            folder = Path(__file__).parent / category
            if (folder / "__init__.py").is_file():
                importlib.import_module(f"focusnb.steps.{category}")
                for module in pkgutil.iter_modules([str(folder)]):
                    importlib.import_module(f"focusnb.steps.{category}.{module.name}")
            _imported.add(category)
        # columns of a library come in this order, whichever step somebody imported first
        return {step.name: step for step in sorted(_built_in.values(), key=_place)}


def _place(step: type[Step]) -> tuple[int, str]:
    category, _, module = step.__module__.removeprefix("focusnb.steps.").partition(".")
    places = list(CATEGORIES)
    return (places.index(category), module) if module and category in places else (len(places), "")


def steps_in(folder: Path | str | None) -> dict[str, type[Step]]:
    """All steps: the built-in ones and those of a trusted folder of the user's (Python files and scripts).

    Files are loaded again when they changed. One that cannot be loaded is left out; :func:`faults_in` tells why. Names
    that begin with a dot or an underscore are not looked at.
    """
    steps = built_in_steps()
    if folder is None:
        return steps
    folder = Path(folder)
    files = sorted(path for path in folder.glob("*") if path.suffix in (".py", ".sh") and path.name[0] not in "._")
    stamp = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    with _loading:
        loaded = _from_folder.setdefault(str(folder), _Loaded())
        if loaded.stamp != stamp:
            loaded.steps, loaded.faults = _load_all(files)
            loaded.stamp = stamp
        return {**steps, **loaded.steps}


def faults_in(folder: Path | str | None) -> tuple[str, ...]:
    """Why files of a user's folder could not be loaded as steps, a sentence for each."""
    steps_in(folder)
    return () if folder is None else _from_folder[str(Path(folder))].faults


def known_values() -> dict[str, Any]:
    """The declared type of every fact and of everything the built-in steps make, by name, without ``| None``."""
    models: list[type[Declared]] = [*(step.Results for step in built_in_steps().values()), Acquisition]
    known: dict[str, Any] = {}
    for model in models:
        hints = typing.get_type_hints(model, include_extras=True)
        known.update({name: _without_none(hints[name]) for name in model.model_fields})
    return known


def _without_none(hint: Any) -> Any:
    arguments = typing.get_args(hint)
    return next(arg for arg in arguments if arg is not type(None)) if type(None) in arguments else hint


@contextmanager
def collecting() -> Iterator[dict[str, type[Step]]]:
    """Gather the steps defined within, instead of adding them to the built-in ones."""
    found: dict[str, type[Step]] = {}
    with _loading:
        _collecting.append(found)
        try:
            yield found
        finally:
            _collecting.pop()


def _load_all(files: list[Path]) -> tuple[dict[str, type[Step]], tuple[str, ...]]:
    steps: dict[str, type[Step]] = {}
    source: dict[str, Path] = {}
    faults: list[str] = []
    for path in files:
        try:
            found = _load(path)
        except ParameterError as error:
            faults.append(str(error))
            continue
        for name, step in found.items():
            if name in source:
                faults.append(f"step {name} is defined in {source[name]} and in {path}; rename one of them")
                steps.pop(name, None)
            else:
                steps[name], source[name] = step, path
    return steps, tuple(faults)


def _load(path: Path) -> dict[str, type[Step]]:
    from focusnb.steps import scripts

    try:
        if scripts.has_header(path):
            step = scripts.step_from_script(path)
            return {step.name: step}
        found = _load_module(path) if path.suffix == ".py" else {}
        if not found:
            raise ParameterError(
                f"{path}: defines no step; give a class derived from Step a name, or the script a header, or let the "
                "file's name begin with an underscore"
            )
        return found
    except ParameterError as error:
        raise error if str(path) in str(error) else ParameterError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise ParameterError(f"{path}: cannot be loaded as a step: {type(error).__name__}: {error}") from error


def _load_module(path: Path) -> dict[str, type[Step]]:
    text = path.read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    name = f"focusnb_user_steps.{path.stem}_{digest[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # declarations are resolved through their module
    with collecting() as found:
        # compiled from the text that was hashed: byte code left beside it by somebody else is never run
        exec(compile(text, path, "exec", dont_inherit=True), module.__dict__)
    for step in found.values():
        step.origin = digest
    return found


def find_step(name: str, folder: Path | str | None = None) -> type[Step]:
    """Return a step by name; ParameterError lists those there are."""
    steps = built_in_steps()
    if name not in steps:
        steps = steps_in(folder)
    if name not in steps:
        faults = "".join(f". {fault}" for fault in faults_in(folder))
        raise ParameterError(f"there is no step {name}; there are {', '.join(sorted(steps))}{faults}")
    return steps[name]


def is_product(spec: Spec) -> bool:
    """Whether a declared result is a file in the exposure's folder."""
    return spec.kind in PRODUCTS
