"""What a step works with: its folder, arrays made before it, and a way to say how far it is."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from focusnb.errors import StepError
from focusnb.parameters import Spec

SESSION = "session"
"""Name of the set of all exposures."""

MEMBERS_FILE = ".members.json"


@dataclass(frozen=True)
class Member:
    """An exposure as a step on a set sees it.

    folder : where its products lie
    key : fingerprint of what the set takes from it; another key is another content
    values : what the set knows of this member
    """

    id: int
    name: str
    folder: Path
    key: str
    values: Mapping[str, Any]


class Work:
    """The surroundings of one step in one task.

    ``work[name]`` gives what was made under that name: the object made in this task, else what its file holds (an
    image as a (y, x) float32 array, a curve as a dict, a table as a dict of blocks); arrays are shared with the other
    steps and read-only. ``work.save(name, value)`` keeps a result: in memory for the steps after this one, and as the
    declared file. ``work.exposure`` and ``work.identity`` are the name and the number of the exposure, 0 outside a
    project and for a set. ``work.session`` is the folder of the set of all exposures, None in a trial and outside a
    project; ``work.fingerprint`` stands for all that the results of the present step depend on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        exposure_folder: Path,
        specs: Mapping[str, Spec],
        exposure: str = "",
        identity: int = 0,
        seed: int = 0,
        xp: Any = None,
        emit: Callable[[str, float | None], None] | None = None,
        session: Path | None = None,
    ) -> None:
        self.folder = folder
        self.session = session
        self.fingerprint = ""
        self.exposure_folder = exposure_folder
        self.exposure = exposure
        self.identity = identity
        self.seed = seed
        self.xp = np if xp is None else xp
        self.versions: dict[str, str] = {}
        self.log: list[str] = []
        self.products: dict[str, str] = {}
        self._specs = dict(specs)
        self._memory: dict[str, Any] = {}
        self._emit = emit

    def begin(self, emit: Callable[[str, float | None], None] | None = None, fingerprint: str = "") -> None:
        """Start the next step of the chain: log, products and versions are its own, what was made stays."""
        self.log, self.products, self.versions = [], {}, {}
        self.fingerprint = fingerprint
        self._emit = emit

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The members of the set that a step with ``over = "set"`` runs on, in their order."""
        # a file, not part of the task: a session has tens of thousands of members
        listed = json.loads((self.folder / MEMBERS_FILE).read_text())
        project = Path(listed["project"])
        rows = listed["members"]
        return tuple(Member(m["id"], m["name"], project / m["folder"], m["key"], m["values"]) for m in rows)

    def path(self, name: str) -> Path:
        """Where the result of this name is written."""
        spec = self._spec(name)
        if spec.file is None:
            raise KeyError(f"{name} ({spec.label}) is a {spec.kind} and has no file")
        return self.folder / spec.file

    def file(self, name: str) -> Path:
        """Where the file of an image, picture, table or curve lies that was made in this task or before it."""
        source = self._source(name)
        if source is None:
            raise StepError(f"{self.exposure}: {name} was not made; run the step that makes it first")
        return source

    def __contains__(self, name: str) -> bool:
        return name in self._memory or self._source(name) is not None

    def __getitem__(self, name: str) -> Any:
        if name not in self._memory:
            self._memory[name] = _shared(_read(self._spec(name), self.file(name)))
        return self._memory[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._spec(name)
        self._memory[name] = _shared(value)

    def save(
        self,
        name: str,
        value: Any,
        *,
        pixel_size: float | None = None,
        dtype: Literal["float32", "float16"] = "float32",
    ) -> str:
        """Keep a result in memory and as its file; returns the file's name, which is the result's value.

        An image needs its pixel size in Å/px. Values are written as they are kept, so that a later step finds the
        same numbers in memory and on disk.
        """
        from focusnb.io import files, images
        from focusnb.ops.backend import to_numpy

        spec = self._spec(name)
        path = self.path(name)
        if spec.kind == "image":
            if pixel_size is None:
                raise TypeError(f"{name}: an image is saved with its pixel_size")
            images.write_mrc(path, to_numpy(value), pixel_size=pixel_size, dtype=dtype)
            value = value.astype(dtype, copy=False).astype("float32", copy=False)
        elif spec.kind == "picture":
            images.write_png(path, to_numpy(value))
        elif spec.kind == "curve":
            value = _plain(name, value)
            files.write_json(path, value)
        elif spec.kind == "table":
            raise TypeError(f"{name}: write the table to work.path({name!r}), then call work.made({name!r})")
        self._memory[name] = _shared(value)
        return self.made(name)

    def made(self, name: str) -> str:
        """Tell that the file of this result was written; returns its name."""
        path = self.path(name)
        if not path.is_file():
            raise FileNotFoundError(f"{path} was not written")
        self.products[name] = path.name
        return path.name

    def report(self, message: str, fraction: float | None = None) -> None:
        """Say what is done, and which fraction of the step it completes."""
        self.log.append(f"{time.strftime('%H:%M:%S')}  {message}")
        if self._emit is not None:
            self._emit(message, fraction)

    def run(
        self,
        command: list[str | os.PathLike[str]],
        *,
        stdin: str | None = None,
        environment: Mapping[str, str | None] | None = None,
        timeout: float | None = None,
        folder: Path | None = None,
        check: bool = True,
    ) -> str:
        """Run an external program in the work folder; returns its output, which is in the log too.

        It dies with the worker. StepError names the program, its exit status and its last lines.
        """
        from focusnb.steps import programs

        result = programs.run(
            command, folder=folder or self.folder, stdin=stdin, environment=environment, timeout=timeout, check=False
        )
        self.log.extend(programs.without_overwritten(result.output).splitlines())
        if check:
            result.check()
        return result.output

    def forget(self, names: set[str]) -> None:
        """Drop what a failed step left, in memory and on disk."""
        for name in names:
            self._memory.pop(name, None)
            self.products.pop(name, None)
            spec = self._specs.get(name)
            if spec is not None and spec.file is not None:
                (self.folder / spec.file).unlink(missing_ok=True)

    def _spec(self, name: str) -> Spec:
        if name not in self._specs:
            raise KeyError(f"{name} is neither needed nor made here; there are {', '.join(sorted(self._specs))}")
        return self._specs[name]

    def _source(self, name: str) -> Path | None:
        spec = self._specs.get(name)
        if spec is None or spec.file is None:
            return None
        for folder in (self.folder, self.exposure_folder):
            if (folder / spec.file).is_file():
                return folder / spec.file
        return None


def _shared(value: Any) -> Any:
    """A view that cannot be written to: a step that changed what the next ones are handed would spoil them unseen."""
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def _plain(name: str, value: Any) -> Any:
    """Curves as JSON keeps them: arrays as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(name, item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{name}: a curve is made of lists of numbers by name, not of {type(value).__name__}")


def _read(spec: Spec, path: Path) -> Any:
    from focusnb.io import images, star

    if spec.kind == "image":
        return images.read_image(path).data
    if spec.kind == "picture":
        return images.read_png(path)
    if spec.kind == "curve":
        return json.loads(path.read_text())
    return star.read(path)
