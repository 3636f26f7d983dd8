"""EER movies: every electron in its place, cut into fractions; damage is told and never crashes."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from focusnb.errors import FormatError, ParameterError
from focusnb.io import eer
from focusnb.io.eer import EerOptions, _add_electrons, find_xml
from focusnb.io.images import read_image
from focusnb.io.movies import open_movie
from tests.io.eer_encoder import CODINGS, Coding, encode, image_of, write_eer

SHAPE = (12, 40)
ACQUISITION = """<metadata><item name="commercialName">Falcon 4i</item><item name="cameraName">BM-Falcon</item>
<item name="exposureTime" unit="s">5.25</item><item name="numberOfFrames">8</item>
<item name="sensorPixelSize.width" unit="m">7.5e-11</item><item name="totalDose" unit="e/pixel">22.5</item>
<item name="timestamp">2023-05-03T14:32:23+02:00</item><item name="strange" unit="?">maybe</item></metadata>"""

every_coding = pytest.mark.parametrize("coding", CODINGS.values(), ids=list(CODINGS))


def random_frame(random: np.random.Generator, shape: tuple[int, int], coding: Coding, count: int) -> list[Any]:
    """Electrons in different pixels, anywhere in them."""
    pixels = random.choice(shape[0] * shape[1], count, replace=False)
    places = random.integers(0, coding.finest, (count, 2))
    return [
        (int(p // shape[1] * coding.finest + y), int(p % shape[1] * coding.finest + x))
        for p, (y, x) in zip(pixels, places, strict=True)
    ]


def other_decoder(block: bytes, coding: Coding, finer: int) -> Any:
    """What imagecodecs makes of a frame; it takes no odd number of bytes."""
    image = np.zeros((SHAPE[0] * finer, SHAPE[1] * finer), np.uint8)
    bits = (coding.run_bits, coding.place_bits, coding.place_bits)
    imagecodecs.eer_decode(block + bytes(len(block) % 2), image.shape, *bits, superres=finer - 1, out=image)
    return image


def letter_frame(coding: Coding) -> list[tuple[int, int]]:
    """An F in the lower left quarter, electrons in neighbouring pixels, the first and the last pixel of the frame."""
    f = coding.finest
    stroke = [(y, 3) for y in range(1, 10)] + [(9, x) for x in range(4, 9)] + [(5, x) for x in range(4, 7)]
    corners = [(0, 0), (SHAPE[0] * f - 1, SHAPE[1] * f - 1)]
    return corners + [(y * f + (y + x) % f, x * f + x % f) for y, x in stroke]


@every_coding
@pytest.mark.parametrize("finer", [1, 2])
def test_every_electron_is_in_its_place(tmp_path: Path, coding: Coding, finer: int) -> None:
    random = np.random.default_rng(1)
    last = (SHAPE[0] * coding.finest - 1, SHAPE[1] * coding.finest - 1)
    frames = [
        letter_frame(coding), [], [(0, 0)], [last], random_frame(random, SHAPE, coding, 480),
        *(random_frame(random, SHAPE, coding, count) for count in range(1, 60, 7)),
    ]  # fmt: skip
    write_eer(tmp_path / "a.eer", frames, SHAPE, coding)
    with open_movie(tmp_path / "a.eer", eer=EerOptions(fractions=len(frames), upsampling=finer)) as movie:
        assert movie.shape == (len(frames), SHAPE[0] * finer, SHAPE[1] * finer)
        assert movie.dtype == np.uint8
        for index, frame in enumerate(frames):
            np.testing.assert_array_equal(movie.read_frame(index), image_of(frame, SHAPE, coding, finer))
        assert movie.remarks() == []
    with open_movie(tmp_path / "a.eer", eer=EerOptions(fractions=1, upsampling=finer)) as movie:
        total = sum(image_of(frame, SHAPE, coding, finer) for frame in frames)
        np.testing.assert_array_equal(movie.read_frame(0), total)
        out = np.full(movie.shape[1:], -1, np.float32)
        assert movie.read_frame(0, out) is out
        np.testing.assert_array_equal(out, total)
    assert total.max() > 1


@every_coding
def test_runs_of_every_length(tmp_path: Path, coding: Coding) -> None:
    """Runs about the longest number and its multiples, with odd and even numbers of bytes."""
    longest = (1 << coding.run_bits) - 1
    shape = (2, 2 * longest + 4)
    frames = [[(0, run * coding.finest)] for run in range(2 * longest + 3)]
    frames += [[(1 * coding.finest, run * coding.finest)] for run in range(2 * longest + 3)]
    if coding.run_bits > 6:
        assert {len(encode(frame, shape, coding)) % 2 for frame in frames} == {0, 1}
    write_eer(tmp_path / "a.eer", frames, shape, coding)
    with open_movie(tmp_path / "a.eer", eer=EerOptions(group=1)) as movie:
        for index, [(y, x)] in enumerate(frames):
            image = movie.read_frame(index)
            assert image.sum() == image[y // coding.finest, x // coding.finest] == 1


@every_coding
@pytest.mark.parametrize("finer", [1, 2])
def test_another_decoder_agrees(tmp_path: Path, coding: Coding, finer: int) -> None:
    random = np.random.default_rng(2)
    frames = [random_frame(random, SHAPE, coding, 25) for _ in range(5)]
    write_eer(tmp_path / "a.eer", frames, SHAPE, coding)
    with open_movie(tmp_path / "a.eer", eer=EerOptions(group=1, upsampling=finer)) as movie:
        for index, frame in enumerate(frames):
            theirs = other_decoder(encode(frame, SHAPE, coding), coding, finer)
            assert theirs.sum() == 25
            np.testing.assert_array_equal(movie.read_frame(index), theirs)


def test_fractions_are_as_equal_as_can_be() -> None:
    for frames, count in ((1680, 40), (1683, 40), (47, 10), (10, 10), (7, 40), (1, 40)):
        cut = EerOptions(fractions=count).cut(frames)
        assert len(cut) == min(count, frames)
        assert (cut[0].start, cut[-1].stop) == (0, frames)
        assert all(a.stop == b.start for a, b in pairwise(cut))
        assert {len(part) for part in cut} <= {frames // len(cut), -(-frames // len(cut))}


def test_groups_leave_out_a_remainder_and_say_so(tmp_path: Path) -> None:
    coding = CODINGS["7+4"]
    frames = [[(0, 4 * x)] for x in range(11)]
    write_eer(tmp_path / "a.eer", frames, SHAPE, coding)
    with open_movie(tmp_path / "a.eer", eer=EerOptions(group=4)) as movie:
        assert movie.header_facts["frame_count"] == 2
        assert movie.header_facts["hardware_frames"] == 11
        np.testing.assert_array_equal(movie.read()[:, 0, :12], [[1] * 4 + [0] * 8, [0] * 4 + [1] * 4 + [0] * 4])
        assert movie.remarks() == ["The last 3 of 11 hardware frames fill no fraction and are left out"]
    with pytest.raises(FormatError, match="holds 11 hardware frames, fewer than the 12 of one fraction"):
        open_movie(tmp_path / "a.eer", eer=EerOptions(group=12))


def test_a_fraction_of_many_frames_does_not_overflow(tmp_path: Path) -> None:
    coding = CODINGS["8+4"]
    write_eer(tmp_path / "a.eer", [encode([(3, 5)], (2, 3), coding)] * 600, (2, 3), coding)
    for fractions, dtype in ((3, np.uint8), (2, np.uint16), (1, np.uint16)):
        with open_movie(tmp_path / "a.eer", eer=EerOptions(fractions=fractions)) as movie:
            frame = movie.read_frame(0)
            assert frame.dtype == movie.dtype == dtype
            assert frame.tolist() == [[0, 600 // fractions, 0], [0, 0, 0]]


def test_threads_read_the_same(tmp_path: Path) -> None:
    coding, random = CODINGS["7+4"], np.random.default_rng(3)
    frames = [random_frame(random, SHAPE, coding, 30) for _ in range(64)]
    write_eer(tmp_path / "a.eer", frames, SHAPE, coding)
    with open_movie(tmp_path / "a.eer", eer=EerOptions(fractions=16, upsampling=2)) as movie:
        np.testing.assert_array_equal(movie.read(threads=8), movie.read())
    assert movie.header_facts["frame_count"] == 16


def test_bands_and_batches_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coding, random = CODINGS["7+4"], np.random.default_rng(4)
    frames: list[Any] = [random_frame(random, SHAPE, coding, 30) for _ in range(20)]
    frames[9] = encode(frames[9], SHAPE, coding)[:10]
    write_eer(tmp_path / "a.eer", frames, SHAPE, coding)
    options = EerOptions(fractions=2, upsampling=2)
    with open_movie(tmp_path / "a.eer", eer=options) as movie:
        whole = movie.read()
    assert whole.sum() == 19 * 30
    for together, band in ((1, 1 << 19), (3, 100), (64, 3)):
        monkeypatch.setattr(eer, "_TOGETHER", together)
        monkeypatch.setattr(eer, "_BAND", band)
        with open_movie(tmp_path / "a.eer", eer=options) as movie:
            np.testing.assert_array_equal(movie.read(), whole)
            assert movie.remarks() == ["1 of 20 hardware frames are damaged (the first: 10) and left out"]


def test_what_the_file_says_of_the_exposure(tmp_path: Path) -> None:
    frames = [[(0, 0)]] * 8
    write_eer(tmp_path / "a.eer", frames, SHAPE, CODINGS["7+4"], acquisition=ACQUISITION)
    with open_movie(tmp_path / "a.eer") as movie:
        assert movie.header_facts == {
            "frame_count": 8, "width": 40, "height": 12, "hardware_frames": 8, "eer_upsampling": 1,
            "pixel_size": 0.75, "exposure_time": 5.25, "exposure_dose": 40.0, "camera": "Falcon 4i",
            "recorded_at": "2023-05-03T14:32:23+02:00",
        }  # fmt: skip
    with open_movie(tmp_path / "a.eer", eer=EerOptions(upsampling=2)) as movie:
        assert movie.pixel_size == movie.header_facts["pixel_size"] == 0.375
        assert movie.header_facts["exposure_dose"] == 40.0


@pytest.mark.parametrize(
    "text",
    ["", "no words of XML", "<metadata><item", "<other><item name='exposureTime'>1</item></other>",
     "<metadata><item>1</item><item name='exposureTime' unit='ms'>9</item><item name='totalDose'>x</item>"
     "<item name='sensorPixelSize.width' unit='m'>1.4e-5</item><item name='timestamp'>noon</item></metadata>"],
)  # fmt: skip
def test_strange_metadata_are_left_out(tmp_path: Path, text: str) -> None:
    write_eer(tmp_path / "a.eer", [[(0, 0)]] * 2, SHAPE, CODINGS["7+4"], acquisition=text)
    with open_movie(tmp_path / "a.eer") as movie:
        assert set(movie.header_facts) == {"frame_count", "width", "height", "hardware_frames", "eer_upsampling"}


def test_xml_behind_a_strange_declaration_is_found() -> None:
    root = find_xml(b'<?xml version="1.0" encoding="utf - 8"?><defects><point>1,2</point></defects>\0\0', "defects")
    assert root is not None
    assert [element.text for element in root] == ["1,2"]
    assert find_xml(b"<!DOCTYPE a [<!ENTITY b 'c'>]><defects>&b;</defects>", "defects") is None


def test_a_sum_before_the_frames_is_skipped(tmp_path: Path) -> None:
    frames = [letter_frame(CODINGS["8+4"]), [(0, 4)]]
    write_eer(tmp_path / "a.tif", frames, SHAPE, CODINGS["8+4"], acquisition=ACQUISITION, image_first=True)
    with open_movie(tmp_path / "a.tif") as movie:
        assert movie.header_facts["hardware_frames"] == 2
        assert movie.header_facts["exposure_time"] == 5.25
        np.testing.assert_array_equal(movie.read_frame(0), image_of(frames[0], SHAPE, CODINGS["8+4"], 1))
    write_eer(tmp_path / "b.eer", frames[:1], SHAPE, CODINGS["8+4"])
    np.testing.assert_array_equal(
        read_image(tmp_path / "b.eer").data, image_of(frames[0], SHAPE, CODINGS["8+4"], 1).astype(np.float32)
    )


@every_coding
@pytest.mark.parametrize("finer", [1, 2])
def test_damaged_frames_are_left_out_and_counted(tmp_path: Path, coding: Coding, finer: int) -> None:
    random = np.random.default_rng(5)
    whole = [random_frame(random, SHAPE, coding, 50) for _ in range(6)]
    blocks: list[Any] = [encode(frame, SHAPE, coding) for frame in whole]
    blocks[1] = blocks[1][: len(blocks[1]) // 2]
    blocks[4] = encode(whole[4], (SHAPE[0] + 1, SHAPE[1]), coding)
    write_eer(tmp_path / "a.eer", blocks, SHAPE, coding)
    with open_movie(tmp_path / "a.eer", eer=EerOptions(fractions=2, upsampling=finer)) as movie:
        for index, kept in enumerate(((0, 2), (3, 5))):
            truth = sum(image_of(whole[number], SHAPE, coding, finer) for number in kept)
            np.testing.assert_array_equal(movie.read_frame(index), truth)
        assert movie.remarks() == ["2 of 6 hardware frames are damaged (the first: 2) and left out"]
    told = r"a.eer: none of the hardware frames 5 to 5 \(fraction 5 of 6\) fills 40×12"
    with open_movie(tmp_path / "a.eer", eer=EerOptions(group=1)) as movie, pytest.raises(FormatError, match=told):
        movie.read_frame(4)


def test_a_movie_of_damaged_frames_is_refused(tmp_path: Path) -> None:
    write_eer(tmp_path / "a.eer", [b"\xff" * 9, b"", bytes(3)], SHAPE, CODINGS["7+4"])
    told = r"none of the hardware frames 1 to 3 \(fraction 1 of 1\) fills 40×12 pixels"
    with open_movie(tmp_path / "a.eer", eer=EerOptions(fractions=1)) as movie, pytest.raises(FormatError, match=told):
        movie.read()


def test_a_file_cut_short_is_told_with_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.eer"
    write_eer(path, [letter_frame(CODINGS["7+4"])] * 3, SHAPE, CODINGS["7+4"], acquisition=ACQUISITION)
    data = path.read_bytes()
    for size in range(1, len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(FormatError, match=r"a\.eer") as caught, open_movie(path) as movie:
            movie.read()
        assert str(size) in str(caught.value) or size < 16
    path.write_bytes(data + b"rest")
    with open_movie(path) as movie:
        assert movie.read().sum() == 3 * len(letter_frame(CODINGS["7+4"]))


def test_corrupted_bytes_never_crash_and_never_leave_the_image(tmp_path: Path) -> None:
    """Bits changed at random: the frame is refused, or it is what the other decoder makes of it."""
    coding, random = CODINGS["7+4"], np.random.default_rng(6)
    blocks = []
    for _ in range(200):
        block = bytearray(encode(random_frame(random, SHAPE, coding, 40), SHAPE, coding))
        for _ in range(random.integers(1, 4)):
            block[random.integers(len(block))] ^= 1 << random.integers(8)
        blocks.append(bytes(block))
    write_eer(tmp_path / "a.eer", blocks, SHAPE, coding)
    compared = refused = 0
    with open_movie(tmp_path / "a.eer", eer=EerOptions(group=1)) as movie:
        for index, block in enumerate(blocks):
            try:
                ours = movie.read_frame(index)
            except FormatError:
                refused += 1
                continue
            with suppress(RuntimeError):  # it looks at what follows a whole frame as well
                theirs = other_decoder(block, coding, 1)
                np.testing.assert_array_equal(ours, theirs)
                compared += 1
    assert compared > 20
    assert refused > 20


def test_a_damaged_file_gives_format_errors_only(tmp_path: Path) -> None:
    path, random = tmp_path / "a.eer", np.random.default_rng(8)
    write_eer(path, [[(0, 0)], [(0, 9), (5, 5)]], (3, 4), CODINGS["7+2"], acquisition=ACQUISITION)
    whole, refused = path.read_bytes(), 0
    start = whole.index(b"</metadata>")
    for _ in range(600):
        damaged = bytearray(whole)
        damaged[random.integers(start, len(whole))] = random.integers(256)
        path.write_bytes(damaged)
        try:
            with open_movie(path, eer=EerOptions(fractions=1)) as movie:
                movie.read()
        except FormatError:
            refused += 1
    assert 50 < refused < 550


@pytest.mark.parametrize("plan", [(7, 2, 2, 1), (7, 2, 2, 2), (8, 2, 2, 2), (7, 1, 1, 2), (2, 4, 4, 1), (16, 4, 4, 2)])
def test_the_compiled_decoder_stays_within_its_arrays(plan: tuple[int, int, int, int]) -> None:
    """Its plain twin raises IndexError beyond them, and both do the same to random bits, in one go or in bands."""
    plain: Any = _add_electrons.py_func  # type: ignore[attr-defined]
    random = np.random.default_rng(7)
    width, height = 7, 3
    pixels, ends = width * height, set()
    plan = (width, pixels, *plan)
    for words in [random.integers(0, 1 << 32, random.integers(0, 12), np.uint32) for _ in range(60)]:
        images = [np.zeros(pixels * plan[-1] ** 2, np.uint8) for _ in range(3)]
        states = [np.zeros(5, np.uint64) for _ in range(3)]
        plain(words, images[0], plan, states[0], pixels, pixels, 1)
        _add_electrons(words, images[1], plan, states[1], pixels, pixels, 1)
        for until in (0, 5, 6, 13, pixels):
            _add_electrons(words, images[2], plan, states[2], until, pixels, 1)
        for number in (1, 2):
            np.testing.assert_array_equal(states[0], states[number])
            np.testing.assert_array_equal(images[0], images[number])
        _, _, _, position, electrons = map(int, states[0])
        assert images[0].sum() == electrons
        ends.add(position)
        _add_electrons(words, images[1], plan, np.zeros(5, np.uint64), pixels, electrons, -1)
        assert not images[1].any()
    assert max(ends) >= pixels
    assert min(ends) < pixels


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"upsampling": 4}, r"EER upsampling = 4 \(the 16K grid\) is not read; choose 1 \(4K\) or 2 \(8K\)"),
        ({"upsampling": 0}, "EER upsampling = 0 is not read"),
        ({"fractions": 0}, "EER fractions = 0; it must be 1 or more"),
        ({"group": 0}, "EER group = 0"),
    ],
)
def test_impossible_choices_are_refused_by_name(options: dict[str, int], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        EerOptions(**options)


def test_unknown_codings_and_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.eer"
    write_eer(path, [bytes(40)], SHAPE, Coding(65002, 24, 2))
    with pytest.raises(FormatError, match=r"directory 1 says 24 bits for a run and 2 \+ 2 for an electron"):
        open_movie(path)
    write_eer(path, [bytes(40)], SHAPE, Coding(65002, 7, 0))
    with pytest.raises(FormatError, match=r"7 bits for a run and 0 \+ 0"):
        open_movie(path)
    write_eer(path, [bytes(40)], (1 << 15, 3), CODINGS["7+4"])
    with pytest.raises(FormatError, match="directory 1 says 3×32768 pixels"):
        open_movie(path)
    write_eer(path, [[(0, 0)]] * 2, SHAPE, CODINGS["7+4"])
    data = bytearray(path.read_bytes())
    found = data.rindex(SHAPE[0].to_bytes(8, "little"), 0, data.rindex((65001).to_bytes(8, "little")))
    data[found] = 13
    path.write_bytes(data)
    with pytest.raises(FormatError, match="hardware frame 2 has 40×13 pixels, the first 40×12"):
        open_movie(path)


def test_files_of_before_2020_are_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.ecc").write_bytes(bytes(range(256)) * 9 + b"ThermoFisherECComprOK000")
    with pytest.raises(FormatError, match=r"a\.ecc: is EER of before 2020 .* convert it to TIFF"):
        open_movie(tmp_path / "a.ecc")
