"""The simulator against analytic answers: it is the judge of everything else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scipy.stats

from focusnb.ops.simulate import (
    CASES,
    Detector,
    DetectorSettings,
    MotionSettings,
    MovieSpec,
    Optics,
    SpecimenSettings,
    Truth,
    make_detector,
    simulate_micrograph,
    simulate_movie,
    standard_case,
)
from focusnb.ops.simulate.damage import decay_rate, mean_decay
from focusnb.ops.simulate.detector import count_electrons, modulation_transfer
from focusnb.ops.simulate.motion import Motion, interpolation_table, move_locally, simulate_motion
from focusnb.ops.simulate.optics import (
    contrast_transfer,
    electron_wavelength,
    envelope,
    frequencies,
    interaction_constant,
    slab_height,
)
from focusnb.ops.simulate.specimen import extend_micrograph, particle_radius, scattering_factor

STILL = MotionSettings(burst=0.0, drift=0.0, walk=0.0, local=0.0)
PERFECT = DetectorSettings(gain_rms=0.0, hot=0, dead=0, spread=None)


def shifted(image: np.ndarray, dy: float, dx: float) -> np.ndarray:
    """The content of an image moved by (+dy, +dx), by the shift theorem."""
    ky, kx = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :]
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(-2j * np.pi * (ky * dy + kx * dx))).real


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


# Optics


@pytest.mark.parametrize(("voltage", "wavelength"), [(100.0, 0.037014), (200.0, 0.025079), (300.0, 0.019687)])
def test_wavelength(voltage: float, wavelength: float) -> None:
    assert electron_wavelength(voltage) == pytest.approx(wavelength, abs=1e-6)


def test_interaction_constant_is_the_known_one() -> None:
    # 6.53e-4 rad per V and Å at 300 kV; one Å of scattering factor is 47.878 V Å² of projected potential
    assert interaction_constant(300.0) / 47.878 == pytest.approx(6.526e-4, rel=2e-3)


def test_zeros_of_the_transfer_function_lie_where_the_formula_is_solved() -> None:
    optics = Optics(defocus_u=16000.0, defocus_v=15000.0, astigmatism_angle=30.0, amplitude_contrast=0.1)
    wavelength, aberration = electron_wavelength(300.0), 2.7e7
    # along U the defocus is 16000 Å, across it 15000 Å, and half way between 15500 Å
    for angle, defocus in ((30.0, 16000.0), (120.0, 15000.0), (75.0, 15500.0), (-15.0, 15500.0)):
        for order in (1, 2, 5):
            # pi l D k² - pi/2 Cs l³ k⁴ + asin w = order pi, a quadratic in k²
            a, b, c = (
                -0.5 * np.pi * aberration * wavelength**3,
                np.pi * wavelength * defocus,
                np.arcsin(0.1) - order * np.pi,
            )
            k = np.sqrt((-b + np.sqrt(b * b - 4.0 * a * c)) / (2.0 * a))
            ky, kx = np.array(k * np.sin(np.deg2rad(angle))), np.array(k * np.cos(np.deg2rad(angle)))
            assert abs(contrast_transfer(ky, kx, optics)) < 1e-6
            before = contrast_transfer(0.98 * ky, 0.98 * kx, optics)
            assert np.sign(before) == (-1) ** order, "proteins are dark at underfocus: the first lobe is negative"


def test_phase_shift_and_envelope() -> None:
    zero = np.zeros(1)
    assert contrast_transfer(zero, zero, Optics(phase_shift=0.0))[0] == pytest.approx(-0.1)
    assert contrast_transfer(zero, zero, Optics(phase_shift=90.0))[0] == pytest.approx(-np.sqrt(0.99))
    assert envelope(zero, zero + 0.2, 100.0)[0] == pytest.approx(np.exp(-1.0))


def test_tilted_slab_is_further_under_focus_left_of_the_axis() -> None:
    height = slab_height((101, 61), 2.0, Optics(tilt_angle=45.0, tilt_axis=0.0))
    assert height[50, 30] == 0.0
    assert height[60, 30] == pytest.approx(20.0, abs=1e-3)
    height = slab_height((101, 61), 2.0, Optics(tilt_angle=45.0, tilt_axis=90.0))
    assert height[50, 40] == pytest.approx(-20.0, abs=1e-3)


# Damage


def test_damage_follows_the_critical_dose() -> None:
    ky, kx = frequencies((8, 8), 0.625)  # kx = 0.2, 0.4 ...
    critical = 0.245 * 0.2**-1.665 + 2.81
    rate = decay_rate(ky, kx, 300.0)
    assert rate[0, 1] == pytest.approx(0.5 / critical, rel=1e-5)
    assert rate[0, 0] == 0.0
    assert decay_rate(ky, kx, 200.0)[0, 1] == pytest.approx(0.5 / (0.8 * critical), rel=1e-5)
    assert mean_decay(rate, np.array([0.0, 2.0 * critical]))[0, 1] == pytest.approx(
        0.5 * (1.0 + np.exp(-1.0)), rel=1e-5
    )


# Motion


def make_motion(field: np.ndarray, shape: tuple[int, int], shift: tuple[float, float] = (0.0, 0.0)) -> Motion:
    return Motion(shift=np.array([(0.0, 0.0), shift]), local_time=np.array([0.0, 1.0]), local_field=field, shape=shape)


def test_shift_at_is_whole_frame_and_quadratic_field() -> None:
    field = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [-6.0, 7.0, -8.0, 9.0, 10.0]])
    motion = make_motion(field, (100, 200), (0.5, -0.25))
    # x = 150 is X = 0.25, y = 20 is Y = -0.3
    basis = np.array([0.25, -0.3, 0.0625, 0.09, -0.075])
    assert motion.shift_at(1, 20, 150) == pytest.approx(np.array([0.5, -0.25]) + field @ basis)
    assert motion.shift_at(0, 20, 150) == pytest.approx([0.0, 0.0])
    assert motion.shift_at(1, np.zeros((3, 1)), np.zeros(4)).shape == (3, 4, 2)


def test_field_mean_is_the_mean_over_all_pixels() -> None:
    motion = make_motion(np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [-6.0, 7.0, -8.0, 9.0, 10.0]]), (31, 46), (2.0, 3.0))
    y, x = np.mgrid[:31, :46]
    assert motion.field_mean()[1] == pytest.approx(motion.shift_at(1, y, x).mean(axis=(0, 1)), abs=1e-12)


def test_motion_has_the_lengths_asked_for() -> None:
    def draw(**lengths: float) -> Motion:
        settings = replace(STILL, **lengths)
        return simulate_motion(settings, (500, 700), frames=81, dose_per_frame=1.0, rng=np.random.default_rng(3))

    burst = np.hypot(*draw(burst=6.0).shift.T)
    assert burst[0] == 0.0
    assert burst[3] == pytest.approx(6.0 * (1.0 - np.exp(-1.0)))
    assert burst[-1] == pytest.approx(6.0, rel=1e-6)
    drift = np.hypot(*draw(drift=8.0).shift.T)
    assert drift == pytest.approx(np.linspace(0.0, 8.0, 81))
    steps = np.diff(draw(walk=0.15).shift, axis=0)
    assert np.sqrt((steps**2).sum(axis=1).mean()) == pytest.approx(0.15, rel=0.2)
    jump = np.hypot(*np.diff(draw(jump=3.0).shift, axis=0).T)
    assert jump[39] == pytest.approx(3.0)
    assert np.delete(jump, 39) == pytest.approx(0.0)
    y, x = np.mgrid[:501:10, :701:10]
    local = draw(local=4.0).shift_at(80, y, x)
    assert np.hypot(local[..., 0], local[..., 1]).max() == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize("position", ["edge", "middle"])
def test_local_motion_moves_to_a_hundredth_of_a_pixel(position: str) -> None:
    """Waves up to 0.75 of Nyquist, moved by a strong field, against the same waves written down at the moved places."""
    shape, margin = (96, 130), 28
    field = np.array([[3.0, -2.0, 6.0, -3.0, 2.0], [-2.5, 1.5, 4.0, 5.0, -3.0]])
    motion = make_motion(field, shape, (5.3, -3.7) if position == "edge" else (0.0, 0.0))
    waves = [(0.06, 0.021, 0.3), (0.18, -0.11, 1.1), (-0.13, 0.27, 2.0), (0.37, 0.05, 0.7), (0.03, -0.36, 2.6)]

    def written(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return sum(np.cos(2.0 * np.pi * (ky * y + kx * x) + phase) for ky, kx, phase in waves)

    y, x = np.mgrid[-margin : shape[0] + margin, -margin : shape[1] + margin]
    # the image that the whole-frame shift has moved already
    image = written(y + motion.shift[1, 0], x + motion.shift[1, 1]).astype(np.float32)
    moved = move_locally(image, motion, 1, origin=(margin, margin))

    # where does pixel q look? q = r - shift(r), solved here by Newton's method in one unknown vector per pixel
    qy, qx = np.mgrid[: shape[0], : shape[1]].astype(float)
    ry, rx = qy.copy(), qx.copy()
    for _ in range(50):
        shift = motion.shift_at(1, ry, rx)
        ry, rx = 0.5 * (ry + qy + shift[..., 0]), 0.5 * (rx + qx + shift[..., 1])
    expected = written(ry, rx)
    # a wave of frequency k and amplitude 1 that is moved wrongly by d errs by sqrt(2) pi k d
    slope = np.sqrt(2.0) * np.pi * np.sqrt(sum(ky * ky + kx * kx for ky, kx, _ in waves))
    assert np.sqrt(np.mean((moved - expected) ** 2)) / slope < 0.01
    assert correlation(moved, image[margin:-margin, margin:-margin]) < 0.5, "the field does move the image"


def test_interpolation_keeps_amplitudes() -> None:
    table = interpolation_table()
    taps = np.arange(table.shape[1]) - (table.shape[1] // 2 - 1)
    for frequency, tolerance in ((0.0, 1e-6), (0.1, 0.01), (0.2, 0.01), (0.35, 0.01), (0.375, 0.02), (0.4, 0.06)):
        transfer = table @ np.exp(2j * np.pi * frequency * taps)
        fraction = np.arange(len(table)) / (len(table) - 1)
        assert np.abs(transfer - np.exp(2j * np.pi * frequency * fraction)).max() < tolerance


def test_local_motion_refuses_an_image_without_margin() -> None:
    motion = make_motion(np.full((2, 5), 4.0), (40, 40))
    with pytest.raises(ValueError, match="margin around the field is 5 px"):
        move_locally(np.zeros((50, 50), np.float32), motion, 1, origin=(5, 5))


# Detector


def test_counts_are_poisson() -> None:
    shape = (400, 500)
    flat = Detector(
        np.ones(shape, np.float32),
        np.ones(shape, np.float32),
        np.zeros(shape, np.float32),
        *[np.empty((0, 2), int)] * 2,
    )
    for rate in (0.05, 1.1, 7.0, 130.0):
        counts = count_electrons(np.full(shape, rate, np.float32), flat, np.random.default_rng(1)).astype(float)
        error = np.sqrt(rate / counts.size)
        assert counts.mean() == pytest.approx(rate, abs=5.0 * error)
        assert counts.var() == pytest.approx(rate, rel=5.0 * np.sqrt((2.0 + 1.0 / rate) / counts.size))
        if rate < 2.0:
            assert (counts == 0).mean() == pytest.approx(np.exp(-rate), abs=0.005)
            assert (counts == 3).mean() == pytest.approx(np.exp(-rate) * rate**3 / 6.0, abs=0.005)
        neighbours = correlation(counts[:, 1:], counts[:, :-1])
        assert abs(neighbours) < 5.0 / np.sqrt(counts.size)


def test_counts_are_clipped_to_the_type_and_negative_rates_count_nothing() -> None:
    shape = (4, 5)
    one = Detector(
        np.ones(shape, np.float32),
        np.ones(shape, np.float32),
        np.zeros(shape, np.float32),
        *[np.empty((0, 2), int)] * 2,
    )
    assert (count_electrons(np.full(shape, 1e4, np.float32), one, np.random.default_rng(1)) == 255).all()
    assert (count_electrons(np.full(shape, -1.0, np.float32), one, np.random.default_rng(1)) == 0).all()


def test_detector_has_the_gain_and_defects_asked_for() -> None:
    detector = make_detector(DetectorSettings(), (512, 700), np.random.default_rng(5))
    good = ~detector.defects
    assert detector.gain[good].std() / detector.gain[good].mean() == pytest.approx(0.06, rel=0.02)
    assert detector.gain[good].mean() == pytest.approx(1.0, abs=1e-3)
    assert (~good).sum() == 300
    assert (detector.gain == 0).sum() == 150
    assert (detector.gain[tuple(detector.dead.T)] == 0).all()
    assert (detector.gain[tuple(detector.hot.T)] > 0).all()


def test_corrected_mean_is_flat_and_defects_show() -> None:
    spec = MovieSpec(
        (256, 320),
        40,
        motion=STILL,
        specimen=SpecimenSettings(ice_thickness=0.0),
        detector=DetectorSettings(hot=20, dead=20),
    )
    movie = simulate_movie(spec, 4)
    good = ~movie.detector.defects
    raw = movie.frames.mean(axis=0)
    corrected = raw * movie.gain
    rate = spec.electrons_per_pixel * np.exp(300.0 / 3950.0)  # a hole is brighter than the ice the dose was counted in
    assert corrected[good].mean() == pytest.approx(rate, rel=0.005)
    # what remains after correction is counting noise; before it there is the gain as well
    noise = np.sqrt(rate / spec.frames)
    assert corrected[good].std() == pytest.approx(noise, rel=0.02)
    assert raw[good].std() > 1.05 * noise
    assert correlation(raw[good], 1.0 / movie.gain[good]) > 0.3
    assert (movie.frames[:, movie.detector.dead[:, 0], movie.detector.dead[:, 1]] == 0).all()
    assert (movie.frames[:, movie.detector.hot[:, 0], movie.detector.hot[:, 1]].mean(axis=0) > 6.0).all()


def test_modulation_transfer_at_nyquist() -> None:
    row, column = modulation_transfer((64, 64), 0.25)
    assert column[0, -1] == pytest.approx(2.0 / np.pi * np.exp(-2.0 * (np.pi * 0.125) ** 2), rel=1e-4)
    assert column[0, 0] == row[0, 0] == 1.0
    assert (modulation_transfer((64, 64), None)[0] == 1.0).all()


# Specimen


def test_scattering_factors() -> None:
    k2 = np.array([0.0, 0.04])
    assert scattering_factor({"O": 1.0}, k2)[0] == pytest.approx(1.983, abs=2e-3)
    assert scattering_factor({"C": 1.0}, k2)[0] == pytest.approx(2.509, abs=2e-3)
    assert scattering_factor({"O": 1.0, "H": 2.0}, k2) == pytest.approx(
        scattering_factor({"O": 1.0}, k2) + 2.0 * scattering_factor({"H": 1.0}, k2)
    )


def test_proteins_are_dark_where_the_truth_says() -> None:
    settings = SpecimenSettings(particle_mass=450.0, particle_spacing=300.0)
    spec = MovieSpec((512, 700), 40, specimen=settings, motion=STILL)
    image, truth = simulate_micrograph(spec, 2)
    smooth = scipy.ndimage.gaussian_filter(image, 0.5 * particle_radius(settings) / spec.pixel_size)
    inside = truth.particles[
        (truth.particles > 40).all(axis=1) & (truth.particles < np.array(spec.shape) - 40).all(axis=1)
    ]
    assert len(inside) >= 3
    at_particles = smooth[tuple(inside.astype(int).T)]
    assert (at_particles < smooth.mean() - smooth.std()).all()


def test_spectrum_shows_the_transfer_function_with_its_astigmatism() -> None:
    """The noise-free image's power follows CTF² of the defocus given and not of others, mirrored or turned."""
    optics = Optics(defocus_u=13000.0, defocus_v=11000.0, astigmatism_angle=25.0)
    spec = MovieSpec((700, 600), 4, optics=optics, motion=STILL, specimen=SpecimenSettings(particle_spacing=1e4))
    projection = simulate_movie(spec, 1).projection
    window = np.outer(np.hanning(700), np.hanning(600))
    power = np.abs(scipy.fft.rfft2((projection - projection.mean()) * window)) ** 2
    ky, kx = frequencies(spec.shape, spec.pixel_size)
    k = np.hypot(ky, kx)
    band = (k > 1.0 / 20.0) & (k < 1.0 / 5.0)
    rank = scipy.stats.rankdata(power[band])

    def agreement(other: Optics) -> float:
        return correlation(rank, contrast_transfer(ky, kx, other)[band] ** 2)

    true = agreement(optics)
    assert true > 0.4
    wrong = (
        replace(optics, astigmatism_angle=-25.0),
        replace(optics, astigmatism_angle=65.0),
        replace(optics, defocus_u=13400.0, defocus_v=11400.0),
        replace(optics, phase_shift=40.0),
    )
    for other in wrong:
        assert agreement(other) < true - 0.05


