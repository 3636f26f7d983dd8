"""What is read from places that may never answer: seen by another thread, told in a sentence, left in the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.io import complete, files, folders
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.project import activity, importer, threads, watching
from focusnb.project.activity import Activity, Left, run_beside
from focusnb.project.project import Project
from focusnb.project.sources import ImportSource, make_source
from tests.projects import exposure_names, left_overs, make_project
from tests.waiting import wait_until


def test_what_is_silent_is_named_and_what_goes_on_is_not() -> None:
    now = [0.0]
    at = Activity(lambda: now[0])
    assert at.silent(0.0) == ""
    at.turn_to("/mnt/a.tif")
    now[0] = 15.0
    at.go_on(4096)
    now[0] = 30.0
    assert (at.silent(14.0), at.silent(15.0), at.told()) == ("/mnt/a.tif", "", "")
    now[0] = 36.0
    assert at.told() == "/mnt/a.tif: has not answered for 20 s; check the mount it is on and its server"
    at.rest()
    now[0] = 99.0
    assert at.told() == "", "what it waits for now is no source"
    at.leave()
    for call in (at.rest, at.go_on, lambda: at.turn_to("b")):
        with pytest.raises(Left):
            call()


def test_work_that_is_kept_is_left_when_it_is_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "SILENT", 0.05)
    monkeypatch.setattr(activity, "LEAVE", 0.1)
    told: list[str] = []
    assert run_beside(lambda: 7, Activity(), told.append) == 7
    with pytest.raises(ZeroDivisionError):
        run_beside(lambda: 1 // 0, Activity(), told.append)
    answer, ended = threading.Event(), threading.Event()
    at = Activity()

    def work() -> None:
        at.turn_to("/mnt/a.tif")
        answer.wait()
        try:
            at.go_on()
        finally:
            ended.set()

    assert run_beside(work, at, told.append, lambda: bool(told)) is None
    assert told == [
        "/mnt/a.tif: has not answered for 0 s; check the mount it is on and its server; it goes on when that answers",
        "/mnt/a.tif: does not answer, so the import ends without it; import again when it does",
    ]
    answer.set()
    assert ended.wait(60), "it ends as soon as it comes back"


def test_a_silent_mount_is_asked_once_and_again_when_it_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_silent", {})
    answer, asked = threading.Event(), []

    def question() -> str:
        asked.append(1)
        answer.wait()
        return "there"

    assert folders.ask("/mnt/a", question, otherwise="silent", patience=0.05) == "silent"
    assert folders.ask("/mnt/b", question, otherwise="silent", patience=60.0) == "silent"
    assert len(asked) == 1, "nobody waits for it a second time"
    answer.set()
    wait_until(lambda: folders.ask("/mnt/c", question, otherwise="silent") == "there")

    def gone() -> str:
        raise FileNotFoundError

    assert folders.ask("/mnt/a", gone, otherwise="silent") == "silent"


# Sources


class Hanging:
    """Everything below a folder keeps whoever asks for it in one call, until it answers."""

    def __init__(self, root: Path) -> None:
        self.root, self.answers = root, threading.Event()

    def of(self, function: Any) -> Any:
        """A function whose first or second argument is a path, as it is where that hangs."""

        def call(*arguments: Any, **options: Any) -> Any:
            if any(str(one).startswith(f"{self.root}") for one in arguments[:2]):
                self.answers.wait()
            return function(*arguments, **options)

        return call


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(activity, "SILENT", 0.4)
    for module in (activity, threads):
        monkeypatch.setattr(module, "LEAVE", 0.4)
    monkeypatch.setattr(watching, "PATIENCE", 0.5)
    with make_project(tmp_path / "project", steps=False) as project:
        yield project


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Hanging]:
    hanging = Hanging(tmp_path / "dead")
    yield hanging
    hanging.answers.set()


def movie(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tiff(path, np.random.default_rng(seed).poisson(3, (3, 10, 12)).astype(np.uint8), pixel_size=1.5)
    return path


def hang(hanging: Hanging, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a call hang that an import makes on its way from the folder to the copy."""
    if call == "listing":
        real = watching.Watcher
        scandir = hanging.of(watching.os.scandir)
        monkeypatch.setattr(threads, "Watcher", lambda *given, **options: real(*given, scandir=scandir, **options))
    elif call == "stat":
        monkeypatch.setattr(complete, "stand_of", hanging.of(complete.stand_of))
    elif call == "header":
        monkeypatch.setattr(complete, "open_movie", hanging.of(complete.open_movie))
    else:
        monkeypatch.setattr(files, "_read_block", hanging.of(files._read_block))


