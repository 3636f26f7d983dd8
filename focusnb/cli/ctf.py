"""ctf: fit the CTF of images and spectra without a project."""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from focusnb.cli.alone import calls_of, folders_of, place, sentence
from focusnb.cli.console import bar, complain, say
from focusnb.cli.projects import Facts
from focusnb.errors import FocusError, FormatError, ParameterError, StepError

if TYPE_CHECKING:
    import numpy as np

    from focusnb.ops.ctf import CtfCurves
    from focusnb.parameters import Spec
    from focusnb.steps.base import Step
    from focusnb.steps.task import Outcome, StepCall, Task

RECORD = "ctf.json"
"""What was found of which file, in the folder of its results."""

IMAGE_STEPS = ("prepare_image", "measure_spectrum", "fit_ctf")
SPECTRUM_STEPS = ("fit_ctf",)

COLUMNS = (
    "file",
    "defocus_u",
    "defocus_v",
    "astigmatism_angle",
    "phase_shift",
    "ctf_score",
    "ctf_fit_resolution",
    "ctf_quality",
    "ctf_probability",
    "ctf_remark",
)

PIXEL_SIZES = (0.05, 20.0)
"""Å/px: images whose rings can be seen lie well within."""

SYMMETRIC = 0.5
"""Correlation with itself turned by 180° above which an image is a spectrum; those of images are about 0."""

_LARGEST_SPECTRUM = 2048  # px; larger squares are images and are not asked
_MIDDLE = 128  # px about the origin that tell
_LEAST = 8  # px on a side from which on there is a symmetry
_OURS = "written by focusnb"  # in the first line of the averages
_COPY = "micrograph"  # the image in the project's own format: nobody needs it twice

