"""Judge an exposure by rules, and say which of them it broke."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import field_validator

from focusnb.ops import quality
from focusnb.ops.quality import LIMITS, FieldLimits, FieldMeasures
from focusnb.ops.statistics import judge_brightness
from focusnb.parameters import quantity
from focusnb.quantities import (
    Astigmatism,
    CtfFitResolution,
    CtfQuality,
    DefocusU,
    DefocusV,
    DoseOrigin,
    DosePerFrameMeasured,
    DosePerFrameUsed,
    Drift,
    IceRingExcess,
    IceRingStrength,
    Iciness,
    MeanCounts,
    Micrograph,
    MicrographPixelSize,
    StripeMeasure,
)
from focusnb.steps.base import Step, StepInputs, StepParams
from focusnb.steps.statistics import JudgedExposure
from focusnb.steps.work import Work

RULES = (
    "dark",
    "bright",
    "stripe",
    "empty_hole",
    "broken_film",
    "carbon_edge",
    "drift",
    "astigmatism",
    "defocus",
    "ctf",
    "ice",
)
"""Names of the rules, in the order in which they are told."""


def _limit(label: str, unit: str, group: str, help: str = "", **more: Any) -> Any:
    """Declare a threshold."""
    return quantity(label, unit=unit, group=group, help=help, **more)


RulesOff = Annotated[
    str,
    quantity("Rules switched off", group="Rules", help=f"Separated by commas, of {', '.join(RULES)}."),
]
CountsMin = Annotated[
    float, _limit("Smallest counts", "e⁻/px/frame", "Counts", "Dark below, where no dose is recorded.", ge=0)
]
DarkFraction = Annotated[float, _limit("Dark below", "", "Counts", "Of the counts the recorded dose gives.", ge=0)]
BrightFraction = Annotated[float, _limit("Bright above", "", "Counts", "Of the counts the recorded dose gives.", gt=0)]
StripeMax = Annotated[float, _limit("Largest stripe measure", "", "Counts", gt=0)]
EmptyFraction = Annotated[
    float, _limit("Empty part of an empty hole", "", "Field", "Part of the field without any texture.", gt=0, le=1)
]
OpenFractionMax = Annotated[
    float, _limit("Largest open part", "", "Field", "Where a film is torn, of the field.", ge=0, le=1)
]
CarbonFractionMax = Annotated[
    float, _limit("Largest carbon", "", "Field", "Film around the hole, of the field.", ge=0, le=1)
]
TextureMin = Annotated[
    float,
    _limit("Smallest texture", "", "Field", "Power over that of the noise; below it nothing is there.", advanced=True),
]
EdgeScoreMin = Annotated[
    float, _limit("Smallest edge score", "", "Field", "Below it there is no edge.", advanced=True, gt=0, lt=1)
]
EdgeContrastMin = Annotated[
    float,
    _limit("Smallest edge contrast", "%", "Field", "Of a film or a tear; parts of a camera differ by less.", ge=0),
]
DriftMax = Annotated[float, _limit("Largest drift", "Å", "Motion", gt=0)]
AstigmatismMax = Annotated[float, _limit("Largest astigmatism", "Å", "CTF", "Defocus U less V.", ge=0)]
DefocusMeanMin = Annotated[float, _limit("Smallest mean defocus", "Å", "CTF", "Positive is underfocus.")]
DefocusMeanMax = Annotated[float, _limit("Largest mean defocus", "Å", "CTF", "Positive is underfocus.")]
CtfQualityMin = Annotated[Literal["ok", "poor"], quantity("Lowest CTF quality", group="CTF")]
CtfFitResolutionMax = Annotated[float, _limit("Coarsest CTF fit resolution", "Å", "CTF", gt=0)]
IcinessMax = Annotated[float, _limit("Largest iciness", "", "Ice", "Noise alone gives 1; 1.5 is unusable.", gt=0)]
IceRingStrengthMax = Annotated[
    float, _limit("Strongest ice ring", "", "Ice", "Height over its background, in amplitude.", ge=0)
]
IceRingExcessMax = Annotated[
    float,
    _limit("Clearest ice ring", "σ", "Ice", "In standard deviations, which grow smaller with the image.", ge=0),
]


class JudgeExposure(Step):
    """Say which rules an exposure breaks: counts, film or tears in the field, an empty hole, motion, CTF, ice.

    A value that is not known breaks no rule. Which rules were broken is a finding of its own; the flag that is set by
    hand stays as it is.
    """

    name = "judge_exposure"
    title = "Judge the exposure"
    version = "1"
    category = "statistics"
    gpu = "uses"

    class Inputs(StepInputs):
        """The micrograph, and what other steps found."""

        micrograph: Micrograph
        micrograph_pixel_size: MicrographPixelSize
        mean_counts: MeanCounts | None = None
        dose_per_frame_measured: DosePerFrameMeasured | None = None
        dose_per_frame_used: DosePerFrameUsed | None = None
        dose_origin: DoseOrigin | None = None
        stripe_measure: StripeMeasure | None = None
        drift: Drift | None = None
        defocus_u: DefocusU | None = None
        defocus_v: DefocusV | None = None
        astigmatism: Astigmatism | None = None
        ctf_quality: CtfQuality | None = None
        ctf_fit_resolution: CtfFitResolution | None = None
        iciness: Iciness | None = None
        ice_ring_strength: IceRingStrength | None = None
        ice_ring_excess: IceRingExcess | None = None

    class Params(StepParams):
        """The thresholds. None is no threshold; ``rules_off`` switches whole rules off."""

        rules_off: RulesOff = ""
        counts_min: CountsMin | None = 0.1
        dark_fraction: DarkFraction | None = 0.4
        bright_fraction: BrightFraction | None = 1.6
        stripe_max: StripeMax | None = 30.0
        empty_fraction: EmptyFraction | None = LIMITS.empty
        open_fraction_max: OpenFractionMax | None = 0.05
        carbon_fraction_max: CarbonFractionMax | None = 0.05
        texture_min: TextureMin = LIMITS.texture
        edge_score_min: EdgeScoreMin = LIMITS.edge
        edge_contrast_min: EdgeContrastMin = 100 * LIMITS.contrast
        drift_max: DriftMax | None = 50.0
        astigmatism_max: AstigmatismMax | None = 600.0
        defocus_mean_min: DefocusMeanMin | None = 2000.0
        defocus_mean_max: DefocusMeanMax | None = 70_000.0
        ctf_quality_min: CtfQualityMin | None = "poor"
        ctf_fit_resolution_max: CtfFitResolutionMax | None = 8.5
        iciness_max: IcinessMax | None = 1.6
        ice_ring_strength_max: IceRingStrengthMax | None = 0.5
        ice_ring_excess_max: IceRingExcessMax | None = None

        @field_validator("rules_off")
        @classmethod
        def _known(cls, value: str) -> str:
            unknown = sorted(_names(value) - set(RULES))
            if unknown:
                raise ValueError(f"names {', '.join(unknown)}; there are {', '.join(RULES)}")
            return value

    Results = JudgedExposure

    def run(self, inputs: Inputs, params: Params, work: Work) -> JudgedExposure:
        """Measure the field, ask every rule, and say why those are broken that are."""
        off = _names(params.rules_off)
        limits = FieldLimits(
            texture=params.texture_min,
            edge=params.edge_score_min,
            contrast=params.edge_contrast_min / 100,
            empty=LIMITS.empty if params.empty_fraction is None else params.empty_fraction,
        )
        field = quality.measure_field(
            work["micrograph"], pixel_size=inputs.micrograph_pixel_size, least_texture=limits.texture
        )
        broken = _broken(inputs, params, field, limits)
        told = [(rule, sentence) for rule in RULES if rule not in off for sentence in broken.get(rule, ())[:1]]
        for rule, sentence in told:
            work.report(f"{rule}: {sentence}")
        return JudgedExposure(
            quality_flags=",".join(rule for rule, _ in told),
            quality_remark=" ".join(sentence for _, sentence in told) or None,
            carbon_fraction=quality.film_fraction(field, limits),
            open_fraction=quality.open_fraction(field, limits),
            texture_excess=None if field.texture_excess is None else field.texture_excess.value,
            edge_score=field.edge_score,
            edge_contrast=None if field.edge_contrast is None else 100 * field.edge_contrast,
        )


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",")} - {""}


Broken = Iterator[tuple[str, str]]


def _broken(
    inputs: JudgeExposure.Inputs, params: JudgeExposure.Params, field: FieldMeasures, limits: FieldLimits
) -> dict[str, list[str]]:
    """Return a sentence or more for each rule that is broken."""
    found: dict[str, list[str]] = {}
    parts = (_counts(inputs, params), _field(inputs, params, field, limits), _optics(inputs, params))
    for part in (*parts, _ice(inputs, params)):
        for rule, sentence in part:
            found.setdefault(rule, []).append(sentence)
    return found


def _counts(inputs: JudgeExposure.Inputs, params: JudgeExposure.Params) -> Broken:
    """Counts against the recorded dose, and Focus' measure of stripes."""
    if inputs.mean_counts is not None:
        expected = _expected_counts(inputs)
        low, high = params.dark_fraction, params.bright_fraction
        judged = judge_brightness(
            inputs.mean_counts,
            expected=expected,
            # frames may be as short as the camera allows: where a dose is recorded, it tells what is dark
            darkest=0.0 if expected is not None else params.counts_min or 0.0,
            dark_fraction=0.0 if low is None else low,
            bright_fraction=float("inf") if high is None else high,
        )
        if judged.verdict != "ok":
            yield judged.verdict, f"Too {judged.verdict}: {judged.reason}."
    if _above(inputs.stripe_measure, params.stripe_max):
        yield (
            "stripe",
            f"Stripes or parts of unequal brightness: {inputs.stripe_measure:.1f}, above {params.stripe_max:g}.",
        )


