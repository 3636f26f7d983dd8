"""monitor: the page of microscopes in the browser, for whoever watches a night."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from focusnb.cli.console import say
from focusnb.cli.dash import Host, NoBrowser, NoToken, Port, Token
from focusnb.errors import ParameterError

PASSWORD_VARIABLE = "FOCUSNB_PASSWORD_HASH"


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("monitor")(monitor)


def monitor(
    sources: Annotated[
        list[str],
        typer.Argument(help="A TOML file of microscopes, folders of projects, or where sessions are published."),
    ],
    port: Port = None,
    host: Host = "localhost",
    token: Token = None,
    no_token: NoToken = False,
    password_file: Annotated[
        Path | None,
        typer.Option(
            help="Holds the hash of a password to log in with in place of a token, as Jupyter's passwd() makes it; "
            f"{PASSWORD_VARIABLE} may hold it too.",
            show_default=False,
        ),
    ] = None,
    certfile: Annotated[
        Path | None, typer.Option(help="Certificate (PEM): the page is then served by https.", show_default=False)
    ] = None,
    keyfile: Annotated[Path | None, typer.Option(help="The certificate's key (PEM).", show_default=False)] = None,
    ready: Annotated[
        int, typer.Option(min=0, max=8, help="Kernels kept ready for the next viewers, about 70 MB each.")
    ] = 1,
    no_browser: NoBrowser = False,
) -> None:
    """Show microscopes in the browser, all at a glance and one in depth, live, until Ctrl-C. Viewers change nothing."""
    from focusnb.apps.microscopes import find_microscopes, to_environment
    from focusnb.apps.relay import Relay
    from focusnb.apps.voila import encrypt, serve_page

    if token is not None and no_token:
        raise ParameterError("--token and --no-token exclude each other; give one of them")
    if token is not None and len(token) < 8:
        raise ParameterError(f"a token of {len(token)} characters is guessed too easily; give at least 8, or none")
    password = read_password(password_file)
    if no_token and password:
        raise ParameterError("--no-token lets everybody in, and a password is given; take away one of them")
    tls = encrypt(certfile, keyfile)
    microscopes = find_microscopes(sources)
    if host not in ("localhost", "127.0.0.1", "::1") and tls is None:
        say("Not encrypted: what is typed and shown can be read on the way. Give --certfile, or put a proxy before it.")
    with (
        tempfile.TemporaryDirectory(prefix="focusnb-monitor-") as folder,
        Relay(microscopes, Path(folder), tell=say) as relay,
    ):
        serve_page(
            title=microscopes[0].name if len(microscopes) == 1 else "Microscopes",
            notebook="monitor.ipynb",
            command="focusnb monitor",
            environment=to_environment(relay.microscopes),
            host=host,
            port=port,
            token="" if no_token else token,
            password=password,
            tls=tls,
            preheated=ready,
            browser=not no_browser,
            tell=say,
        )


def read_password(file: Path | None) -> str:
    """The hash of a password from a file or the environment; empty where there is none."""
    source = str(file) if file is not None else PASSWORD_VARIABLE
    if file is None:
        hashed = os.environ.get(PASSWORD_VARIABLE, "").strip()
        if not hashed:
            return ""
    else:
        try:
            hashed = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not hashed.startswith("argon2:$argon2"):
        raise ParameterError(
            f"{source}: holds no hash of a password (argon2:$argon2...); "
            "python -c 'from jupyter_server.auth import passwd; print(passwd())' makes one"
        )
    return hashed
