"""Snapshots: what they tell, what they must not tell, and that they cost what changed."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focusnb.errors import FormatError
from focusnb.monitoring.blur import power_beyond
from focusnb.monitoring.chunks import file_name
from focusnb.monitoring.settings import PublishSettings
from focusnb.monitoring.snapshot import (
    STATUS_NAME,
    Snapshot,
    SnapshotMaker,
    clean,
    make_snapshot,
    published,
    read_snapshot,
)
from focusnb.project.project import Project
from tests.monitoring.conftest import Recorded
from tests.monitoring.nights import Recorder, make_night, make_project


def test_it_tells_the_session(recorded: Recorded) -> None:
    night, status = recorded.night, recorded.maker().make().status
    assert status["state"]["word"] == "recording"
    assert status["counts"]["images"] == len([i for i in night.images if i.imported <= night.end])
    failed = sum(i.findings is None for i in night.images if i.processed <= night.end)
    assert status["counts"]["failed"] == failed == sum(f["count"] for f in status["failures"])
    assert status["speed"]["recording"] == pytest.approx(night.rate, rel=0.25)
    known = sorted((i for i in night.images if i.findings and i.processed <= night.end), key=lambda i: i.recorded)
    told = status["quantities"]["drift"]
    assert told["present"] == pytest.approx(np.median([i.findings["drift"] for i in known[-15:]]), rel=1e-6)
    assert (told["caption"], told["high"]) == ("Drift (Å)", 50.0)
    disk = status["disk"]
    assert disk["per_image"] == int(night.per_image)
    assert disk["hours_left"] == pytest.approx(disk["free"] / night.per_image / status["speed"]["recording"], rel=0.01)
    assert disk["usable_left"] < disk["images_left"]
    assert sum(status["throughput"]["recorded"]) == status["counts"]["images"]
    assert [w["hours"] for w in status["windows"]] == [1, 3, 6, 12, 24]
    squares = status["grid"]["squares"]
    assert sum(square["images"] for square in squares) == status["counts"]["images"]
    assert len(squares) == len({image.square for image in night.images})
    # JSON of a fixed form: no NaN, and the same after it was read
    assert json.loads(published(recorded.maker().make())) == json.loads(json.dumps(status, allow_nan=False))


def test_the_series_are_what_was_found(recorded: Recorded) -> None:
    snapshot = recorded.maker().make()
    series = snapshot.series()
    table = recorded.project.table().loc[series["id"]]
    for name, digits in (("drift", 2), ("iciness", 4), ("astigmatism", 1), ("mean_counts", 4)):
        np.testing.assert_allclose(series[name], table[name], atol=0.51 * 10.0**-digits)
    assert (np.diff(series["time"]) >= 0).all()
    assert set(series["state"]) <= set("awx")
    assert {"square", "hole", "stage_x"} <= set(series)


def test_what_is_old_is_told_in_medians(recorded: Recorded) -> None:
    snapshot = recorded.maker().make(PublishSettings(hours=1))
    series, older = snapshot.series(), snapshot.older()
    assert len(series["time"]) + older["count"].sum() == snapshot.status["counts"]["images"]
    assert older["time"].max() < series["time"].min()
    assert np.nanmedian(older["iciness"]) == pytest.approx(np.nanmedian(series["iciness"]), abs=0.05)


def test_a_snapshot_step_by_step_is_that_of_all_at_once(tmp_path: Path) -> None:
    night = make_night(9300, hours=1.6, faults=[])
    with make_project(tmp_path / "steps") as project:
        recorder = Recorder(project, night)
        maker = SnapshotMaker(project, clock=recorder.clock, disk=recorder.disk())
        kept: set[str] = set()
        new = []
        for _ in recorder.run(300):
            step = maker.make()
            new.append(len(set(step.files) - kept))
            kept |= set(step.files)
        once = SnapshotMaker(project, clock=recorder.clock, disk=recorder.disk()).make()
        for name, values in once.series().items():
            if name == "state":
                assert step.series()[name].tolist() == values.tolist()
                continue
            # the difference of the clocks is kept while it stays within a minute
            np.testing.assert_allclose(step.series()[name], values, rtol=0, atol=61 if name == "time" else 0)
        assert step.status["counts"] == once.status["counts"]
        # hours that are past are not written again
        assert max(new) <= 4


def test_no_name_goes_out_unless_the_owner_wants_it(recorded: Recorded) -> None:
    project = recorded.project
    name = project.table()["exposure"].iloc[-1]
    for settings, shown in ((PublishSettings(), False), (PublishSettings(names=True), True)):
        snapshot = recorded.maker().make(settings)
        assert len(snapshot.sheets) == 1
        everything = published(snapshot) + b"".join([*snapshot.files.values(), *snapshot.sheets.values()])
        for secret in ("FoilHole", "GridSquare", "/camera", str(project.folder), "night"):
            assert (secret.encode() in everything) == (shown and secret in ("FoilHole", "GridSquare", "/camera")), (
                secret
            )
        assert (snapshot.status["title"] == project.name) == shown
        assert (snapshot.status["pictures_of"]["name"] is not None) == shown
    assert name.startswith("FoilHole")


def test_images_are_blurred_and_spectra_shown_as_the_settings_say(recorded: Recorded) -> None:
    original = recorded.project.path(recorded.project.ids(status="done")[-1]) / "image_after.png"
    before = np.asarray(Image.open(original).convert("L"), dtype=float)
    pixel_size = 2880 / 512

    def grey(snapshot: Snapshot) -> np.ndarray:
        told = next(p for p in snapshot.status["pictures"] if p["name"] == "micrograph_preview")
        assert told["pixel_size"] == pytest.approx(pixel_size)
        return np.asarray(Image.open(io.BytesIO(snapshot.files[told["file"]])).convert("L"), dtype=float)

    for cutoff in (200.0, 80.0):
        left = grey(recorded.maker().make(PublishSettings(blur=cutoff)))
        part = power_beyond(left, pixel_size=pixel_size, cutoff=cutoff) / power_beyond(
            before, pixel_size=pixel_size, cutoff=cutoff
        )
        assert part < 1e-3
        assert left.std() > 1
    np.testing.assert_array_equal(grey(recorded.maker().make(PublishSettings(blur=0))), before)

    kinds = lambda settings: {p["kind"] for p in recorded.maker().make(settings).status["pictures"]}  # noqa: E731
    assert kinds(PublishSettings(spectra=False)) == {"image"}
    assert kinds(PublishSettings(pictures=False)) == {"spectrum", "trajectory", "rings"}
    nothing = recorded.maker().make(PublishSettings(pictures=False, spectra=False, failures=False, grid=False))
    assert not [name for name in nothing.files if name.endswith(".png")]
    assert (nothing.status["failures"], nothing.status["grid"]) == (None, None)
    assert "square" not in nothing.series()


def test_an_image_of_unknown_pixel_size_is_not_shown(recorded: Recorded) -> None:
    with recorded.project.library.write() as transaction:
        transaction.update_exposure(recorded.project.ids(status="done")[-1], {"pixel_size": None})
    told = next(p for p in recorded.maker().make().status["pictures"] if p["name"] == "micrograph_preview")
    assert told["file"] is None
    assert "pixel size is not known" in told["missing"]


def test_a_pixel_size_that_is_put_right_blurs_anew(recorded: Recorded) -> None:
    maker = recorded.maker()
    seen = []
    for pixel_size in (1.0, 0.5):
        with recorded.project.library.write() as transaction:
            transaction.update_exposure(recorded.project.ids(status="done")[-1], {"pixel_size": pixel_size})
        status = maker.make().status
        images = [p["file"] for p in status["pictures"] if p["kind"] == "image" and p["file"]]
        seen.append([*images, *status["previews"]["sheets"]])
    assert all(before != after for before, after in zip(*seen, strict=True))


def test_a_broken_picture_is_told(recorded: Recorded) -> None:
    path = recorded.project.path(recorded.project.ids(status="done")[-1]) / "image_after.png"
    path.write_bytes(path.read_bytes()[:900])
    told = next(p for p in recorded.maker().make().status["pictures"] if p["name"] == "micrograph_preview")
    assert told["missing"] == "the picture cannot be read"


def test_an_empty_project_says_so(empty: Project) -> None:
    snapshot = make_snapshot(empty)
    assert snapshot.status["state"]["word"] == "empty"
    assert snapshot.status["series"]["pieces"] == []
    assert len(snapshot.series()["time"]) == len(snapshot.older()["time"]) == 0
    assert snapshot.status["session"] is None


def test_states_in_words(recorded: Recorded) -> None:
    end, maker = recorded.night.end, recorded.maker()
    words = []
    for later in (0, 900, 3 * 3600):
        recorded.recorder.now = end + later
        words.append(maker.make().status["state"]["word"])
    assert words == ["recording", "idle", "stopped"]
    recorded.recorder.now = end
    with recorded.project.library.write() as transaction:
        for identity in recorded.project.ids(status="done")[-6:]:
            transaction.update_exposure(identity, {"status": "failed", "reason": "it is cut short"})
    assert maker.make().status["state"]["word"] == "failing"
    assert maker.make().is_stale(end + 95)
    assert not maker.make().is_stale(end + 85)


def test_what_was_published_can_be_read_back_and_is_checked(recorded: Recorded) -> None:
    snapshot = recorded.maker().make()
    store = {STATUS_NAME: published(snapshot), **snapshot.files}
    read = read_snapshot(store.__getitem__)
    assert (read.status, read.files) == (json.loads(published(snapshot)), dict(snapshot.files))
    fetched: list[str] = []

    def fetch(name: str) -> bytes:
        fetched.append(name)
        return store[name]

    read_snapshot(fetch, known=read.files)
    assert fetched == [STATUS_NAME]
    victim = sorted(snapshot.files)[0]
    with pytest.raises(FormatError, match="other bytes than its name"):
        read_snapshot({**store, victim: store[victim][:-1]}.__getitem__)
    for wrong in (b"", b"[]", b"{}", b"\xff", published(snapshot)[:-20]):
        with pytest.raises(FormatError, match="no published state"):
            read_snapshot({STATUS_NAME: wrong}.__getitem__)
    outside = json.dumps({**snapshot.status, "files": ["../../etc/passwd"]}).encode()
    with pytest.raises(FormatError, match="no published file"):
        read_snapshot({STATUS_NAME: outside}.__getitem__)
    sheets = {"sheets": [{"file": "../../etc/passwd"}]}
    outside = json.dumps({**snapshot.status, "previews": sheets}).encode()
    with pytest.raises(FormatError, match="no published file"):
        read_snapshot({STATUS_NAME: outside}.__getitem__)
    for odd in ([], "x", 3, {"sheets": [{}]}, {"sheets": 1}):
        with pytest.raises(FormatError, match="previews"):
            read_snapshot({STATUS_NAME: json.dumps({**snapshot.status, "previews": odd}).encode()}.__getitem__)
    without = {name: value for name, value in snapshot.status.items() if name != "previews"}
    read_snapshot({**store, STATUS_NAME: json.dumps(without).encode()}.__getitem__)  # of a version before this one
    newer = json.dumps({**snapshot.status, "schema": 99}).encode()
    with pytest.raises(FormatError, match="newer focusnb"):
        read_snapshot({STATUS_NAME: newer}.__getitem__)


def test_names_of_files_are_made_of_what_they_hold() -> None:
    assert file_name(b"", "json") == "data/e3b0c44298fc1c149afbf4c8996fb924.json"


def test_what_is_no_number_becomes_none() -> None:
    dirty = {"a": math.nan, "b": [np.float64("inf"), np.int64(3), np.float32(0.5)], "c": {"d": (1, None, "x", True)}}
    assert clean(dirty) == {"a": None, "b": [None, 3, 0.5], "c": {"d": [1, None, "x", True]}}