Format = StrEnum("Format", ["csv", "json", "table"])


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for, the same for all files; given : facts by name."""

    given: Mapping[str, Any]
    chain: tuple[type[Step], ...]
    calls: tuple[StepCall, ...]
    spectrum: bool
    out: Path | None
    averages: bool
    force: bool

    @property
    def needed(self) -> list[Spec]:
        """The facts that the steps need beside the file itself."""
        specs = {spec.name: spec for step in self.chain for spec in step.facts() if spec.required}
        if self.spectrum:
            from focusnb.quantities import Acquisition

            specs["pixel_size"] = Acquisition.spec("pixel_size")
        return [spec for name, spec in specs.items() if name != "image"]


@dataclass(frozen=True)
class _Known:
    """What is known of a file before it is fitted: facts with their origins, those that are missing, or a reason."""

    facts: Mapping[str, tuple[Any, str]]
    missing: tuple[Spec, ...] = ()
    reason: str = ""


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("ctf")(ctf)


def ctf(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Images, or spectra with --spectrum.", show_default=False)
    ],
    spectrum: Annotated[
        bool, typer.Option("--spectrum", help="The files are amplitude spectra: square, origin in the middle.")
    ] = False,
    facts: Facts = [],  # noqa: B006
    params: Annotated[
        list[str],
        typer.Option(
            "--param",
            metavar="STEP.NAME=VALUE",
            help="A parameter, as 'focusnb step show fit_ctf' tells them; may be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006
    format: Annotated[
        Format | None,
        typer.Option(help="Default: a table on a terminal, csv into a file or a pipe.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep spectra, curves and previews; of several files, each in a folder."),
    ] = None,
    averages: Annotated[
        bool, typer.Option("--avrot", help="Write NAME_avrot.txt as CTFFIND does, into FOLDER or here.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is not of the same file.")] = False,
) -> None:
    """Fit the CTF of images or spectra without a project: one row per file, on standard output.

    Facts are read from the file and from the mdoc or XML beside it, as an import does; --set gives what they do not
    tell. A file that cannot be read is a row that says why, and the others go on. Where no CTF is found, ctf_quality
    is failed and the values are empty.
    """
    from focusnb.processing.heap import keep_freed_memory
    from focusnb.processing.workflow import Workflow
    from focusnb.steps.base import find_step

    chain = Workflow(*map(find_step, SPECTRUM_STEPS if spectrum else IMAGE_STEPS)).steps
    asked = _Asked(_given(facts), chain, calls_of(chain, params), spectrum, out, averages, force)
    paths = [path for named in files for path in _matching(named)]
    if out is not None:
        if out.exists() and not out.is_dir():
            raise ParameterError(f"{out}: is a file; --out names a folder")
        folders = folders_of(paths, out)
    else:
        if averages:
            _check_names(paths)
        folders = dict.fromkeys(paths, Path())
    known = _gather(paths, asked)
    keep_freed_memory()
    shown = format or (Format.table if sys.stdout.isatty() else Format.csv)
    records = _show(_fit_all(folders, paths, known, asked), len(paths), shown)
    if any(record["status"] != "done" for record in records):
        raise typer.Exit(1)


# What is asked for


def _given(assignments: list[str]) -> dict[str, Any]:
    """The facts of the command line, validated."""
    from focusnb.project.facts import check_facts, parse_assignments

    values: dict[str, Any] = dict(parse_assignments(assignments))
    own = [name for name in ("kind", "movie", "image", "metadata") if name in values]
    if own:
        raise ParameterError(f"{own[0]} is told by the file that is named; it cannot be set")
    checked = check_facts(values)
    if "pixel_size" in checked:
        fault = _impossible(checked["pixel_size"])
        if fault:
            raise ParameterError(f"--set pixel_size={values['pixel_size']}: {fault}")
    return checked


def _matching(named: Path) -> list[Path]:
    """The files a pattern stands for that no shell has replaced, or the file of this name."""
    if named.exists() or not glob.has_magic(str(named)):
        return [named]
    return sorted(Path(name) for name in glob.glob(str(named))) or [named]


def _check_names(paths: list[Path]) -> None:
    """Raise ParameterError where the averages of two files, all written into one folder, would have one name."""
    names: dict[str, Path] = {}
    for path in paths:
        other = names.setdefault(path.stem, path)
        if other != path:
            raise ParameterError(f"{other} and {path} would both be written to {path.stem}_avrot.txt; give --out")


# What is known of the files


def _gather(paths: list[Path], asked: _Asked) -> list[_Known]:
    """What is known of each file; StepError where none of those that can be read has the facts that are needed."""
    from focusnb.project.gathering import ImportReport

    report = ImportReport()
    known = [_known(path, asked, report) for path in paths]
    for message in report.messages:
        say(message)
    readable = [one for one in known if not one.reason]
    if readable and all(one.missing for one in readable):
        common = {spec.name: spec for one in readable for spec in one.missing}
        first = next(path for path, one in zip(paths, known, strict=True) if not one.reason)
        raise StepError(_missing(first, list(common.values()), len(readable) - 1))
    assumed = {
        spec.name: f"{spec.label.lower()} {one.facts[spec.name][0]:g}{f' {spec.unit}' * bool(spec.unit)}"
        for one in readable
        for spec in asked.needed
        if one.facts.get(spec.name, (None, ""))[1] == "default"
    }
    if assumed:
        say(f"Assumed: {' and '.join(assumed.values())}; --set {'=VALUE --set '.join(assumed)}=VALUE tells better")
    return known


def _known(path: Path, asked: _Asked, report: Any) -> _Known:
    """What is known of one file; why it cannot be used is in the record, never raised."""
    from focusnb.project import facts as fact_rules
    from focusnb.project.gathering import gather_facts

    try:
        _check_file(path, asked)
        candidates, _ = gather_facts(path, asked.given, report, keep=lambda named, label: str(named.resolve()))
        if asked.spectrum and "pixel_size" in candidates:
            # what lies beside the file tells the pixels of the recorded image, not those of its spectrum
            own = {origin: value for origin, value in candidates["pixel_size"].items() if origin != "metadata"}
            candidates = {**candidates, "pixel_size": own}
        facts = fact_rules.resolve(candidates)
        used = {spec.name: candidates[spec.name] for spec in asked.needed if spec.name in facts}
        for told in fact_rules.disagreements(used):
            report.tell(told.sentence, about=path.name)
        missing = tuple(spec for spec in asked.needed if spec.name not in facts)
        if "pixel_size" in facts:
            value, origin = facts["pixel_size"]
            fault = _impossible(value)
            if fault:
                where = "beside it" if origin == "metadata" else "by its header"
                raise StepError(f"{path}: pixel size is {value:g} Å/px {where}; {fault}: give --set pixel_size=VALUE")
        return _Known(facts, missing)
    except (FocusError, OSError) as error:
        return _Known({}, reason=sentence(error))


def _check_file(path: Path, asked: _Asked) -> None:
    """Refuse what is no image, or no spectrum, of its own; FormatError and StepError say why."""
    from focusnb.io.images import read_image
    from focusnb.io.movies import open_movie

    if path.is_dir():
        raise StepError(f"{path}: is a folder; name the files in it, as {path}/*.mrc")
    if not path.exists():
        pattern = glob.has_magic(str(path))
        raise StepError(f"{path}: " + ("no file matches" if pattern else "does not exist") + "; check the path")
    with open_movie(path) as opened:
        frames, height, width = opened.shape
    if frames > 1 and asked.spectrum:
        raise FormatError(f"{path}: holds {frames} images, a spectrum is one; split the stack")
    if frames > 1:
        raise FormatError(
            f"{path}: holds {frames} frames, a micrograph is 1 image; align it first: focusnb align {path} --out FOLDER"
        )
    if asked.spectrum and height != width:
        raise FormatError(
            f"{path}: is {width} × {height} px, an amplitude spectrum is square with its origin in the middle; "
            "leave out --spectrum for an image"
        )
    if asked.spectrum:
        _check_spectrum(path, read_image(path).data)
    elif height == width <= _LARGEST_SPECTRUM and _symmetry(read_image(path).data) > SYMMETRIC:
        raise StepError(f"{path}: equals itself turned by 180°, as spectra do and images do not; add --spectrum")


def _check_spectrum(path: Path, amplitudes: np.ndarray) -> None:
    """Raise StepError for what cannot be amplitudes about an origin in the middle."""
    import numpy as np

    wrong = int(amplitudes.size - np.count_nonzero(np.isfinite(amplitudes)))
    if wrong:
        raise StepError(f"{path}: {wrong} of {amplitudes.size} pixels are not numbers; export it again")
    smallest = float(amplitudes.min())
    if smallest < 0:
        raise StepError(
            f"{path}: has values down to {smallest:.4g}, amplitudes are never below 0; leave out --spectrum for an "
            "image, and give a spectrum without logarithm and with its background"
        )
    if amplitudes.max() > smallest and _symmetry(amplitudes) < SYMMETRIC:
        raise StepError(
            f"{path}: does not equal itself turned by 180° about its middle, as spectra do (correlation "
            f"{_symmetry(amplitudes):.2f}, at least {SYMMETRIC}); leave out --spectrum for an image"
        )


def _symmetry(image: np.ndarray) -> float:
    """Correlate the middle of an image, (n, n), with itself turned by 180° about pixel n // 2; 0 for a constant one.

    Neighbouring pixels are subtracted first: gradients and vignettes are symmetric too.
    """
    import numpy as np

    if len(image) < _LEAST:
        return 0.0
    middle = len(image) // 2
    reach = min((len(image) - 1) // 2, _MIDDLE)
    inner = image[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1].astype(np.float64)
    turned = inner[::-1, ::-1]
    one, other = inner[:, 1:] - inner[:, :-1], turned[:, 1:] - turned[:, :-1]
    # the few brightest pixels about the origin would decide alone
    one, other = (np.clip(part, *np.quantile(part, (0.01, 0.99))) for part in (one, other))
    size = float((one**2).sum() * (other**2).sum())
    return float((one * other).sum()) / math.sqrt(size) if math.isfinite(size) and size > 0 else 0.0


def _impossible(pixel_size: float) -> str:
    """Say what is wrong with a pixel size in Å/px; empty where nothing is."""
    low, high = PIXEL_SIZES
    return "" if low <= pixel_size <= high else f"images that show rings have {low:g} to {high:g} Å/px"


def _missing(path: Path, specs: Iterable[Spec], others: int = 0) -> str:
    """The sentence that says which facts are missing and gives the options."""
    labels = " and ".join(spec.label.lower() for spec in specs)
    options = " ".join(f"--set {spec.name}=VALUE{f' ({spec.unit})' * bool(spec.unit)}" for spec in specs)
    more = f" and {others} more" * bool(others)
    return f"{path}{more}: {labels} is told neither by the file nor beside it; give {options}"


# One file


def _fit_all(
    folders: Mapping[Path, Path], paths: list[Path], known: list[_Known], asked: _Asked
) -> Iterator[dict[str, Any]]:
    for path, one in zip(paths, known, strict=True):
        yield _fit_one(path, folders[path], one, asked)


def _fit_one(path: Path, folder: Path, known: _Known, asked: _Asked) -> dict[str, Any]:
    """Fit one file and keep what is asked for; what is wrong with it is in the record, never raised.

    folder : where its files are kept
    """
    record: dict[str, Any] = {
        "file": str(path),
        "path": str(path.resolve()),
        "status": "failed",
        "reason": known.reason or (_missing(path, known.missing) if known.missing else ""),
        "facts": {name: {"value": value, "origin": origin} for name, (value, origin) in known.facts.items()},
        "findings": {},
        "files": [],
    }
    if record["reason"]:
        return record
    try:
        old = _check_folder(path, folder, asked)
        if asked.out is not None:
            folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".ctf-", dir=asked.out))
    except (FocusError, OSError) as error:
        return {**record, "reason": sentence(error)}
    try:
        task, outcome = _run(path, {name: value for name, (value, _) in known.facts.items()}, temporary, asked)
        record |= _found(outcome, asked)
        if asked.averages:
            record["files"] += _write_averages(path, folder, task, record, asked)
        if asked.out is not None:
            record["files"] = place(task.run_folder, folder, record["files"], old)
            _write_record(folder, record, asked.calls)
    except (FocusError, OSError) as error:
        return {**record, "status": "failed", "reason": sentence(error)}
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return record


def _averages_name(path: Path) -> str:
    return f"{path.stem}_avrot.txt"


def _check_folder(path: Path, folder: Path, asked: _Asked) -> list[str]:
    """The names of files that an earlier run left for this one to replace; StepError where they are another's."""
    averages = folder / _averages_name(path)
    if asked.averages and averages.is_file() and not asked.force and _OURS not in _first_line(averages):
        raise StepError(f"{averages}: was written by another program; give another --out, or --force to overwrite")
    if asked.out is None:
        return []
    made = [str(spec.file) for step in asked.chain for spec in step.makes() if spec.file and spec.name != _COPY]
    names = [RECORD, "log.txt", *made]
    spoiled = next((name for name in names if (folder / name).resolve() == path.resolve()), None)
    if spoiled is not None:
        raise StepError(f"{path}: would be overwritten by what is found of it; give another --out")
    try:
        before = json.loads((folder / RECORD).read_text())
        other, files = str(before["path"]), [str(name) for name in before["files"]]
    except FileNotFoundError:
        other, files = "", []
    except (ValueError, KeyError, TypeError):
        other, files = "another program", []
    there = next((name for name in names if (folder / name).exists()), None)
    if other != str(path.resolve()) and there is not None and not asked.force:
        owner = f"the results of {other}" if other else f"{there}, which is not known to be of this file"
        raise StepError(f"{folder}: holds {owner}; {path.name} needs another --out, or --force to overwrite")
    return [name for name in files if Path(name).name == name and (folder / name).resolve() != path.resolve()]


