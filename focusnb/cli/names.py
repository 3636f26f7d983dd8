"""names: what file names tell; microscope: the profiles of microscopes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from focusnb.cli.console import complain, say
from focusnb.errors import ParameterError

app = typer.Typer(
    name="microscope",
    help="The profiles of your microscopes: voltage, camera, gain, pixel sizes.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The microscope.", show_default=False)]


def register(main: typer.Typer) -> None:
    """Add these commands."""
    main.command("names")(names)
    main.add_typer(app, name="microscope")


def names(
    examples: Annotated[
        list[str], typer.Argument(metavar="EXAMPLE...", help="Names of files, with their folders or without.")
    ],
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="What the names tell, with facts in braces: {specimen}_{tilt_angle}_{number}; {_} skips a part.",
        ),
    ] = None,
) -> None:
    """Show what is read from file names at import; files of these names need not exist."""
    from focusnb.io.names import Pattern, recognise

    compiled = None if pattern is None else Pattern(pattern)
    rows: list[tuple[str, str, str, str]] = []
    unfit = False
    for example in examples:
        name = Path(example).name
        found = recognise(example)
        told = {} if found is None else {fact: (value, found.software) for fact, value in found.facts.items()}
        if compiled is not None:
            try:
                reading = compiled.read(example)
            except ParameterError as error:
                complain(str(error))
                unfit = True
            else:
                told |= {fact: (value, "pattern") for fact, value in reading.facts.items()}
                _tell_other_ways(name, reading.facts, reading.others)
        if not told:
            rows.append((name, "–", "tells nothing", ""))
        rows += [(name, fact, _shown(fact, value), by) for fact, (value, by) in told.items()]
        if found is not None and found.image != "exposure":
            say(f"{name}: {found.software} names images of a whole {found.image} like this")
    _print_table(("name", "fact", "value", "by"), rows)
    if unfit:
        raise typer.Exit(1)


def _tell_other_ways(name: str, used: dict[str, Any], others: tuple[dict[str, Any], ...]) -> None:
    if others:
        from focusnb.project.gathering import in_words

        ways = "; or ".join(in_words(way) for way in (used, *others))
        say(f"{name}: fits the pattern in several ways, of which the first is used: {ways}")


def _shown(fact: str, value: Any) -> str:
    from focusnb.quantities import Acquisition

    unit = Acquisition.spec(fact).unit
    return f"{value} {unit}".rstrip() if not isinstance(value, float) else f"{value:g} {unit}".rstrip()


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows under their heads; what stands in a column's cell above is not repeated in the first."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    above = ""
    for row in (head, *rows):
        shown = ("" if row[0] == above else row[0], *row[1:])
        print("  ".join(cell.ljust(width) for cell, width in zip(shown, widths, strict=True)).rstrip())
        above = row[0]


@app.command("list")
def list_microscopes() -> None:
    """List the microscopes there are; what is wrong with one is told, and the others are listed."""
    from focusnb.project import profiles

    rows = []
    unread = False
    for name in profiles.profile_names():
        try:
            profile = profiles.read_profile(name)
        except ParameterError as error:
            complain(str(error))
            unread = True
            continue
        facts = profile.facts
        voltage = _shown("voltage", facts["voltage"]) if "voltage" in facts else "–"
        rows.append((name, voltage, str(facts.get("camera", "–")), profile.magnifications or "–"))
    if rows:
        _print_table(("name", "voltage", "camera", "pixel sizes at"), rows)
    elif not unread:
        say(f"There is no microscope in {profiles.config_file()}: focusnb microscope set NAME voltage=300 ...")
    if unread:
        raise typer.Exit(1)


@app.command()
def show(name: Name) -> None:
    """Show the facts of a microscope, and its pixel sizes by magnification."""
    from focusnb.project import profiles

    _show(profiles.read_profile(name))


def _show(profile: Any) -> None:
    for fact, value in profile.facts.items():
        print(f"{fact} = {_shown(fact, value)}")
    if profile.camera_pixels is not None:
        print(f"camera_pixels = {profile.camera_pixels[1]}x{profile.camera_pixels[0]}")
    for magnification in sorted(profile.pixel_sizes):
        size = _shown("pixel_size", profile.pixel_sizes[magnification])
        print(f"pixel_size@{magnification:.12g} = {size} (of a physical pixel of the camera)")


@app.command("set")
def set_values(
    name: Name,
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="FACT=VALUE...",
            help="For example voltage=300 camera=K3 gain_reference=FILE pixel_size@81000=1.06, and for a camera that "
            "is not a K2, K3 or Falcon its physical pixels, camera_pixels=4096x4096; FACT= takes one out.",
            show_default=False,
        ),
    ],
) -> None:
    """Set facts of a microscope, which is made where there is none of this name."""
    from focusnb.project import profiles
    from focusnb.project.facts import parse_assignments

    profile = profiles.change_profile(name, parse_assignments(values))
    _show(profile)
    say(f"Written to {profiles.config_file()}. Use it: focusnb import PROJECT FILES --microscope {name}")


@app.command()
def remove(name: Name) -> None:
    """Remove a microscope; exposures imported with it keep their facts."""
    from focusnb.project import profiles

    profiles.remove_profile(name)
    say(f"{name} was removed from {profiles.config_file()}")