def test_strength_follows_ice_thickness_and_envelope() -> None:
    def power(thickness: float, b_factor: float, low: float, high: float) -> float:
        spec = MovieSpec(
            (512, 512), 1, damage=False, motion=STILL, detector=PERFECT, optics=Optics(b_factor=b_factor),
            specimen=SpecimenSettings(ice_thickness=thickness, particle_spacing=1e4),
        )  # fmt: skip
        spectrum = np.abs(scipy.fft.rfft2(simulate_movie(spec, 1).projection)) ** 2
        k = np.hypot(*frequencies(spec.shape, spec.pixel_size))
        return float(spectrum[(k > low) & (k < high)].mean())

    assert power(300.0, 60.0, 0.1, 0.2) / power(100.0, 60.0, 0.1, 0.2) == pytest.approx(3.0, rel=0.05)
    assert power(300.0, 60.0, 0.195, 0.205) / power(300.0, 160.0, 0.195, 0.205) == pytest.approx(np.exp(2.0), rel=0.05)


def test_tilted_slab_has_a_gradient_of_defocus() -> None:
    """Each end of a tilted field fits its own defocus better than that of the other end."""
    optics = Optics(defocus_u=15000.0, defocus_v=15000.0, tilt_angle=50.0, tilt_axis=90.0, b_factor=20.0)
    spec = MovieSpec(
        (512, 1536), 1, damage=False, optics=optics, motion=STILL, specimen=SpecimenSettings(particle_spacing=1e4)
    )
    projection = simulate_movie(spec, 3).projection
    height = slab_height(spec.shape, spec.pixel_size, optics)
    ky, kx = frequencies((512, 256), spec.pixel_size)
    k = np.hypot(ky, kx)
    band = (k > 1.0 / 15.0) & (k < 1.0 / 6.0)
    window = np.outer(np.hanning(512), np.hanning(256))
    for start in (0, 640, 1280):
        tile = projection[:, start : start + 256]
        power = scipy.stats.rankdata((np.abs(scipy.fft.rfft2((tile - tile.mean()) * window)) ** 2)[band])
        local = float(height[:, start : start + 256].mean())
        scores = {
            extra: correlation(power, contrast_transfer(ky, kx, optics, extra_defocus=local + extra)[band] ** 2)
            for extra in (-800.0, 0.0, 800.0)
        }
        assert max(scores, key=scores.__getitem__) == 0.0, scores


