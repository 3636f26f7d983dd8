"""Watching: what is complete becomes exposures, with what belongs to them, once, also across restarts."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from focusnb.errors import ParameterError, ResourceError
from focusnb.io import complete, files
from focusnb.io.complete import UNSURE, WHOLE
from focusnb.io.folders import FULL_INTERVAL
from focusnb.io.movies import open_movie
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.project import activity, gathering, placing, threads, watching
from focusnb.project.deleting import STILL, WITHOUT_METADATA, WITHOUT_OTHERS
from focusnb.project.finding import find
from focusnb.project.intake import FOR_A_MOVIE, FOR_A_PARTNER, Space, UnderWay
from focusnb.project.options import Queueing
from focusnb.project.project import Project
from focusnb.project.sources import make_source
from focusnb.project.watching import Watcher, import_complete
from tests.project.trees import differing, write_epu, write_leginon, write_serialem, write_tomo5
from tests.projects import left_overs, make_project

SHAPE = (10, 12)

ALONE = STILL * WITHOUT_METADATA * WITHOUT_OTHERS
"""Seconds until a movie without metadata is deleted that is the only one."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A project that watches folders, and a clock that goes on by steps of half a second."""

    def __init__(self, project: Project, *folders: Path, queueing: Queueing | None = None, **values: Any) -> None:
        self.project, self.clock, self.told = project, Clock(), []
        self.source, self.queueing = make_source({"folders": folders, **values}), queueing
        self.watcher: Watcher | None = None
        self.begin()

    def begin(self) -> None:
        """Watch, as a new process does."""
        if self.watcher is not None:
            self.watcher.close()
        self.watcher = Watcher(self.project, self.source, self.told.append, queueing=self.queueing, clock=self.clock)

    def pass_by(self, seconds: float, by: float = 0.5) -> list[int]:
        """Let time go on, in steps of so many seconds; returns ids of new exposures."""
        end, added = self.clock.now + seconds, []
        while True:
            added += self.watcher.step()
            if self.clock.now >= end:
                return added
            self.clock.now += min(by, end - self.clock.now)

    @property
    def names(self) -> list[str]:
        return list(self.project.table().exposure)

    def raw(self, exposure: int) -> list[str]:
        folder = self.project.path(exposure) / "raw"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with make_project(tmp_path / "project", steps=False) as project:
        yield project


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    folder = tmp_path / "camera"
    folder.mkdir()
    return folder


