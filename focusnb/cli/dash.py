"""dash: a project's page in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from focusnb.cli.console import say
from focusnb.cli.projects import Folder
from focusnb.errors import ParameterError

Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Default: the first free one from 8866 on.", show_default=False)
]
Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines.")]
Token = Annotated[
    str | None,
    typer.Option(envvar="FOCUSNB_TOKEN", help="What a browser must show. Default: a new one.", show_default=False),
]
NoToken = Annotated[bool, typer.Option("--no-token", help="Let in everybody who is logged in on this machine.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only print the address.")]


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("dash")(dash)


def dash(
    folder: Folder,
    port: Port = None,
    host: Host = "localhost",
    token: Token = None,
    no_token: NoToken = False,
    no_browser: NoBrowser = False,
) -> None:
    """Show a project in the browser, live, until Ctrl-C. Whoever has the address with its token sees it.

    Ending it, or closing the browser, stops no processing.
    """
    from focusnb.project.project import Project

    if token is not None and no_token:
        raise ParameterError("--token and --no-token exclude each other; give one of them")
    if token is not None and len(token) < 8:
        raise ParameterError(f"a token of {len(token)} characters is guessed too easily; give at least 8, or none")
    with Project.open(folder) as project:
        path, title = project.folder, project.name
    from focusnb.apps.voila import serve_page

    serve_page(
        path, title=title, host=host, port=port, token="" if no_token else token, browser=not no_browser, tell=say
    )
