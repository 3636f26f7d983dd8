"""Tables as files: CSV, JSON, Parquet and Excel."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from focusnb.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd

_FIRST = ("exposure", "group", "status", "reason")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With what begins a text that a spreadsheet calculates."""

_EXCEL_ROWS = 1_048_575
"""Rows of a sheet, its header left out."""


def encode_exposures(frame: pd.DataFrame, format: str) -> bytes:
    """Encode a table of exposures as :meth:`Project.table` gives it; the id becomes a column after the names."""
    attributes = frame.attrs
    frame = frame.reset_index()
    frame = frame[[*_FIRST, *(name for name in frame.columns if name not in _FIRST)]]
    frame.attrs = attributes
    return encode(frame, format)


def encode(frame: pd.DataFrame, format: str) -> bytes:
    """Encode a table without its index as csv, json, parquet or xlsx.

    A missing value is empty, or null in JSON; a number is never shortened; times are ISO text (in CSV to the second),
    in Excel UTC without its zone; what a spreadsheet would calculate of a CSV stays text (:func:`without_formula`). A
    workbook holds a second sheet with the label and unit of each column where ``frame.attrs`` tells them.
    Raises ParameterError for other formats and for more rows than a sheet of Excel can hold.
    """
    if format not in _ENCODERS:
        raise ParameterError(f"{format} is no format of tables; there are {', '.join(FORMATS)}")
    return _ENCODERS[format](frame)


def without_formula(value: Any) -> Any:
    """A text for a spreadsheet that reads plain text: one that it would take for a formula gets an apostrophe."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def _csv(frame: pd.DataFrame) -> bytes:
    texts = [name for name in frame.columns if frame[name].dtype.kind == "O"]
    plain = frame.assign(**{name: frame[name].map(without_formula, na_action="ignore") for name in texts})
    return str(plain.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S%z")).encode()


def _json(frame: pd.DataFrame) -> bytes:
    columns = [_plain(frame[name]) for name in frame.columns]
    rows = [dict(zip(frame.columns, row, strict=True)) for row in zip(*columns, strict=True)]
    return (json.dumps(rows, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _plain(column: Any) -> list[Any]:
    """A column as JSON holds it: times as ISO text, missing values as null."""
    if column.dtype.kind == "M":
        column = column.map(lambda time: time.isoformat(), na_action="ignore")
    return column.astype(object).where(column.notna(), None).tolist()  # type: ignore[no-any-return]


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _xlsx(frame: pd.DataFrame) -> bytes:
    import pandas as pd

    if len(frame) > _EXCEL_ROWS:
        raise ParameterError(
            f"a sheet of Excel holds {_EXCEL_ROWS} rows and the table has {len(frame)}; write it as parquet or csv"
        )
    labels, units = frame.attrs.get("labels", {}), frame.attrs.get("units", {})
    sheet = frame.copy()
    for name in sheet.columns:
        if isinstance(sheet[name].dtype, pd.DatetimeTZDtype):
            sheet[name] = sheet[name].dt.tz_convert("UTC").dt.tz_localize(None)
    columns = pd.DataFrame(
        [(name, labels.get(name, ""), units.get(name, "")) for name in sheet.columns],
        columns=["column", "label", "unit"],
    )
    buffer = io.BytesIO()
    # a text that begins with = or looks like an address stays a text
    options = {"options": {"strings_to_formulas": False, "strings_to_urls": False}}
    with pd.ExcelWriter(buffer, engine="xlsxwriter", engine_kwargs=options) as writer:
        sheet.to_excel(writer, sheet_name="table", index=False, freeze_panes=(1, 1))
        columns.to_excel(writer, sheet_name="columns", index=False, freeze_panes=(1, 0))
    return buffer.getvalue()


_ENCODERS: dict[str, Callable[[Any], bytes]] = {"csv": _csv, "json": _json, "parquet": _parquet, "xlsx": _xlsx}

FORMATS = tuple(_ENCODERS)
"""Formats a table can be written in."""
