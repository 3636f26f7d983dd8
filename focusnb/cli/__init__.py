"""The command line: data go to standard output, words to standard error.

Exit status: 0 where the command did its work (failed exposures are data), 1 where it could not, 2 for wrong use.
"""

from __future__ import annotations

import sys

import typer

from focusnb.cli import (
    adopt,
    alerts,
    align,
    court,
    ctf,
    dash,
    demo,
    doctor,
    importing,
    monitor,
    names,
    processing,
    projects,
    publish,
    queue,
    step,
)
from focusnb.cli.console import complain
from focusnb.errors import FocusError, ParameterError
from focusnb.steps.task import as_resource_error

app = typer.Typer(
    name="focusnb",
    help="From the electron microscope to structure determination: import, align, measure, look.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
projects.register(app)
importing.register(app)
adopt.register(app)
names.register(app)
processing.register(app)
app.add_typer(queue.app, name="queue")
app.add_typer(step.app, name="step")
app.add_typer(alerts.app, name="alerts")
publish.register(app)
align.register(app)
ctf.register(app)
court.register(app)
dash.register(app)
monitor.register(app)
demo.register(app)
doctor.register(app)


def main() -> None:
    """Run the command line and turn what went wrong into a sentence and an exit status."""
    try:
        app()
    except ParameterError as error:
        complain(str(error))
        sys.exit(2)
    except FocusError as error:
        complain(str(error))
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        resource = as_resource_error(error, error.filename or "")
        if resource is None and error.filename is None:
            raise
        complain(str(resource or f"{error.filename}: {error.strerror}; check the path"))
        sys.exit(1)
