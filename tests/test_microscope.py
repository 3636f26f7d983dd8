"""The simulated microscope: its files are read by focusnb's own readers and compared with what was simulated."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from focusnb import microscope
from focusnb.errors import FormatError, ParameterError
from focusnb.io import mdoc
from focusnb.io.defects import read_defects
from focusnb.io.gain import read_gain
from focusnb.io.images import write_mrc
from focusnb.io.movies import open_movie
from focusnb.microscope import BAD, GOOD, Session, load_session, record_session
from focusnb.ops.simulate import make_detector, simulate_movie

SIZE, FRAMES = (224, 256), 4


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return record_session(tmp_path_factory.mktemp("camera"), movies=10, size=SIZE, frames=FRAMES, seed=3)


def read_frames(path: Path) -> np.ndarray:
    with open_movie(path) as movie:
        return np.stack([movie.read_frame(t) for t in range(movie.shape[0])])


def of_kind(session: Session, kind: str) -> Path:
    return next(exposure.path for exposure in session.exposures if exposure.kind == kind)


def ring_power(image: np.ndarray, pixel_size: float, low: float, high: float) -> float:
    k = np.hypot(np.fft.fftfreq(image.shape[0], pixel_size)[:, None], np.fft.rfftfreq(image.shape[1], pixel_size))
    power = np.abs(np.fft.rfft2(image - image.mean())) ** 2
    return float(power[(k > low) & (k < high)].mean())


def corrected_mean(session: Session, path: Path) -> np.ndarray:
    gain = read_gain(session.gain)
    mean = read_frames(path).mean(axis=0) * gain
    mean[(mean > 6.0) | (gain == 0)] = np.median(mean)
    return mean


def test_frames_are_read_as_they_were_simulated(session: Session) -> None:
    """Also the orientation: a picture flipped by writer or reader would not be equal."""
    path = of_kind(session, GOOD)
    truth = session.truth_of(path)
    frames = read_frames(path)
    gain = read_gain(session.gain, frame_shape=SIZE)
    streams = np.random.SeedSequence(3).spawn(2)
    detector = make_detector(truth.spec.detector, SIZE, np.random.default_rng(streams[0]))
    assert np.array_equal(gain, detector.gain)
    movie = simulate_movie(truth.spec, truth.seed, detector=detector)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, movie.frames)
    assert not np.array_equal(frames, movie.frames[:, ::-1])


def test_dead_and_hot_pixels_are_where_gain_and_list_say(session: Session) -> None:
    frames = read_frames(of_kind(session, GOOD)).astype(float)
    listed = read_defects(session.defects, frame_shape=SIZE)
    dead = read_gain(session.gain) == 0
    assert dead.sum() == 150
    assert listed[dead].all()
    assert (frames[:, dead] == 0).all()
    hot = listed & ~dead
    assert hot.sum() == 75
    assert (frames.mean(axis=0)[hot] > 5.0).all()
    found = (frames.mean(axis=0) > 7.5) & ~listed
    assert 60 <= found.sum() <= 75, "hot pixels that the list does not know"


def test_mdoc_tells_the_facts(session: Session) -> None:
    for exposure in session.exposures:
        path = exposure.path.with_name(exposure.path.name + ".mdoc")
        if exposure.kind == "text":
            assert not path.exists()
            continue
        document = mdoc.read(path)
        section = document.find(exposure.path.name)
        assert section is not None, "SubFramePath is a Windows path that ends in the movie's name"
        assert section.kind == "FrameSet"
        facts = mdoc.exposure_facts(document, section, frame_shape=SIZE)
        truth = session.truth_of(exposure.path)
        assert facts["pixel_size"] == truth.spec.pixel_size
        assert facts["voltage"] == truth.spec.optics.voltage
        assert facts["dose_per_frame"] == truth.spec.dose_per_frame
        assert facts["exposure_dose"] == truth.spec.dose_per_frame * FRAMES
        assert facts["frame_count"] == FRAMES
        assert facts["gain_reference"] == session.gain.name
        assert facts["defects"] == session.defects.name
        assert facts["recorded_at"].startswith("2025-11-21T08:1")
        if exposure.kind != "far defocus":
            mean = 0.5 * (truth.spec.optics.defocus_u + truth.spec.optics.defocus_v)
            assert facts["defocus_target"] == pytest.approx(mean, abs=11.0)


def test_names_are_those_of_a_camera(session: Session) -> None:
    assert session.movies[0].name == "grid1_00001_Nov21_08.10.51.tif"
    assert session.gain.name.startswith("CountRef_")
    assert session.defects.name.startswith("defects_")
    visible = [path.name for path in session.folder.iterdir() if not path.name.startswith(".")]
    assert len(visible) == 10 + 9 + 2, "movies, mdocs and references; the truth is hidden"
    assert session.truth.parent.name == ".truth"


def test_bad_exposures_are_bad_in_their_way(session: Session) -> None:
    kinds = [exposure.kind for exposure in session.exposures]
    assert set(kinds) == {GOOD, *BAD}
    assert kinds.count(GOOD) == 4

    drift = {kind: session.truth_of(of_kind(session, kind)).field_mean() for kind in ("drift", GOOD)}
    assert np.ptp(drift["drift"], axis=0).max() > 60.0
    assert np.ptp(drift[GOOD], axis=0).max() < 20.0

    good, ice, hole = (corrected_mean(session, of_kind(session, k)) for k in (GOOD, "crystalline ice", "empty hole"))
    pixel_size = 1.06
    contrast = [ring_power(i, pixel_size, 0.262, 0.278) / ring_power(i, pixel_size, 0.3, 0.4) for i in (good, ice)]
    assert contrast[0] < 1.5
    assert contrast[1] > 3.0
    assert hole.mean() > 1.05 * good.mean()
    counting_noise = hole.mean() / FRAMES * hole.size
    assert ring_power(hole, pixel_size, 0.005, 0.05) == pytest.approx(counting_noise, rel=0.25)
    assert ring_power(good, pixel_size, 0.005, 0.05) > 1.4 * counting_noise

    assert session.truth_of(of_kind(session, "far defocus")).spec.optics.defocus_v > 5e4
    assert session.truth_of(of_kind(session, GOOD)).spec.optics.defocus_u < 2.1e4
    with pytest.raises(FormatError):
        read_frames(of_kind(session, "truncated"))
    with pytest.raises(FormatError):
        read_frames(of_kind(session, "text"))


def test_session_is_read_back(session: Session) -> None:
    read = load_session(session.folder)
    assert read.movies == session.movies
    assert read.facts == session.facts == {"amplitude_contrast": 0.1, "spherical_aberration": 2.7}
    assert (read.gain, read.defects, read.truth) == (session.gain, session.defects, session.truth)
    for before, after in zip(session.exposures, read.exposures, strict=True):
        assert before.kind == after.kind
        if before.truth is not None and after.truth is not None:
            assert after.truth.spec == before.truth.spec
            assert np.array_equal(after.truth.field_mean(), before.truth.field_mean())
    with pytest.raises(ParameterError, match="no simulated movie"):
        read.truth_of(of_kind(session, "text"))
    with pytest.raises(ParameterError, match="was not written by the simulated microscope"):
        load_session(session.folder / ".truth")


def test_same_seed_same_bytes(session: Session, tmp_path: Path) -> None:
    again = record_session(tmp_path / "again", movies=1, size=SIZE, frames=FRAMES, seed=3)
    other = record_session(tmp_path / "other", movies=1, size=SIZE, frames=FRAMES, seed=4, bad=False)
    assert again.movies[0].read_bytes() == session.movies[0].read_bytes()
    assert again.gain.read_bytes()[1024:] == session.gain.read_bytes()[1024:]
    assert other.movies[0].read_bytes() != session.movies[0].read_bytes()


def test_real_specimen_fills_the_frames(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    picture = rng.normal(0.0, 1.0, (400, 448)).cumsum(axis=0).cumsum(axis=1)
    picture = (500.0 + 30.0 * picture / picture.std()).astype(np.float32)
    write_mrc(tmp_path / "micrograph.mrc", picture, pixel_size=1.5)
    session = record_session(tmp_path / "camera", movies=3, frames=4, specimen=tmp_path / "micrograph.mrc")
    good = session.exposures[0]
    assert good.specimen == "micrograph.mrc"
    assert good.truth is not None
    assert good.truth.spec.shape == (256, 320)
    assert good.truth.spec.pixel_size == 1.5
    mean = corrected_mean(session, good.path)
    expected = picture[72:-72, 64:-64]
    smooth = [gaussian_filter(i, 4.0)[16:-16, 16:-16].ravel() for i in (mean, expected, expected[::-1])]
    assert np.corrcoef(smooth[0], smooth[1])[0, 1] > 0.9
    assert abs(np.corrcoef(smooth[0], smooth[2])[0, 1]) < 0.8
    assert session.exposures[2].kind == "drift"
    assert np.ptp(session.truth_of(session.movies[2]).field_mean(), axis=0).max() > 20.0
    document = mdoc.read(good.path.with_name(good.path.name + ".mdoc"))
    section = document.exposure
    assert section is not None
    assert mdoc.exposure_facts(document, section, frame_shape=(256, 320))["pixel_size"] == 1.5


def test_a_real_micrograph_as_specimen(data: Path, tmp_path: Path) -> None:
    """Real apoferritin, moved: the frames correlate with the micrograph where the truth puts them."""
    specimen = data / "apoferritin_empiar10146" / "May08_03.05.02.mrc"
    session = record_session(tmp_path, movies=1, frames=6, specimen=specimen, size=(512, 480))
    truth = session.truth_of(session.movies[0])
    with open_movie(specimen) as micrograph:
        picture = np.asarray(micrograph.read_frame(0), np.float32)
    before = tuple((large - small) // 2 for large, small in zip(picture.shape, (512, 480), strict=True))
    part = picture[before[0] : before[0] + 512, before[1] : before[1] + 480]
    gain = read_gain(session.gain)
    frames = read_frames(session.movies[0]) * gain
    good = (frames.mean(axis=0) < 8.0) & (gain > 0)
    frames[:, ~good] = frames[:, good].mean()
    last = np.fft.rfft2(frames[-1])
    phase = np.fft.fftfreq(512)[:, None] * truth.field_mean()[-1, 0] + np.fft.rfftfreq(480) * truth.field_mean()[-1, 1]
    moved = np.fft.irfft2(last * np.exp(-2j * np.pi * phase), s=(512, 480))
    inner = (slice(24, -24), slice(24, -24))
    aligned, unaligned = (np.corrcoef(i[inner].ravel(), part[inner].ravel())[0, 1] for i in (moved, frames[-1]))
    assert aligned > 0.1
    assert aligned > 3.0 * abs(unaligned)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"movies": 0}, "0 movies cannot be recorded"),
        ({"size": (400, 256)}, "up to 256×320, not 400×256"),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    write_mrc(tmp_path / "micrograph.mrc", np.ones((400, 448), np.float32), pixel_size=1.5)
    with pytest.raises(ParameterError, match=message):
        record_session(tmp_path / "camera", specimen=tmp_path / "micrograph.mrc", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "camera").exists(), "nothing is left behind"


def test_slow_movies_grow_and_the_cadence_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: set[int] = set()
    real = time.sleep

    def sleep(seconds: float) -> None:
        sizes.update(path.stat().st_size for path in tmp_path.glob("*.tif"))
        real(seconds)

    monkeypatch.setattr(microscope.time, "sleep", sleep)
    started = time.monotonic()
    calls: list[tuple[int, str]] = []
    session = record_session(
        tmp_path, movies=2, size=(96, 128), frames=2, cadence=0.5, slow=True, bad=False,
        progress=lambda number, name: calls.append((number, name)),
    )  # fmt: skip
    elapsed = time.monotonic() - started
    assert elapsed >= 0.5
    assert len(sizes - {path.stat().st_size for path in session.movies} - {0}) >= 3, "the file was seen growing"
    assert calls == [(1, session.movies[0].name), (2, session.movies[1].name)]
    assert json.loads(session.truth.read_text("utf-8"))["exposures"][1]["kind"] == GOOD