def test_crystalline_ice_and_carbon() -> None:
    base = MovieSpec((512, 512), 1, motion=STILL, damage=False)
    k = np.hypot(*frequencies(base.shape, base.pixel_size))
    ring = np.abs(k - 1.0 / 3.7) < 0.003
    beside = (np.abs(k - 1.0 / 3.7) > 0.02) & (np.abs(k - 1.0 / 3.7) < 0.03)

    def ratio(spec: MovieSpec) -> float:
        power = np.abs(scipy.fft.rfft2(simulate_movie(spec, 1).projection)) ** 2
        return float(power[ring].mean() / power[beside].mean())

    assert ratio(base) < 2.0
    assert ratio(replace(base, specimen=SpecimenSettings(crystalline=50.0))) > 20.0

    film = simulate_movie(replace(base, specimen=SpecimenSettings(carbon=0.5)), 1)
    left, right = film.projection[:, :150], film.projection[:, -150:]
    assert left.mean() < 0.95 * right.mean()
    assert left.std() > 1.2 * right.std()
    assert (film.truth.particles[:, 1] > 200).all(), "no particles on the film"


# Whole movies


def test_frames_aligned_by_the_truth_agree_with_the_projection() -> None:
    """The sign of shifts: moving each frame by +shift, with a shift theorem written here, brings the specimen back."""
    spec = replace(
        standard_case("small"), shape=(480, 640), frames=16, dose_per_frame=6.0, damage=False,
        motion=MotionSettings(burst=5.0, drift=9.0, walk=0.5, local=0.0), detector=PERFECT,
    )  # fmt: skip
    movie = simulate_movie(spec, 11)
    inner = (slice(20, -20), slice(20, -20))
    sums = {
        sign: np.mean(
            [shifted(frame, *(sign * shift)) for frame, shift in zip(movie.frames, movie.truth.shift, strict=True)],
            axis=0,
        )
        for sign in (1.0, 0.0, -1.0)
    }
    k = np.hypot(*frequencies(spec.shape, spec.pixel_size))
    fine = (k > 1.0 / 10.0) & (k < 1.0 / 5.0)

    def agreement(image: np.ndarray) -> float:
        window = np.zeros(spec.shape)
        window[inner] = np.outer(np.hanning(440), np.hanning(600))
        a, b = (scipy.fft.rfft2((i - i.mean()) * window)[fine] for i in (image, movie.projection))
        return float((a * b.conj()).real.sum() / np.sqrt((np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum()))

    assert agreement(sums[1.0]) > 0.7
    assert agreement(sums[0.0]) < 0.4
    assert agreement(sums[-1.0]) < 0.4


def test_local_shifts_of_a_movie_are_those_of_the_truth() -> None:
    """Patches of the last frame against the projection: the peak of their correlation lies at the truth's shift."""
    spec = MovieSpec(
        (512, 640), 4, dose_per_frame=200.0, damage=False, detector=PERFECT, dtype="uint16",
        motion=MotionSettings(burst=4.0, drift=7.0, walk=0.0, local=6.0, local_dose=100.0),
    )  # fmt: skip
    movie = simulate_movie(spec, 6)
    size = 128
    window = np.outer(np.hanning(size), np.hanning(size))
    for y, x in ((30, 40), (30, 460), (350, 40), (350, 460), (190, 250)):
        patches = [image[y : y + size, x : x + size].astype(float) for image in (movie.projection, movie.frames[3])]
        a, b = (scipy.fft.fft2((patch - patch.mean()) * window) for patch in patches)
        product = a * b.conj()
        # the patch of the frame shows the specimen moved by -shift: phases are k * shift, fitted by a few Newton steps
        ky, kx = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :]
        use = np.hypot(ky, kx) < 0.3
        expected = movie.truth.shift_at(3, y + size / 2.0, x + size / 2.0)
        found = expected + np.array([0.3, -0.3])
        for _ in range(20):
            turned = product * np.exp(2j * np.pi * (ky * found[0] + kx * found[1]))
            weight = np.abs(turned) * use
            phase = np.angle(turned)
            found = found - np.array([(weight * phase * f).sum() / (weight * f * f).sum() for f in (ky, kx)]) / (
                2 * np.pi
            )
        assert np.hypot(*(found - expected)) < 0.15
    corners = movie.truth.shift_at(3, np.array([0, 0, 511, 511]), np.array([0, 639, 0, 639]))
    assert np.ptp(corners, axis=0).max() > 2.0, "the field is not the same everywhere"


