"""Steps that run an external program: say the command, read what came out."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from focusnb.steps import programs
from focusnb.steps.base import Step, StepResults

if TYPE_CHECKING:
    from focusnb.steps.work import Work


@dataclass(frozen=True)
class Command:
    """How a program is called: arguments without its name, text for standard input, variables, seconds it may take."""

    arguments: Sequence[str | os.PathLike[str]] = ()
    stdin: str | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    timeout: float | None = None


class ExternalStep(Step):
    """A step done by an external program in the task's folder.

    The program is looked for by the environment variable FOCUSNB_<NAME> and on the PATH; its version is recorded and
    belongs to the fingerprint. What it prints goes to the log. It dies with the worker and after ``timeout`` seconds.
    """

    program: ClassVar[str] = ""
    timeout: ClassVar[float] = programs.TIMEOUT
    grace: ClassVar[float] = 30.0

    @abstractmethod
    def command(self, inputs: Any, params: Any, work: Work) -> Command:
        """Say how the program is called; ``work.file(name)`` is where an input lies, ``work.path(name)`` where a result
        goes.
        """

    @abstractmethod
    def read(self, output: str, work: Work) -> StepResults:
        """Make results of what the program printed and of the files it wrote."""

    def run(self, inputs: Any, params: Any, work: Work) -> StepResults:
        """Run the program; StepError names it, its exit status and its last lines."""
        program = programs.find(self.program)
        work.versions[program.name] = program.version
        command = self.command(inputs, params, work)
        output = work.run(
            [program.path, *command.arguments],
            stdin=command.stdin,
            environment=command.environment,
            timeout=self.timeout if command.timeout is None else command.timeout,
        )
        return self.read(output, work)

    @classmethod
    def programs(cls) -> tuple[str, ...]:
        """Names of external programs whose versions belong to the fingerprint."""
        return (cls.program,)
