"""A project's own code runs only after it was trusted, as it was then."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from focusnb.errors import FocusError, FormatError
from focusnb.steps import trust
from tests.steps.conftest import Bench


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config/focusnb/trusted.json"


@pytest.fixture
def project(bench: Bench) -> Path:
    bench.write("mark.py", "print('hello')")
    bench.write("count.sh", "echo hello")
    return bench.project


def states(project: Path) -> dict[str, str]:
    return {file.name: file.state for file in trust.code_files(project)}


def test_a_project_without_code_needs_no_trust(tmp_path: Path) -> None:
    assert trust.is_trusted(tmp_path)
    (tmp_path / "steps").mkdir()
    assert trust.is_trusted(tmp_path)
    assert trust.describe(tmp_path) == f"{tmp_path} holds no code of its own."


def test_trust_is_given_kept_and_taken_back(project: Path, settings: Path) -> None:
    assert not trust.is_trusted(project)
    trust.trust(project)
    assert trust.is_trusted(project)
    assert list(json.loads(settings.read_text())["projects"]) == [str(project)]
    assert stat.S_IMODE(settings.parent.stat().st_mode) == 0o700
    trust.distrust(project)
    assert not trust.is_trusted(project)
    trust.distrust(project)


@pytest.mark.parametrize(
    ("change", "name", "state"),
    [
        (lambda steps: (steps / "mark.py").write_text("print('hellO')\n"), "mark.py", "changed"),
        (lambda steps: (steps / "more.sh").write_text(""), "more.sh", "new"),
        (lambda steps: (steps / ".hidden").write_text(""), ".hidden", "new"),
        (lambda steps: (steps / "count.sh").unlink(), "count.sh", "removed"),
        (lambda steps: (steps / "link").symlink_to("/tmp"), "link", "new"),
    ],
)
def test_changed_code_is_asked_about_again(project: Path, change: object, name: str, state: str) -> None:
    trust.trust(project)
    assert set(states(project).values()) == {"same"}
    change(project / "steps")  # type: ignore[operator]
    assert not trust.is_trusted(project)
    assert {key: value for key, value in states(project).items() if value != "same"} == {name: state}
    text = trust.describe(project)
    assert "It was trusted before, and has changed since." in text
    assert f"{name} (" in text
    assert f", {state})" in text
    trust.trust(project)
    assert trust.is_trusted(project)


def test_a_change_with_the_same_size_and_time_is_seen(project: Path) -> None:
    path = project / "steps/mark.py"
    before = path.stat()
    trust.trust(project)
    path.write_text(path.read_text().replace("hello", "HELLO"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert not trust.is_trusted(project)


def test_code_in_a_folder_below_counts(project: Path) -> None:
    (project / "steps/parts").mkdir()
    (project / "steps/parts/tool.py").write_text("1")
    trust.trust(project)
    (project / "steps/parts/tool.py").write_text("2")
    assert states(project)["parts/tool.py"] == "changed"


def test_a_copy_of_a_project_is_another_project(project: Path, tmp_path: Path) -> None:
    trust.trust(project)
    (tmp_path / "link").symlink_to(project)
    assert trust.is_trusted(tmp_path / "link")
    project.rename(tmp_path / "moved")
    assert not trust.is_trusted(tmp_path / "moved")


def test_two_projects_do_not_touch_each_other(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "steps").mkdir(parents=True)
    (other / "steps/a.sh").write_text("")
    trust.trust(project)
    trust.trust(other)
    trust.distrust(other)
    assert trust.is_trusted(project)
    assert not trust.is_trusted(other)


def test_the_question_names_the_files_and_what_is_at_stake(project: Path) -> None:
    text = trust.describe(project)
    assert str(project / "steps") in text
    assert "runs with your rights on every worker" in text
    assert "mark.py (14 bytes, new)" in text
    for number in range(30):
        (project / f"steps/s{number:02}.sh").write_text("")
    assert "and 12 more" in trust.describe(project)


def test_code_changed_while_the_question_was_open_is_not_trusted(project: Path) -> None:
    seen = trust.code_hash(project)
    (project / "steps/mark.py").write_text("something else")
    with pytest.raises(FocusError, match="was changed while the question was open; look at it again"):
        trust.trust(project, seen=seen)
    assert not trust.is_trusted(project)
    trust.trust(project, seen=trust.code_hash(project))
    assert trust.is_trusted(project)


@pytest.mark.parametrize("text", ["{", "[]", '{"projects": {"/a": true}}', '{"projects": []}'])
def test_a_broken_record_trusts_nobody_and_says_the_cure(project: Path, settings: Path, text: str) -> None:
    settings.parent.mkdir(parents=True)
    settings.write_text(text)
    with pytest.raises(FormatError, match=r"trusted\.json: .*remove it, and each project is asked about again"):
        trust.is_trusted(project)
    with pytest.raises(FormatError):
        trust.trust(project)
    assert settings.read_text() == text


def test_the_record_lies_in_the_home_where_nothing_else_is_said(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    trust.trust(project)
    assert (tmp_path / "home/.config/focusnb/trusted.json").is_file()
