"""Steps declared in the header of a Python or shell script.

The header is TOML within the script's leading comments:

    #!/bin/sh
    # /// focusnb-step
    # title = "Count gold beads"
    # category = "statistics"
    # needs = ["micrograph", "micrograph_pixel_size", "dose_per_frame?"]
    #
    # [parameters.threshold]
    # type = "float"
    # default = 3.0
    # label = "Threshold"
    # unit = "σ"
    # gt = 0
    #
    # [results.gold_beads]
    # type = "int"
    # label = "Gold beads"
    # ///

Inputs and parameters reach the script as environment variables FOCUSNB_<NAME>, files as absolute paths, flags as
``true`` and ``false``; what is optional and not known is not set. It runs in the task's folder, writes images, tables
and curves there under their declared names, and appends its values as lines ``name = value`` to the file named by
FOCUSNB_RESULTS. What it prints goes to the log. Exit status 3 says that this exposure cannot be processed; the last
line on standard error is the reason.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any, ClassVar

from focusnb.errors import ParameterError, ProgramMissing, StepError
from focusnb.parameters import Declared, Spec
from focusnb.steps import programs
from focusnb.steps.base import Step, StepResults, collecting
from focusnb.steps.headers import has_header, read_header
from focusnb.steps.work import Work

__all__ = ["CANNOT", "ScriptStep", "has_header", "step_from_script"]

CANNOT = 3
"""Exit status by which a script says that this exposure cannot be processed."""


class ScriptStep(Step):
    """A step that runs a script of the user's."""

    path: ClassVar[Path]
    timeout: ClassVar[float] = programs.TIMEOUT
    grace: ClassVar[float] = 30.0
    needed_programs: ClassVar[tuple[str, ...]] = ()

    def run(self, inputs: Any, params: Any, work: Work) -> StepResults:
        """Run the script and read the results it wrote."""
        if hashlib.sha256(self.path.read_bytes()).hexdigest() != self.origin:
            raise StepError(f"{self.path}: was changed after this task was made; run it again")
        answers = (work.folder / f".{self.name}.results").resolve()
        answers.write_text("")
        environment = self._environment(inputs, params, work)
        environment[programs.variable_of("results")] = str(answers)
        result = programs.run(
            [*interpreter(self.path), self.path.resolve()],
            folder=work.folder,
            environment=environment,
            timeout=self.timeout,
            check=False,
            separate=True,
            name=self.path.name,
        )
        work.log.extend(programs.without_overwritten(result.output).splitlines())
        if result.returncode == CANNOT:
            reason = programs.last_lines(result.errors, 1) or "the script gave no reason (print it to standard error)"
            raise StepError(f"{work.exposure}: {reason}")
        result.check()
        values = _read_answers(answers, self.Results, self.path)
        answers.unlink()
        for spec in self.makes():
            if spec.file is not None and work.path(spec.name).is_file():
                values[spec.name] = work.made(spec.name)
        try:
            return self.Results.make(values)
        except ParameterError as error:
            raise StepError(f"{self.path}: wrote a result outside its limits: {error}") from error

    def _environment(self, inputs: Declared, params: Declared, work: Work) -> dict[str, str | None]:
        variables: dict[str, str | None] = {"exposure": work.exposure}
        for name in self.programs():
            program = programs.find(name)
            work.versions[name] = program.version
            variables[name] = program.path
        for model in (inputs, params):
            for spec in model.specs():
                value = getattr(model, spec.name)
                if value is not None and spec.kind == "file":
                    value = Path(value).resolve()
                elif value is not None and spec.file is not None:
                    value = work.file(spec.name).resolve()
                variables[spec.name] = None if value is None else _as_text(value)
        # byte code beside a script would be new code in a folder whose content was trusted
        return {"PYTHONDONTWRITEBYTECODE": "1"} | {programs.variable_of(n): value for n, value in variables.items()}

    @classmethod
    def programs(cls) -> tuple[str, ...]:
        """Names of external programs whose versions belong to the fingerprint."""
        return cls.needed_programs


def step_from_script(path: Path | str) -> type[Step]:
    """Make a step of a script by its header.

    Raises ParameterError naming the file, the line and what to write instead.
    """
    path = Path(path).resolve()
    content = path.read_bytes()
    try:
        header = read_header(path, content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ParameterError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    body = {
        "__doc__": header.manual,
        "__module__": f"focusnb_user_steps.{header.name}",
        "name": header.name,
        "title": header.title,
        "version": header.version,
        "category": header.category,
        "gpu": header.gpu,
        "origin": hashlib.sha256(content).hexdigest(),
        "path": path,
        "timeout": header.timeout,
        "needed_programs": header.programs,
        "Inputs": header.Inputs,
        "Params": header.Params,
        "Results": header.Results,
    }
    with collecting():
        try:
            return type("".join(part.capitalize() for part in header.name.split("_")), (ScriptStep,), body)
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from error


def _read_answers(path: Path, results: type[Declared], script: Path) -> dict[str, Any]:
    """Read the lines ``name = value`` a script wrote; StepError names the line and what is wrong with it."""
    specs = {spec.name: spec for spec in results.specs()}
    values: dict[str, Any] = {}
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, text = (part.strip() for part in line.partition("="))
        where = f"{script}: line {number} of its results, {line.strip()[:80]!r}"
        if not equals or name not in specs:
            raise StepError(f"{where}: write 'name = value' with a name of {', '.join(specs)}")
        if specs[name].file is not None:
            raise StepError(f"{where}: {name} is a file; write {specs[name].file} in the folder instead")
        if name in values:
            raise StepError(f"{where}: {name} was written before; write it once")
        try:
            values[name] = _value_of(text, specs[name])
        except (ValueError, OverflowError) as error:
            raise StepError(f"{where}: {text!r} is no {specs[name].type}") from error
    return values


def _value_of(text: str, spec: Spec) -> Any:
    """Read a value as its type; awk and printf write numbers that TOML does not know (1., .5, -nan)."""
    if spec.type == "float":
        return float(text)
    if spec.type == "int":
        number = float(text)
        if number != int(number):
            raise ValueError(text)
        return int(number)
    if spec.type == "bool":
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError(text)
        return text.lower() in ("true", "1")
    if text[:1] in ("'", '"'):
        return str(tomllib.loads(f"value = {text}")["value"])
    return text


def interpreter(path: Path) -> list[str]:
    """Return what runs a script: its first line's program, for Python the one focusnb runs in, else /bin/sh."""
    with open(path, "rb") as file:
        first = file.readline(1024).decode("utf-8", "replace").strip()
    words = shlex.split(first[2:]) if first.startswith("#!") else []
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if word != "-S"]
    if not words:
        words = ["python"] if path.suffix == ".py" else ["/bin/sh"]
    if re.fullmatch(r"python[\d.]*", words[0]):
        return [sys.executable, *words[1:]]
    found = shutil.which(words[0])
    if found is None:
        raise ProgramMissing(
            f"{path}: its first line asks for {words[0]}, which is not there; install it or change the line"
        )
    return [os.path.abspath(found), *words[1:]]


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
