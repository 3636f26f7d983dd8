"""alerts: what was wrong in a session, who is told, and the rules that watch it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from focusnb.cli.console import say
from focusnb.cli.declared import with_options
from focusnb.cli.projects import Folder
from focusnb.errors import ParameterError, ProjectError
from focusnb.monitoring.settings import DeliverySettings

app = typer.Typer(
    help="What was wrong in a session, who is told, and the rules that watch it. 'focusnb serve' asks them.",
    no_args_is_help=True,
)

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
RuleName = Annotated[str, typer.Argument(metavar="RULE", help="As 'focusnb alerts rules' lists them.")]


@app.command("list")
def list_alerts(
    folder: Folder,
    everything: Annotated[bool, typer.Option("--all", help="Those that recovered long ago, too.")] = False,
) -> None:
    """List the alerts that are open or recovered within a day, the newest first."""
    from focusnb.monitoring.alerts import AlertBook

    book = AlertBook(_checked(folder))
    now = time.time()
    alerts = sorted(book.all(now), key=lambda a: -a.began) if everything else book.recent(now)
    for alert in alerts:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(alert.began))
        print(f"{alert.id[-4:]}  {began}  {alert.state:12s}  {alert.sentence}")
        if alert.open and alert.hint:
            say(f"      {alert.hint}")
        failed = [tries[-1][1] for what, tries in alert.undelivered.items() if what not in alert.sent]
        for reason in failed:
            say(f"      not delivered: {reason}")
    if not alerts:
        say("Nothing is wrong, nor was within a day" if not everything else "Nothing was wrong yet")


@app.command("acknowledge")
def acknowledge(
    folder: Folder,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="As 'focusnb alerts list' shows.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
) -> None:
    """Say that you know: nobody is reminded, and what is now becomes usual."""
    from focusnb.monitoring.alerts import AlertBook

    if bool(ids) == everything:
        raise ParameterError("name the alerts to acknowledge, or --all")
    book = AlertBook(_checked(folder))
    unknown = [alert.id for alert in book.all() if alert.open and alert.acknowledged is None]
    chosen = unknown if everything else ids or []
    for identity in chosen:
        say(f"Acknowledged: {book.acknowledge(identity).sentence}")
    if not chosen:
        say("Nothing is open")


@app.command("mute")
def mute(
    folder: Folder,
    rule: Annotated[str, typer.Argument(metavar="RULE|all", help="As 'focusnb alerts rules' lists them, or all.")],
    minutes: Annotated[float, typer.Option(min=0, help="For how long; 0 takes a mute back.")] = 60.0,
) -> None:
    """Send no messages of a rule for a while; its alerts are kept all the same."""
    from focusnb.monitoring.alerts import EVERYTHING, AlertBook
    from focusnb.monitoring.rules import find_rule

    name = EVERYTHING if rule == "all" else find_rule(rule).rule
    until = time.time() + 60 * minutes
    AlertBook(_checked(folder)).mute(name, until)
    said = f"until {time.strftime('%H:%M', time.localtime(until))}" if minutes else "no longer"
    say(f"{'All messages are' if rule == 'all' else f'Messages of {rule} are'} muted {said}")


@app.command("rules")
def rules(folder: Folder) -> None:
    """List the rules of a project with what is set of them."""
    from focusnb.monitoring.rules import read_rules

    for name, rule in read_rules(_checked(folder)).rules.items():
        print(f"{name:12s} {'on ' if rule.on else 'off'}  {' '.join((type(rule).__doc__ or '').split())}")
        for spec in rule.specs():
            if spec.advanced or spec.name == "on":
                continue
            value = getattr(rule, spec.name)
            own = "" if value == spec.default else f" (default {spec.default})"
            shown = f"{'none' if value is None else value} {spec.unit}{own}"
            print(f"               {spec.name.replace('_', '-'):14s} {shown}".rstrip())


@app.command("set", context_settings=_PASS_ON, add_help_option=False)
def set_rule_values(context: typer.Context, folder: Folder, rule: RuleName) -> None:
    """Set a rule's limits: focusnb alerts set DIR RULE --help lists them; --no-limit NAME and --reset NAME."""
    from focusnb.monitoring.rules import find_rule

    if rule in ("-h", "--help") or str(folder) in ("-h", "--help"):
        say("Usage: focusnb alerts set DIR RULE [OPTIONS]; focusnb alerts set DIR RULE --help lists them")
        return
    declared = find_rule(rule)
    inner = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    inner.command(help=f"{declared.title}: {(declared.__doc__ or '').strip()}")(with_options(_set, declared.specs()))
    _current.update(folder=_checked(folder), rule=rule)
    inner(list(context.args), prog_name=f"focusnb alerts set {folder} {rule}", standalone_mode=True)


