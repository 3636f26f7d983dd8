"""CTF estimation: known answers, published answers, and images that have none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from focusnb.errors import ParameterError
from focusnb.ops.ctf import CtfFit, Optics, astigmatism_vector, estimate_ctf
from focusnb.ops.ctf.fit import CHANCE
from focusnb.ops.simulate.cases import standard_case
from focusnb.ops.simulate.movie import simulate_micrograph
from focusnb.ops.spectrum import FAR_PIXEL_SIZE, Sampling, choose_sampling, power_spectra, power_spectrum

from .thon import thon_image


def fit_image(image: np.ndarray, pixel_size: float = 1.06, optics: Optics | None = None, **options: object) -> CtfFit:
    sampling = choose_sampling(pixel_size)
    lens = optics or Optics(pixel_size * sampling.factor, 300.0, 2.7, 0.1)
    return estimate_ctf(power_spectrum(image, sampling=sampling), optics=lens, **options)


def errors(fit: CtfFit, u: float, v: float, angle: float) -> tuple[float, float]:
    """Return the error of the mean defocus and of the astigmatism vector, Å."""
    assert fit.defocus_u is not None
    found = astigmatism_vector(fit.defocus_u, fit.defocus_v, fit.astigmatism_angle)
    return 0.5 * (fit.defocus_u + fit.defocus_v - u - v), abs(found - astigmatism_vector(u, v, angle))


@pytest.mark.parametrize("shape", [(900, 1400), (1400, 900)])
@pytest.mark.parametrize("angle", [35.0, -70.0])
def test_astigmatism_of_rectangular_images_has_the_right_sign(shape: tuple[int, int], angle: float):
    fit = fit_image(thon_image(shape, 1.06, (15500.0, 14500.0, angle)))
    mean, vector = errors(fit, 15500.0, 14500.0, angle)
    assert abs(mean) < 60
    assert vector < 150  # a wrong sign of the angle or swapped axes would give 900 to 2000
    assert fit.ctf_quality == "ok"
    assert fit.astigmatism == pytest.approx(fit.defocus_u - fit.defocus_v)
    assert fit.astigmatism_angle == pytest.approx(angle, abs=5)


@pytest.mark.parametrize(
    ("pixel_size", "defocus"),
    [(0.5, 15000.0), (0.8, 8000.0), (1.06, 3500.0), (1.06, 30000.0), (1.06, 45000.0), (1.5, 20000.0), (2.5, 20000.0)],
)
def test_pixel_sizes_and_defocus_of_all_sizes(pixel_size: float, defocus: float):
    image = thon_image((1200, 1100), pixel_size, (1.01 * defocus, 0.99 * defocus, 20.0), signal=1.0, seed=2)
    fit = fit_image(image, pixel_size)
    mean, vector = errors(fit, 1.01 * defocus, 0.99 * defocus, 20.0)
    assert abs(mean) < max(80.0, 0.004 * defocus)
    assert vector < 250
    assert fit.ctf_quality == "ok"


@pytest.mark.parametrize(("voltage", "aberration"), [(100.0, 2.0), (200.0, 1.4)])
def test_other_microscopes(voltage: float, aberration: float):
    image = thon_image(
        (1000, 1000), 1.2, (12200.0, 11800.0, -35.0), voltage=voltage, aberration=aberration, contrast=0.07
    )
    fit = fit_image(image, 1.2, Optics(1.2, voltage, aberration, 0.07))
    mean, vector = errors(fit, 12200.0, 11800.0, -35.0)
    assert abs(mean) < 60
    assert vector < 150


@pytest.mark.parametrize("phase_shift", [40.0, 90.0, 130.0])
def test_phase_plates(phase_shift: float):
    image = thon_image((1200, 1200), 1.06, (10200.0, 9800.0, 35.0), phase_shift=phase_shift, signal=1.0)
    searched = fit_image(image, phase_shift_search=(0.0, 170.0))
    assert searched.phase_shift == pytest.approx(phase_shift, abs=6)
    assert abs(errors(searched, 10200.0, 9800.0, 35.0)[0]) < 100
    fixed = fit_image(image, phase_shift_search=(phase_shift, phase_shift))
    assert fixed.phase_shift == phase_shift
    assert abs(errors(fixed, 10200.0, 9800.0, 35.0)[0]) < 40


@pytest.mark.parametrize("seed", range(5))
def test_small_standard_case(seed: int):
    image, truth = simulate_micrograph(standard_case("small"), seed)
    lens = truth.spec.optics
    fit = fit_image(image, truth.spec.pixel_size)
    mean, vector = errors(fit, lens.defocus_u, lens.defocus_v, lens.astigmatism_angle)
    assert abs(fit.defocus_u - lens.defocus_u) < 150
    assert abs(fit.defocus_v - lens.defocus_v) < 150
    assert abs(mean) < 100
    assert vector < 225
    assert fit.ctf_quality == "ok"
    assert 3.5 < fit.ctf_fit_resolution < 8


def test_a_strong_ring_of_ice_does_not_spoil_the_fit():
    case = standard_case("small")
    icy = replace(case, specimen=replace(case.specimen, crystalline=1500.0))
    image, truth = simulate_micrograph(icy, seed=3)
    fit = fit_image(image)
    assert fit.ctf_quality == "ok"
    assert fit.defocus_u == pytest.approx(truth.spec.optics.defocus_u, abs=150)
    assert fit.defocus_v == pytest.approx(truth.spec.optics.defocus_v, abs=150)


def test_curves_follow_the_rings_of_a_strongly_astigmatic_image():
    fit = fit_image(thon_image((1400, 1400), 1.06, (16000.0, 14000.0, 35.0), signal=2.0))
    curves = fit.curves
    assert {
        len(values) for values in (curves.measured, curves.background, curves.contrast, curves.fit, curves.quality)
    } == {len(curves.frequency)}
    assert (np.diff(curves.frequency) > 0).all()
    band = (curves.frequency > 1 / 15) & (curves.frequency < 1 / 5)
    assert np.corrcoef(curves.flattened[band], curves.fit[band])[0, 1] > 0.97
    assert curves.quality[band].min() > 0.9
    assert fit.ctf_fit_resolution < 4.5
    assert fit.ctf_fit_resolution_0 <= fit.ctf_fit_resolution


def test_fit_resolution_is_interpolated_and_ignores_the_first_ring():
    from focusnb.ops.ctf.quality import CtfCurves, fit_resolution

    frequency = np.linspace(0.05, 0.25, 21).astype(np.float32)
    fitted = np.sin(np.arange(21) * np.pi / 4).astype(np.float32) ** 2  # zeros at 0, 4, 8, ...
    quality = np.full(21, 0.9, np.float32)
    quality[2] = 0.1  # the specimen's own shape
    quality[15:] = [0.6, 0.2, -0.2, 0.9, 0.9, 0.9]
    curves = CtfCurves(frequency, frequency, frequency, frequency, fitted, quality)
    assert fit_resolution(curves, 0.5) == pytest.approx(1 / (0.2 + 0.01 * 0.25), rel=1e-5)
    assert fit_resolution(curves, 0.0) == pytest.approx(1 / (0.21 + 0.01 * 0.5), rel=1e-5)
    assert fit_resolution(curves, -0.5) == pytest.approx(1 / 0.25, rel=1e-5)
    nowhere = CtfCurves(frequency, frequency, frequency, frequency, fitted, 0 * quality)
    assert fit_resolution(nowhere, 0.5) is None


@pytest.mark.parametrize("end", [8.0, 6.0, 5.0, 4.0, 3.0])
def test_fit_resolution_is_where_the_rings_end(end: float):
    fit = fit_image(thon_image((1400, 1500), 1.06, (15400.0, 14800.0, 25.0), ends=end, seed=1))
    assert fit.ctf_fit_resolution == pytest.approx(end, rel=0.05)


@pytest.mark.parametrize(
    ("pixel_size", "defocus", "voltage", "aberration"),
    [
        (1.06, 80_000.0, 300.0, 2.7),
        (1.06, 149_000.0, 300.0, 2.7),
        (1.06, 110_000.0, 80.0, 4.7),
        (0.3, 80_000.0, 300.0, 0.001),
        (0.3, 15_000.0, 300.0, 2.7),
        (5.0, 60_000.0, 200.0, 2.0),
        (1.06, 1000.0, 80.0, 4.7),
    ],
)
def test_from_a_tenth_to_fifteen_micrometres(pixel_size: float, defocus: float, voltage: float, aberration: float):
    image = thon_image(
        (2000, 2100),
        pixel_size,
        (1.005 * defocus, 0.995 * defocus, 20.0),
        voltage=voltage,
        aberration=aberration,
        seed=1,
    )
    sampling = choose_sampling(pixel_size)
    coarse = Sampling(512, FAR_PIXEL_SIZE / pixel_size)
    wanted = [sampling] if coarse.factor <= sampling.factor else [sampling, coarse]
    spectrum, *far = power_spectra(image, wanted)
    lens = Optics(pixel_size * sampling.factor, voltage, aberration, 0.1)
    fit = estimate_ctf(
        spectrum,
        optics=lens,
        defocus_min=500.0,
        defocus_max=150_000.0,
        far=(far[0], FAR_PIXEL_SIZE) if far else None,
    )
    tolerance = max(80.0, 0.003 * defocus)
    assert fit.defocus_u == pytest.approx(1.005 * defocus, abs=tolerance)
    assert fit.defocus_v == pytest.approx(0.995 * defocus, abs=tolerance)
    assert fit.ctf_quality == "ok"


def test_spectrum_cut_in_fourier_space():
    image = thon_image((1200, 1200), 1.06, (15200.0, 14800.0, 35.0), signal=1.0, finest=4.6)
    fit = fit_image(image)
    mean, vector = errors(fit, 15200.0, 14800.0, 35.0)
    assert abs(mean) < 60
    assert vector < 150
    assert fit.ctf_fit_resolution > 4.5


def hostile(name: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(900, 800))
    y, x = np.indices(image.shape)
    k = np.hypot(np.fft.fftfreq(900, 1.06)[:, None], np.fft.rfftfreq(800, 1.06)[None, :])
    shapes = {
        "mtf": np.exp(-2 * k),
        "ice ring": 1 + 3 * np.exp(-(((k - 0.2725) / 0.002) ** 2)),
        "bumps": 1 + 0.5 * np.exp(-(((k - 0.1) / 0.01) ** 2)) + 0.5 * np.exp(-(((k - 0.2) / 0.02) ** 2)),
        "low pass": (k < 1 / 8).astype(float),
    }
    if name in shapes:
        return np.fft.irfft2(np.fft.rfft2(image) * shapes[name], s=image.shape)
    return {
        "noise": image,
        "counts": rng.poisson(0.8, image.shape),
        "gradient": image + y / 100,
        "edge": image + 5 * (x > 400 + 0.3 * y),
        "gold": image + 50 * ((x - 300) ** 2 + (y - 500) ** 2 < 3600),
        "lines": image + rng.normal(size=(900, 1)),
        "half empty": image * (x > 350),
        "hot pixel": image + 1e6 * ((x == 10) & (y == 10)),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        *("noise", "counts", "gradient", "edge", "gold", "lines", "half empty", "hot pixel"),
        *("mtf", "ice ring", "bumps", "low pass"),
    ],
)
def test_images_without_rings_fail(name: str):
    for seed in (1, 2):
        fit = fit_image(hostile(name, seed).astype(np.float32))
        assert fit.ctf_quality == "failed"
        assert fit.reason
        assert fit.defocus_u is None
        assert fit.defocus_v is None
        assert fit.astigmatism is None
        assert fit.ctf_fit_resolution is None


def test_significance_of_noise_is_that_of_chance():
    rng = np.random.default_rng(7)
    found = [fit_image(rng.normal(size=(600, 600)).astype(np.float32)).significance for _ in range(24)]
    assert abs(np.mean(found)) < 0.6
    assert 0.3 < np.std(found) < 1.4
    assert max(found) < CHANCE - 0.5


def test_constant_and_invalid_images_fail_with_a_reason():
    fit = fit_image(np.full((600, 600), 3.0, np.float32))
    assert (fit.ctf_quality, fit.curves, fit.ctf_score) == ("failed", None, None)
    assert "constant" in fit.reason
    broken = np.ones((600, 600), np.float32)
    broken[5, 5] = np.nan
    assert "not numbers" in fit_image(broken).reason


def test_few_zeros_are_poor_at_best():
    fit = fit_image(thon_image((1400, 1400), 1.06, (1820.0, 1780.0, 35.0), signal=1.0))
    assert fit.ctf_quality == "poor"
    assert "zeros" in fit.reason


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("length", [16.0, 30.0])
def test_drift_that_erases_rings_in_one_direction_is_not_ok(seed: int, length: float):
    image = thon_image((1600, 1600), 1.06, (15200.0, 14800.0, 35.0), drift=(0.6 * length, 0.8 * length), seed=seed)
    assert fit_image(image).ctf_quality != "ok"


def test_arguments_are_checked():
    flat, lens = np.ones((128, 128), np.float32), Optics(1.5, 300.0, 2.7)
    with pytest.raises(ParameterError, match="nothing beyond 3"):
        estimate_ctf(flat, optics=lens, resolution_high=2.5)
    with pytest.raises(ParameterError, match="too narrow"):
        estimate_ctf(flat, optics=lens, resolution_low=5.0, resolution_high=4.0)
    with pytest.raises(ParameterError, match="defocus is searched"):
        estimate_ctf(flat, optics=lens, defocus_min=9000.0, defocus_max=8000.0)
    with pytest.raises(ParameterError, match="down to"):
        estimate_ctf(flat, optics=lens, phase_shift_search=(90.0, 0.0))
    with pytest.raises(ParameterError, match="square"):
        estimate_ctf(flat[:100], optics=lens)


def published(folder: Path) -> list[tuple[Path, float, float, float, float]]:
    """Read name, U, V, angle and resolution of each published fit."""
    rows = [line.split() for line in (folder / "micrographs_ctf.star").read_text().splitlines()]
    rows = [row for row in rows if len(row) == 9 and "ctf:mrc" in row[2]]
    files = [folder / (Path(row[2].split(":")[0]).stem + ".mrc") for row in rows]
    return [
        (file, float(row[3]), float(row[4]), float(row[6]), float(row[8]))
        for file, row in zip(files, rows, strict=True)
    ]


def test_ten_published_fits(data: Path):
    fits = published(data / "ctf_spectra_empiar10204")
    assert len(fits) == 10
    for file, u, v, angle, resolution in fits:
        with mrcfile.open(file, permissive=True) as mrc:
            fit = estimate_ctf(mrc.data, optics=Optics(1.3995525, 200.0, 1.4, 0.1))
        assert fit.defocus_u == pytest.approx(u, abs=60), file.name
        assert fit.defocus_v == pytest.approx(v, abs=60), file.name
        assert (fit.astigmatism_angle - angle + 90) % 180 - 90 == pytest.approx(0, abs=8), file.name
        assert fit.ctf_fit_resolution == pytest.approx(resolution, rel=0.12), file.name
        assert fit.ctf_quality == "ok"


def test_real_micrographs_and_the_one_that_drifted(data: Path):
    verdicts = {}
    for file in sorted((data / "apoferritin_empiar10146").glob("*[0-9].mrc")):
        with mrcfile.open(file, permissive=True) as mrc:
            fit = fit_image(mrc.data, 1.5, Optics(1.5, 300.0, 2.7, 0.07))
        verdicts[file.stem] = fit.ctf_quality
        if file.stem != "May08_06.09.02":
            assert 15000 < fit.defocus_v < fit.defocus_u < 25500, file.name
            assert fit.ctf_fit_resolution < 7, file.name
    assert verdicts.pop("May08_06.09.02") != "ok"
    assert list(verdicts.values()) == ["ok"] * 5


def test_halves_of_real_micrographs_agree(data: Path):
    lens = Optics(1.5, 300.0, 2.7, 0.07)
    files = [
        file for file in sorted((data / "apoferritin_empiar10146").glob("*[0-9].mrc")) if "06.09.02" not in file.stem
    ]
    assert len(files) == 5
    for file in files:
        with mrcfile.open(file, permissive=True) as mrc:
            image = mrc.data.astype(np.float32)
        # without its slow gradients the image may be cut into tiles that others are left out of
        image -= gaussian_filter(image, 60)
        y, x = np.indices(image.shape)
        odd = (y // 300 + x // 300) % 2 == 1
        middle = image.shape[1] // 2
        whole = fit_image(image, 1.5, lens)
        parts = {
            "left": power_spectrum(image[:, :middle]),
            "right": power_spectrum(image[:, middle:]),
            "odd": power_spectrum(image * gaussian_filter(odd.astype(np.float32), 8), robust=False),
            "even": power_spectrum(image * gaussian_filter((~odd).astype(np.float32), 8), robust=False),
        }
        for name, spectrum in parts.items():
            half = estimate_ctf(spectrum, optics=lens)
            assert half.defocus_u == pytest.approx(whole.defocus_u, abs=150), (file.name, name)
            assert half.defocus_v == pytest.approx(whole.defocus_v, abs=150), (file.name, name)


def test_narrow_limits_are_kept():
    image = thon_image((1000, 1000), 1.06, (14900.0, 14700.0, 35.0), signal=1.0)
    spectrum, far = power_spectra(image, [Sampling(512), Sampling(512, FAR_PIXEL_SIZE / 1.06)])
    lens = Optics(1.06, 300.0, 2.7, 0.1)
    narrow = estimate_ctf(spectrum, optics=lens, defocus_min=14740.0, defocus_max=14860.0)
    assert narrow.defocus_u == pytest.approx(14900.0, abs=100)
    beyond = estimate_ctf(
        spectrum, optics=lens, defocus_min=100_000.0, defocus_max=150_000.0, far=(far, FAR_PIXEL_SIZE)
    )
    assert beyond.ctf_quality != "ok"
    # the coarse spectrum holds nothing of so fine a band: it is left alone
    noise = np.random.default_rng(1).normal(size=(700, 700)).astype(np.float32)
    spectrum, far = power_spectra(noise, [Sampling(512), Sampling(512, FAR_PIXEL_SIZE / 1.06)])
    fit = estimate_ctf(spectrum, optics=lens, resolution_low=12.0, defocus_max=150_000.0, far=(far, FAR_PIXEL_SIZE))
    assert fit.ctf_quality == "failed"


def test_too_little_to_judge_by_has_no_probability():
    """At 5 Å/px and 1.5 µm hardly a ring lies in the band: another defocus may fit it as well."""
    for seed in range(4):
        image = thon_image((700, 700), 5.0, (15200.0, 14800.0, 35.0), signal=1.0, seed=seed)
        fit = estimate_ctf(power_spectrum(image), optics=Optics(5.0, 300.0, 2.7, 0.1))
        assert fit.ctf_quality != "ok"
        assert fit.ctf_probability is None or abs(fit.defocus_u - 15200.0) < 300.0


def test_tiny_images_have_no_spectrum():
    for seed in range(10):
        noise = np.random.default_rng(seed).normal(size=(24, 24)).astype(np.float32)
        assert fit_image(noise).ctf_quality == "failed"