def watch_until(
    project: Project, sources: list[ImportSource], told: list[str], done: Any, stop: threading.Event | None = None
) -> list[int]:
    """Watch until something is so; returns the exposures in the order in which they came."""
    stop, added = stop or threading.Event(), []
    guard = threading.Timer(120, stop.set)
    guard.start()

    def turn() -> None:
        if done():
            stop.set()

    try:
        threads.watch(
            project, lambda: list(sources), told.append, stop,
            on_added=lambda _, ids: added.extend(ids), on_turn=turn, interval=0.05,
        )  # fmt: skip
    finally:
        guard.cancel()
    return added


def names(project: Project) -> list[str]:
    return exposure_names(project.folder)


@pytest.mark.parametrize("call", ["listing", "stat", "header", "copy"])
def test_a_source_that_hangs_holds_up_no_other_and_is_taken_up_again(
    project: Project, tmp_path: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    hang(hanging, call, monkeypatch)
    movie(hanging.root / "a.tif", 1)
    good = movie(tmp_path / "good" / "b.tif", 2).parent
    sources = [make_source({"folders": [folder], "delay": 0.05}) for folder in (hanging.root, good)]
    told: list[str] = []

    def about() -> list[str]:
        # on a machine that does much else the other folder may be slow as well
        return [line for line in told if "source dead" in line or str(hanging.root) in line]

    def done() -> bool:
        if "b" in names(project) and not (good / "c.tif").exists():
            movie(good / "c.tif", 3)
        if about() and "c" in names(project) and not hanging.answers.is_set():
            assert names(project) == ["b", "c"]
            hanging.answers.set()
        return "a" in names(project) and len(about()) >= 2

    assert len(watch_until(project, sources, told, done)) == 3
    assert names(project) == ["a", "b", "c"]
    first, again, *_ = about()
    assert str(hanging.root) in first
    assert "check" in first
    assert "and its server" in first
    assert again.endswith("answers again")
    assert left_overs(project.folder) == []


def test_a_folder_that_hangs_holds_up_no_other_of_its_source(
    project: Project, tmp_path: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(hanging, "copy", monkeypatch)
    movie(hanging.root / "a.tif", 1)
    good = movie(tmp_path / "good" / "b.tif", 2).parent
    for folder in (hanging.root, good):
        movie(folder / "gain.tif", 9)
    source = make_source({"folders": [hanging.root, good], "delay": 0.05, "name": "both"})
    told: list[str] = []

    def done() -> bool:
        if any("has not answered" in line for line in told) and not (good / "c.tif").exists():
            movie(good / "c.tif", 3)
        if "c" in names(project) and not hanging.answers.is_set():
            assert names(project) == ["b", "c"]
            hanging.answers.set()
        if "a" in names(project) and not (hanging.root / "d.tif").exists():
            for number, folder in enumerate((hanging.root, good)):
                movie(folder / f"{'de'[number]}.tif", 4 + number)
        return len(names(project)) == 5 and "source both: answers again" in told

    assert sorted(watch_until(project, [source], told, done)) == [1, 2, 3, 4, 5]
    assert names(project) == ["a", "b", "c", "d", "e"], "nothing twice"
    assert len([line for line in told if "named like gain" in line]) == 1, "nor is anything said twice"
    # on a machine that does much else the other folder may be slow as well
    assert (
        f"source both: {hanging.root / 'a.tif'}: has not answered for 0 s; check the mount it is on and its server; "
        "others of this source and other sources go on, and this one when it answers"
    ) in told
    assert left_overs(project.folder) == []


def test_a_folder_that_answers_is_taken_up_while_the_other_hangs(
    project: Project, tmp_path: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = Hanging(tmp_path / "second")
    monkeypatch.setattr(files, "_read_block", second.of(hanging.of(files._read_block)))
    movie(hanging.root / "a.tif", 1)
    second.root.mkdir()
    source = make_source({"folders": [hanging.root, second.root], "delay": 0.05, "name": "both"})
    told: list[str] = []

    def done() -> bool:
        silent = {line.split(": ")[1] for line in told if "has not answered" in line}
        if str(hanging.root / "a.tif") in silent and not (second.root / "b.tif").exists():
            movie(second.root / "b.tif", 2)
        if str(second.root / "b.tif") in silent and not hanging.answers.is_set():
            movie(hanging.root / "c.tif", 3)
            hanging.answers.set()
        if "c" in names(project) and not second.answers.is_set():
            assert names(project) == ["a", "c"]
            second.answers.set()
        return "b" in names(project)

    try:
        watch_until(project, [source], told, done)
    finally:
        second.answers.set()
    assert names(project) == ["a", "b", "c"], "nothing twice"
    assert left_overs(project.folder) == []


def test_a_gain_reference_that_does_not_answer_is_not_read_again_for_the_other_folders(
    project: Project, tmp_path: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = movie(tmp_path / "good" / "b.tif", 2).parent
    hanging.root.mkdir()
    gain = hanging.root / "gain.mrc"
    write_mrc(gain, np.ones((1, 10, 12), np.float32), pixel_size=1.5)
    hanging.answers.set()  # it does at first
    for name in ("_read_block", "hash_file"):
        monkeypatch.setattr(files, name, hanging.of(getattr(files, name)))
    source = make_source({"folders": [hanging.root, good], "delay": 0.05, "name": "both", "gain_reference": gain})
    told: list[str] = []

    def done() -> bool:
        if "b" in names(project) and not (hanging.root / "a.tif").exists():
            hanging.answers.clear()
            movie(hanging.root / "a.tif", 1)
        if any("a.tif: has not answered" in line for line in told) and not (good / "c.tif").exists():
            movie(good / "c.tif", 3)
        return "c" in names(project)

    watch_until(project, [source], told, done)
    assert names(project) == ["b", "c"]
    assert exposure_names(project.folder, "gain_reference IS NOT NULL") == ["b", "c"]


def test_what_belongs_to_a_movie_that_hangs_waits_for_it(
    project: Project, tmp_path: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(hanging, "copy", monkeypatch)
    monkeypatch.setattr("focusnb.project.intake.FOR_A_MOVIE", 0.2)
    hanging.root = tmp_path / "raw"
    movie(hanging.root / "a.tif", 1)
    average = tmp_path / "averages" / "a.mrc"
    good = movie(tmp_path / "other" / "b.tif", 2).parent
    folders_ = [hanging.root, average.parent, good]
    average.parent.mkdir()
    told: list[str] = []

    def done() -> bool:
        if "b" in names(project) and not average.exists():
            write_mrc(average, np.ones((1, 10, 12), np.float32), pixel_size=1.5)
            movie(good / "c.tif", 3)
        if "c" in names(project) and not hanging.answers.is_set():
            assert names(project) == ["b", "c"], "no exposure of its own"
            hanging.answers.set()
        return exposure_names(project.folder, "image IS NOT NULL") == ["a"]

    source = make_source({"folders": folders_, "delay": 0.05, "name": "trio"})
    watch_until(project, [source], told, done)
    assert names(project) == ["a", "b", "c"]


def test_watching_ends_while_a_source_hangs_which_leaves_nothing(
    project: Project, tmp_path: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(hanging, "copy", monkeypatch)
    movie(hanging.root / "a.tif", 1)
    good = movie(tmp_path / "good" / "b.tif", 2).parent
    sources = [make_source({"folders": [folder], "delay": 0.05}) for folder in (hanging.root, good)]
    told: list[str] = []
    watch_until(project, sources, told, lambda: names(project) == ["b"] and told)
    assert f"source dead: {hanging.root / 'a.tif'} does not answer, so it is left as it is" in told
    hanging.answers.set()
    wait_until(lambda: not list((project.folder / "exposures").glob(".*.part-*")))
    assert left_overs(project.folder) == []
    assert names(project) == ["b"], "what comes back too late writes nothing"
    # the next one takes it up
    watch_until(project, sources, told, lambda: len(names(project)) == 2)
    assert names(project) == ["a", "b"]


def test_a_source_that_hangs_can_be_taken_out_and_another_put_in_its_place(
    project: Project, tmp_path: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(hanging, "copy", monkeypatch)
    movie(hanging.root / "a.tif", 1)
    other = movie(tmp_path / "other" / "b.tif", 2).parent
    source = make_source({"folders": [hanging.root], "delay": 0.05, "name": "camera"})
    sources, told = [source], []

    def done() -> bool:
        if told and sources[0] is source:
            sources[0] = make_source({"folders": [other], "delay": 0.05, "name": "camera"})
        return names(project) == ["b"]

    watch_until(project, sources, told, done)
    assert names(project) == ["b"]


def test_equal_content_from_a_server_that_is_gone_holds_up_nothing(
    project: Project, tmp_path: Path, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add(movie(hanging.root / "a.tif"))
    monkeypatch.setattr(folders, "PATIENCE", 0.1)
    monkeypatch.setattr(folders, "_silent", {})
    monkeypatch.setattr(importer.placing, "is_as_placed", hanging.of(importer.placing.is_as_placed))
    good = movie(tmp_path / "good" / "b.tif").parent
    report = project.add(good)
    assert names(project) == ["a", "b"]
    assert any("has the same content as a; imported all the same" in line for line in report.messages)