_current: dict[str, Any] = {}


def _set(
    no_limit: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Do without this limit.")] = None,
    reset: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Take this back to its default.")] = None,
    values: Any = None,
) -> None:
    from focusnb.monitoring.rules import set_rule

    given = {**values, **dict.fromkeys(no_limit or ())}
    rule = set_rule(_current["folder"], _current["rule"], given, reset=reset or ())
    for spec in rule.specs():
        value = getattr(rule, spec.name)
        say(f"{spec.name} = {'none' if value is None else value} {spec.unit}".rstrip())


def _send_to(
    folder: Folder,
    urls: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[URL...]",
            help="Addresses as Apprise has them: mailtos://user:password@host?to=name@host, slack://..., json://...",
        ),
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="N", help="Remove the address of this number.")] = None,
    values: Any = None,
) -> None:
    """Choose who is told and how often; without addresses or options, tell who is."""
    from focusnb.monitoring.delivery import check_url, read_delivery, write_delivery

    path = _checked(folder)
    settings, known = read_delivery(path)
    wanted = list(dict.fromkeys([*known, *(urls or [])]))
    shown = [check_url(url) for url in wanted]
    for number in sorted({_number(text, len(wanted)) for text in remove or ()}, reverse=True):
        del wanted[number - 1], shown[number - 1]
    if urls or remove or values:
        settings = DeliverySettings.make({**settings.model_dump(), **values})
        write_delivery(path, settings, wanted)
    # two may look alike without what is secret of them
    for number, address in enumerate(shown, 1):
        say(f"{number}  {address}")
    if not wanted:
        say("Nobody is told; give an address")
    for spec in DeliverySettings.specs():
        say(f"   {spec.name:14s} {getattr(settings, spec.name)} {spec.unit}".rstrip())


app.command("send-to")(with_options(_send_to, DeliverySettings.specs()))


@app.command("test")
def test(folder: Folder) -> None:
    """Send a message to every address, now."""
    from focusnb.monitoring.delivery import apprise_sender, check_url, read_delivery
    from focusnb.monitoring.rules import Check
    from focusnb.monitoring.service import drawer
    from focusnb.monitoring.snapshot import SnapshotMaker
    from focusnb.project.project import Project

    settings, urls = read_delivery(_checked(folder))
    if not urls:
        raise ParameterError(f"nobody is told of alerts; add an address: focusnb alerts send-to {folder} URL")
    with Project.open(folder) as project:
        view = SnapshotMaker(project).view()
        name = next((n for n in view.session.specs if len(view.known(n)[0])), None)
        picture = None if name is None else drawer(view)(Check("test", False, quantity=name), view.now)
        faults = []
        for url in urls:
            reason = apprise_sender(url, timeout=settings.timeout)(
                f"{project.name}: a test", "Alerts of this session are sent to you.", picture
            )
            say(f"{check_url(url)}: {'taken' if reason is None else 'not taken'}")
            faults += [reason] if reason is not None else []
    if faults:
        raise ProjectError("; ".join(faults))


def _number(text: str, most: int) -> int:
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise ParameterError(f"{text} is not the number of an address; there are {most}")
    return int(text)


def _checked(folder: Path) -> Path:
    from focusnb.project.project import read_settings

    read_settings(folder.resolve())
    return folder.resolve()