def test_a_movie_is_reproducible_and_another_seed_is_another_movie() -> None:
    spec = MovieSpec((96, 128), 5, motion=MotionSettings(local=2.0))
    first, again, other = simulate_movie(spec, 1), simulate_movie(spec, 1), simulate_movie(spec, 2)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.gain, again.gain)
    assert not np.array_equal(first.frames, other.frames)
    assert not np.allclose(first.truth.shift, other.truth.shift)
    longer = simulate_movie(replace(spec, motion=STILL, frames=6), 1)
    assert np.array_equal(longer.projection, simulate_movie(replace(spec, motion=STILL), 1).projection)


def test_late_frames_have_lost_high_resolution() -> None:
    spec = MovieSpec((512, 512), 2, dose_per_frame=40.0, motion=STILL, detector=PERFECT, dtype="uint16")
    movie = simulate_movie(spec, 1)
    k = np.hypot(*frequencies(spec.shape, spec.pixel_size))
    reference = scipy.fft.rfft2(movie.projection)
    ring = (k > 1.0 / 30.0) & (k < 1.0 / 7.0)

    def amplitude(frame: np.ndarray, dose: float) -> float:
        """How much of the projection, faded by this dose, a frame holds."""
        faded = reference[ring] * np.exp(-dose / (2.0 * (0.245 * k[ring] ** -1.665 + 2.81)))
        return float(
            (scipy.fft.rfft2(frame.astype(float))[ring] * faded.conj()).real.sum() / (np.abs(faded) ** 2).sum()
        )

    for frame, dose in zip(movie.frames, (20.0, 60.0), strict=True):
        assert amplitude(frame, dose) == pytest.approx(1.0, abs=0.12)
        assert amplitude(frame, 80.0 - dose) != pytest.approx(1.0, abs=0.3)