def _first_line(path: Path) -> str:
    with path.open(errors="replace") as file:
        return file.readline(1000)


def _run(path: Path, facts: Mapping[str, Any], temporary: Path, asked: _Asked) -> tuple[Task, Outcome]:
    """Run the steps as a task in a temporary folder; a spectrum is what the steps before them have left there."""
    from focusnb.io.images import read_image, write_mrc
    from focusnb.steps.task import Task, run_task

    task = Task(
        id="ctf",
        exposure=0,
        name=path.name,
        project=str(temporary.parent.resolve()),
        folder=f"{temporary.name}/exposure",
        calls=asked.calls,
        facts={**facts, "kind": "image", "image": str(path.resolve())},
        known={"power_spectrum_pixel_size": facts["pixel_size"]} if asked.spectrum else {},
        trial="ctf",  # beside a project's folders, no session is added to
    )
    if asked.spectrum:
        (temporary / "exposure").mkdir()
        write_mrc(temporary / "exposure" / "power_spectrum.mrc", read_image(path).data, pixel_size=facts["pixel_size"])
    return task, run_task(task)


def _found(outcome: Outcome, asked: _Asked) -> dict[str, Any]:
    """What the steps found and made, and the first reason why one did not."""
    plain = {spec.name for step in asked.chain for spec in step.makes() if spec.kind == "value"}
    wrong = next((step for step in outcome.steps if step.status != "done"), None)
    return {
        "status": "done" if wrong is None else wrong.status,
        "reason": "" if wrong is None else wrong.reason,
        "findings": {n: value for step in outcome.steps for n, value in step.values.items() if n in plain},
        "files": [file for step in reversed(outcome.steps) for name, file in step.products.items() if name != _COPY],
    }


