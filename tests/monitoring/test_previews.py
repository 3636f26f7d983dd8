"""Previews of single images: each of its own image, blurred and nameless, at the cost of what changed."""

from __future__ import annotations

import io
import itertools
import os
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from focusnb.io.images import write_png
from focusnb.monitoring import blur, pictures, previews
from focusnb.monitoring.blur import power_beyond
from focusnb.monitoring.previews import EACH, SIDE, Previews, sheet_names
from focusnb.monitoring.session import Session
from focusnb.monitoring.settings import PublishSettings
from focusnb.monitoring.shelf import Shelf
from focusnb.monitoring.snapshot import SnapshotMaker, make_snapshot
from focusnb.monitoring.unread import LONGEST
from focusnb.ops import preview
from focusnb.project.project import Project
from tests.monitoring.conftest import Recorded, _micrograph, add_shades, shade

BLURRED, PLAIN = PublishSettings(), PublishSettings(blur=0)


class Desk:
    """A session and its previews, asked again and again."""

    def __init__(self, project: Project) -> None:
        self.now = 0.0
        self.session, self.previews = Session(project), Previews(clock=lambda: self.now)

    def look(self, settings: PublishSettings = BLURRED, most: int | None = None) -> tuple[Any, dict[str, bytes]]:
        self.session.update()
        return self.previews.update(self.session, settings, most=most)

    def cells(self, settings: PublishSettings = BLURRED, most: int | None = None) -> dict[int, np.ndarray]:
        """The previews as a page cuts them from their sheets, by exposure."""
        told, contents = self.look(settings, most)
        found = {}
        for sheet in told["sheets"]:
            paper = np.asarray(Image.open(io.BytesIO(contents[sheet["file"]])), dtype=np.float64)
            height, width = sheet["height"], sheet["width"]
            for place in range(told["each"]):
                if sheet["there"] >> place & 1:
                    y, x = height * (place // told["columns"]), width * (place % told["columns"])
                    found[sheet["first"] + place] = paper[y : y + height, x : x + width]
        return found


@pytest.fixture
def desk(recorded: Recorded) -> Desk:
    return Desk(recorded.project)


def done(project: Project, count: int) -> list[int]:
    """The last exposures that were processed."""
    return list(project.ids(status="done"))[-count:]


@pytest.mark.parametrize("settings", [BLURRED, PLAIN], ids=["blurred", "plain"])
def test_each_preview_is_of_its_own_image(recorded: Recorded, desk: Desk, settings: PublishSettings) -> None:
    chosen = done(recorded.project, 75)[:70:3]
    last = done(recorded.project, 1)
    add_shades(recorded.project, chosen)
    cells = desk.cells(settings)
    assert set(cells) == {*chosen, *last}
    for identity in chosen:
        cell = cells[identity]
        assert cell.shape == (round(SIDE * 182 / 256), SIDE)
        assert np.median(cell[10:40, 50:70]) == pytest.approx(shade(identity), abs=1.5)
        assert np.median(cell[10:40, 10:30]) == pytest.approx(shade(identity) - 40, abs=1.5)


def test_nothing_finer_than_the_cut_off_is_left_in_them(recorded: Recorded, desk: Desk) -> None:
    [last] = done(recorded.project, 1)
    pixel_size = 2880 / SIDE
    for cutoff in (200.0, 120.0):
        before = power_beyond(desk.cells(PLAIN)[last], pixel_size=pixel_size, cutoff=cutoff)
        cell = desk.cells(PublishSettings(blur=cutoff))[last]
        assert before > 20
        # eight bits of grey make a twelfth of a level squared, whatever is shown
        assert power_beyond(cell, pixel_size=pixel_size, cutoff=cutoff) < max(0.1, 1e-3 * before)
        assert cell.std() > 5


def test_a_preview_holds_no_more_of_an_image_than_the_picture_of_the_last_one(recorded: Recorded, desk: Desk) -> None:
    """What is fine in the image changes nothing in its preview."""
    chosen = done(recorded.project, 3)[:2]
    coarse = np.sin(np.indices((512, 720))[1] / 90).astype(np.float32)
    draw = np.random.default_rng(8)
    for identity in chosen:
        add_shades(recorded.project, [identity])
        # at 4 Å/px a wave of 100 Å, of another phase in each
        y, x = np.indices((512, 720))
        fine = 0.5 * np.cos(2 * np.pi * (3 * x + 4 * y) / 125 + draw.uniform(0, 6))
        picture = preview.micrograph_preview((coarse + fine).astype(np.float32), pixel_size=4.0, size=512)
        write_png(recorded.project.path(identity) / "image_after.png", picture)
    one, other = (desk.cells()[identity] for identity in chosen)
    assert np.abs(one - other)[4:40, 4:-4].max() <= 6
    one, other = (desk.cells(PLAIN)[identity] for identity in chosen)
    assert np.abs(one - other)[4:40, 4:-4].max() > 20


def test_they_carry_nothing_but_pixels(recorded: Recorded, desk: Desk) -> None:
    add_shades(recorded.project, done(recorded.project, 40))
    told, contents = desk.look()
    for content in contents.values():
        assert Image.open(io.BytesIO(content)).info == {}
        for chunk in (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"tIME"):
            assert chunk not in content
    assert set(told) == {"each", "columns", "blurred_to", "sheets"}
    assert all(set(sheet) == {"file", "first", "there", "width", "height"} for sheet in told["sheets"])
    assert sheet_names({"previews": told}) == [sheet["file"] for sheet in told["sheets"]]
    assert sheet_names({}) == sheet_names({"previews": None}) == []


def test_none_is_shown_where_the_owner_shows_none(recorded: Recorded) -> None:
    for settings in (PublishSettings(pictures=False), PublishSettings(previews=0)):
        snapshot = recorded.maker().make(settings)
        assert snapshot.status["previews"] is None
        assert snapshot.sheets == {}


def test_an_image_of_unknown_pixel_size_has_none_until_it_is_known(recorded: Recorded, desk: Desk) -> None:
    [identity] = done(recorded.project, 2)[:1]
    add_shades(recorded.project, [identity], pixel_size=None)
    assert identity not in desk.cells()
    assert identity in desk.cells(PLAIN)
    add_shades(recorded.project, [identity], pixel_size=1.0)
    fine = desk.cells()[identity]
    # a pixel size that is put right blurs anew: the edge in the middle is the wider the smaller the field
    add_shades(recorded.project, [identity], pixel_size=0.2)
    assert np.abs(np.diff(desk.cells()[identity][28])).max() < 0.5 * np.abs(np.diff(fine[28])).max()


def test_what_cannot_be_read_has_none_and_what_was_made_anew_is_seen(recorded: Recorded, desk: Desk) -> None:
    first, second, third = done(recorded.project, 4)[:3]
    add_shades(recorded.project, [first, second, third])
    path = recorded.project.path(first) / "image_after.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (recorded.project.path(second) / "image_after.png").unlink()
    assert {first, second, third} & set(desk.cells()) == {third}
    path.write_bytes(whole)
    with recorded.project.library.write() as transaction:
        transaction.update_exposure(first, {"processed_at": "2026-11-28T10:00:00+00:00"})
    assert {first, second, third} & set(desk.cells()) == {first, third}
    recorded.project.move([third], "TRASH")
    assert third not in desk.cells()


def test_one_that_could_not_be_read_is_tried_again_ever_less_often(
    recorded: Recorded, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, good = done(recorded.project, 5)[:4]
    add_shades(recorded.project, [first, second, third, good])
    paths = [recorded.project.path(identity) / "image_after.png" for identity in (first, second, third)]
    whole = [path.read_bytes() for path in paths]
    paths[0].write_bytes(whole[0][: len(whole[0]) // 2])
    paths[1].unlink()
    unreached = {paths[2]}
    tried: list[Any] = []

    def read(path: Any) -> bytes:
        tried.append(path)
        if path in unreached:
            raise OSError(5, "Input/output error")
        return blur.read_picture(path)

    monkeypatch.setattr(previews, "read_picture", read)
    assert {first, second, third, good} & set(desk.cells()) == {good}
    tried.clear()
    for _ in range(3000):
        desk.now += 30.0
        desk.look()
    assert set(tried) == unreached, "what is half there or not there is looked at, and not read"
    assert len(tried) < 40
    # whatever was wrong, an hour after it is well again the preview is there, though the session did not go on
    paths[0].write_bytes(whole[0])
    paths[1].write_bytes(whole[1])
    unreached.clear()
    desk.now += LONGEST
    assert {first, second, third, good} <= set(desk.cells())
    tried.clear()
    desk.now += LONGEST
    assert desk.look()[1] is desk.look()[1]
    assert not tried


def test_what_could_be_read_later_is_kept_for_the_next_process(recorded: Recorded) -> None:
    project = recorded.project
    broken, *others = done(project, 3 * EACH)
    add_shades(project, [broken, *others])
    path = project.path(broken) / "image_after.png"
    whole = path.read_bytes()
    path.write_bytes(b"half")
    clock = [0.0]
    session, seen = Session(project), Previews(Shelf(project.folder, write=True), clock=lambda: clock[0])
    session.update()
    before = seen.update(session, BLURRED, most=None)[1]
    path.write_bytes(whole)
    clock[0] += LONGEST
    told, after = seen.update(session, BLURRED, most=None)
    assert len(set(after) - set(before)) == 1
    number = broken // EACH * EACH
    [sheet] = [sheet for sheet in told["sheets"] if sheet["first"] == number]
    assert sheet["there"] >> broken - number & 1
    assert list(project.folder.glob(f"monitoring/previews/*-{sheet['file'][5:]}"))


def test_a_last_image_that_could_not_be_read_for_a_moment_comes(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = recorded.maker()

    def fail(path: Any) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "read_picture", fail)
        assert {told["file"] for told in maker.make().status["pictures"]} == {None}
    assert all(told["file"] for told in maker.make().status["pictures"] if told["missing"] != "not made yet")


def test_only_what_changed_is_made_again(recorded: Recorded, desk: Desk) -> None:
    project = recorded.project
    everything = done(project, 5 * EACH)
    add_shades(project, everything[:-2])
    settings = PublishSettings(previews=3 * EACH)
    told, before = desk.look(settings)
    assert desk.look(settings)[1] is before, "nothing happened: nothing is looked at"
    # whole sheets, though that is some more than were asked for
    assert len(desk.cells(settings)) >= 3 * EACH - 2
    assert 3 <= len(told["sheets"]) <= 4
    add_shades(project, everything[-2:-1])
    told, after = desk.look(settings)
    assert len(set(after) - set(before)) == 1, "one image came: one sheet is new"
    assert len(set(before) - set(after)) <= 1
    assert [sheet["first"] for sheet in told["sheets"]] == sorted(sheet["first"] for sheet in told["sheets"])


def test_those_of_a_session_that_is_old_come_by_and_by_the_newest_first(recorded: Recorded, desk: Desk) -> None:
    add_shades(recorded.project, done(recorded.project, 4 * EACH))
    seen: list[set[int]] = []
    for _ in range(8):
        seen.append(set(desk.cells(most=EACH)))
        if len(seen) > 1 and seen[-1] == seen[-2]:
            break
    assert seen[-1] == set(Desk(recorded.project).cells())
    assert len(seen) > 3
    for fewer, more in itertools.pairwise(seen[:-1]):
        assert fewer < more
        assert min(fewer) > min(more), "older ones come later"
    assert len(seen[0]) <= 2 * EACH
    # who publishes once publishes all
    snapshot = make_snapshot(recorded.project)
    assert sum(sheet["there"].bit_count() for sheet in snapshot.status["previews"]["sheets"]) == len(seen[-1])


def test_images_of_other_shapes_share_a_sheet(recorded: Recorded, desk: Desk) -> None:
    wide, tall = [i for i in done(recorded.project, 40) if i // EACH == done(recorded.project, 20)[0] // EACH][:2]
    add_shades(recorded.project, [wide, tall], width=2048, height=2880)
    write_png(recorded.project.path(tall) / "image_after.png", np.full((256, 182, 3), 200, np.uint8))
    cells = desk.cells(PLAIN)
    assert cells[tall].shape == (SIDE, SIDE)
    inside = cells[tall] == 200
    assert inside[:, SIDE // 2].all()
    assert not inside[:, 0].any()
    assert not inside[:, -1].any()


def test_the_micrograph_of_the_fixture_has_fine_texture() -> None:
    """Else the tests of blurring would say nothing."""
    picture = preview.micrograph_preview(_micrograph(), pixel_size=4.0, size=512)
    assert power_beyond(picture[:, :, 0].astype(float), pixel_size=2880 / 512, cutoff=200) > 100


@pytest.mark.parametrize("cutoff", [200.0, 0.0])
def test_whatever_a_preview_is_the_session_is_shown(recorded: Recorded, desk: Desk, cutoff: float) -> None:
    """A broken file must not end the watch: decoders raise what is no OSError, and a pipe is waited for."""
    *odd, good, last = done(recorded.project, 8)
    add_shades(recorded.project, [*odd, good])
    paths = [recorded.project.path(identity) / "image_after.png" for identity in odd]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[:8] + _png_header(30_000, 30_000) + whole[33:])
    paths[1].write_bytes(whole[:8] + _png_header(12_000, 10_000) + whole[33:])
    at = whole.index(b"IDAT") - 4
    shorter = struct.unpack(">I", whole[at : at + 4])[0] - 20
    paths[2].write_bytes(whole[:at] + struct.pack(">I", shorter) + whole[at + 4 :])
    with pytest.raises(SyntaxError, match="broken PNG"):
        Image.open(paths[2]).load()
    paths[3].unlink()
    os.mkfifo(paths[3])
    paths[4].unlink()
    paths[4].mkdir()
    with open(paths[5], "r+b") as file:
        file.truncate(2 << 30)
    assert set(desk.cells(PublishSettings(blur=cutoff))) == {good, last}
    for broken in (paths[0], paths[2]):
        (recorded.project.path(last) / "image_after.png").write_bytes(broken.read_bytes())
        status = recorded.maker().make(PublishSettings(blur=cutoff)).status
        [told] = [picture for picture in status["pictures"] if picture["name"] == "micrograph_preview"]
        assert told["missing"] == "the picture cannot be read"
        assert status["counts"]["images"] > 100


def _png_header(width: int, height: int) -> bytes:
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content))


def test_one_that_was_stretched_is_blurred_by_its_finer_axis(recorded: Recorded, desk: Desk) -> None:
    [identity] = done(recorded.project, 2)[:1]
    # 4096 x 1024 px of 1 Å in a square: across there are 32 Å/px, upwards only 8
    add_shades(recorded.project, [identity], width=4096, height=1024)
    stripes = np.where(np.indices((128, 128))[0] // 6 % 2, 200, 60).astype(np.uint8)
    write_png(recorded.project.path(identity) / "image_after.png", np.repeat(stripes[:, :, None], 3, axis=2))
    assert desk.cells(PLAIN)[identity][10:60].std() > 20
    # stripes of 96 Å
    assert desk.cells()[identity][10:60].std() < 4


def test_while_many_are_made_anew_the_others_are_shown(recorded: Recorded, desk: Desk) -> None:
    everything = done(recorded.project, 4 * EACH)
    add_shades(recorded.project, everything)
    before = set(desk.cells())
    again = everything[::4]
    with recorded.project.library.write() as transaction:
        for identity in again:
            transaction.update_exposure(identity, {"processed_at": "2026-11-28T10:00:00+00:00"})
    shown = set(desk.cells(most=1))
    # those that follow are shown without what is not made yet, which is no older picture of it
    assert before - set(again) <= shown
    assert shown < before
    for _ in range(8):
        shown = set(desk.cells(most=1))
    assert shown == before


class Counted:
    """How many previews were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0

        def cell(*arguments: Any) -> np.ndarray | None:
            self.made += 1
            return found(*arguments)

        found = previews._cell
        monkeypatch.setattr(previews, "_cell", cell)


def test_who_starts_anew_makes_only_the_newest_sheet(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    project, counted = recorded.project, Counted(monkeypatch)
    add_shades(project, done(project, 3 * EACH))
    first = make_snapshot(project, keep=True)
    made, counted.made = counted.made, 0
    assert made >= 3 * EACH
    folder = project.folder / "monitoring" / "previews"
    kept = sorted(folder.iterdir())
    assert len(kept) >= 2
    # one who only looks on finds them as well, however few he makes at a time, and writes nothing
    assert SnapshotMaker(project, most_previews=1).make().sheets == first.sheets
    assert 0 < counted.made <= EACH
    assert sorted(folder.iterdir()) == kept
    # what was not written to its end, and what was made from something else, is none
    kept[0].write_bytes(kept[0].read_bytes()[:-1])
    counted.made = 0
    assert make_snapshot(project, keep=True).sheets == first.sheets
    assert EACH < counted.made <= 2 * EACH
    add_shades(project, done(project, 2 * EACH)[:1], pixel_size=0.5)
    counted.made = 0
    renewed = make_snapshot(project, keep=True)
    assert renewed.sheets.keys() != first.sheets.keys()
    assert EACH < counted.made <= 2 * EACH
    # one takes the place of the other
    assert len(list(folder.iterdir())) == len(kept)
    assert make_snapshot(project, settings=PublishSettings(blur=100)).sheets.keys().isdisjoint(renewed.sheets)


def test_what_is_kept_grows_with_the_night_and_goes_when_nobody_uses_it(recorded: Recorded) -> None:
    project = recorded.project
    everything = done(project, 4 * EACH)
    maker = SnapshotMaker(project, most_previews=None, keep=True)
    settings = PublishSettings(previews=EACH)
    folder = project.folder / "monitoring" / "previews"
    seen = 0
    for start in range(0, len(everything), 16):
        add_shades(project, everything[start : start + 16])
        snapshot = maker.make(settings)
        for path in folder.glob("*.png"):
            os.utime(path, (0, 0))
        seen = max(seen, len(list(folder.glob("*.png"))))
    names = {f"data/{path.name[-36:]}" for path in folder.iterdir()}
    assert names & set(snapshot.sheets)
    # the one before was used until just now
    assert seen <= 3
    assert len(names) <= 3


def test_without_a_place_to_keep_them_they_are_made(recorded: Recorded) -> None:
    add_shades(recorded.project, done(recorded.project, 2 * EACH))
    (recorded.project.folder / "monitoring").mkdir(exist_ok=True)
    (recorded.project.folder / "monitoring" / "previews").write_text("no folder")
    assert len(make_snapshot(recorded.project, keep=True).sheets) >= 2