def test_truth_survives_json() -> None:
    spec = replace(standard_case("hard"), shape=(96, 128), frames=5, prior_dose=2.5)
    truth = simulate_movie(spec, 9).truth
    read = Truth.from_json(truth.to_json())
    assert read.spec == truth.spec
    assert read.seed == 9
    assert np.array_equal(read.shift, truth.shift)
    assert np.array_equal(read.shift_at(4, 10.0, 100.0), truth.shift_at(4, 10.0, 100.0))
    assert np.array_equal(read.particles, truth.particles)


def test_micrograph_is_the_mean_of_a_still_movie() -> None:
    """Signal and noise of both, measured against the projection: damage, transfer and counts are alike."""
    spec = MovieSpec((320, 320), 10, dose_per_frame=4.0, motion=STILL, detector=replace(PERFECT, spread=0.25))
    image, _ = simulate_micrograph(spec, 3)
    movie = simulate_movie(spec, 3)
    mean = movie.frames.mean(axis=0)
    k = np.hypot(*frequencies(spec.shape, spec.pixel_size))
    reference = scipy.fft.rfft2(movie.projection)
    ring = (k > 1.0 / 40.0) & (k < 1.0 / 8.0)
    kept = [
        float((scipy.fft.rfft2(i)[ring] * reference[ring].conj()).real.sum() / (np.abs(reference[ring]) ** 2).sum())
        for i in (image, mean)
    ]
    assert kept[0] == pytest.approx(kept[1], rel=0.1)
    assert 0.2 < kept[0] < 0.8
    assert image.mean() == pytest.approx(mean.mean(), rel=0.005)
    assert image.std() == pytest.approx(mean.std(), rel=0.02)


