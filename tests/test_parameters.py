"""How a value is declared, validated, told and kept."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Literal

import pytest

from focusnb.errors import ParameterError
from focusnb.parameters import Declared, Spec, curve, file, image, picture, quantity, table, transient
from focusnb.quantities import Acquisition, PixelSize

Threshold = Annotated[float, quantity("Threshold", unit="σ", group="Search", gt=0, le=20, precision=1)]


class Choices(Declared):
    threshold: Threshold = 3.0
    method: Annotated[Literal["fast", "exact"], quantity("Method", help="How it is done.")] = "fast"
    rings: Annotated[int | None, quantity("Rings", unit="", ge=1)] = None
    score: Annotated[float, quantity("Score", unit="")] = 0.5
    picked: Annotated[float, quantity("Picked")] = 0.0


class Everything(Declared):
    pixel_size: PixelSize
    movie: Annotated[str, file("Movie")]
    sum: Annotated[str, image("Sum", file="sum.mrc", unit="counts/px")] | None = None
    preview: Annotated[str, picture("Preview", file="preview.png")] | None = None
    picks: Annotated[str, table("Picks", file="picks.star", columns=("rlnCoordinateX", "rlnCoordinateY"))] | None = None
    profile: Annotated[str, curve("Profile", file="profile.json")] | None = None
    frames: Annotated[str, transient("Frames")] | None = None
    when: Annotated[datetime, quantity("When")] | None = None


def test_a_spec_holds_what_was_declared() -> None:
    assert Choices.spec("threshold") == Spec(
        name="threshold",
        type="float",
        label="Threshold",
        unit="σ",
        default=3.0,
        group="Search",
        precision=1,
        limits={"gt": 0, "le": 20},
    )
    method = Choices.spec("method")
    assert (method.type, method.choices, method.help) == ("str", ("fast", "exact"), "How it is done.")
    rings = Choices.spec("rings")
    assert (rings.type, rings.optional, rings.required, rings.limits) == ("int", True, False, {"ge": 1})


def test_no_unit_on_purpose_differs_from_a_forgotten_one() -> None:
    assert Choices.spec("score").unitless
    assert not Choices.spec("picked").unitless
    assert not Choices.spec("threshold").unitless


def test_kinds_files_and_captions() -> None:
    specs = {spec.name: spec for spec in Everything.specs()}
    kinds = {name: spec.kind for name, spec in specs.items()}
    assert kinds == {
        "pixel_size": "value",
        "movie": "file",
        "sum": "image",
        "preview": "picture",
        "picks": "table",
        "profile": "curve",
        "frames": "transient",
        "when": "value",
    }
    assert specs["sum"].file == "sum.mrc"
    assert specs["movie"].file is None
    assert specs["picks"].columns == ("rlnCoordinateX", "rlnCoordinateY")
    assert specs["when"].type == "datetime"
    assert specs["pixel_size"].required
    assert not specs["sum"].required
    assert specs["sum"].caption == "Sum (counts/px)"
    assert specs["profile"].caption == "Profile"


@pytest.mark.parametrize("model", [Choices, Everything, Acquisition])
def test_specs_survive_json(model: type[Declared]) -> None:
    for spec in model.specs():
        assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_of_a_newer_version_can_be_read() -> None:
    assert Spec.from_dict({"name": "drift", "label": "Drift", "hologram": 3}) == Spec(name="drift", label="Drift")


def test_all_faults_are_told_with_value_limit_and_unit() -> None:
    with pytest.raises(ParameterError) as caught:
        Choices.make({"threshold": 25, "rings": 0, "method": "slow"})
    text = str(caught.value)
    assert "threshold = 25: Threshold should be less than or equal to 20 σ" in text
    assert "rings = 0: Rings should be greater than or equal to 1" in text
    assert "'fast' or 'exact'" in text


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ParameterError, match="treshold is not a value of Choices; did you mean threshold"):
        Choices.make({"treshold": 4})
    with pytest.raises(ParameterError, match="there are threshold, method"):
        Choices.spec("zzz")


def test_a_missing_value_is_named_by_its_label() -> None:
    with pytest.raises(ParameterError, match=r"pixel_size \(Pixel size\) is not known: give it"):
        Everything.make({"movie": "a.tif"})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ParameterError, match="Score should be a finite number"):
        Choices.make({"score": value})


def test_a_stored_value_not_declared_any_more_is_dropped_and_reported() -> None:
    choices, dropped = Choices.read({"threshold": 4, "old_name": 1, "another": 2})
    assert choices.threshold == 4
    assert dropped == ["another", "old_name"]


def test_records_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Choices().threshold = 4  # type: ignore[misc]


def test_an_annotation_without_declaration_is_refused() -> None:
    class Bare(Declared):
        number: float = 0.0

    with pytest.raises(TypeError, match="number is not declared"):
        Bare.specs()


def test_a_limit_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="Threshold: maximum is no limit; use gt, ge"):
        quantity("Threshold", maximum=3)


@pytest.mark.filterwarnings("ignore:Field name")
def test_a_name_the_record_itself_uses_is_refused() -> None:
    with pytest.raises(TypeError, match="Copies: copy cannot be the name of a value"):

        class Copies(Declared):
            copy: Threshold = 3.0


def test_faults_are_told_by_name() -> None:
    assert Choices.faults({"threshold": "4.5", "method": "exact"}) == {}
    told = Choices.faults({"threshold": 30, "rings": "many", "score": 1.0})
    assert sorted(told) == ["rings", "threshold"]
    assert told["threshold"] == "threshold = 30: Threshold should be less than or equal to 20 σ"
    assert "many" in told["rings"]
    assert Choices.spec("threshold").limits_text == "> 0, ≤ 20"