def _write_record(folder: Path, record: Mapping[str, Any], calls: tuple[StepCall, ...]) -> None:
    from focusnb import __version__
    from focusnb.io import files

    steps = {call.step: dict(call.params) for call in calls}
    files.write_json(folder / RECORD, {"focusnb": __version__, **record, "steps": steps})


# Averages


def _write_averages(path: Path, folder: Path, task: Task, record: Mapping[str, Any], asked: _Asked) -> list[str]:
    """Write the averages as CTFFIND does; returns the names of what was written into the task's folder."""
    from focusnb.io.ctf_record import CtfOptics, CtfSearch, RingAverages
    from focusnb.io.ctffind import write_ctffind_averages
    from focusnb.ops.ctf.averages import ring_rows
    from focusnb.ops.ctf.fit import upper_resolution
    from focusnb.ops.ctf.model import Optics

    target = (task.run_folder if asked.out is not None else folder) / _averages_name(path)
    findings = record["findings"]
    curves = _curves(task.run_folder)
    if record["status"] != "done" or curves is None:
        target.unlink(missing_ok=True)  # what an earlier run wrote is of other parameters
        say(f"{path}: no averages are written, there is no CTF whose rings they could follow")
        return []
    facts = {name: fact["value"] for name, fact in record["facts"].items()}
    spectrum, pixel_size = _fitted_spectrum(task, {**task.known, **findings}, curves.frequency)
    lens = facts["voltage"], facts["spherical_aberration"], facts["amplitude_contrast"]
    rows = ring_rows(
        spectrum,
        curves,
        optics=Optics(pixel_size, *lens),
        mean_defocus=0.5 * (findings["defocus_u"] + findings["defocus_v"]),
        phase_shift=findings["phase_shift"],
    )
    params = next(call.params for call in asked.calls if call.step == "fit_ctf")
    write_ctffind_averages(
        target,
        [RingAverages(*rows)],
        optics=CtfOptics(facts["pixel_size"], *lens),
        search=CtfSearch(
            box=len(spectrum),
            resolution_low=params["resolution_low"],
            resolution_high=upper_resolution(
                Optics(pixel_size, *lens), params["resolution_low"], params["resolution_high"]
            ),
            defocus_min=params["defocus_min"],
            defocus_max=params["defocus_max"],
        ),
        input_name=str(path),
    )
    return [target.name] if asked.out is not None else []