def test_standard_cases_are_those_of_the_contract() -> None:
    assert CASES == ("small", "large", "mid", "hard")
    rows = {
        "small": ((1024, 1024), 24, 300.0, 60.0, (15000.0, 14600.0, 35.0), 6.0),
        "large": ((3838, 3710), 40, 300.0, 60.0, (15000.0, 14600.0, 35.0), 6.0),
        "mid": ((2048, 2048), 40, 200.0, 80.0, (17000.0, 16500.0, -25.0), 6.0),
        "hard": ((2048, 2048), 40, 120.0, 110.0, (20000.0, 19400.0, -25.0), 8.0),
    }
    for name, (shape, frames, ice, b_factor, defocus, burst) in rows.items():
        spec = standard_case(name)
        optics = spec.optics
        assert (spec.shape, spec.frames, spec.specimen.ice_thickness, optics.b_factor) == (shape, frames, ice, b_factor)
        assert (optics.defocus_u, optics.defocus_v, optics.astigmatism_angle) == defocus
        assert (optics.voltage, optics.spherical_aberration, optics.amplitude_contrast) == (300.0, 2.7, 0.1)
        assert (spec.pixel_size, spec.dose_per_frame, spec.prior_dose, spec.dtype) == (1.06, 1.0, 0.0, "uint8")
        assert spec.motion == MotionSettings(burst, 3.0, 8.0, 0.15, 0.0, 4.0, spec.motion.local_dose)
        assert (spec.detector.gain_rms, spec.detector.hot, spec.detector.dead) == (0.06, 150, 150)
    with pytest.raises(ValueError, match="no standard movie 'huge'"):
        standard_case("huge")


