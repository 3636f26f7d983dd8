"""Tables written for other programs."""

from __future__ import annotations

import io
import zipfile

import pandas as pd
import pytest

from focusnb.errors import ParameterError
from focusnb.project.exports.tables import FORMATS, encode, encode_exposures


def exposures() -> pd.DataFrame:
    """Two exposures, one of which found nothing."""
    frame = pd.DataFrame(
        {
            "defocus_u": [15301.123456789, None],
            "exposure": ["=1+1", "b"],
            "group": ["camera", "TRASH"],
            "status": ["done", "failed"],
            "reason": [None, "the file, it is empty"],
            "processed_at": pd.to_datetime(["2026-11-28T03:04:05+02:00", None], utc=True),
        },
        index=pd.Index([7, 9], name="id"),
    )
    frame.attrs = {"units": {"defocus_u": "Å"}, "labels": {"defocus_u": "Defocus U"}}
    return frame


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_a_table_comes_back_as_it_was(format: str) -> None:
    data = encode_exposures(exposures(), format)
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[format](io.BytesIO(data))
    assert list(read.columns) == ["exposure", "group", "status", "reason", "id", "defocus_u", "processed_at"]
    assert read["id"].tolist() == [7, 9]
    assert read["defocus_u"][0] == 15301.123456789
    assert read["defocus_u"].isna().tolist() == [False, True]
    assert read["reason"][1] == "the file, it is empty"
    assert pd.to_datetime(read["processed_at"][0]) == pd.Timestamp("2026-11-28T01:04:05Z")


def test_a_spreadsheet_calculates_nothing_of_a_csv() -> None:
    frame = pd.DataFrame({"text": ["=HYPERLINK(1)", "+1-2", "@x", "-1.5", "-", "a=b", None], "number": [-1.0] * 7})
    lines = encode(frame, "csv").decode().splitlines()
    assert lines[1:] == ["'=HYPERLINK(1),-1.0", "'+1-2,-1.0", "'@x,-1.0", "-1.5,-1.0", "'-,-1.0", "a=b,-1.0", ",-1.0"]


def test_a_workbook_holds_numbers_texts_and_units() -> None:
    with zipfile.ZipFile(io.BytesIO(encode_exposures(exposures(), "xlsx"))) as book:
        strings = book.read("xl/sharedStrings.xml").decode()
        table, columns = (book.read(f"xl/worksheets/sheet{n}.xml").decode() for n in (1, 2))
    assert "<t>=1+1</t>" in strings  # a name is no formula
    assert "<f>" not in table
    assert "15301.123456789" in table
    assert "<t>Defocus U</t>" in strings
    assert "<t>Å</t>" in strings
    assert columns.count("<row") == 8
    assert table.count("<row") == 3


def test_more_rows_than_a_sheet_holds_and_other_formats_are_refused() -> None:
    with pytest.raises(ParameterError, match="holds 1048575 rows and the table has 1048576"):
        encode(pd.DataFrame({"x": range(1_048_576)}), "xlsx")
    with pytest.raises(ParameterError, match="doc is no format of tables; there are csv, json, parquet, xlsx"):
        encode(exposures(), "doc")
    assert FORMATS == ("csv", "json", "parquet", "xlsx")