def _expected_counts(inputs: JudgeExposure.Inputs) -> float | None:
    """Return the counts that the recorded dose gives; None where the dose is itself measured from the counts."""
    used, measured = inputs.dose_per_frame_used, inputs.dose_per_frame_measured
    if inputs.mean_counts is None or inputs.dose_origin not in ("given", "exposure") or not used or not measured:
        return None
    return inputs.mean_counts * used / measured


def _field(
    inputs: JudgeExposure.Inputs, params: JudgeExposure.Params, field: FieldMeasures, limits: FieldLimits
) -> Broken:
    """What lies in the field."""
    # rings are the better witness: what makes them is there, however weak its texture
    texture, ringless = field.texture_excess, inputs.ctf_quality in (None, "failed")
    if params.empty_fraction is not None and texture is not None and ringless and quality.is_empty(field, limits):
        rings = "" if inputs.ctf_quality is None else ", and there are no Thon rings"
        yield (
            "empty_hole",
            f"Nothing is in the field: its texture is {texture.value:.3f} of the noise{rings}.",
        )
    opened = quality.open_fraction(field, limits)
    if opened and params.open_fraction_max is not None and opened > params.open_fraction_max:
        yield (
            "broken_film",
            f"{100 * opened:.0f} % of the field are open: bright, with a sharp border, and without texture.",
        )
    film = quality.film_fraction(field, limits)
    if film and params.carbon_fraction_max is not None and film > params.carbon_fraction_max:
        yield (
            "carbon_edge",
            f"Film covers {100 * film:.0f} % of the field; at most {100 * params.carbon_fraction_max:g} % are allowed.",
        )