def _curves(folder: Path) -> CtfCurves | None:
    """The averages along the rings that the fit left; None where there was nothing to fit."""
    from focusnb.ops.ctf.averages import curves_from_lists
    from focusnb.steps.ctf.fit_ctf import FitCtf

    path = folder / str(FitCtf.Results.spec("ctf_curves").file)
    return curves_from_lists(json.loads(path.read_text())) if path.is_file() else None


def _fitted_spectrum(task: Task, values: Mapping[str, Any], frequency: np.ndarray) -> tuple[np.ndarray, float]:
    """The spectrum that was fitted and its pixel size, of those measured: the one whose pixels the rings have."""
    from focusnb.io.images import read_image
    from focusnb.steps.base import find_step

    step = float(frequency[-1] - frequency[0]) / (len(frequency) - 1)
    found = []
    for spec in find_step("fit_ctf").Inputs.specs():
        pixel_size = values.get(f"{spec.name}_pixel_size")
        if spec.kind == "image" and pixel_size is not None:
            file = next(
                folder / str(spec.file)
                for folder in (task.run_folder, task.run_folder.parent)
                if (folder / str(spec.file)).is_file()
            )
            found.append((read_image(file).data, float(pixel_size)))
    return min(found, key=lambda pair: abs(1.0 / (len(pair[0]) * pair[1]) - step))