def movie(path: Path, frames: int = 3, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = np.random.default_rng(seed).poisson(3, (frames, *SHAPE)).astype(np.uint8)
    write_tiff(path, counts, pixel_size=1.25)
    return path


def average(path: Path, value: float = 1.0, frames: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mrc(path, np.full((frames, *SHAPE), value, np.float32), pixel_size=1.25)
    return path


def mdoc(movie: Path, **values: object) -> Path:
    path = movie.with_name(movie.name + ".mdoc")
    lines = "".join(f"{key} = {value}\n" for key, value in values.items())
    path.write_text(f"PixelSpacing = 1.25\nVoltage = 200\n\n[FrameSet = 0]\n{lines}")
    return path


# Complete


def test_a_movie_is_imported_when_it_is_still_and_not_before(project: Project, camera: Path) -> None:
    watched = Watched(project, camera)
    whole = movie(camera / "a.tif").read_bytes()
    (camera / "a.tif").write_bytes(whole[:100])
    for cut in (200, 250, len(whole)):
        watched.pass_by(WHOLE)
        assert watched.names == []
        (camera / "a.tif").write_bytes(whole[:cut])
    assert watched.pass_by(WHOLE - 0.5) == []
    assert watched.pass_by(1) == [1]
    assert (watched.names, watched.told) == (["a"], [])
    with_metadata = movie(camera / "b.tif", seed=1)
    mdoc(with_metadata, NumSubFrames=3, TiltAngle=2.5)
    assert watched.pass_by(1.5) == [2]
    assert project.facts(2).loc["tilt_angle", "value"] == 2.5


def test_what_was_imported_too_early_is_renewed_in_its_place(project: Project, camera: Path) -> None:
    watched = Watched(project, camera, facts={"voltage": 300})
    whole = movie(camera / "a.tif").read_bytes()
    (camera / "a.tif").write_bytes(whole[:-200])
    assert watched.pass_by(UNSURE + 1) == [1]
    assert any("was it copied while being written?" in line for line in watched.told)
    project.set_facts([1], stage_x=7.0)
    (camera / "a.tif").write_bytes(whole)
    assert watched.pass_by(FULL_INTERVAL + 2 * WHOLE) == []
    assert watched.names == ["a"]
    row = project.table().loc[1]
    assert (row.frame_count, row.voltage, row.stage_x, row.width) == (3, 300, 7.0, SHAPE[1])
    assert (project.path(1, "movie")).read_bytes() == whole
    assert "has changed after it was imported as a, which was renewed" in watched.told[-1]
    with project.library.read() as connection:
        content = connection.exec_driver_sql("SELECT content FROM exposures").scalar()
    assert content == files.hash_file(camera / "a.tif")


def test_another_recording_under_the_same_name_is_another_exposure(project: Project, camera: Path) -> None:
    watched = Watched(project, camera)
    first = movie(camera / "a.tif").read_bytes()
    watched.pass_by(WHOLE + 1)
    movie(camera / "a.tif", frames=4, seed=1)
    assert watched.pass_by(FULL_INTERVAL + 2 * WHOLE) == [2]
    assert watched.names == ["a", "a_2"]
    assert project.path(1, "movie").read_bytes() == first
    assert list(project.table().frame_count) == [3, 4]
    assert "was replaced by another recording after it was imported as a; both are kept" in watched.told[-1]
    watched.begin()
    assert watched.pass_by(FULL_INTERVAL) == []


def test_touching_a_file_imports_nothing(project: Project, camera: Path) -> None:
    watched = Watched(project, camera)
    path = movie(camera / "a.tif")
    watched.pass_by(WHOLE + 1)
    os.utime(path, (1e9, 1e9))
    watched.pass_by(FULL_INTERVAL + 2 * WHOLE)
    watched.begin()
    watched.pass_by(WHOLE + 1)
    assert (watched.names, watched.told) == (["a"], [])
    assert os.stat(project.path(1, "movie")).st_mtime == 1e9


# Once


def test_a_restart_imports_nothing_twice_even_what_was_renamed(project: Project, camera: Path) -> None:
    watched = Watched(project, camera)
    for number, name in enumerate(("a.tif", "x/b.tif", "x/c.tif")):
        movie(camera / name, seed=number)
    assert len(watched.pass_by(WHOLE + 1)) == 3
    before = project.revision
    watched.begin()
    assert watched.pass_by(2 * WHOLE) == []
    assert project.revision == before
    (camera / "a.tif").rename(camera / "x" / "renamed.tif")
    (camera / "x").rename(camera / "y")
    watched.begin()
    assert watched.pass_by(2 * WHOLE) == []
    assert watched.names == ["a", "b", "c"]
    assert sorted(Path(source).name for source in project.table().source) == ["b.tif", "c.tif", "renamed.tif"]
    assert sum("before it was renamed; not imported again" in line for line in watched.told) >= 1
    assert left_overs(project.folder) == []
    # equal content, while both are there, is another exposure
    shutil.copy(camera / "y" / "b.tif", camera / "y" / "copy.tif")
    assert watched.pass_by(2 * WHOLE) == [4]
    assert "has the same content as b; imported all the same" in watched.told[-1]


def test_of_equal_recordings_the_one_that_was_renamed_is_known(project: Project, camera: Path) -> None:
    watched = Watched(project, camera)
    content = movie(camera / "a.tif").read_bytes()
    for number, name in enumerate(("b.tif", "c.tif")):
        (camera / name).write_bytes(content)
        os.utime(camera / name, (1e9 + number, 1e9 + number))
    assert len(watched.pass_by(WHOLE + 1)) == 3
    (camera / "c.tif").rename(camera / "d.tif")
    # another recording takes the name that a second one had
    (camera / "b.tif").rename(camera / "e.tif")
    movie(camera / "b.tif", seed=7)
    assert len(watched.pass_by(FULL_INTERVAL + WHOLE + 1)) == 1
    sources = dict(zip(project.table().exposure, project.table().source, strict=True))
    assert {name: Path(source).name for name, source in sources.items()} == {
        "a": "a.tif", "b": "e.tif", "b_2": "b.tif", "c": "d.tif"
    }  # fmt: skip


def test_what_was_too_short_to_be_read_may_turn_out_an_image(project: Project, camera: Path) -> None:
    watched = Watched(project, camera)
    whole = average(camera / "a.mrc").read_bytes()
    (camera / "a.mrc").write_bytes(whole[:500])
    watched.pass_by(UNSURE + 1)
    assert project.table().kind[1] == "movie"
    (camera / "a.mrc").write_bytes(whole)
    watched.pass_by(FULL_INTERVAL + WHOLE + 1)
    row = project.table().loc[1]
    assert (row.kind, row.image, pd.isna(row.movie)) == ("image", "raw/a.mrc", True)


def test_a_renamed_source_of_a_link_is_followed(project: Project, camera: Path) -> None:
    watched = Watched(project, camera, link=True)
    movie(camera / "a.tif")
    watched.pass_by(WHOLE + 1)
    (camera / "a.tif").rename(camera / "b.tif")
    watched.pass_by(FULL_INTERVAL + 2 * WHOLE)
    assert watched.names == ["a"]
    assert (project.path(1) / "raw" / "a.tif").resolve() == camera / "b.tif"


# Together


def test_movie_aligned_frames_and_average_are_one_exposure(project: Project, camera: Path, tmp_path: Path) -> None:
    gain = average(tmp_path / "gain.mrc")
    watched = Watched(project, camera, gain_reference=str(gain))
    average(camera / "averages" / "a.mrc")
    average(camera / "aligned" / "a.mrc", frames=3)
    movie(camera / "raw" / "a.tif")
    mdoc(camera / "raw" / "a.tif", NumSubFrames=3)
    assert watched.pass_by(WHOLE + 1) == [1]
    row = project.table().loc[1]
    assert (row.kind, row.movie, row.aligned_movie, row.image) == (
        "movie", "raw/a.tif", "raw/aligned/a.mrc", "raw/average/a.mrc",
    )  # fmt: skip
    assert watched.raw(1) == ["a.tif", "a.tif.mdoc", "aligned/a.mrc", "average/a.mrc"]
    assert str(row.gain_reference).endswith("gain.mrc")
    watched.begin()
    before = project.revision
    assert watched.pass_by(2 * FOR_A_MOVIE) == []
    assert project.revision == before


def test_what_was_made_of_a_movie_waits_for_it_but_not_for_ever(project: Project, camera: Path, tmp_path: Path) -> None:
    watched = Watched(project, camera, gain_reference=str(average(tmp_path / "gain.mrc")))
    average(camera / "a_aligned.mrc", frames=3)
    average(camera / "b_avg.mrc", 2.0)
    assert watched.pass_by(WHOLE + FOR_A_MOVIE - 1) == []
    assert watched.pass_by(2) == [1, 2]
    table = project.table()
    assert list(table.kind) == ["movie", "image"]
    assert list(table.gain_reference.isna()) == [True, True], "it was corrected elsewhere"
    assert sum("no gain reference is applied to it" in line for line in watched.told) == 1
    # the movies come after all: the exposures begin with them from now on
    movie(camera / "a.tif", seed=1)
    movie(camera / "b.tif", seed=2)
    assert watched.pass_by(WHOLE + 1) == []
    table = project.table()
    assert list(table.kind) == ["movie", "movie"]
    assert list(table.movie) == ["raw/movie/a.tif", "raw/movie/b.tif"]
    assert table.aligned_movie[1] == "raw/a_aligned.mrc"
    assert table.image[2] == "raw/b_avg.mrc"
    assert list(table.frame_count) == [3, 3]
    assert list(table.gain_reference.isna()) == [False, False]
    assert list(table.source) == [str(camera / "a.tif"), str(camera / "b.tif")]
    watched.begin()
    assert watched.pass_by(FOR_A_MOVIE + WHOLE + 1) == []
    assert len(project.table()) == 2


def test_a_companion_that_comes_later_joins_its_movie(project: Project, camera: Path) -> None:
    watched = Watched(project, camera)
    movie(camera / "a_Fractions.tiff")
    assert watched.pass_by(WHOLE + 1) == [1]
    average(camera / "a.mrc")
    average(camera / "a_DW.mrc", 2.0)
    assert watched.pass_by(WHOLE + 1) == []
    assert watched.raw(1) == ["a_Fractions.tiff", "average/a.mrc", "average/a_DW.mrc"]
    assert project.table().image[1] == "raw/average/a.mrc"


def test_a_movie_waits_for_a_partner_that_still_grows(project: Project, camera: Path) -> None:
    watched = Watched(project, camera)
    movie(camera / "a.tif")
    whole = average(camera / "a.mrc").read_bytes()
    (camera / "a.mrc").write_bytes(whole[:1100])
    watched.pass_by(WHOLE + 2)
    assert watched.names == []
    (camera / "a.mrc").write_bytes(whole)
    assert watched.pass_by(WHOLE + 1) == [1]
    assert project.table().image[1] == "raw/average/a.mrc"
    movie(camera / "b.tif", seed=1)
    (camera / "b.mrc").write_bytes(whole[:1100])
    for cut in range(1101, 1101 + int(FOR_A_PARTNER)):
        watched.pass_by(1.5)
        (camera / "b.mrc").write_bytes(whole[:cut])
    assert "b" in watched.names


def test_metadata_that_come_later_renew_the_facts(project: Project, camera: Path) -> None:
    watched = Watched(project, camera, facts={"amplitude_contrast": 0.07})
    path = movie(camera / "a.tif")
    watched.pass_by(WHOLE + 1)
    project.set_facts([1], stage_z=3.0)
    mdoc(path, TiltAngle=12.5, NumSubFrames=3)
    watched.pass_by(2)
    facts = project.facts(1)
    assert facts.loc["tilt_angle", ["value", "origin"]].tolist() == [12.5, "metadata"]
    assert facts.loc["voltage", ["value", "origin"]].tolist() == [200.0, "metadata"]
    assert facts.loc["stage_z", ["value", "origin"]].tolist() == [3.0, "hand"]
    assert facts.loc["amplitude_contrast", ["value", "origin"]].tolist() == [0.07, "set"]
    assert watched.raw(1) == ["a.tif", "a.tif.mdoc"]
    assert any("came after its exposure was imported, whose facts were renewed" in line for line in watched.told)
    before = project.revision
    watched.begin()
    watched.pass_by(FULL_INTERVAL)
    assert project.revision == before


def test_each_file_alone_where_it_is_wanted(project: Project, camera: Path) -> None:
    movie(camera / "a.tif")
    average(camera / "a.mrc")
    watched = Watched(project, camera, alone=True)
    assert watched.pass_by(WHOLE + 1) == [1, 2]


# What is not imported


def test_rules_decide_what_is_imported(project: Project, camera: Path) -> None:
    for number, name in enumerate(("good_1.tif", "Search_1.tif", "x.mrc", "maps/good_2.tif", "gain.tif", "good_3.eer")):
        movie(camera / name, seed=number)
    watched = Watched(project, camera, patterns=["good_*.tif", "gain.tif"], ignore=["search", "maps"])
    assert watched.pass_by(WHOLE + 1) == [1]
    assert watched.names == ["good_1"]
    assert sum("named like gain, dark or defects" in line for line in watched.told) == 1


def test_references_of_the_source_are_no_exposures(project: Project, camera: Path) -> None:
    reference = average(camera / "odd.mrc")
    movie(camera / "a.tif")
    watched = Watched(project, camera, gain_reference=str(reference))
    watched.pass_by(WHOLE + FOR_A_MOVIE)
    assert watched.names == ["a"]


def test_sessions_of_every_microscope_import_by_themselves(project: Project, tmp_path: Path) -> None:
    writers = (write_epu, write_serialem, write_tomo5, write_leginon)
    trees = [write(tmp_path / write.__name__) for write in writers]
    watched = Watched(project, *(tree.folder for tree in trees))
    watched.pass_by(UNSURE + 2)
    assert len(project.table()) == sum(len(tree.movies) for tree in trees)
    by_source = {row.source: row for row in project.table().itertuples()}
    for tree in trees:
        for path, truth in tree.truth.items():
            row = by_source[str(path.resolve())]
            found = {name: None if pd.isna(getattr(row, name)) else getattr(row, name) for name in truth}
            assert differing(truth, found) == {}, path


# Copied, linked, deleted


def test_a_source_is_deleted_once_its_copy_is_verified_and_only_then(project: Project, camera: Path) -> None:
    whole = movie(camera / "x" / "a.tif").read_bytes()
    mdoc(camera / "x" / "a.tif", NumSubFrames=3)
    average(camera / "x" / "a_avg.mrc")
    (camera / "x" / "broken.tif").write_bytes(whole[:-100])
    outside = movie(camera.parent / "elsewhere.tif", seed=5)
    (camera / "x" / "linked.tif").symlink_to(outside)
    watched = Watched(project, camera, delete_source=True)
    watched.pass_by(UNSURE + 2)
    assert sorted(watched.names) == ["a", "broken", "linked"]
    assert len(list((camera / "x").iterdir())) == 5, "nothing is deleted before it was still for long enough"
    watched.pass_by(STILL)
    assert not (camera / "x" / "a.tif").exists()
    assert (camera / "x" / "a_avg.mrc").exists(), "no metadata tell that it is all"
    watched.pass_by(STILL * (WITHOUT_METADATA - 1), by=20)
    left = sorted(path.name for path in (camera / "x").iterdir())
    assert left == ["a.tif.mdoc", "broken.tif", "linked.tif"], "metadata, what is not whole, and links stay"
    assert outside.exists()
    assert project.path(1, "movie").read_bytes() == whole
    assert any("is not whole, so it stays at its source" in line for line in watched.told)


def test_what_could_not_be_read_back_is_neither_imported_nor_deleted(
    project: Project, camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = movie(camera / "a.tif")
    watched = Watched(project, camera, delete_source=True)
    real = files.hash_file
    monkeypatch.setattr(
        files, "hash_file", lambda name, **options: "0" * 64 if name.suffix != ".tif" else real(name, **options)
    )
    watched.pass_by(UNSURE)
    assert (watched.names, path.exists()) == ([], True)
    assert any("differs from" in line and "It is tried again." in line for line in watched.told)
    assert left_overs(project.folder) == []
    monkeypatch.setattr(files, "hash_file", real)
    watched.pass_by(90 + ALONE, by=20)
    assert (watched.names, path.exists()) == (["a"], False)


def test_a_source_imported_before_is_deleted_only_if_its_copy_is_still_good(project: Project, camera: Path) -> None:
    for number, name in enumerate(("a.tif", "b.tif")):
        movie(camera / name, seed=number)
    project.add(camera)
    copy = project.path(2, "movie")
    stamp = os.stat(copy).st_mtime_ns
    copy.write_bytes(bytes(copy.stat().st_size))  # the project's disk went bad
    os.utime(copy, ns=(stamp, stamp))
    watched = Watched(project, camera, delete_source=True)
    watched.pass_by(WHOLE)
    watched.pass_by(STILL * WITHOUT_METADATA, by=20)
    assert [path.name for path in camera.iterdir()] == ["b.tif"]


def test_a_movie_that_grows_after_a_pause_is_one_exposure_and_not_deleted_while_it_is_open(
    project: Project, camera: Path
) -> None:
    counts = np.random.default_rng(0).poisson(3, (6, 64, 64)).astype(np.uint8)
    begun, whole = camera.parent / "begun.tif", camera.parent / "whole.tif"
    write_tiff(begun, counts[:3], pixel_size=1.25)
    write_tiff(whole, counts, pixel_size=1.25)
    watched = Watched(project, camera, delete_source=True)
    with open(camera / "a.tif", "wb") as writing:
        writing.write(begun.read_bytes())
        writing.flush()
        watched.pass_by(2 * ALONE, by=20)
        assert watched.names == ["a"]
        assert (camera / "a.tif").exists(), "somebody has it open"
        writing.seek(0)
        writing.write(whole.read_bytes())
    watched.pass_by(FULL_INTERVAL + 2 * WHOLE)
    assert (watched.names, list(project.table().frame_count)) == (["a"], [6])
    assert project.path(1, "movie").read_bytes() == whole.read_bytes()
    assert (camera / "a.tif").exists()
    watched.pass_by(ALONE + 1, by=20)
    assert not (camera / "a.tif").exists()
    assert any("which was renewed" in line for line in watched.told)


def test_a_source_that_changes_before_it_is_deleted_stays(project: Project, camera: Path) -> None:
    path = movie(camera / "a.tif")
    watched = Watched(project, camera, delete_source=True)
    watched.pass_by(WHOLE + 1)
    assert watched.names == ["a"]
    content = path.read_bytes()[:-1] + b"\1"
    path.write_bytes(content)
    watched.watcher.intake.importer.deletion.step()  # type: ignore[union-attr]
    watched.clock.now += ALONE
    watched.watcher.intake.importer.deletion.step()  # type: ignore[union-attr]
    assert path.read_bytes() == content
    assert any("has changed since it was copied" in line for line in watched.told)


def test_a_movie_of_fewer_frames_than_its_metadata_say_stays_at_its_source(project: Project, camera: Path) -> None:
    mdoc(movie(camera / "a.tif"), NumSubFrames=5)
    watched = Watched(project, camera, delete_source=True)
    watched.pass_by(UNSURE + STILL + 2)
    assert (watched.names, (camera / "a.tif").exists()) == (["a"], True)
    assert any("holds 3 frames and its metadata say 5, so it stays at its source" in line for line in watched.told)


def test_what_was_moved_stays_there_when_its_source_is_touched(project: Project, camera: Path) -> None:
    watched = Watched(project, camera, group="grid")
    movie(camera / "a.tif")
    watched.pass_by(WHOLE + 1)
    project.move([1], "TRASH")
    os.utime(camera / "a.tif", (1e9, 1e9))
    watched.pass_by(FULL_INTERVAL + 2 * WHOLE)
    assert list(project.table()["group"]) == ["TRASH"]


def test_facts_of_a_pattern_stay_when_metadata_come_to_one_that_knows_no_pattern(
    project: Project, camera: Path
) -> None:
    path = movie(camera / "lys_7.tif")
    project.add(camera, pattern="{specimen}_{number}")
    watched = Watched(project, camera)
    watched.pass_by(2)
    mdoc(path, NumSubFrames=3, TiltAngle=2.5)
    watched.pass_by(5)
    facts = project.facts(1)
    assert list(facts.loc[["specimen", "exposure_number", "tilt_angle"], "origin"]) == ["name", "name", "metadata"]


def test_a_fact_set_while_a_file_is_added_is_not_lost(
    project: Project, camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(project, camera)
    movie(camera / "a.tif")
    watched.pass_by(WHOLE + 1)
    real = placing.place

    def place(*arguments: Any, **options: Any) -> str:
        project.set_facts([1], stage_x=7.0)
        return real(*arguments, **options)

    monkeypatch.setattr(placing, "place", place)
    average(camera / "a_avg.mrc")
    watched.pass_by(WHOLE + FOR_A_MOVIE + 1)
    assert watched.raw(1) == ["a.tif", "average/a_avg.mrc"]
    assert project.facts(1).loc["stage_x", "origin"] == "hand"


def test_metadata_that_were_away_when_their_movie_was_imported_are_read_when_they_are_back(
    project: Project, camera: Path
) -> None:
    tree = write_epu(camera / "written" / "session", squares=1, holes=1, areas=1)
    ((recording, xml),) = tree.metadata.items()
    (camera / "movies").mkdir()
    elsewhere = camera / "xml" / xml.relative_to(camera / "written")
    elsewhere.parent.mkdir(parents=True)
    shutil.move(xml, elsewhere)
    watched = Watched(project, camera / "movies", camera / "xml")
    watched.pass_by(5)
    (camera / "xml").rename(camera / "away")
    place = camera / "movies" / recording.relative_to(camera / "written")
    place.parent.mkdir(parents=True)
    shutil.move(recording, place)
    watched.pass_by(WHOLE + 2)
    assert project.table().get("voltage") is None or project.table().voltage.isna().all()
    (camera / "away").rename(camera / "xml")
    watched.pass_by(5)
    assert list(project.table().voltage) == [300]


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after a restart"])
def test_a_movie_gets_its_own_section_of_the_mdoc_of_its_series_when_that_is_written(
    project: Project, camera: Path, again: bool
) -> None:
    watched = Watched(project, camera)
    movie(camera / "ts_001_3.0.tif")
    movie(camera / "ts_002_-3.0.tif", seed=1)
    sections = [
        f"[ZValue = {number}]\nTiltAngle = {angle}\nSubFramePath = D:\\{name}.tif\nNumSubFrames = 3\n\n"
        for number, (angle, name) in enumerate(((3.01, "ts_001_3.0"), (-3.02, "ts_002_-3.0")))
    ]
    series = camera / "ts.mdoc"
    series.write_text("PixelSpacing = 1.25\nVoltage = 200\n\n" + sections[0])
    watched.pass_by(WHOLE + 1)
    assert list(project.table().tilt_angle) == [3.01, -3.0], "the other movie's section is not its own"
    if again:
        watched.begin()
        watched.pass_by(3)
    series.write_text(series.read_text() + sections[1])
    watched.pass_by(FULL_INTERVAL + 2)
    assert list(project.table().tilt_angle) == [3.01, -3.02]
    assert list(project.table().voltage) == [200, 200]


def test_nothing_is_asked_of_a_folder_that_does_not_answer(
    project: Project, camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write_epu(camera / "movies" / "session", squares=1, holes=1, areas=1)
    ((recording, xml),) = tree.metadata.items()
    kept = camera / "xml" / xml.relative_to(camera / "movies")
    kept.parent.mkdir(parents=True)
    shutil.move(xml, camera / "xml.kept")
    watched = Watched(project, camera / "movies", camera / "xml")
    watched.pass_by(WHOLE + 1)
    source = make_source({"folders": [camera / "movies", camera / "xml"]})
    away = [camera / "movies"]
    watched.watcher.close()
    watched.watcher = Watcher(project, source, watched.told.append, clock=watched.clock, without=away)
    shutil.move(camera / "xml.kept", kept)
    real = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        assert not str(path).startswith(str(away[0])), "it would be kept there"
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os.path, "isfile", lambda path: stat(path) if os.path.lexists(path) else False)
    watched.pass_by(3)
    monkeypatch.undo()
    assert list(project.table().source) == [str(recording)]
    assert list(project.table().voltage) == [300], "its metadata came to a folder that answers"


@pytest.mark.parametrize("name", ["x-a.mrc", "x_DW.mrc"])
def test_what_may_belong_to_a_movie_that_another_thread_imports_waits_for_it(
    project: Project, tmp_path: Path, name: str
) -> None:
    held = movie(tmp_path / "raw" / "x.tif")
    average(tmp_path / "averages" / name)
    average(tmp_path / "averages" / "y.mrc")
    source = make_source({"folders": [held.parent, tmp_path / "averages"]})
    watched = Watched(project, *source.folders)
    watched.watcher.close()
    watched.watcher = Watcher(
        project, source, watched.told.append, clock=watched.clock, without=[held.parent], held=[str(held)]
    )
    watched.pass_by(FOR_A_PARTNER + WHOLE)
    assert watched.names == ["y"]
    watched.begin()
    watched.pass_by(FOR_A_MOVIE + WHOLE + 1)
    assert watched.names == ["y", "x"]


def test_metadata_in_a_folder_without_recordings_are_read_without_watching(project: Project, camera: Path) -> None:
    tree = write_epu(camera / "movies" / "session", squares=1, holes=1, areas=1)
    (xml,) = tree.metadata.values()
    elsewhere = camera / "xml" / xml.relative_to(camera / "movies")
    elsewhere.parent.mkdir(parents=True)
    shutil.move(xml, elsewhere)
    roots = [camera / "movies", camera / "xml"]
    source = make_source({"folders": roots, "name": "import", "delay": 0})
    found = find(roots, set(), print)
    assert len(import_complete(project, found, source, print).added) == 1
    assert list(project.table().voltage) == [300]


def test_a_source_that_changes_while_it_is_copied_is_tried_again(
    project: Project, camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = movie(camera / "a.tif")
    content = path.read_bytes()
    real, changed = files._read_block, []

    def read(stream: Any, source: Path) -> bytes:
        if source == path and len(changed) < 2:
            changed.append(1)
            path.write_bytes(content + bytes(len(changed)))
        return real(stream, source)

    monkeypatch.setattr(files, "_read_block", read)
    watched = Watched(project, camera, delay=1.0)
    watched.pass_by(30)
    assert watched.names == ["a"]
    assert project.path(1, "movie").read_bytes() == path.read_bytes()
    assert sum("changed while it was copied" in line for line in watched.told) == 1


def test_a_fault_with_one_file_holds_up_no_other(
    project: Project, camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("a.tif", "b.tif")):
        movie(camera / name, seed=number)
    from focusnb.project import importer

    real = importer.gather_facts

    def gather(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "a.tif":
            raise ZeroDivisionError("in a parser")
        return real(path, *arguments, **options)

    monkeypatch.setattr(importer, "gather_facts", gather)
    watched = Watched(project, camera)
    watched.pass_by(UNSURE)
    assert watched.names == ["b"]
    (told,) = [line for line in watched.told if "Traceback" in line]
    assert told.startswith(f"{camera / 'a.tif'}: was left out for a fault of focusnb")


def test_a_fault_with_one_file_ends_no_import_without_watching(
    project: Project, camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("a.tif", "b.tif")):
        movie(camera / name, seed=number)
    real = open_movie

    def opened(path: Path) -> Any:
        if Path(path).name == "a.tif":
            raise IndexError("in a parser")
        return real(path)

    for place in (complete, gathering):
        monkeypatch.setattr(place, "open_movie", opened)
    told: list[str] = []
    source = make_source({"folders": [camera], "name": "import", "delay": 0})
    report = import_complete(project, find([camera], set(), print), source, told.append)
    assert (list(project.table().exposure), len(report.added)) == (["b"], 1)
    assert any("was left out for a fault of focusnb" in line for line in told)
    watched = Watched(project, camera)
    watched.pass_by(UNSURE + 1)
    movie(camera / "c.tif", seed=2)
    watched.pass_by(WHOLE + 1)
    assert watched.names == ["b", "c"]


def test_an_average_belongs_to_the_recording_that_has_the_name_now(project: Project, camera: Path) -> None:
    watched = Watched(project, camera)
    movie(camera / "a.tif")
    average(camera / "a_avg.mrc", 1.0)
    watched.pass_by(WHOLE + 1)
    movie(camera / "a.tif", seed=1)
    watched.pass_by(FULL_INTERVAL + WHOLE + 1)
    assert watched.names == ["a", "a_2"]
    watched.begin()
    average(camera / "a_avg.mrc", 2.0)
    watched.pass_by(FULL_INTERVAL + WHOLE + 1)
    assert watched.raw(2) == ["a.tif", "average/a_avg.mrc"]
    first, second = (project.path(number) / "raw" / "average" / "a_avg.mrc" for number in (1, 2))
    assert first.read_bytes() != second.read_bytes()


# Queued


def test_what_is_imported_is_queued_with_its_row(project: Project, camera: Path) -> None:
    queueing = Queueing(lambda kind: ("prepare_movie",) if kind == "movie" else (), first=True)
    watched = Watched(project, camera, queueing=queueing, newest_first=True)
    for number, name in enumerate(("a", "b", "c")):
        path = movie(camera / f"{name}.tif", seed=number)
        os.utime(path, (1e9 + number, 1e9 + number))
    average(camera / "d.mrc")
    watched.pass_by(WHOLE + 1)
    table = project.table()
    assert list(table.exposure) == ["d", "c", "b", "a"], "the newest first"
    assert dict(zip(table.exposure, table.status, strict=True)) == {
        "a": "queued", "b": "queued", "c": "queued", "d": "new"
    }  # fmt: skip


def test_what_is_imported_can_be_held(project: Project, camera: Path) -> None:
    from focusnb.project import tasks

    watched = Watched(project, camera, queueing=Queueing(lambda kind: ("prepare_movie",), held=True))
    movie(camera / "a.tif")
    watched.pass_by(WHOLE + 1)
    assert tasks.counts(project.library) == {"held": 1}


# The loop


def test_sources_may_change_while_they_are_watched(project: Project, tmp_path: Path) -> None:
    one, two = (make_source({"folders": [tmp_path / name], "delay": 0.05}) for name in ("one", "two"))
    wrong = make_source({"folders": [tmp_path / "three"], "gain_reference": tmp_path / "none.mrc"})
    for number, name in enumerate(("one/a.tif", "two/b.tif", "three/c.tif")):
        movie(tmp_path / name, seed=number)
    sources, told, stop = [one, wrong], [], threading.Event()
    seen: list[int] = []

    def added(source: Any, ids: list[int]) -> None:
        seen.extend(ids)
        if source is one:
            sources[:] = [two, wrong]
        else:
            movie(tmp_path / "one" / "late.tif", seed=9)
            time.sleep(0.3)
            stop.set()

    threads.watch(project, lambda: sources, told.append, stop, on_added=added, interval=0.02)
    assert list(project.table().exposure) == ["a", "b"]
    assert seen == [1, 2]
    (line,) = [line for line in told if "three" in line]
    assert "is not watched" in line
    assert "none.mrc: the gain reference does not exist" in line


def test_a_library_that_is_locked_is_waited_for(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    movie(tmp_path / "camera" / "a.tif")
    other = Project.open(project.folder)
    other.library.engine.dispose()
    monkeypatch.setattr("focusnb.project.library.BUSY_TIMEOUT", 0.2)
    lock = sqlite3.connect(project.folder / "library.sqlite", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    told: list[str] = []
    stop = threading.Event()

    def say(text: str) -> None:
        told.append(text)
        if "import waits" in text:
            lock.execute("ROLLBACK")

    threads.watch(
        other, lambda: [make_source({"folders": [tmp_path / "camera"], "delay": 0})], say, stop,
        on_added=lambda source, ids: stop.set(), interval=0.05,
    )  # fmt: skip
    assert list(project.table().exposure) == ["a"]
    assert len([line for line in told if "import waits for that" in line]) == 1
    other.close()
    lock.close()


# Once, without watching


def once(project: Project, *found: Path, clock: Clock, **values: Any) -> tuple[Any, list[str]]:
    told: list[str] = []

    def rest(seconds: float) -> None:
        clock.now += seconds

    source = make_source({"folders": ["/unused"], **values})
    pairs = [(path, path.parent) for path in found]
    return import_complete(project, pairs, source, told.append, clock=clock, rest=rest), told


def test_an_import_waits_for_what_grows_and_returns(project: Project, camera: Path) -> None:
    clock = Clock()
    a, b = movie(camera / "a.tif"), movie(camera / "b.tif", seed=1)
    whole = b.read_bytes()
    b.write_bytes(whole[:-100])

    class Growing(Clock):
        def __call__(self) -> float:
            if self.now > 1010 and b.stat().st_size < len(whole):
                b.write_bytes(whole)
            return super().__call__()

    clock = Growing()
    report, told = once(project, a, b, clock=clock)
    assert report.added == [1, 2]
    assert told == ["waiting for 2 files that may still grow"]
    assert list(project.table().frame_count) == [3, 3]
    assert 1010 + WHOLE <= clock.now < 1010 + UNSURE
    again, told = once(project, a, b, clock=clock, facts={"voltage": 300})
    assert (again.added, again.updated, told) == ([], [1, 2], []), "what is known is not waited for"


def test_an_import_of_a_file_that_goes_away_ends(project: Project, camera: Path) -> None:
    a = movie(camera / "a.tif")
    report, _ = once(project, a, camera / "gone.tif", clock=Clock())
    assert report.added == [1]
    assert any("gone.tif: is not there any more" in message for message in report.messages)


def test_a_disk_without_room_ends_an_import_with_both_numbers(project: Project, camera: Path) -> None:
    a = movie(camera / "a.tif")
    with pytest.raises(ResourceError, match=r"GB are free, .* GB are to be imported and 1e\+09 GB are kept free"):
        once(project, a, clock=Clock(), reserve=1e9)
    assert project.table().empty


def test_room_that_other_sources_are_about_to_fill_is_no_room(tmp_path: Path) -> None:
    disk = SimpleNamespace(total=100_000_000_000, free=12_000_000_000)
    shared = UnderWay()
    one, two = (Space(tmp_path, 1e9, lambda folder: disk, shared) for _ in range(2))
    assert one.take(6_000_000_000) == ""
    assert "12 GB are free, 12 GB are to be imported and 1 GB are kept free" in two.take(6_000_000_000)
    one.give_back()
    assert two.take(6_000_000_000) == ""


def test_options_that_exclude_each_other_are_refused(project: Project, camera: Path) -> None:
    with pytest.raises(ParameterError, match="sources are deleted after copying only"):
        project.add(movie(camera / "a.tif"), link=True, delete_source=True)


def test_what_is_imported_goes_on_before_it_is_waited_for_deletion(project: Project, camera: Path) -> None:
    movie(camera / "a.tif")
    clock, seen = Clock(), []
    source = make_source({"folders": [camera], "delay": 0.0, "delete_source": True})

    def rest(seconds: float) -> None:
        clock.now += 60

    import_complete(
        project, find([camera], set(), lambda text: None), source, lambda text: None, clock=clock, rest=rest,
        then=lambda: seen.append((clock.now, list(project.table().exposure))),
    )  # fmt: skip
    assert seen == [(1000.0, ["a"])]
    assert clock.now >= 1000.0 + ALONE
    assert list(camera.iterdir()) == []


def test_a_large_library_that_is_read_is_no_server_that_does_not_answer(
    project: Project, camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    at, told = activity.Activity(lambda: now[0]), []
    real = watching.Importer

    def slowly(*given: Any, **options: Any) -> Any:
        now[0] += 100
        told.append(at.told())
        return real(*given, **options)

    monkeypatch.setattr(watching, "Importer", slowly)
    source = make_source({"folders": [camera], "delay": 0.0})
    Watcher(project, source, told.append, activity=at).close()
    import_complete(project, [(movie(camera / "a.tif"), camera)], source, told.append, activity=at)
    assert told == ["", ""]
