"""How the command line talks: words and progress to standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


def console() -> Console:
    """A console on standard error."""
    from rich.console import Console

    out = Console(stderr=True, highlight=False, soft_wrap=True)
    # redirected into a file or a log there is no reason to squeeze
    return out if out.is_terminal else Console(stderr=True, highlight=False, soft_wrap=True, width=140)


def say(message: str) -> None:
    """Tell the user something."""
    print(message, file=sys.stderr, flush=True)


def complain(message: str) -> None:
    """Tell the user what went wrong."""
    say(f"focusnb: {message}")


@contextmanager
def bar(total: int, label: str) -> Iterator[Callable[..., None]]:
    """Show a progress bar where standard error is a terminal; yields a function (done, text, total=None)."""
    out = console()
    if not out.is_terminal:
        yield lambda done, text, total=None: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("[dim]{task.fields[text]}"), console=out, transient=True) as progress:
        task = progress.add_task(label, total=total, text="")
        yield lambda done, text, total=None: progress.update(task, completed=done, text=text, total=total)


SHOWN = (
    "exposure",
    "status",
    "defocus_u",
    "defocus_v",
    "ctf_fit_resolution",
    "ctf_quality",
    "drift",
    "iciness",
    "mean_counts",
)


def show_table(table: pd.DataFrame, names: tuple[str, ...] = SHOWN) -> None:
    """Print the main columns of a table for people, with units, and the reasons of failures beneath."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    labels, units = table.attrs.get("labels", {}), table.attrs.get("units", {})
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        unit = f"\n[dim]{units[name]}[/dim]" if units.get(name) else "\n"
        justify = "right" if table[name].dtype.kind in "fiu" else "left"
        label = labels.get(name, name.capitalize())
        shown.add_column(f"{label}{unit}", justify=justify, no_wrap=name == "exposure")  # type: ignore[arg-type]
    for _, row in table.iterrows():
        shown.add_row(*(Text(_cell(name, row[name]), style=_style(name, row[name])) for name in names))
    out.print(shown)
    for _, row in table[table["reason"].notna()].iterrows():
        reason = str(row["reason"])
        out.print(Text(reason if reason.startswith(str(row["exposure"])) else f"{row['exposure']}: {reason}", "yellow"))


_DIGITS = {"defocus_u": 0, "defocus_v": 0, "ctf_fit_resolution": 1, "drift": 1, "iciness": 2, "mean_counts": 2}


def _cell(name: str, value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return "–"
    return f"{value:.{_DIGITS[name]}f}" if name in _DIGITS else str(value)


def _style(name: str, value: Any) -> str:
    styles = {"failed": "yellow", "broken": "red", "poor": "yellow", "done": "green", "ok": "green"}
    return styles.get(str(value), "") if name in ("status", "ctf_quality") else ""