# A real micrograph as the specimen


def asymmetric_picture(shape: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(8).standard_normal(shape), 1.5)
    return (1000.0 + 300.0 * noise + 40.0 * (x > 0.6) * (y < 0.3) + 30.0 * x + 10.0 * y).astype(np.float32)


def test_micrograph_becomes_a_specimen_without_edges() -> None:
    picture = asymmetric_picture((200, 260))
    picture[50, 60] = 1e6  # a hot pixel
    field = extend_micrograph(picture, (240, 300), 0.1)
    inside = field[20:220, 20:280]
    picture[50, 60] = np.median(picture)
    assert correlation(inside, picture) > 0.99
    assert inside.mean() == pytest.approx(1.0, abs=1e-3)
    assert inside.std() == pytest.approx(0.1, rel=0.02)
    steps = [np.abs(field[-1] - field[0]).max(), np.abs(field[:, -1] - field[:, 0]).max()]
    assert max(steps) < 0.02


def test_movie_of_a_real_micrograph_shows_it_where_the_truth_says() -> None:
    picture = asymmetric_picture((320, 400))
    spec = MovieSpec(
        (256, 320), 8, dose_per_frame=20.0, damage=False, detector=PERFECT, dtype="uint16",
        motion=MotionSettings(burst=4.0, drift=8.0, walk=0.0, local=2.0),
    )  # fmt: skip
    movie = simulate_movie(spec, 3, micrograph=picture)
    assert correlation(movie.projection, picture[32:-32, 40:-40]) > 0.99
    dy, dx = movie.truth.field_mean()[-1]
    aligned = shifted(movie.frames[-1].astype(float), dy, dx)[16:-16, 16:-16]
    here, before = (correlation(i, picture[48:-48, 56:-56]) for i in (aligned, movie.frames[-1, 16:-16, 16:-16]))
    # one frame of 22 electrons per pixel: noise of 21 % on a contrast of 12 %
    assert here == pytest.approx(0.12 / np.hypot(0.12, 22.4**-0.5), abs=0.03)
    assert here > before + 0.15


def test_micrograph_too_small_for_the_motion_is_refused() -> None:
    with pytest.raises(ValueError, match="too small for frames"):
        simulate_movie(MovieSpec((256, 320), 8), 1, micrograph=asymmetric_picture((260, 330)))


def test_detector_of_another_size_is_refused() -> None:
    camera = make_detector(DetectorSettings(hot=1, dead=1), (64, 64), np.random.default_rng(0))
    with pytest.raises(ValueError, match="64"):
        simulate_movie(MovieSpec((64, 96), 2), 1, detector=camera)