def _optics(inputs: JudgeExposure.Inputs, params: JudgeExposure.Params) -> Broken:
    """Motion and CTF."""
    if _above(inputs.drift, params.drift_max):
        yield "drift", f"The specimen drifted by {inputs.drift:.1f} Å, more than {params.drift_max:g} Å."
    if _above(inputs.astigmatism, params.astigmatism_max):
        yield "astigmatism", f"Astigmatism is {inputs.astigmatism:.0f} Å, more than {params.astigmatism_max:g} Å."
    if inputs.defocus_u is not None and inputs.defocus_v is not None:
        mean = 0.5 * (inputs.defocus_u + inputs.defocus_v)
        if _above(mean, params.defocus_mean_max):
            yield "defocus", f"Defocus is {mean:.0f} Å, more than {params.defocus_mean_max:g} Å."
        if _above(params.defocus_mean_min, mean):
            yield "defocus", f"Defocus is {mean:.0f} Å, less than {params.defocus_mean_min:g} Å."
    worse: dict[str | None, tuple[str, ...]] = {"ok": ("poor", "failed"), "poor": ("failed",), None: ()}
    if inputs.ctf_quality in worse[params.ctf_quality_min]:
        found = "failed" if inputs.ctf_quality == "failed" else f"is {inputs.ctf_quality}"
        yield "ctf", f"The fit of the CTF {found}; it is to be {params.ctf_quality_min} at least."
    if _above(inputs.ctf_fit_resolution, params.ctf_fit_resolution_max):
        yield (
            "ctf",
            f"The fit of the CTF reaches {inputs.ctf_fit_resolution:.1f} Å only, "
            f"not {params.ctf_fit_resolution_max:g} Å.",
        )


def _ice(inputs: JudgeExposure.Inputs, params: JudgeExposure.Params) -> Broken:
    """Crystalline ice, by its ring."""
    if _above(inputs.iciness, params.iciness_max):
        yield "ice", f"Iciness is {inputs.iciness:.2f}, above {params.iciness_max:g}."
    if _above(inputs.ice_ring_strength, params.ice_ring_strength_max):
        yield (
            "ice",
            f"The ring of ice is {inputs.ice_ring_strength:.2f} strong, above {params.ice_ring_strength_max:g}.",
        )
    if _above(inputs.ice_ring_excess, params.ice_ring_excess_max):
        yield "ice", f"The ring of ice is at {inputs.ice_ring_excess:.1f} σ, above {params.ice_ring_excess_max:g} σ."


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit
