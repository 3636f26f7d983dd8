"""Panels follow a project, say what goes wrong in their own place, and recover."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pytest

from focusnb.errors import ParameterError
from focusnb.panels import base, polling
from focusnb.panels.base import Panel
from focusnb.panels.header import ProjectHeader
from focusnb.project import lease
from focusnb.project import library as library_module
from focusnb.project.browsing.rows import Changed
from focusnb.project.library import Library, LibraryBusy
from focusnb.project.project import Project
from focusnb.project.rebuilding import rebuild
from tests.projects import make_project, process, write_shots


class Listing(Panel):
    """Keeps what it was told."""

    def __init__(self, project: Project, *, alone: bool = True) -> None:
        super().__init__(project, alone=alone)
        self.told: list[Changed | None] = []
        self.fault: Exception | None = None
        self.label = widgets.Label()
        self.body.children = [self.label]
        self.start()

    def refresh(self, changes: Changed | None) -> None:
        if self.fault is not None:
            raise self.fault
        self.label.value = ", ".join(self.project.table()["exposure"])
        self.told.append(changes)

    @property
    def said(self) -> str:
        return self._messages.text

    @property
    def noticed(self) -> str:
        return self._notices.text


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with make_project(tmp_path / "session") as project:
        project.add(write_shots(tmp_path / "camera", one="a\nb", two="a"))
        yield project
        left, polling._pollers = polling._pollers, {}
        assert left == {}, "a poller was left behind"


@pytest.fixture
def panel(project: Project) -> Iterator[Listing]:
    panel = Listing(project)
    yield panel
    panel.close()


def test_a_panel_is_told_all_at_first_and_then_what_changed(project, panel):
    assert panel.told == [None]
    assert panel.label.value == "one, two"
    poller = polling.poller(project)
    poller.step()
    assert panel.told == [None], "nothing changed, nothing is told"
    with Project.open(project.folder) as other:
        other.flag(other.ids()[:1], "red")
        other.flag(other.ids()[1:], "gold")
    panel.poke()
    [_, changes] = panel.told
    assert changes.exposures == frozenset(project.ids())
    assert changes.deleted == frozenset()
    assert changes.revision == project.revision


def test_one_look_serves_all_panels_of_a_project(project, panel, monkeypatch):
    looks = []
    read = polling.changed_since
    monkeypatch.setattr(polling, "changed_since", lambda library, since: looks.append(since) or read(library, since))
    with Project.open(project.folder) as same:
        second = Listing(same, alone=False)
        assert polling.poller(same) is polling.poller(project)
        project.flag(project.ids(), "blue")
        polling.poller(project).step()
        assert len(looks) == 1
        assert panel.told[-1] is second.told[-1] is not None
        second.close()
        project.flag(project.ids(), "red")
        panel.poke()
        assert len(second.told) == 2
        assert len(panel.told) == 3


def test_a_widget_closed_by_others_is_forgotten(project):
    panel, other = Listing(project), Listing(project)
    panel.widget.close()
    project.flag(project.ids(), "blue")
    other.poke()
    assert (len(panel.told), len(other.told)) == (1, 2)
    other.close()
    assert other.widget.comm is None
    assert other.label.comm is None


def test_a_fault_is_said_in_the_panel_and_taken_back(project, panel):
    panel.fault = ZeroDivisionError("in a <plot>")
    project.flag(project.ids(), "blue")
    panel.poke()
    assert "Cannot show the present state: a fault of focusnb (ZeroDivisionError)" in panel.said
    assert "in a &lt;plot&gt;" in panel.said, "the details are folded beneath, as text"
    assert 'role="alert"' in panel.said
    panel.fault = None
    project.flag(project.ids(), None)
    panel.poke()
    assert panel.said == ""
    assert panel.told == [None, None], "what was missed is read anew"


def test_what_a_user_asks_for_and_cannot_have_is_said_in_one_sentence(panel):
    with panel.guard("set the flag"):
        panel.project.flag(panel.project.ids(), "pink")
    assert "pink is no flag; there are red, green, blue, gold" in panel.said
    assert "details" not in panel.said
    with panel.guard("read the picture"):
        Path("/nowhere/picture.png").read_bytes()
    assert "Cannot read the picture: /nowhere/picture.png: No such file or directory" in panel.said
    with panel.guard("set the flag"):
        panel.project.flag(panel.project.ids(), "gold")
    assert panel.said == ""
    with pytest.raises(KeyboardInterrupt), panel.guard("wait"):
        raise KeyboardInterrupt


def test_details_are_only_for_faults():
    assert base.explain(ParameterError("no <tag>"), "do it") == ("no <tag>", "")
    sentence, details = base.explain(KeyError("x"), "do it")
    assert sentence.startswith("Cannot do it: a fault of focusnb (KeyError)")
    assert "KeyError: 'x'" in details


def test_a_folder_that_goes_away_and_comes_back(project, panel):
    away = project.folder.with_name("away")
    project.folder.rename(away)
    panel.poke()
    assert panel.health.stale_since is not None
    assert f"{project.folder} cannot be read (it is not there" in panel.noticed
    assert panel.noticed.count("Stale since") == 1
    first = panel.noticed
    panel.poke()
    assert panel.noticed == first, "since when does not move"
    assert panel.label.value == "one, two", "what was seen last stays"
    with Project.open(away) as elsewhere:
        elsewhere.flag(elsewhere.ids(), "gold")
    away.rename(project.folder)
    panel.poke()
    assert panel.noticed == ""
    assert panel.health.stale_since is None
    assert panel.told[-1].exposures == frozenset(project.ids())
    assert list(project.table()["flag"]) == ["gold", "gold"]


def test_a_panel_opened_while_the_folder_is_away(project):
    away = project.folder.with_name("away")
    project.folder.rename(away)
    project.library.reopen()
    panel = Listing(project)
    assert "Stale since" in panel.noticed
    assert panel.said == "", "said once is enough"
    away.rename(project.folder)
    panel.poke()
    assert panel.told == [None]
    assert panel.label.value == "one, two"
    panel.close()


def test_a_library_that_was_rebuilt_is_read_anew(project, panel):
    process(project)
    panel.poke()
    again, _ = rebuild(project.folder)
    again.close()
    panel.poke()
    assert panel.told[-1] is None
    assert panel.label.value == "one, two"


def test_a_locked_library_is_told_and_followed_again(project, panel, monkeypatch):
    def locked(library: Library) -> int:
        raise LibraryBusy(f"{library.path}: another process kept it locked for more than 30 s")

    monkeypatch.setattr(Library, "revision", property(locked))
    panel.poke()
    assert "another process kept it locked" in panel.noticed
    monkeypatch.undo()
    panel.poke()
    assert panel.noticed == ""


def test_a_process_that_died_at_work_is_told(project, panel):
    child = "import sys; from focusnb.project import lease; from focusnb.project.project import Project;"
    child += "lease.take_lease(Project.open(sys.argv[1]).library)"
    subprocess.run([sys.executable, "-c", child, str(project.folder)], check=True)
    poller = polling.poller(project)
    poller._lease_seen = 0
    poller.step()
    assert "Nobody processes: process" in panel.noticed
    assert f"focusnb serve {project.folder}" in panel.noticed
    epoch = lease.take_lease(project.library)
    poller._lease_seen = 0
    poller.step()
    assert panel.noticed == ""
    assert panel.health.worker
    lease.release_lease(project.library, epoch)
    poller._lease_seen = 0
    poller.step()
    assert panel.noticed == panel.health.worker == ""


def test_a_read_only_project_is_shown_and_says_so(project):
    project.library.read_only = True
    panel = Listing(project)
    assert "You can look at this project but not change it" in panel.noticed
    assert panel.label.value == "one, two"
    with panel.guard("set the flag"):
        project.flag(project.ids(), "gold")
    assert "cannot be written" in panel.said
    panel.close()


def test_who_may_only_read_follows_a_writer_who_comes_and_goes(project, monkeypatch):
    """SQLite takes a file that nobody writes for unchanging where it may not write itself."""
    folder = project.folder
    project.library.checkpoint()
    project.close()
    with monkeypatch.context() as patch:
        patch.setattr(library_module, "_writable", lambda path: False)
        reader = Project.open(folder)
    panel = Listing(reader)
    shown: list[Any] = []
    panel.refresh = lambda changes: shown.append(reader.table()["flag"].unique().tolist())  # type: ignore[method-assign]
    poller = polling.poller(reader)
    for flag in ("red", "gold"):
        with Project.open(folder) as writer:
            writer.flag(writer.ids(), flag)
            poller.step()
            assert shown[-1] == [flag]
            writer.library.checkpoint()
        poller.step()
        assert shown[-1] == [flag]
    panel.close()
    reader.close()


def test_only_one_panel_of_a_page_brings_the_notices(project):
    first, second = Listing(project), Listing(project, alone=False)
    project.folder.rename(project.folder.with_name("away"))
    first.poke()
    assert "Stale" in first.noticed
    assert second.noticed == ""
    project.folder.with_name("away").rename(project.folder)
    first.close()
    second.close()


def test_columns_of_other_processes_appear(project, panel):
    known = set(project.specs())
    column = project.folder / "steps" / "more.py"
    text = (project.folder / "steps" / "chain.py").read_text()
    column.write_text(text.replace('quantity("Level"', 'quantity("Loudness"').replace("level", "loudness").replace(
        'name = "load"', 'name = "more"').replace("class Load", "class More").split("    class Scale")[0])  # fmt: skip
    child = "import sys; from focusnb.project.project import Project; from focusnb.steps import trust;"
    child += "trust.trust(sys.argv[1]); p = Project.open(sys.argv[1]); p.flag(p.ids(), 'red')"
    subprocess.run([sys.executable, "-c", child, str(project.folder)], check=True)
    panel.poke()
    assert set(project.specs()) - known == {"loudness"}


def test_the_loop_follows_by_itself_and_ends_with_the_last_panel(project, monkeypatch):
    monkeypatch.setattr(polling, "INTERVAL", 0.02)

    async def live() -> None:
        panel = Listing(project)
        poller = polling.poller(project)
        assert poller.is_running
        with Project.open(project.folder) as other:
            other.flag(other.ids(), "red")
        await _until(lambda: len(panel.told) == 2)
        panel.close()
        await asyncio.sleep(0)
        assert not poller.is_running

    asyncio.run(live())


def test_a_folder_that_hangs_stops_nothing(project, monkeypatch):
    monkeypatch.setattr(polling, "INTERVAL", 0.02)
    monkeypatch.setattr(polling, "PATIENCE", 0.1)
    goes_on = threading.Event()
    read = Project.revision.fget

    def revision(self: Project) -> int:
        goes_on.wait()
        return read(self)

    async def live() -> None:
        panel = Listing(project)
        monkeypatch.setattr(Project, "revision", property(revision))
        await _until(lambda: panel.health.stale is not None)
        assert "it does not answer" in panel.noticed
        goes_on.set()
        await _until(lambda: panel.health.stale is None)
        assert panel.noticed == ""
        panel.close()

    asyncio.run(live())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_the_head_of_a_page(project, tmp_path):
    process(project)
    head = ProjectHeader(project)
    assert "<h1" in head._name.value
    assert ">2</span>" in head._states.value
    assert 'data-state="done"' in head._states.value
    assert "live · nobody processes" in head._live.value
    assert head._hint.layout.display == "none"
    project.folder.rename(tmp_path / "away")
    head.poke()
    assert "stale since" in head._live.value
    (tmp_path / "away").rename(project.folder)
    head.close()


def test_an_empty_project_says_how_to_fill_it(tmp_path):
    with make_project(tmp_path / "empty <b>", steps=False) as project:
        head = ProjectHeader(project)
        assert "There are no exposures yet" in head._hint.value
        assert "focusnb import" in head._hint.value
        assert "empty &lt;b&gt; CAMERA_FOLDER" in head._hint.value
        project.add(write_shots(tmp_path / "camera", one="a"))
        head.poke()
        assert head._hint.value == ""
        assert 'data-state="new"' in head._states.value
        head.close()
