"""Import: once, whatever the files hold, with facts, references and metadata; interrupted and taken up again."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.errors import FocusError, ParameterError
from focusnb.io import files
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.project import deleting, importer, lease, placing, storing, tasks
from focusnb.project.gathering import ImportReport
from focusnb.project.pairing import Pairing
from focusnb.project.project import Project
from focusnb.steps.base import built_in_steps
from tests.projects import left_overs, make_project, write_shots
from tests.unprivileged import run_as_nobody


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project", steps=False)


def movie(path: Path, frames: int = 3, shape: tuple[int, int] = (10, 12), seed: int = 0) -> Path:
    """A TIFF of Poisson counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = np.random.default_rng(seed).poisson(3, (frames, *shape)).astype(np.uint8)
    write_tiff(path, counts, pixel_size=1.25)
    return path


def test_what_was_imported_is_not_imported_again(
    empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_shots(tmp_path / "camera", a="1", b="22")
    first = empty.add(folder, folder / "a.tif", folder)
    assert (first.added, first.known) == ([1, 2], 3)
    write_shots(folder, c="333")
    monkeypatch.chdir(folder.parent)
    second = empty.add("camera", "camera/../camera/b.tif")
    assert (second.added, second.updated, second.known) == ([3], [], 3)
    assert list(empty.table().exposure) == ["a", "b", "c"]


def test_one_name_in_two_folders_makes_two_exposures(empty: Project, tmp_path: Path) -> None:
    for number, group in enumerate(("grid_1", "grid_2", "grid 1")):
        write_shots(tmp_path / str(number) / group, shot=group)
    write_shots(tmp_path / "3" / "grid_2", shot="another")
    empty.add(*(tmp_path / str(number) for number in range(4)))
    table = empty.table()
    assert list(table["group"]) == ["grid_1", "grid_2", "grid 1", "grid_2"]
    assert list(table.exposure) == ["shot", "shot", "shot_2", "shot_2"]
    assert table.folder.is_unique
    for folder, text in zip(table.folder, ["grid_1", "grid_2", "grid 1", "another"], strict=True):
        assert (empty.folder / folder / "raw" / "shot.tif").read_text() == text
    with pytest.raises(ParameterError, match="shot names 2 exposures \\(ids 1, 2; give the id\\)"):
        empty.find("shot")


def test_the_same_content_under_another_name_is_imported_and_told(empty: Project, tmp_path: Path) -> None:
    folder = write_shots(tmp_path / "camera", a="same", b="other", c="same")
    report = empty.add(folder)
    assert report.added == [1, 2, 3]
    assert [m for m in report.messages if "same content" in m] == [
        f"{folder / 'c.tif'}: has the same content as a; imported all the same"
    ]


@pytest.mark.parametrize("name", ["truncated", "empty", "text"])
def test_a_file_that_cannot_be_read_becomes_a_row_that_says_why(empty: Project, tmp_path: Path, name: str) -> None:
    path = movie(tmp_path / "camera" / f"{name}.tif")
    content = {"truncated": path.read_bytes()[:-100], "empty": b"", "text": b"this is no movie\n"}[name]
    path.write_bytes(content)
    movie(tmp_path / "camera" / "good.tif")
    report = empty.add(tmp_path / "camera", facts={"pixel_size": 1.25})
    assert len(report.added) == 2
    (told,) = [message for message in report.messages if str(path) in message]
    assert "It is imported all the same, and its row will say so." in told
    row = empty.table().set_index("exposure").loc[name]
    assert row.kind == "movie"
    assert (empty.folder / row.folder / "raw" / path.name).read_bytes() == content


def test_a_file_that_may_not_be_read_is_left_out_and_told(empty: Project, tmp_path: Path) -> None:
    folder = write_shots(tmp_path / "camera", a="1", b="22", c="333")
    (folder / "b.tif").chmod(0)

    def add() -> tuple[list[int], list[str]]:
        with Project.open(empty.folder) as project:
            report = project.add(folder)
            return report.added, report.messages

    added, messages = run_as_nobody(add)
    assert added == [1, 2]
    assert any("b.tif" in message and message.endswith("It was left out.") for message in messages)
    assert sorted(path.name for path in (empty.folder / "exposures" / "camera").iterdir()) == ["a", "c"]
    (folder / "b.tif").chmod(0o644)
    assert empty.add(folder).added == [3]


def test_the_kind_is_found_by_the_frames_and_can_be_given(empty: Project, tmp_path: Path) -> None:
    folder = tmp_path / "camera"
    movie(folder / "many.tif", 3)
    movie(folder / "one.tif", 1)
    write_mrc(folder / "sum.mrc", np.ones((6, 8), np.float32), pixel_size=2.0)
    empty.add(folder)
    given = tmp_path / "given"
    movie(given / "many.tif", 3, seed=1)
    movie(given / "one.tif", 1, seed=1)
    empty.add(given / "many.tif", kind="image")
    empty.add(given / "one.tif", facts={"kind": "movie"})
    table = empty.table()
    assert list(table.exposure) == ["many", "one", "sum", "many", "one"]
    assert list(table.kind) == ["movie", "image", "image", "image", "movie"]
    assert list(table.movie.fillna("")) == ["raw/many.tif", "", "", "", "raw/one.tif"]
    assert list(table.image.fillna("")) == ["", "raw/one.tif", "raw/sum.mrc", "raw/many.tif", ""]
    assert list(table.frame_count) == [3, 1, 1, 3, 1]
    assert list(table.width) == [12, 12, 8, 12, 12]
    assert list(table.pixel_size) == pytest.approx([1.25, 1.25, 2.0, 1.25, 1.25])
    with pytest.raises(ParameterError, match="kind is movie or image, not stack"):
        empty.add(folder, kind="stack")


def test_a_link_copies_nothing(empty: Project, tmp_path: Path) -> None:
    path = movie(tmp_path / "camera" / "a.tif")
    empty.add(path, link=True)
    raw = empty.path(1) / "raw" / "a.tif"
    assert raw.is_symlink()
    assert raw.resolve() == path
    with empty.library.read() as connection:
        linked = connection.exec_driver_sql("SELECT content FROM exposures").scalar()
    assert linked == importer.files.hash_file(path)


MDOC = """PixelSpacing = 1.25
Voltage = 200

[FrameSet = 0]
TiltAngle = -0.5
StagePosition = 12.5 -3.25
DateTime = 04-Mar-26  05:06:07
SubFramePath = X:\\session\\{name}
"""


def test_the_mdoc_beside_a_file_is_read_and_copied(empty: Project, tmp_path: Path) -> None:
    path = movie(tmp_path / "camera" / "a.tif")
    (tmp_path / "camera" / "a.tif.mdoc").write_text(MDOC.format(name="a.tif"))
    movie(tmp_path / "camera" / "b.tif", seed=1)
    (tmp_path / "camera" / "b.mdoc").write_bytes(b"\xff\xfe no mdoc")
    empty.add(tmp_path / "camera", facts={"voltage": "300"})
    facts = empty.facts(1)
    assert facts.loc["voltage", ["value", "origin"]].tolist() == [300.0, "set"]
    assert '"metadata": 200' in facts.others["voltage"]
    assert facts.loc["stage_x", ["value", "origin"]].tolist() == [12.5, "metadata"]
    assert empty.table().metadata[1] == "raw/a.tif.mdoc"
    assert (empty.path(1) / "raw" / "a.tif.mdoc").is_file()
    assert path.with_name("a.tif.mdoc").read_text() == (empty.path(1) / "raw" / "a.tif.mdoc").read_text()
    assert len(empty.table()) == 2


def test_references_in_the_folder_are_no_exposures(empty: Project, tmp_path: Path) -> None:
    folder = tmp_path / "camera"
    for name in ("shot_1.tif", "gain.mrc", "CountRef_x.mrc", "dark_2.tif", "regaining.tif", ".hidden.tif", "notes.txt"):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    (folder / "odd.mrc").write_text("odd")
    report = empty.add(folder, defects=folder / "odd.mrc")
    assert list(empty.table().exposure) == ["regaining", "shot_1"]
    assert any("3 files named like gain, dark or defects" in message for message in report.messages)


def test_a_gain_of_the_wrong_size_is_told_once_with_both_sizes(empty: Project, tmp_path: Path) -> None:
    for number in range(4):
        movie(tmp_path / "camera" / f"{number}.tif", seed=number)
    gain = tmp_path / "reference.mrc"
    write_mrc(gain, np.ones((11, 12), np.float32), pixel_size=1.0)
    report = empty.add(tmp_path / "camera", gain_reference=gain)
    assert report.messages == [
        "0.tif (and 3 more): the frames are 12×10 px and the gain reference reference.mrc is 12×11 px; give the gain "
        "reference of this camera and recording mode and import again"
    ]
    write_mrc(gain, np.ones((12, 10), np.float32), pixel_size=1.0)
    turned = empty.add(tmp_path / "camera", gain_reference=gain)
    assert len(turned.updated) == 4
    assert turned.messages == [
        "0.tif (and 3 more): the frames are 12×10 px and the gain reference reference.mrc is 10×12 px: turned by 90° "
        "it fits; import again with --set gain_rotation=1 or gain_rotation=3"
    ]
    again = empty.add(tmp_path / "camera", gain_reference=gain, facts={"gain_rotation": "1"})
    assert len(again.updated) == 4
    assert again.messages == []


@pytest.mark.parametrize("how", ["metadata", "later metadata", "set"])
def test_a_gain_that_others_name_is_compared_with_the_frames_too(empty: Project, tmp_path: Path, how: str) -> None:
    camera = tmp_path / "camera"
    gain = camera / "CountRef_1.mrc"
    for number in range(3):
        movie(camera / f"{number}.tif", seed=number)
    write_mrc(gain, np.ones((20, 24), np.float32), pixel_size=1.0)
    if how == "later metadata":
        empty.add(camera)
    for number in range(3) if how != "set" else ():
        (camera / f"{number}.tif.mdoc").write_text("Voltage = 300\n\n[FrameSet = 0]\nGainReference = CountRef_1.mrc\n")
    if how == "later metadata":
        report = ImportReport()
        importing = importer.Importer(empty, importer.make_options(empty, report), report, Pairing(), [camera])
        for number in range(3):
            assert importing.add_metadata(number + 1, camera / f"{number}.tif.mdoc")
    else:
        report = empty.add(camera, facts={"gain_reference": str(gain)} if how == "set" else {})
    (told,) = [message for message in report.messages if "gain reference" in message and "px" in message]
    assert told == (
        "0.tif (and 2 more): the frames are 12×10 px and the gain reference CountRef_1.mrc is 24×20 px: the gain "
        "reference is of super-resolution and the movie is not; give the gain reference of the recording mode, or one "
        "averaged or repeated 2×2, and import again"
    )


def test_a_gain_that_is_no_number_is_told_and_used(empty: Project, tmp_path: Path) -> None:
    path = movie(tmp_path / "camera" / "a.tif")
    values = np.ones((10, 12), np.float32)
    gain = tmp_path / "reference.tif"
    values[3, 4] = np.nan
    write_tiff(gain, [values])
    report = empty.add(path, gain_reference=gain)
    (told,) = report.messages
    assert "1 of 120 gain values are not numbers" in told
    assert "give a good one and import again" in told
    assert report.added == [1]
    with pytest.raises(ParameterError, match=r"none\.mrc: the gain reference does not exist"):
        empty.add(path, gain_reference=tmp_path / "none.mrc")


def test_facts_given_later_reach_what_was_imported_before(empty: Project, tmp_path: Path) -> None:
    path = movie(tmp_path / "camera" / "a.tif")
    empty.add(path)
    before = empty.revision
    assert empty.add(path, facts={"voltage": 200}).updated == [1]
    assert empty.table().voltage[1] == 200
    assert empty.add(path, facts={"voltage": "200.0"}).known == 1
    assert empty.revision == before + 1
    empty.add(path, group="grid 7")
    assert empty.table()["group"][1] == "grid 7"
    assert empty.path(1).is_dir()


@pytest.mark.parametrize("facts", [{"voltage": "5"}, {"volts": "300"}, {"image": "x.mrc"}])
def test_facts_that_are_wrong_import_nothing(empty: Project, tmp_path: Path, facts: dict[str, str]) -> None:
    with pytest.raises(ParameterError):
        empty.add(movie(tmp_path / "camera" / "a.tif"), facts=facts)
    assert empty.table().empty
    with pytest.raises(ParameterError, match="nowhere: does not exist"):
        empty.add(tmp_path / "nowhere")


def test_odd_names_stay_within_the_project(empty: Project, tmp_path: Path) -> None:
    folder = tmp_path / "camera"
    folder.mkdir()
    names = ["a b#c.tif", "..tif", "x.y.z.TIFF", "été.tif", "l" * 200 + ".tif"]
    for name in names:
        (folder / name).write_text(name)
    empty.add(*(folder / name for name in names), group="../../up")
    table = empty.table()
    assert list(table.exposure[:4]) == ["a_b_c", "exposure", "x.y.z", "été"]
    for path in table.folder:
        assert (empty.folder / path).resolve().parent.parent == empty.folder / "exposures"
    undecodable = folder / os.fsdecode(b"\xff.tif")
    undecodable.write_text("1")
    report = empty.add(undecodable)
    assert report.added == []
    assert any("is not UTF-8; rename it" in message for message in report.messages)


def beside(work: Callable[[], object]) -> int:
    """Begin work in a process of its own; returns its number. It is a copy of this one, for a new one takes seconds."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def status_of(child: int) -> int:
    """Wait for its end: 0 where all was well, the negative number of a signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def import_until_killed(project: Path, camera: Path, moment: str) -> None:
    def die(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    real = storing.write_record
    with Project.open(project) as opened:
        if moment == "copying":
            files.hash_file = die
        elif moment == "copied":
            importer._tell_disagreements = die
        elif moment == "recorded":
            storing.write_record = lambda *arguments: (real(*arguments), die())
        opened.add(camera)


@pytest.mark.parametrize("moment", ["copying", "copied", "recorded"])
def test_an_import_that_was_killed_is_taken_up_again(empty: Project, tmp_path: Path, moment: str) -> None:
    folder = write_shots(tmp_path / "camera", a="1", b="22")
    empty.close()
    assert status_of(beside(lambda: import_until_killed(empty.folder, folder, moment))) == -signal.SIGKILL
    with Project.open(empty.folder) as project:
        assert project.table().empty
        assert project.add(folder).added == [1, 2]
        assert list(project.table().folder) == ["exposures/camera/a", "exposures/camera/b"]
        for name in "ab":
            assert [path.name for path in (project.folder / f"exposures/camera/{name}/raw").iterdir()] == [
                f"{name}.tif"
            ]
    assert left_overs(empty.folder) == []


def test_a_full_disk_leaves_no_half_copied_file(
    empty: Project, small_disk: Callable[[float], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "camera"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.tif").write_bytes(name.encode() * 700_000)
    with make_project(small_disk(2) / "project", steps=False) as project:
        said = rf"^{folder}/[bc]\.tif: the disk is full \(700000 bytes needed, \d+ bytes free in {project.folder}\)"
        with pytest.raises(FocusError, match=said):
            project.add(folder)
        assert list(project.table().exposure) in (["a"], ["a", "b"])
        assert left_overs(project.folder) == []
        folders = sorted(path.name for path in (project.folder / "exposures" / "camera").iterdir())
        assert folders == list(project.table().exposure)


def test_two_imports_at_once_import_each_file_once(empty: Project, tmp_path: Path) -> None:
    folder = write_shots(tmp_path / "camera", **{f"shot_{n:02d}": f"{n}" * (n + 1) for n in range(12)})
    empty.close()
    both = [beside(lambda: Project.open(empty.folder).add(folder)) for _ in range(2)]
    assert [status_of(child) for child in both] == [0, 0]
    with Project.open(empty.folder) as project:
        table = project.table()
        assert sorted(table.exposure) == [f"shot_{n:02d}" for n in range(12)]
        for n in range(12):
            assert (project.path(project.find(f"shot_{n:02d}")) / "raw" / f"shot_{n:02d}.tif").is_file()


def test_the_steps_of_every_mode_exist() -> None:
    from focusnb.modes import MODES

    for mode in MODES.values():
        for names in mode.steps.values():
            assert set(names) <= set(built_in_steps())


def test_what_another_host_makes_ready_is_left_alone(empty: Project, tmp_path: Path) -> None:
    exposures = empty.folder / "exposures"
    gone = subprocess.Popen(["true"])
    gone.wait()
    copy = exposures / f".incoming-elsewhere.part-{gone.pid}-01234567" / "raw" / f".a.tif.part-{gone.pid}-01234567"
    copy.parent.mkdir(parents=True)
    copy.touch()
    (exposures / "camera" / "a").mkdir(parents=True)
    left = exposures / "camera" / "a" / copy.name
    left.touch()
    tasks.recover(empty, lease.take_lease(empty.library))
    empty.add(write_shots(tmp_path / "camera", a="1"))
    assert copy.exists()
    assert not left.exists()


@pytest.mark.parametrize(("later", "stays"), [(-10.0, True), (10.0, False)])
def test_what_another_host_made_ready_and_left_is_removed_a_day_later(
    empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: float, stays: bool
) -> None:
    stage = empty.folder / "exposures" / ".incoming-elsewhere.part-1-01234567"
    (stage / "raw").mkdir(parents=True)
    copy = stage / "raw" / "a.tif"
    copy.touch()
    os.utime(copy, (1e9, 1e9))  # a copy has the time of its source, which may be years old
    written = os.lstat(copy).st_ctime
    monkeypatch.setattr(placing, "_time_there", lambda folder: written + placing.FORSAKEN + later)
    report = empty.add(movie(tmp_path / "camera" / "a.tif"))
    assert (stage.exists(), report.messages) == (stays, [])
    assert not stays or copy.exists()


def test_a_host_that_ends_its_import_meanwhile_stops_no_other(
    empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = empty.folder / "exposures" / ".incoming-elsewhere.part-1-01234567"
    (stage / "raw").mkdir(parents=True)
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if str(path) == str(stage / "raw"):
            shutil.rmtree(stage)  # after the folder was listed in which it lies
            monkeypatch.undo()
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = empty.add(movie(tmp_path / "camera" / "a.tif"))
    assert (len(report.added), report.messages, stage.exists()) == (1, [], False)


def test_an_import_that_another_host_took_for_gone_enters_nothing_half(
    empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = movie(tmp_path / "camera" / "a.tif")
    recording.with_name("a.tif.mdoc").write_text("PixelSpacing = 1.25\n\n[FrameSet = 0]\nSubFramePath = a.tif\n")
    real = importer.Importer.metadata_file

    def metadata_file(self: importer.Importer, path: Path) -> Path | None:
        # a server may keep it here, between the copies of the movie and of its metadata, for more than a day
        for stage in (empty.folder / "exposures").glob(".incoming-*"):
            shutil.rmtree(stage)
        return real(self, path)

    monkeypatch.setattr(importer.Importer, "metadata_file", metadata_file)
    report = empty.add(recording)
    assert report.added == []
    (line,) = report.messages
    assert line.startswith(f"{recording}: its copy was removed before it was entered")
    monkeypatch.undo()
    assert left_overs(empty.folder) == []
    (identity,) = empty.add(recording).added
    assert (empty.path(identity) / "raw" / "a.tif").read_bytes() == recording.read_bytes()


def test_what_cannot_be_removed_is_told(empty: Project, tmp_path: Path) -> None:
    exposures = empty.folder / "exposures"
    stage = exposures / f".incoming-{socket.gethostname()}.part-{2**22 + 1}-01234567"
    (stage / "raw").mkdir(parents=True)
    exposures.chmod(0o555)
    told: list[str] = []

    def sweep() -> list[str]:
        placing.sweep_stages(empty, told.append)
        return told

    try:
        (line,) = run_as_nobody(sweep)
    finally:
        exposures.chmod(0o755)
    assert line == (
        f"{stage}: was left by an import that is gone and cannot be removed (Permission denied); it holds copies only: "
        "remove it yourself"
    )
    assert stage.exists()
    placing.sweep_stages(empty)
    assert not stage.exists()


def test_a_group_may_lie_on_another_disk(empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, real = tmp_path / "other", os.replace
    other.mkdir()
    (empty.folder / "exposures" / "camera").symlink_to(other)

    def replace(part: Path, target: Path) -> None:
        disks = {path.parent.resolve().is_relative_to(other) for path in (Path(part), Path(target))}
        if len(disks) == 2:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(part), None, str(target))
        real(part, target)

    monkeypatch.setattr(os, "replace", replace)
    camera = write_shots(tmp_path / "camera", a="1", b="2")
    empty.add(camera / "a.tif", link=True)
    empty.add(camera / "b.tif")
    (camera / "a.tif").write_text("1, and more")
    empty.add(camera)
    assert empty.path(1, "movie").resolve() == camera / "a.tif"
    assert empty.path(2, "movie").read_bytes() == (camera / "b.tif").read_bytes()
    assert left_overs(empty.folder) == []
    assert left_overs(other) == []


def test_a_renewal_that_was_killed_is_taken_up_again(
    empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = movie(tmp_path / "camera" / "a.tif", 5)
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    empty.add(path)
    path.write_bytes(whole)

    def killed(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importer, "rewrite", killed)
        with pytest.raises(KeyboardInterrupt):
            empty.add(path)
    assert empty.path(1, "movie").read_bytes() == whole
    assert empty.add(path).updated == [1]
    assert empty.table().frame_count.tolist() == [5]
    assert empty.add(path).updated == []


def test_what_an_exposure_began_with_is_not_copied_again_when_its_movie_has_come(
    empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = tmp_path / "camera"
    camera.mkdir()
    write_mrc(camera / "a.mrc", np.ones((1, 10, 12), np.float32), pixel_size=1.25)
    empty.add(camera)
    movie(camera / "a_Fractions.tiff")
    assert empty.add(camera).updated == [1]
    raw = empty.path(1) / "raw"
    assert sorted(path.name for path in raw.rglob("*") if path.is_file()) == ["a.mrc", "a_Fractions.tiff"]
    monkeypatch.setattr(deleting, "STILL", 0.0)
    empty.add(camera, delete_source=True)
    assert list(camera.iterdir()) == []
    assert empty.path(1, "image") == raw / "a.mrc"
