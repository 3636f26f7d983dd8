"""What the documents print works as printed, and the reference is that of the declarations."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from focusnb.steps.base import collecting, faults_in, steps_in

ROOT = Path(__file__).resolve().parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def test_the_reference_is_that_of_the_declarations() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))
    assert (ROOT / "docs" / "reference.md").read_text() == page["text"](), "run python docs/make_reference.py"


def test_printed_steps_load(tmp_path: Path) -> None:
    (tmp_path / "measure_contrast.py").write_text(blocks("CONTRIBUTING.md", "python")[0])
    (tmp_path / "measure_file.sh").write_text(blocks("docs/steps.md", "sh")[0])
    (tmp_path / "count_shifts.py").write_text(blocks("docs/steps.md", "python")[0])
    assert faults_in(tmp_path) == ()
    assert {"measure_contrast", "measure_file", "count_shifts"} <= set(steps_in(tmp_path))


def test_the_printed_test_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example, _, test = blocks("CONTRIBUTING.md", "python")
    (tmp_path / "measure_contrast.py").write_text(example)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {}
    with collecting():
        try:
            exec(test.replace("focusnb.steps.statistics.measure_contrast", "measure_contrast"), names)
        finally:
            sys.modules.pop("measure_contrast", None)
    tests = [function for name, function in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for function in tests:
        function(tmp_path)  # type: ignore[operator]


def test_links_of_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}, which is not there"
