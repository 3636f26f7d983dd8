"""Everything known of one exposure, as text."""

from __future__ import annotations

import pytest

from focusnb.project.project import Project
from focusnb.views import details
from focusnb.views.exposure import read_exposure
from focusnb.views.payload import details as payload
from tests.projects import make_project, process, write_shots
from tests.views.shown import state


def rows(found: list[details.Row]) -> dict[str, details.Row]:
    return {row.name: row for row in found}


def test_facts_tell_where_they_come_from(shown: Project) -> None:
    shown.set_facts([1], voltage=300.0)
    shown.set_facts([1], origin="set", voltage=200.0)
    found = rows(details.fact_rows(shown, read_exposure(shown, 1)))
    assert (found["voltage"].text, found["voltage"].unit, found["voltage"].origin) == ("300", "kV", "by hand")
    assert found["voltage"].note == "given at import says 200"
    assert found["spherical_aberration"].origin == "assumed"
    assert "defocus_u" not in found


def test_findings_have_units_digits_and_who_set_them(shown: Project) -> None:
    shown.override(1, defocus_u=20000.0)
    found = rows(details.finding_rows(shown, read_exposure(shown, 1)))
    assert (found["iciness"].text, found["iciness"].unit) == ("0.831", "")
    assert (found["defocus_v"].text, found["defocus_v"].unit, found["defocus_v"].marked) == ("11600", "Å", False)
    assert (found["defocus_u"].text, found["defocus_u"].origin, found["defocus_u"].marked) == ("20000", "by hand", True)
    assert found["defocus_u"].note.endswith("; measured: 12400")
    assert not {"micrograph", "micrograph_preview", "voltage"} & set(found)


def test_parameters_tell_their_level_and_what_results_were_made_with(tmp_path) -> None:
    with make_project(tmp_path / "project") as project:
        project.add(write_shots(tmp_path / "camera", a="1\n2\n"))
        process(project)
        project.set_params("scale", factor=3.0)
        project.set_params("scale", level="exposure", key=1, high=20)
        found = rows(details.parameter_rows(project, read_exposure(project, 1)))
        factor, high, low = (found[name] for name in ("factor", "high", "low"))
        assert (factor.text, factor.origin, factor.note) == ("3", "project", "the results were made with 2")
        assert (high.text, high.origin, high.marked) == ("20", "this exposure", True)
        assert (low.origin, low.marked, low.group) == ("default", False, "Scale")


def test_failures_tell_title_reason_and_cure(tmp_path) -> None:
    with make_project(tmp_path / "project") as project:
        project.add(write_shots(tmp_path / "camera", a="fail scale", b="fault load", c="1"))
        process(project)
        (failed,) = details.failures(project, read_exposure(project, 1))
        assert (failed.title, failed.status, failed.reason) == ("Scale", "failed", "a: scale cannot")
        assert f"focusnb run {project.folder} --retry" in failed.cure
        record = read_exposure(project, 2)
        (broken,) = details.failures(project, record, details.read_runs(project, record))
        assert broken.status == "broken"
        assert "ZeroDivisionError" in broken.traceback
        assert "fault of the step" in broken.cure
        assert details.failures(project, read_exposure(project, 3)) == []


@pytest.mark.parametrize(
    ("error", "status", "cure"),
    [
        ("ResourceError", "failed", "tried again by itself"),
        ("ProgramMissing", "failed", "Install the program"),
        ("Memory", "failed", "more memory than a worker has"),
        ("", "lost", "worker died"),
        ("FormatError", "failed", "import it again"),
    ],
)
def test_what_to_do_depends_on_the_cause(shown: Project, error: str, status: str, cure: str) -> None:
    with shown.library.write() as transaction:
        transaction.update_exposure(1, {"movie": "raw/a.tif"})
    state(shown, 1, "prepare_movie", status, reason="it cannot", error=error)
    assert cure in details.failures(shown, read_exposure(shown, 1))[0].cure


def test_the_failure_that_decides_the_status_is_first(shown: Project) -> None:
    state(shown, 1, "measure_image", "failed", reason="one")
    state(shown, 1, "prepare_movie", "broken", reason="two", status="broken")
    assert [f.reason for f in details.failures(shown, read_exposure(shown, 1))] == ["two", "one"]


def test_runs_are_told_newest_first(tmp_path) -> None:
    with make_project(tmp_path / "project") as project:
        project.add(write_shots(tmp_path / "camera", a="fail judge"))
        process(project)
        process(project, everything=True)
        record = read_exposure(project, 1)
        found = details.run_rows(project, details.read_runs(project, record))
        assert len(found) == 6
        assert {found[0]["step"], found[-1]["step"]} == {"Judge", "Load"}
        assert all(run["versions"].startswith("version") for run in found)


def test_a_log_is_cut_at_its_beginning_and_found_in_the_history(shown: Project, tmp_path) -> None:
    record = read_exposure(shown, 1)
    assert "no step has run" in details.log_text(record)
    (record.folder / "log.txt").write_text("x" * details.LONGEST_LOG + "the end")
    text = details.log_text(record)
    assert text.startswith("… the 7 bytes before are in")
    assert text.endswith("the end")
    (record.folder / "log.txt").unlink()
    with make_project(tmp_path / "other" / "project") as project:
        project.add(write_shots(tmp_path / "other" / "camera", a="1"))
        process(project)
        kept = read_exposure(project, 1)
        (kept.folder / "log.txt").unlink()
        assert "loaded" in details.log_text(kept, details.read_runs(project, kept))


def test_all_of_it_is_plain_data(shown: Project) -> None:
    import json

    text = json.dumps(payload(shown, 1), allow_nan=False)
    assert json.loads(text)["head"]["name"] == "a"