# All of them


def _show(records: Iterator[dict[str, Any]], count: int, format: Format) -> list[dict[str, Any]]:
    """Write the rows, csv as they come; returns the records.

    Why a file could not be read is told on standard error as well, unless the table tells it there and then.
    """
    done = []
    at_once = format == Format.csv
    if at_once:
        _write(_csv(COLUMNS))
    # a bar would be drawn into rows on the same terminal
    hidden = at_once and sys.stdout.isatty()
    with contextlib.nullcontext(lambda *_: None) if hidden else bar(count, "Fitting") as advance:
        for number, record in enumerate(records, start=1):
            done.append(record)
            row = _row(record)
            if at_once:
                _write(_csv("" if row[name] is None else row[name] for name in COLUMNS))
            if record["status"] != "done" and format != Format.table:
                reason = record["reason"]
                complain(reason if record["file"] in reason else f"{record['file']}: {reason}")
            advance(number, Path(record["file"]).name)
    rows = [_row(record) for record in done]
    if format == Format.json:
        _write(json.dumps(rows, ensure_ascii=False, allow_nan=False) + "\n")
    elif format == Format.table:
        _print_table(rows)
    return done


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    """One row: empty values and the reason where the file could not be fitted at all."""
    findings = record["findings"] if record["status"] == "done" else {}
    row = {name: findings.get(name) for name in COLUMNS}
    row["file"] = record["file"]
    if record["status"] != "done":
        row |= {"ctf_quality": "failed", "ctf_remark": record["reason"]}
    return row


def _write(text: str) -> None:
    # names of files need not be valid UTF-8, and are passed on as they are
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def _csv(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _print_table(rows: list[dict[str, Any]]) -> None:
    """Print the rows for people, with units, rounded, and the remarks beneath."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from focusnb.steps.ctf.fit_ctf import FitCtf

    specs = {spec.name: spec for spec in FitCtf.makes()}
    out = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    if not out.is_terminal:
        out = Console(file=sys.stdout, highlight=False, soft_wrap=True, width=200)
    names = [name for name in COLUMNS if name in specs and name != "ctf_remark"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("File\n", no_wrap=True)
    for name in names:
        spec = specs[name]
        label = spec.label.removeprefix("CTF ")  # all of them are of the CTF
        label = label[:1].upper() + label[1:]
        table.add_column(
            f"{label}\n[dim]{spec.unit}[/dim]",
            justify="right" if spec.type == "float" else "left",
            min_width=max(map(len, label.split())),
        )
    styles = {"failed": "yellow", "poor": "yellow", "ok": "green"}
    short = {row["file"]: Path(row["file"]).name for row in rows}
    shown = short if len(set(short.values())) == len(short) else {name: name for name in short}
    for row in rows:
        cells = [Text(_cell(row[name], specs[name]), style=styles.get(str(row[name]), "")) for name in names]
        table.add_row(Text(shown[row["file"]]), *cells)
    out.print(table)
    for row in rows:
        remark = row["ctf_remark"]
        if remark:
            out.print(Text(remark if row["file"] in remark else f"{shown[row['file']]}: {remark}", "yellow"))


def _cell(value: Any, spec: Spec) -> str:
    if value is None:
        return "–"
    return f"{value:.{spec.precision}f}" if isinstance(value, float) and spec.precision is not None else str(value)
