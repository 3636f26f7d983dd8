"""The court: planted errors are caught, correct sessions are left alone, and a verdict is told once."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.modes import MODES
from focusnb.ops import preview
from focusnb.processing.court import CHECKS, TITLES, Bench, Verdict, Witness, judge, sitting
from focusnb.processing.court.sitting import Court, groups, sit
from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.processing.queue import Queue
from focusnb.project import court as kept
from focusnb.project.library import LibraryBusy
from focusnb.project.project import Project
from focusnb.project.rebuilding import rebuild

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "court.py"


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    """The campaign of ``benchmarks/court.py`` with smaller and fewer movies."""
    specification = importlib.util.spec_from_file_location("court_campaign", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    module.SHAPE, module.MOVIES, module.HOT, module.DEAD = (320, 352), 3, 50, 40
    module.FRAMES, module.DOSE = 8, 2.7
    return module


SAMPLED = (
    "gain turned or flipped",
    "gain given for corrected movies",
    "gain old",
    "counts scaled",
    "pixel size several per cent wrong",
    "first frame dark",
    "defects turned or flipped",
)


def test_planted_errors_are_caught_and_correct_sessions_left_alone(campaign, tmp_path, monkeypatch):
    for name in ("micrograph_preview", "spectrum_preview", "trajectory_preview"):  # a quarter of the time
        monkeypatch.setattr(preview, name, lambda *_, **__: np.zeros((2, 2), np.uint8))
    errors = {name: campaign.ERRORS[name] for name in SAMPLED}
    assert {error.check for error in errors.values()} == set(CHECKS)
    found = campaign.campaign((1, 2), tmp_path, errors)[0]
    assert not found["exceptions"]
    assert [row["caught"] for row in found["caught"]] == [2] * len(errors)
    assert [row["false_alarms"] for row in found["silent"]] == [0] * len(CHECKS)


# A project from its first movie to the cure

SHAPE = (200, 224)


@pytest.fixture(scope="module")
def session(campaign, tmp_path_factory) -> Path:
    """Six small movies whose gain reference is upside down and whose dose is a quarter of that counted."""
    folder = tmp_path_factory.mktemp("camera")
    campaign.SHAPE, shape = SHAPE, campaign.SHAPE
    campaign.MOVIES, movies = 6, campaign.MOVIES
    try:
        made = campaign.make_session(4, rings=False)
    finally:
        campaign.SHAPE, campaign.MOVIES = shape, movies
    for number, movie in enumerate(made.movies):
        write_tiff(folder / f"movie_{number}.tif", movie)
    write_mrc(folder / "gain.mrc", np.ascontiguousarray(made.detector.gain[::-1]), pixel_size=1.05)
    return folder


def begin(folder: Path, session: Path, *, movies: int = 6, **facts: object) -> Project:
    project = Project.create(folder, mode="drift")
    given = {"pixel_size": 1.0511, "voltage": 300, "dose_per_frame": 0.675, **facts}
    paths = sorted(session.glob("movie_*.tif"))[:movies]
    project.add(*paths, gain_reference=session / "gain.mrc", facts=given, group="day")
    return project


@pytest.fixture
def counts_alone(monkeypatch):
    """Leave out of the workflow what the court can do without."""
    monkeypatch.setitem(MODES["drift"].steps, "movie", ("prepare_movie",))  # type: ignore[arg-type]


def run(project: Project, *, quiet: float = 0) -> list[str]:
    told: list[str] = []
    court = Court(project, told.append)
    processor = Processor(project, InlineExecutor())
    processor.submit_stale()
    processor.run(on_event=court.heard)
    court.rest(quiet=quiet)
    return told


def words(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.check: verdict.word for verdict in verdicts}


def test_a_session_from_its_first_movies_to_the_cure(counts_alone, session, tmp_path):
    with begin(tmp_path / "project", session) as project:
        group = groups(project)[0]
        told = run(project)
        assert len(told) == 2
        assert "The gain reference fits when it is flipped (correlation" in told[0]
        cure = f"focusnb import {project.folder} {session} --set gain_rotation=0 --set gain_flip=yes"
        assert told[0].startswith(f"{group}: ")
        assert told[0].endswith(cure)
        assert "counted where 0.675 were given, 4 times as much" in told[1]
        before = kept.read(project.library)[group]
        assert len(before["exposures"]) == 6
        first = words([Verdict.from_dict(verdict) for verdict in before["verdicts"]])
        assert (first["gain_orientation"], first["dose"], first["frames"]) == ("wrong", "wrong", "fine")
        assert (first["gain_age"], first["pixel_size"]) == ("cannot tell", "cannot tell")
        # nothing of it is among the results of the set, nor lost with the library
        assert "court" not in project.sets().columns
        # a second look tells nothing new
        revision = project.revision
        assert sit(project, group)[1] == []
        assert project.revision == revision
        project.library.path.unlink()
        for extra in ("-wal", "-shm"):
            Path(f"{project.library.path}{extra}").unlink(missing_ok=True)
    with rebuild(tmp_path / "project")[0] as project:
        assert kept.read(project.library)[group] == before
        # the cure as the user types it: told only once the movies were processed with it
        project.add(session, facts={"gain_rotation": "0", "gain_flip": "yes"})
        assert words(sit(project, group)[0])["gain_orientation"] == "cannot tell"
        assert "processed again" in sit(project, group)[0][1].sentence
        told = run(project)
        assert [text.split(" (")[0] for text in told] == [
            f"{group}: now fine: The gain reference lies as the counts say"
        ]
        last = words(sit(project, group)[0])
        assert (last["gain_orientation"], last["gain_use"], last["gain_age"]) == ("fine", "fine", "fine")
        assert last["dose"] == "wrong"


def test_pausing_where_a_fact_is_wrong(counts_alone, session, tmp_path):
    with begin(tmp_path / "project", session, dose_per_frame=2.7, gain_flip=False) as project:
        assert kept.action(project) == "warn"
        with pytest.raises(ParameterError, match="warn or pause, not shout"):
            kept.set_action(project, "shout")
        kept.set_action(project, "pause")
        told = run(project)
        assert any(text.startswith("Paused") and "queue resume" in text for text in told)
        assert Queue(project).paused
        # five are enough: the sixth has not begun
        assert len(project.ids(status="done")) == 5
        Queue(project).resume()
        assert not any(text.startswith("Paused") for text in run(project))
        assert len(project.ids(status="done")) == 6


def test_a_court_that_cannot_sit_stops_nothing(counts_alone, session, tmp_path, monkeypatch):
    with begin(tmp_path / "project", session, dose_per_frame=2.7) as project:
        written = kept.write
        monkeypatch.setattr(kept, "write", lambda *_: (_ for _ in ()).throw(LibraryBusy("the library is locked")))
        told = run(project)
        assert told == ["The first exposures of day could not be judged: the library is locked"]
        assert len(project.ids(status="done")) == 6
        # cut off before it was told, it is told by the next process
        monkeypatch.setattr(kept, "write", written)
        sit(project, "day")
        told = []
        court = Court(project, told.append)
        court._waiting["day"] = 0.0
        court.rest()
        assert len(told) == 1
        court._waiting["day"] = 0.0
        court.rest()
        assert len(told) == 1


def test_products_that_are_nonsense_stop_nothing(counts_alone, session, tmp_path):
    with begin(tmp_path / "project", session, dose_per_frame=2.7) as project:
        assert len(run(project)) == 1
        for path in project.folder.glob("exposures/day/*/camera.json"):
            curves = json.loads(path.read_text())
            path.write_text(json.dumps({**curves, "gain_scale": ["much"], "frame_counts": ["few"]}))
        found = {verdict.check: verdict for verdict in sit(project, "day")[0]}
        assert found["gain_use"].word == "cannot tell"
        assert "damaged" in found["gain_use"].sentence
        assert found["gain_orientation"].word == "wrong"
        assert found["dose"].word == "fine"


def test_a_court_that_fails_in_any_way_stops_nothing(counts_alone, session, tmp_path, monkeypatch):
    with begin(tmp_path / "project", session, dose_per_frame=2.7) as project:
        monkeypatch.setattr(sitting, "_judge", lambda bench: (_ for _ in ()).throw(RuntimeError("no sense")))
        assert run(project) == ["The first exposures of day could not be judged: RuntimeError: no sense"]
        assert len(project.ids(status="done")) == 6


def test_a_session_of_several_folders_is_cured_as_a_whole(counts_alone, session, tmp_path):
    for number, path in enumerate(sorted(session.glob("movie_*.tif"))):
        folder = tmp_path / f"GridSquare_{number % 2}" / "Data"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.name)
    with Project.create(tmp_path / "project", mode="drift") as project:
        facts = {"pixel_size": 1.0511, "voltage": 300, "dose_per_frame": 2.7}
        for folder in sorted(tmp_path.glob("GridSquare_*")):
            project.add(folder, gain_reference=session / "gain.mrc", facts=facts)
        [group] = groups(project)
        [told] = run(project)
        places = f"{tmp_path}/GridSquare_0/Data {tmp_path}/GridSquare_1/Data"
        assert told.startswith(f"{group}: ")
        assert told.endswith(f"focusnb import {project.folder} {places} --set gain_rotation=0 --set gain_flip=yes")


def test_few_movies_are_judged_when_nothing_follows(counts_alone, session, tmp_path):
    with begin(tmp_path / "project", session, movies=2) as project:
        assert run(project, quiet=300) == []
        assert kept.read(project.library) == {}
        verdicts, news = sit(project, "day")
        assert words(verdicts)["gain_orientation"] == "wrong"
        assert {verdict.check for verdict in news} == {"gain_orientation", "dose"}
        # what is in TRASH is no witness
        project.move(project.ids(), "TRASH")
        assert set(words(sit(project, "day")[0]).values()) == {"cannot tell"}


# Single checks, on witnesses made by hand


def witness(folder: Path, number: int = 1, *, camera: dict | None = None, rings: dict | None = None, **more) -> Witness:
    place = folder / str(number)
    place.mkdir(parents=True, exist_ok=True)
    found = dict(more.pop("found", {}))
    for name, values in (("camera_curves", camera), ("ring_profile", rings)):
        if values is not None:
            (place / f"{name}.json").write_text(json.dumps(values))
            found[name] = f"{name}.json"
    facts = {
        "kind": "movie",
        "frame_count": 40,
        "width": 4000,
        "height": 4000,
        "pixel_size": 1.0,
        **more.pop("facts", {}),
    }
    return Witness(number, f"movie {number}", facts, found, place, **more)


def verdict_on(check: str, witnesses: list[Witness]) -> Verdict:
    return CHECKS[check](Bench(witnesses, project=Path("/a project"), source=Path("/camera")))


def test_without_anything_nothing_is_told(tmp_path):
    for witnesses in ([], [witness(tmp_path)], [witness(tmp_path, facts={"kind": "image"})]):
        verdicts = judge(Bench(witnesses, project=Path("p"), source=Path("s")))
        assert [verdict.check for verdict in verdicts] == list(CHECKS) == list(TITLES)
        assert not any(verdict.is_bad for verdict in verdicts)
        assert all(verdict.sentence for verdict in verdicts)


def test_damaged_products_are_as_none(tmp_path):
    one = witness(tmp_path, camera={"frame_counts": [1.0]}, rings={"frequency": [0.1], "amplitude": [None]})
    (one.folder / "camera_curves.json").write_text('{"frame_counts": [1.0')
    damaged = replace(one, found={**one.found, "unaligned_windows": "windows.mrc", "micrograph_pixel_size": 1.0})
    (one.folder / "windows.mrc").write_bytes(b"no image")
    assert damaged.camera == {}
    assert damaged.windows is None
    assert not any(verdict.is_bad for verdict in judge(Bench([damaged] * 5, project=Path("p"), source=Path("s"))))
    unknown = witness(tmp_path, 2, camera={"frame_counts": [1.0, None], "other": 5})
    assert math.isnan(unknown.camera["frame_counts"][1])


def dose_witness(folder: Path, ratio: float, *, scale: float = 1.0, number: int = 1, **facts: object) -> Witness:
    found = {
        "dose_origin": "given",
        "dose_per_frame_used": 1.0,
        "dose_per_frame_measured": ratio,
        "counts_per_electron_measured": scale,
    }
    return witness(folder, number, found=found, facts=facts)


@pytest.mark.parametrize(
    ("ratio", "scale", "word", "told"),
    [
        (0.93, 1.0, "fine", "0.93 of them"),
        (0.62, 1.0, "fine", ""),
        (1.05, 0.8, "fine", ""),
        (0.45, 1.0, "suspicious", "2 times less"),
        (0.23, 1.0, "wrong", "4 times less"),
        (1.9, 1.0, "wrong", "2 times as much: give the dose with focusnb import '/a project' /camera --set dose_per"),
        (11.0, 1.0, "wrong", "12 times as much"),
        (14.6, 16.2, "wrong", "16 times as much; by its noise an electron adds 16.2 counts and not 1"),
        (29.0, 37.0, "wrong", "--set counts_per_electron=37"),
        (1.35, 1.0, "suspicious", ""),
    ],
)
def test_dose_against_counts(tmp_path, ratio, scale, word, told):
    verdict = verdict_on("dose", [dose_witness(tmp_path, ratio, scale=scale, number=n) for n in range(5)])
    assert verdict.word == word
    assert told in verdict.told
    assert (verdict.seen, verdict.of) == (0 if word == "fine" else 5, 5)


def test_counts_that_were_divided_for_nothing(tmp_path):
    verdict = verdict_on("dose", [dose_witness(tmp_path, 0.058, scale=1.0, counts_per_electron=16.0)])
    assert verdict.told.endswith("--set counts_per_electron=1")


def test_without_a_dose_only_the_noise_tells(tmp_path):
    found = {"dose_origin": "counts", "dose_per_frame_used": 12.0, "dose_per_frame_measured": 12.0}
    scaled = witness(tmp_path, found={**found, "counts_per_electron_measured": 11.9})
    assert verdict_on("dose", [scaled]).word == "suspicious"
    assert "--set counts_per_electron=12" in verdict_on("dose", [scaled]).told
    counted = witness(tmp_path, found={**found, "counts_per_electron_measured": 0.97})
    assert verdict_on("dose", [counted]).word == "cannot tell"


def test_frames_that_are_not_those_told(tmp_path):
    origins = {"frame_count": {"header": 37, "metadata": 40}}
    told = verdict_on("frames", [witness(tmp_path, n, origins=origins) for n in range(4)])
    assert (told.word, told.seen) == ("wrong", 4)
    assert "4 of 4 movies hold 37 frames where 40 were told" in told.sentence
    eer = witness(tmp_path, origins=origins, facts={"hardware_frames": 800})
    assert verdict_on("frames", [eer]).word == "fine"
    counts = [40, 40, 40, 22, 40]
    short = verdict_on("frames", [witness(tmp_path, n, facts={"frame_count": c}) for n, c in enumerate(counts)])
    assert (short.word, short.seen) == ("suspicious", 1)
    assert "22 frames where most hold 40" in short.sentence


def test_dark_frames_at_the_beginning_and_elsewhere(tmp_path):
    dark = [0.3, 0.6, *[1.0] * 38]
    verdict = verdict_on("frames", [witness(tmp_path, n, camera={"frame_counts": dark}) for n in range(5)])
    assert verdict.word == "suspicious"
    assert "frame 1 has 30 % of the counts" in verdict.sentence
    assert verdict.cure.endswith("focusnb step set '/a project' align_frames --first-frame 3")
    late = [*[1.0] * 30, 2.5, *[1.0] * 9]
    verdict = verdict_on("frames", [witness(tmp_path, n, camera={"frame_counts": late}) for n in range(5)])
    assert "frame 31 has 250 %" in verdict.sentence
    assert "--first-frame" not in verdict.cure
    # of five movies one may have failed
    good = [1.0] * 40
    mixed = [witness(tmp_path, n, camera={"frame_counts": dark if n == 2 else good}) for n in range(5)]
    assert verdict_on("frames", mixed).word == "fine"


def test_movies_that_cannot_be_read(tmp_path):
    failed = [witness(tmp_path, n, failed="movie.tif: ends within frame 3.") for n in range(3)]
    verdict = verdict_on("frames", [*failed, witness(tmp_path, 7)])
    assert verdict.word == "wrong"
    assert "3 of 4 movies cannot be read (movie.tif: ends within frame 3)" in verdict.sentence
    assert "no movie could be prepared" in verdict_on("dose", failed).sentence.lower()


def gain_camera(correlations: dict[tuple[int, bool], float], *, scale: float = 4.0, pixels: int = 1 << 20) -> dict:
    return {
        "gain_rotation": [rotation for rotation, _ in correlations],
        "gain_flip": [int(flip) for _, flip in correlations],
        "gain_correlation": list(correlations.values()),
        "gain_scale": [scale],
        "gain_pixels": [pixels],
        "gain_contrast": [0.05],
    }


def test_orientation_is_told_by_all_movies_together(tmp_path):
    # each movie alone is uncertain: 0.006 less than the margin of 0.0078
    weak = gain_camera({(1, True): 0.006, (0, False): 0.0, (2, False): 0.0004})
    seen = [witness(tmp_path, n, camera=weak, facts={"gain_reference": "gain.mrc"}) for n in range(8)]
    assert verdict_on("gain_orientation", seen[:1]).word == "cannot tell"
    verdict = verdict_on("gain_orientation", seen)
    assert verdict.word == "wrong"
    assert "--set gain_rotation=1 --set gain_flip=yes" in verdict.cure
    # a flat reference, or too few counts, say nothing of its use
    assert verdict_on("gain_use", [replace(seen[0])]).word in ("cannot tell", "wrong")
    flat = gain_camera({(0, False): 0.001, (2, False): 0.0}, scale=300.0)
    assert (
        verdict_on("gain_use", [witness(tmp_path, 20, camera=flat, facts={"gain_reference": "g"})]).word
        == "cannot tell"
    )


def test_a_list_of_another_camera(tmp_path):
    camera = {
        "defects_rotation": [0, 2],
        "defects_flip": [0, 0],
        "defects_hits": [0, 1],
        "defects_listed": [200],
        "defects_odd": [0],
    }
    found = {"hot_pixels": 150, "dead_pixels": 0, "bad_lines": 0, "bad_pixels": 350}
    seen = [witness(tmp_path, n, camera=camera, found=found, facts={"defects": "d.txt"}) for n in range(5)]
    verdict = verdict_on("defects", seen)
    assert verdict.word == "suspicious"
    assert "0 of the 200 pixels that the defects name are hot or dead, but 150 others are" in verdict.sentence
    # a list of columns kept for safety, with few hot pixels elsewhere, is no error
    calm = [replace(one, found={**one.found, "hot_pixels": 12}) for one in seen]
    assert verdict_on("defects", calm).word == "fine"


def test_verdicts_are_kept_whole(tmp_path):
    verdict = verdict_on("dose", [dose_witness(tmp_path, 4.1)])
    text = json.dumps(verdict.to_dict(), allow_nan=False)
    assert Verdict.from_dict({**json.loads(text), "added_later": 1}) == verdict


def test_the_dose_of_an_eer_is_given_for_the_frames_its_facts_count(tmp_path):
    one = dose_witness(tmp_path, 2.0, hardware_frames=1200)
    curves = one.folder / "camera_curves.json"
    curves.write_text(json.dumps({"frame_counts": [1.0] * 80}))
    one = replace(one, found={**one.found, "camera_curves": curves.name})
    # 80 frames of 2 e⁻/Å² were made where the facts count 40
    assert "--set dose_per_frame=4," in verdict_on("dose", [one]).cure
