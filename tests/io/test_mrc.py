"""MRC files: modes, byte orders, headers of many programs, writing."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from focusnb.errors import FocusError, FormatError
from focusnb.io.movies import open_movie
from focusnb.io.mrc import write_mrc


def header(
    shape: tuple[int, int, int], mode: int, order: str = "<", *, cell: tuple[float, float] = (0, 0), **fields: Any
) -> bytearray:
    """A header as a camera's program writes it; fields: extended, kind, minimum, maximum, imod, title, axes."""
    count, height, width = shape
    head = bytearray(1024)
    struct.pack_into(order + "4i", head, 0, width, height, count, mode)
    struct.pack_into(order + "3i", head, 28, width, height, count)
    struct.pack_into(order + "2f", head, 40, *cell)
    struct.pack_into(order + "3i", head, 64, *fields.get("axes", (1, 2, 3)))
    struct.pack_into(order + "2f", head, 76, fields.get("minimum", 0), fields.get("maximum", 0))
    struct.pack_into(order + "i", head, 92, fields.get("extended", 0))
    head[104:108] = fields.get("kind", b"\0\0\0\0")
    if "imod" in fields:
        struct.pack_into(order + "2i", head, 152, 1146047817, fields["imod"])
    head[208:212] = b"MAP "
    if title := fields.get("title"):
        struct.pack_into(order + "i", head, 220, 1)
        head[224:304] = title.encode().ljust(80)
    return head


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("mode", "code"), [(0, "u1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
def test_modes_and_byte_orders(tmp_path: Path, order: str, mode: int, code: str) -> None:
    frames = np.arange(3 * 5 * 4).reshape(3, 5, 4).astype(order + code)
    path = tmp_path / "a.mrc"
    path.write_bytes(header(frames.shape, mode, order, cell=(4 * 1.35, 5 * 1.35)) + frames.tobytes())
    with open_movie(path) as movie:
        assert movie.shape == (3, 5, 4)
        assert movie.dtype == np.dtype(code)
        assert movie.pixel_size == pytest.approx(1.35)
        np.testing.assert_array_equal(movie.read(threads=2), frames)
        out = np.empty((5, 4), np.float64)
        np.testing.assert_array_equal(movie.read_frame(2, out), frames[2])
        with pytest.raises(IndexError, match="has 3 frames, there is no frame 3"):
            movie.read_frame(3)


@pytest.mark.parametrize("width", [6, 7])
def test_four_bit_mode(tmp_path: Path, width: int) -> None:
    frames = np.random.default_rng(0).integers(0, 16, (2, 3, width)).astype(np.uint8)
    padded = np.pad(frames, ((0, 0), (0, 0), (0, width % 2)))
    packed = padded[..., 0::2] | padded[..., 1::2] << 4
    (tmp_path / "a.mrc").write_bytes(header(frames.shape, 101) + packed.tobytes())
    with open_movie(tmp_path / "a.mrc") as movie:
        np.testing.assert_array_equal(movie.read(), frames)


@pytest.mark.parametrize(
    ("fields", "signed"),
    [
        ({}, False),
        ({"imod": 0}, False),
        ({"imod": 1}, True),
        ({"minimum": -5, "maximum": 30}, True),
        ({"minimum": 0, "maximum": 200}, False),
        ({"minimum": -5, "maximum": 200}, False),
        ({"minimum": -5, "maximum": 30, "imod": 0}, False),
    ],
)
def test_bytes_signed_or_not(tmp_path: Path, fields: dict[str, Any], signed: bool) -> None:
    values = np.array([[[1, 127, 128, 255]]], np.uint8)
    (tmp_path / "a.mrc").write_bytes(header(values.shape, 0, **fields) + values.tobytes())
    with open_movie(tmp_path / "a.mrc") as movie:
        np.testing.assert_array_equal(movie.read(), values.view(np.int8) if signed else values)


@pytest.mark.parametrize(
    ("cell", "pixel_size"),
    [((-80.0, -40.0), 10.0), ((8.0, 4.0), None), ((0.0, 0.0), None), ((float("nan"), 1.0), None)],
)
def test_cells_of_many_programs(tmp_path: Path, cell: tuple[float, float], pixel_size: float | None) -> None:
    (tmp_path / "a.mrc").write_bytes(header((2, 4, 8), 6, cell=cell) + bytes(128))
    with open_movie(tmp_path / "a.mrc") as movie:
        assert movie.pixel_size == pixel_size


def test_old_files_without_map_are_told_by_their_size(tmp_path: Path) -> None:
    head = header((2, 4, 8), 6)
    head[208:212] = bytes(4)
    (tmp_path / "a.mrc").write_bytes(head + bytes(128))
    with open_movie(tmp_path / "a.mrc") as movie:
        assert movie.shape == (2, 4, 8)
    (tmp_path / "a.mrc").write_bytes(head + bytes(120))
    with pytest.raises(FormatError, match="neither TIFF, MRC"):
        open_movie(tmp_path / "a.mrc")


def test_serialem_title(tmp_path: Path) -> None:
    head = header((1, 4, 8), 6, title="SerialEM: frames saved, r/f 1 need 0, scaled by 2.00")
    (tmp_path / "a.mrc").write_bytes(head + bytes(64))
    with open_movie(tmp_path / "a.mrc") as movie:
        assert movie.header_facts["count_scale"] == 2.0
        assert movie.header_facts["rotation_and_flip"] == 1


@pytest.mark.parametrize("kind", [b"FEI1", b"FEI2"])
def test_fei_extended_header(tmp_path: Path, kind: bytes) -> None:
    extended = bytearray(1024)
    values = {84: 300_000.0, 92: 4.2e21, 100: -12.5, 156: 0.86e-10, 289: 105_000.0, 419: 3.5}
    for offset, value in values.items():
        struct.pack_into("<d", extended, offset, value)
    pixels = np.arange(32, dtype="<u2")
    (tmp_path / "a.mrc").write_bytes(
        header((1, 4, 8), 6, extended=len(extended), kind=kind) + extended + pixels.tobytes()
    )
    with open_movie(tmp_path / "a.mrc") as movie:
        np.testing.assert_array_equal(movie.read_frame(0).ravel(), pixels)
        assert movie.header_facts == {
            "frame_count": 1, "width": 8, "height": 4, "voltage": 300.0, "exposure_dose": 42.0, "tilt_angle": -12.5,
            "pixel_size": 0.86, "magnification": 105_000.0, "exposure_time": 3.5,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"shape": (50, 4, 8)},
            r"header says 50 frames of 8×4 \(MRC mode 6\), file holds 2 \(1152 of 4224 bytes\); was it",
        ),
        ({"shape": (1, 4, 8)}, "header says 1 frame of 8×4 .*, file holds 2 .1152 bytes.; .*did not finish the header"),
        ({"shape": (2, 4, -8)}, "-8×4 pixels, 2 sections; is it damaged"),
        ({"shape": (0, 4, 8)}, "8×4 pixels, 0 sections; is it damaged"),
        ({"mode": 4}, "mode 4 holds complex numbers"),
        ({"mode": 3}, "mode 3 holds complex numbers"),
        ({"mode": 77}, "mode 77 is not known; modes 0, 1, 2, 6, 12, 101"),
        ({"extended": -1}, "says -1 bytes of extended header, file holds 128"),
        ({"extended": 5000}, "says 5000 bytes of extended header, file holds 128 after the header"),
        ({"axes": (3, 2, 1)}, "stored in the order .3, 2, 1."),
    ],
)
def test_impossible_headers_are_said_with_both_numbers(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    arguments = {"shape": (2, 4, 8), "mode": 6} | change
    (tmp_path / "a.mrc").write_bytes(header(**arguments) + bytes(128))
    with pytest.raises(FormatError, match=words) as caught:
        open_movie(tmp_path / "a.mrc")
    assert str(caught.value).startswith(str(tmp_path / "a.mrc"))


def test_a_file_cut_short_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    path.write_bytes(header((2, 4, 8), 6) + bytes(128))
    with open_movie(path) as movie:
        path.write_bytes(path.read_bytes()[:1100])
        movie.read_frame(0)
        with pytest.raises(FormatError, match="ends at byte 1100, the frame at byte 1152"):
            movie.read_frame(1)


def test_random_headers_give_format_errors_only(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    path = tmp_path / "a.mrc"
    whole = bytes(header((2, 4, 8), 6, cell=(12, 6), title="SerialEM: r/f . scaled by .")) + bytes(128)
    opened = 0
    for trial in range(600):
        damaged = bytearray(whole)
        for _ in range(random.integers(1, 5)):
            damaged[random.integers(0, 240)] = random.integers(256)
        path.write_bytes(damaged[: random.integers(0, len(whole))] if trial % 3 == 0 else damaged)
        try:
            with open_movie(path) as movie:
                movie.read()
                opened += 1
        except FormatError:
            pass
    assert 20 < opened < 580


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(6, 9), (3, 6, 9)])
def test_written_files_are_valid(tmp_path: Path, dtype: Any, shape: tuple[int, ...], capsys: Any) -> None:
    # mrcfile sums float16 in float16, so a larger mean would overflow in its check
    image = np.random.default_rng(1).normal(1000 if dtype == "float32" else 1, 0.5, shape).astype(np.float32)
    path = tmp_path / "a.mrc"
    write_mrc(path, image, pixel_size=1.06, dtype=dtype, labels=["unweighted sum"])
    assert mrcfile.validate(path), capsys.readouterr().out
    with mrcfile.open(path) as file:
        np.testing.assert_array_equal(np.reshape(file.data, shape), image.astype(dtype))
        assert file.voxel_size.x == pytest.approx(1.06)
        assert file.voxel_size.y == pytest.approx(1.06)
        assert file.header.ispg == 0
        assert file.header.dmean == pytest.approx(image.mean(dtype=np.float64), rel=1e-7)
        assert file.header.rms == pytest.approx(image.std(dtype=np.float64), rel=1e-4)
        assert [str(label).strip() for label in file.get_labels()] == ["focusnb", "unweighted sum"]
        assert not file.is_volume()
    with open_movie(path) as movie:
        assert movie.pixel_size == pytest.approx(1.06)
        np.testing.assert_array_equal(movie.read().reshape(shape), image.astype(dtype))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_counts_are_written_as_integers(tmp_path: Path, dtype: Any) -> None:
    frames = np.random.default_rng(1).integers(0, 255, (2, 5, 7)).astype(dtype)
    write_mrc(tmp_path / "a.mrc", frames, pixel_size=1.0, dtype=dtype)
    with open_movie(tmp_path / "a.mrc") as movie:
        assert movie.dtype == np.dtype(dtype)
        assert movie.pixel_size == 1.0
        np.testing.assert_array_equal(movie.read(), frames)


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (np.array([[1.0, np.nan]]), {}, "1 of 2 values are not finite"),
        (np.array([[1.0, 70000.0]]), {"dtype": "float16"}, "1 to 70000 do not fit float16"),
        (np.array([[-1.0, 7.0]]), {"dtype": "uint8"}, "-1 to 7 do not fit uint8 .0 to 255."),
        (np.zeros((2, 2)), {"pixel_size": 0.0}, "pixel size 0.0"),
        (np.zeros(4), {}, r"shape \(4,\)"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path: Path, image: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(FocusError, match=words):
        write_mrc(tmp_path / "a.mrc", image, **({"pixel_size": 1.5} | options))
    assert not list(tmp_path.iterdir())


def test_real_files_agree_with_mrcfile(data: Path) -> None:
    paths = sorted(path for path in data.rglob("*.mrc*") if path.suffix in (".mrc", ".mrcs"))
    assert len(paths) >= 30
    for path in paths:
        with open_movie(path) as movie, mrcfile.open(path, permissive=True) as file:
            expected = np.asarray(file.data)
            np.testing.assert_array_equal(movie.read(), expected.reshape(movie.shape), err_msg=path.name)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "pixel_size"),
    [
        ("format_samples/HAADFscan.mrc", (1, 16, 16), "u2", 56.7913),
        ("format_samples/direct_electron/20241021_00405_movie.mrc", (32, 4, 8), "u2", 10.0),
        ("format_samples/direct_electron/Custom_movie.mrc", (30, 16, 16), "u2", 10.0),
        ("apoferritin_empiar10146/May08_03.05.02.mrc", (1, 1200, 1240), "u2", 1.5),
        ("ctf_spectra_empiar10204/20170629_00021_frameImage_PS.mrc", (1, 512, 512), "f4", 1.39955),
        ("relion_empiar10204/picks_and_particles/20170629_00021_frameImage.mrcs", (242, 64, 64), "f2", 3.54),
        ("micrographs/Ucsf_stack_1142_DW.mrc", (1, 927, 959), "f4", None),
        ("micrographs/08mar13e_00010gr_00004sq_v02_00005hl.mrc", (1, 512, 512), "f4", None),
        ("micrographs/24dec03a_00034gr_00005sq_v01_00003hl_00018ex_topaz_ds8.mrc", (1, 512, 512), "f4", None),
        ("cryosparc_cs/empiar_10076_7.mrc", (7, 320, 320), "f4", None),
    ],
)
def test_real_headers(data: Path, name: str, shape: Any, dtype: str, pixel_size: float | None) -> None:
    with open_movie(data / name) as movie:
        assert movie.shape == shape
        assert movie.dtype == np.dtype(dtype)
        assert movie.pixel_size == (None if pixel_size is None else pytest.approx(pixel_size, rel=1e-5))


