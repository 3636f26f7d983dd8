"""The vocabulary: every quantity of the field that more than one place speaks of, declared once.

Facts (what the microscope did) are the fields of :class:`Acquisition`. Findings (what a step measured) are used in
the ``Results`` of steps. A name is a fact or a finding, never both: ``dose_per_frame`` is the fact,
``dose_per_frame_measured`` its measured twin.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from focusnb.parameters import Declared, curve, file, image, picture, quantity, table, transient

# Facts: what was recorded
ExposureKind = Annotated[
    Literal["movie", "image"],
    quantity("Kind", group="Recording", help="A movie of frames, or an image that is a sum already."),
]
MovieFile = Annotated[str, file("Movie", star="rlnMicrographMovieName", help="The recorded frames.")]
ImageFile = Annotated[str, file("Image", help="A recorded image or a sum made elsewhere.")]
AlignedMovie = Annotated[str, file("Aligned movie", help="The movie's frames as another program has aligned them.")]
GainReference = Annotated[
    str, file("Gain reference", star="rlnMicrographGainName", help="Multiplied with every frame; 0 marks a bad pixel.")
]
GainRotation = Annotated[
    int,
    quantity(
        "Gain rotation", unit="× 90°", group="Files", ge=0, le=3, help="Quarter turns applied to the gain reference."
    ),
]
GainFlip = Annotated[
    bool, quantity("Gain flip", group="Files", help="Flip the gain reference vertically, after its rotation.")
]
Defects = Annotated[
    str, file("Defects", star="rlnMicrographDefectFile", help="Bad pixels, columns and rows of the camera.")
]
Metadata = Annotated[str, file("Metadata", help="The mdoc or XML beside the recorded file.")]
FrameCount = Annotated[int, quantity("Frames", group="Recording", star="rlnImageSizeZ", ge=1)]
HardwareFrames = Annotated[
    int,
    quantity("Hardware frames", unit="", group="Recording", ge=1, help="Of an EER movie, which is cut into frames."),
]
Width = Annotated[int, quantity("Width", unit="px", group="Recording", star="rlnImageSizeX", ge=1)]
Height = Annotated[int, quantity("Height", unit="px", group="Recording", star="rlnImageSizeY", ge=1)]
SuperResolution = Annotated[
    int,
    quantity(
        "Super-resolution", unit="×", group="Recording", ge=1, le=4, help="Recorded pixels along one physical pixel."
    ),
]
CountsPerElectron = Annotated[
    float,
    quantity(
        "Counts per electron", unit="", group="Recording", gt=0, help="What one electron adds to a recorded pixel."
    ),
]
PixelSize = Annotated[
    float,
    quantity(
        "Pixel size",
        unit="Å/px",
        star="rlnMicrographOriginalPixelSize",
        group="Optics",
        gt=0,
        lt=1000,
        precision=4,
        help="Of the recorded grid, before any cropping or binning.",
    ),
]
Voltage = Annotated[
    float, quantity("Voltage", unit="kV", star="rlnVoltage", group="Optics", ge=20, le=1500, precision=0)
]
SphericalAberration = Annotated[
    float,
    quantity(
        "Spherical aberration", unit="mm", star="rlnSphericalAberration", group="Optics", ge=0, le=20, precision=2
    ),
]
AmplitudeContrast = Annotated[
    float, quantity("Amplitude contrast", unit="", star="rlnAmplitudeContrast", group="Optics", ge=0, lt=1, precision=2)
]
DosePerFrame = Annotated[
    float,
    quantity("Dose per frame", unit="e⁻/Å²", star="rlnMicrographDoseRate", group="Dose", gt=0, le=1000, precision=3),
]
PriorDose = Annotated[
    float,
    quantity(
        "Prior dose",
        unit="e⁻/Å²",
        star="rlnMicrographPreExposure",
        group="Dose",
        ge=0,
        precision=2,
        help="Received before the first recorded frame.",
    ),
]
ExposureDose = Annotated[
    float, quantity("Exposure dose", unit="e⁻/Å²", group="Dose", gt=0, precision=2, help="Of the whole exposure.")
]
ExposureTime = Annotated[float, quantity("Exposure time", unit="s", group="Dose", gt=0, precision=3)]
RecordedAt = Annotated[datetime, quantity("Recorded at", group="Recording")]
Magnification = Annotated[float, quantity("Magnification", unit="×", group="Optics", gt=0, precision=0)]
DefocusTarget = Annotated[
    float,
    quantity(
        "Defocus target",
        unit="Å",
        group="Optics",
        precision=0,
        help="Asked for at the microscope; positive is underfocus.",
    ),
]
TiltAngle = Annotated[
    float,
    quantity("Tilt angle", unit="°", star="rlnTomoNominalStageTiltAngle", group="Stage", ge=-180, le=180, precision=2),
]
TiltAxis = Annotated[
    float,
    quantity("Tilt axis", unit="°", star="rlnTomoNominalTiltAxisAngle", group="Stage", ge=-360, le=360, precision=2),
]
StageX = Annotated[float, quantity("Stage x", unit="µm", group="Stage", precision=3)]
StageY = Annotated[float, quantity("Stage y", unit="µm", group="Stage", precision=3)]
StageZ = Annotated[float, quantity("Stage z", unit="µm", group="Stage", precision=3)]
ImageShiftX = Annotated[float, quantity("Image shift x", unit="µm", group="Stage", precision=4)]
ImageShiftY = Annotated[float, quantity("Image shift y", unit="µm", group="Stage", precision=4)]
Camera = Annotated[str, quantity("Camera", group="Recording")]
Microscope = Annotated[str, quantity("Microscope", group="Recording")]
Specimen = Annotated[str, quantity("Specimen", group="Recording")]
Square = Annotated[str, quantity("Grid square", group="Stage")]
Hole = Annotated[str, quantity("Hole", group="Stage")]
AcquisitionArea = Annotated[
    str, quantity("Acquisition area", group="Stage", help="Shots of the same image shift share it.")
]
Session = Annotated[str, quantity("Session", group="Recording", help="Of the microscope, as its software names it.")]
Series = Annotated[
    str, quantity("Series", group="Recording", help="Tilt series, position or prefix its exposures are named after.")
]
ExposureNumber = Annotated[
    int, quantity("Exposure number", unit="", group="Recording", ge=0, help="Counted by the microscope's software.")
]
Preset = Annotated[str, quantity("Preset", group="Recording", help="Settings of the microscope, by name.")]
Grid = Annotated[str, quantity("Grid", group="Stage")]


class Acquisition(Declared):
    """The facts of one exposure. What is not known is None; a step that needs it says so by name."""

    kind: ExposureKind = "movie"
    movie: MovieFile | None = None
    image: ImageFile | None = None
    aligned_movie: AlignedMovie | None = None
    gain_reference: GainReference | None = None
    gain_rotation: GainRotation = 0
    gain_flip: GainFlip = False
    defects: Defects | None = None
    metadata: Metadata | None = None
    frame_count: FrameCount | None = None
    hardware_frames: HardwareFrames | None = None
    width: Width | None = None
    height: Height | None = None
    super_resolution: SuperResolution = 1
    counts_per_electron: CountsPerElectron = 1.0
    pixel_size: PixelSize | None = None
    voltage: Voltage | None = None
    spherical_aberration: SphericalAberration | None = None
    amplitude_contrast: AmplitudeContrast | None = None
    dose_per_frame: DosePerFrame | None = None
    prior_dose: PriorDose = 0.0
    exposure_dose: ExposureDose | None = None
    exposure_time: ExposureTime | None = None
    recorded_at: RecordedAt | None = None
    magnification: Magnification | None = None
    defocus_target: DefocusTarget | None = None
    tilt_angle: TiltAngle | None = None
    tilt_axis: TiltAxis | None = None
    stage_x: StageX | None = None
    stage_y: StageY | None = None
    stage_z: StageZ | None = None
    image_shift_x: ImageShiftX | None = None
    image_shift_y: ImageShiftY | None = None
    camera: Camera | None = None
    microscope: Microscope | None = None
    specimen: Specimen | None = None
    square: Square | None = None
    hole: Hole | None = None
    acquisition_area: AcquisitionArea | None = None
    session: Session | None = None
    series: Series | None = None
    exposure_number: ExposureNumber | None = None
    preset: Preset | None = None
    grid: Grid | None = None


FILE_FACTS: tuple[str, ...] = tuple(spec.name for spec in Acquisition.specs() if spec.kind == "file")

IMPORTED = ("movie", "image", "aligned_movie", "metadata")
"""Facts that are files of the import, so that nobody sets them."""

# Findings: prepare
Frames = Annotated[str, transient("Corrected frames", help="The movie, corrected frame by frame as it is read.")]
MoviePixelSize = Annotated[
    float,
    quantity(
        "Movie pixel size",
        unit="Å/px",
        group="Optics",
        precision=4,
        help="Of the corrected frames: half the recorded one where an EER movie is read on the 8K grid.",
    ),
]
EerGrid = Annotated[
    int, quantity("EER grid", unit="×", star="rlnEERUpsampling", group="Recording", help="Over that of the detector.")
]
EerGrouping = Annotated[
    int,
    quantity(
        "EER grouping",
        unit="",
        star="rlnEERGrouping",
        group="Recording",
        help="Hardware frames in each frame; empty where they are not all as many.",
    ),
]
BadPixels = Annotated[int, quantity("Bad pixels", unit="px", group="Recording", ge=0)]
MeanCounts = Annotated[
    float, quantity("Mean counts", unit="e⁻/px/frame", group="Dose", precision=3, help="Per physical pixel and frame.")
]
DoseRate = Annotated[float, quantity("Dose rate", unit="e⁻/px/s", group="Dose", precision=2)]
DosePerFrameMeasured = Annotated[float, quantity("Dose per frame, measured", unit="e⁻/Å²", group="Dose", precision=3)]
DosePerFrameUsed = Annotated[float, quantity("Dose per frame, used", unit="e⁻/Å²", group="Dose", precision=3)]
DoseOrigin = Annotated[
    Literal["given", "exposure", "counts"],
    quantity(
        "Dose origin", group="Dose", help="Given per frame, from the exposure's dose, or measured from the counts."
    ),
]
UnalignedSum = Annotated[str, transient("Unaligned sum", help="Mean of the corrected frames before alignment.")]
UnalignedWindows = Annotated[
    str,
    image(
        "Windows of the unaligned sum",
        file="unaligned_windows.mrc",
        help="Four parts of the field relative to their mean; their mean over the session shows what the gain leaves.",
    ),
]
GainFit = Annotated[
    Literal["as given", "another fits better", "uncertain"],
    quantity(
        "Gain fit",
        group="Recording",
        help="Whether the counts fit the gain reference as it lies, or turned or flipped; the log tells how.",
    ),
]
UnalignedPreview = Annotated[str, picture("Image before correction", file="image_before.png")]
UnalignedSpectrumPreview = Annotated[str, picture("Spectrum before correction", file="spectrum_before.png")]

# Findings: align
Micrograph = Annotated[
    str,
    image(
        "Micrograph",
        file="micrograph.mrc",
        unit="counts/px",
        star="rlnMicrographNameNoDW",
        help="Mean of the aligned frames, not dose-weighted.",
    ),
]
MicrographDoseWeighted = Annotated[
    str, image("Micrograph, dose-weighted", file="micrograph_dw.mrc", unit="counts/px", star="rlnMicrographName")
]
MicrographPixelSize = Annotated[
    float, quantity("Micrograph pixel size", unit="Å/px", star="rlnMicrographPixelSize", group="Optics", precision=4)
]
MotionTable = Annotated[
    str,
    table(
        "Motion",
        file="motion.star",
        star="rlnMicrographMetadata",
        columns=("rlnMicrographFrameNumber", "rlnMicrographShiftX", "rlnMicrographShiftY"),
    ),
]
MotionTotal = Annotated[
    float,
    quantity("Motion", unit="Å", star="rlnAccumMotionTotal", group="Motion", precision=1, help="Length of the path."),
]
MotionEarly = Annotated[
    float,
    quantity(
        "Early motion",
        unit="Å",
        star="rlnAccumMotionEarly",
        group="Motion",
        precision=1,
        help="Until 4 e⁻/Å² of recorded dose.",
    ),
]
MotionLate = Annotated[float, quantity("Late motion", unit="Å", star="rlnAccumMotionLate", group="Motion", precision=1)]
Drift = Annotated[
    float, quantity("Drift", unit="Å", group="Motion", precision=1, help="Diagonal of the trajectory's bounding box.")
]
MaxStep = Annotated[float, quantity("Largest step", unit="Å", group="Motion", precision=2)]
Deceleration = Annotated[
    float,
    quantity("Deceleration", unit="Å/frame", group="Motion", precision=3, help="Positive where drift slows down."),
]
Jitter = Annotated[float, quantity("Jitter", unit="", group="Motion", precision=3)]
AlignmentUncertainty = Annotated[
    float,
    quantity(
        "Alignment uncertainty",
        unit="Å",
        group="Motion",
        advanced=True,
        precision=2,
        help="Expected error of a single frame's place before neighbours in time are asked.",
    ),
]
LocalMotion = Annotated[
    Literal["fitted", "rejected", "off"],
    quantity(
        "Local motion",
        group="Motion",
        help="Rejected where it explains data not used for its fit no better than whole-frame motion does.",
    ),
]
LocalMotionRms = Annotated[
    float,
    quantity(
        "Local motion, size",
        unit="Å",
        group="Motion",
        ge=0,
        precision=2,
        help="Root mean square over field and frames of what places move beside the whole frame.",
    ),
]
LocalMotionLoss = Annotated[
    float,
    quantity(
        "Local motion, loss in RELION's model",
        unit="Å",
        group="Motion",
        ge=0,
        advanced=True,
        precision=3,
        help="Root mean square of what a cubic in time, as motion.star holds it, cannot describe.",
    ),
]
PatchesDropped = Annotated[
    int, quantity("Patches dropped", unit="", group="Motion", ge=0, advanced=True, help="They disagree with the rest.")
]
FrcResolution = Annotated[
    float,
    quantity(
        "FRC resolution",
        unit="Å",
        group="Motion",
        gt=0,
        precision=2,
        help="Where sums of even and odd frames correlate by 0.143; a fixed pattern of the camera correlates too.",
    ),
]
MotionCurves = Annotated[
    str, curve("Motion curves", file="motion.json", help="Trajectory, local model and tracks of the patches.")
]
MicrographEven = Annotated[
    str,
    image(
        "Micrograph, even frames",
        file="micrograph_even.mrc",
        unit="counts/px",
        star="rlnMicrographNameEven",
        help="Mean of frames 2, 4, ..., for denoising; dose-weighted where the micrograph is.",
    ),
]
MicrographOdd = Annotated[
    str,
    image(
        "Micrograph, odd frames",
        file="micrograph_odd.mrc",
        unit="counts/px",
        star="rlnMicrographNameOdd",
        help="Mean of frames 1, 3, ..., for denoising; dose-weighted where the micrograph is.",
    ),
]
AlignedStack = Annotated[
    str, image("Aligned frames", file="aligned_frames.mrc", unit="counts/px", help="Every frame, moved; no weights.")
]
MicrographPreview = Annotated[str, picture("Image after correction", file="image_after.png")]
TrajectoryPreview = Annotated[str, picture("Trajectory", file="trajectory.png")]

# Findings: statistics
PowerSpectrum = Annotated[
    str,
    image(
        "Power spectrum",
        file="power_spectrum.mrc",
        star="rlnCtfPowerSpectrum",
        help="Amplitudes averaged over small areas of the transform, origin in the middle.",
    ),
]
PowerSpectrumPixelSize = Annotated[
    float, quantity("Power spectrum pixel size", unit="Å/px", group="Optics", advanced=True, precision=4)
]
PowerSpectrumFar = Annotated[
    str,
    image(
        "Power spectrum, low frequencies",
        file="power_spectrum_far.mrc",
        help="Sampled so finely that the close rings of a very large defocus can be told.",
    ),
]
PowerSpectrumFarPixelSize = Annotated[
    float, quantity("Pixel size of the low frequencies", unit="Å/px", group="Optics", advanced=True, precision=4)
]
SpectrumPreview = Annotated[str, picture("Spectrum after correction", file="spectrum_after.png")]
ImageStddevRelative = Annotated[
    float,
    quantity(
        "Relative deviation",
        unit="",
        group="Statistics",
        precision=3,
        help="Standard deviation over mean of the unaligned sum.",
    ),
]
StripeMeasure = Annotated[
    float,
    quantity(
        "Stripe measure",
        unit="",
        group="Statistics",
        precision=1,
        help="100 × standard deviation over the range of values.",
    ),
]
Iciness = Annotated[
    float,
    quantity(
        "Iciness",
        unit="",
        group="Ice",
        precision=3,
        help="Mean amplitude at 3.5-4.0 Å over that at 6-30 Å; below 1.0 is good.",
    ),
]
IcinessPaper = Annotated[float, quantity("Iciness (intensity)", unit="", group="Ice", advanced=True, precision=3)]
IcinessOuter = Annotated[
    float,
    quantity(
        "Iciness, outer ring",
        unit="",
        group="Ice",
        advanced=True,
        precision=3,
        help="As iciness, for the ring at 2.22-2.32 Å.",
    ),
]
IceRingExcess = Annotated[
    float,
    quantity("Ice ring", unit="σ", group="Ice", precision=1, help="Height of the 3.7 Å ring above its background."),
]
IceRingPosition = Annotated[
    float,
    quantity(
        "Ice ring, position",
        unit="Å",
        group="Ice",
        advanced=True,
        precision=2,
        help="Top of the strongest ring between 3.60 and 3.95 Å; empty without one.",
    ),
]
IceRingStrength = Annotated[
    float,
    quantity(
        "Ice ring, strength",
        unit="",
        group="Ice",
        precision=2,
        help="Height of that ring over its background, in amplitude; 0 is none.",
    ),
]

TextureExcess = Annotated[
    float,
    quantity(
        "Texture",
        unit="",
        group="Quality",
        precision=2,
        help="Power of the specimen at 60-6 Å over that of the noise; 0 where there is none.",
    ),
]
CarbonFraction = Annotated[
    float,
    quantity(
        "Carbon", unit="", group="Quality", precision=2, help="Part of the field that the film around a hole covers."
    ),
]
OpenFraction = Annotated[
    float,
    quantity(
        "Open part",
        unit="",
        group="Quality",
        precision=2,
        help="Part of the field without specimen beside film or ice, as where a film is torn.",
    ),
]
EdgeScore = Annotated[
    float,
    quantity(
        "Edge score",
        unit="",
        group="Quality",
        advanced=True,
        precision=2,
        help="Of what no smooth brightness explains, the part one sharp edge explains; 1 is a perfect edge.",
    ),
]
EdgeContrast = Annotated[
    float,
    quantity(
        "Edge contrast",
        unit="%",
        group="Quality",
        advanced=True,
        precision=1,
        help="Step of the brightness at that edge.",
    ),
]
QualityFlags = Annotated[
    str,
    quantity(
        "Quality flags",
        group="Quality",
        help="The rules the exposure broke, separated by commas; no text where it broke none.",
    ),
]
QualityRemark = Annotated[
    str, quantity("Quality remark", group="Quality", help="A sentence for each rule the exposure broke.")
]

InSessionSums = Annotated[
    bool,
    quantity(
        "In the session's sums", group="Session", advanced=True, help="Added to the running means of all exposures."
    ),
]
SessionMean = Annotated[
    str,
    image(
        "Mean of the session",
        file="session_mean.mrc",
        unit="counts/px",
        help="Mean of the micrographs, not dose-weighted: what stays is of the camera or the beam.",
    ),
]
SessionMeanPreview = Annotated[str, picture("Mean of the session", file="session_mean.png")]
SessionVariance = Annotated[
    str,
    image(
        "Variance of the session",
        file="session_variance.mrc",
        unit="counts²/px²",
        help="Sample variance of the micrographs, pixel by pixel; there is none of a single one.",
    ),
]
SessionVariancePreview = Annotated[str, picture("Variance of the session", file="session_variance.png")]
SessionSpectrum = Annotated[
    str,
    image("Mean spectrum of the session", file="session_spectrum.mrc", help="Mean amplitudes, origin in the middle."),
]
SessionSpectrumPreview = Annotated[str, picture("Mean spectrum of the session", file="session_spectrum.png")]
ResidualGain = Annotated[
    float,
    quantity(
        "Residual gain",
        unit="%",
        group="Session",
        precision=2,
        help="Pattern the gain reference leaves in the images, root mean square of the mean; below 0.5 is good.",
    ),
]
SessionCount = Annotated[
    int, quantity("Exposures in the sums", unit="", group="Session", ge=0, help="Of one shape and pixel size.")
]
SessionLeftOut = Annotated[
    int,
    quantity(
        "Exposures left out",
        unit="",
        group="Session",
        ge=0,
        help="Whose shape or pixel size is another, or whose files are missing; the log names them.",
    ),
]

# Findings: ctf
DefocusU = Annotated[
    float,
    quantity(
        "Defocus U", unit="Å", star="rlnDefocusU", group="CTF", precision=0, help="The larger; positive is underfocus."
    ),
]
DefocusV = Annotated[
    float,
    quantity(
        "Defocus V", unit="Å", star="rlnDefocusV", group="CTF", precision=0, help="The smaller; positive is underfocus."
    ),
]
Astigmatism = Annotated[float, quantity("Astigmatism", unit="Å", star="rlnCtfAstigmatism", group="CTF", precision=0)]
AstigmatismAngle = Annotated[
    float,
    quantity(
        "Astigmatism angle",
        unit="°",
        star="rlnDefocusAngle",
        group="CTF",
        precision=1,
        help="Direction of U from x, counter-clockwise with y up.",
    ),
]
PhaseShift = Annotated[float, quantity("Phase shift", unit="°", star="rlnPhaseShift", group="CTF", precision=1)]
CtfScore = Annotated[
    float,
    quantity(
        "CTF score",
        unit="",
        star="rlnCtfFigureOfMerit",
        group="CTF",
        precision=3,
        help="Correlation of fit and spectrum.",
    ),
]
CtfFitResolution = Annotated[
    float,
    quantity(
        "CTF fit resolution",
        unit="Å",
        star="rlnCtfMaxResolution",
        group="CTF",
        precision=2,
        help="Where fitted and measured rings fall below a correlation of 0.5.",
    ),
]
CtfFitResolution0 = Annotated[
    float,
    quantity(
        "CTF fit resolution (0)", unit="Å", group="CTF", advanced=True, precision=2, help="As the fit resolution, at 0."
    ),
]
CtfQuality = Annotated[Literal["ok", "poor", "failed"], quantity("CTF quality", group="CTF")]
CtfProbability = Annotated[
    float,
    quantity(
        "CTF probability",
        unit="",
        group="CTF",
        precision=2,
        help="That U and V are both within 300 Å, or within 2 % where that is more.",
    ),
]
CtfRemark = Annotated[str, quantity("CTF remark", group="CTF", help="Why the fit is not ok, in words.")]
CtfCurves = Annotated[
    str, curve("CTF curves", file="curves.json", help="Rotational average, background, fit and quality.")
]
CtfRingsPreview = Annotated[str, picture("CTF rings", file="ctf_rings.png", help="Half measured, half fitted.")]