def test_real_fei2_facts(data: Path) -> None:
    with open_movie(data / "format_samples" / "HAADFscan.mrc") as movie:
        assert movie.header_facts["voltage"] == 300.0
        assert movie.header_facts["tilt_angle"] == pytest.approx(0.008116, rel=1e-3)
        assert "exposure_dose" not in movie.header_facts


def test_what_is_not_finite_is_found_in_any_image_of_a_stack(tmp_path: Path) -> None:
    for value in (np.nan, np.inf, -np.inf):
        for frame in range(3):
            stack = np.ones((3, 4, 5), np.float32)
            stack[frame, 2, 3] = value
            with pytest.raises(FocusError, match="1 of 20 values are not finite"):
                write_mrc(tmp_path / "stack.mrc", stack, pixel_size=1.0)
            assert not (tmp_path / "stack.mrc").exists()


def test_statistics_of_values_as_large_as_the_type_holds(tmp_path: Path) -> None:
    stack = np.full((2, 8, 9), 3e38, np.float32)
    stack[0, 0] = -3e38
    write_mrc(tmp_path / "large.mrc", stack, pixel_size=1.0)
    with mrcfile.open(tmp_path / "large.mrc", mode="r") as file:
        for field, value in (("dmean", stack.mean(dtype=float)), ("rms", stack.std(dtype=float))):
            assert float(file.header[field]) == pytest.approx(value, rel=1e-6)
