"""A chain of steps as one task: order, failures, memory and disk, and the outcome that comes back."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from focusnb.errors import FocusError, FormatError, ResourceError, StepError
from focusnb.io.images import read_image, write_mrc
from focusnb.steps.task import Progress, Task, classify, run_task
from tests.steps.conftest import Bench
from tests.unprivileged import run_as_nobody

CHAIN = '''
    """A chain of small steps."""

    from __future__ import annotations

    import json
    import sys
    from typing import Annotated

    import numpy as np

    from focusnb.errors import StepError
    from focusnb.parameters import curve, image, quantity, transient
    from focusnb.quantities import PixelSize, Voltage
    from focusnb.steps.base import Step, StepInputs, StepParams, StepResults

    Ramp = Annotated[str, image("Ramp", file="ramp.mrc", unit="counts/px")]
    Profile = Annotated[str, curve("Profile", file="profile.json")]
    Level = Annotated[float, quantity("Level", unit="counts")]
    Frames = Annotated[str, transient("Ramp frames")]


    class MakeRamp(Step):
        """Make an image, a curve, a value and something in memory."""

        name = "make_ramp"
        title = "Make a ramp"
        version = "4"
        category = "prepare"

        class Inputs(StepInputs):
            pixel_size: PixelSize

        class Params(StepParams):
            scale: Annotated[float, quantity("Scale", unit="", gt=0)] = 1.0
            mode: Annotated[str, quantity("Mode")] = "well"

        class Results(StepResults):
            ramp: Ramp | None = None
            profile: Profile | None = None
            level: Level | None = None
            ramp_frames: Frames | None = None

        def run(self, inputs, params, work):
            ramp = np.arange(12, dtype=np.float64).reshape(3, 4) * params.scale / 3
            work["ramp_frames"] = [ramp]
            work.report("half done", 0.5)
            print("to the terminal of the worker")
            saved = work.save("ramp", ramp, pixel_size=inputs.pixel_size)
            if params.mode == "cannot":
                raise StepError("grid_07: no ramp here")
            if params.mode == "fault":
                raise ZeroDivisionError("a fault")
            if params.mode == "exit":
                sys.exit(2)
            if params.mode == "full":
                raise OSError(28, "No space left on device", str(work.path("ramp")))
            if params.mode == "nothing":
                return {"ramp": saved}
            if params.mode == "unwritten":
                return self.Results(profile="profile.json")
            if params.mode == "long":
                work.log.extend(["line of a long log " * 10] * 4000)
            level = float("nan") if params.mode == "nan" else float(ramp.mean())
            return self.Results(
                ramp=saved,
                profile=None if params.mode == "nan" else work.save("profile", {"x": [1, 2], "y": (3.5, 4.5)}),
                level=level,
                ramp_frames="ramp_frames",
            )


    class MeasureRamp(Step):
        """Need all that the ramp gives."""

        name = "measure_ramp"
        title = "Measure the ramp"
        category = "statistics"

        class Inputs(StepInputs):
            ramp: Ramp
            profile: Profile
            level: Level

        class Results(StepResults):
            ramp_sum: Annotated[float, quantity("Ramp sum", unit="counts")] | None = None
            curve_text: Annotated[str, quantity("Curve as text")] | None = None

        def run(self, inputs, params, work):
            total = float(work["ramp"].sum(dtype=np.float64)) + inputs.level
            return self.Results(ramp_sum=total, curve_text=json.dumps(work["profile"]) + work["ramp"].dtype.name)


    class CountFrames(Step):
        """Need what lives in memory only."""

        name = "count_frames"
        title = "Count frames"
        category = "statistics"

        class Inputs(StepInputs):
            ramp_frames: Frames

        class Results(StepResults):
            counted: Annotated[int, quantity("Counted frames")] | None = None

        def run(self, inputs, params, work):
            return self.Results(counted=len(work["ramp_frames"]))


    class TakeWhatIsThere(Step):
        """Need nothing for certain."""

        name = "take_what_is_there"
        title = "Take what is there"
        category = "statistics"

        class Inputs(StepInputs):
            level: Level | None = None
            profile: Profile | None = None
            voltage: Voltage | None = None

        class Results(StepResults):
            seen: Annotated[str, quantity("Seen")] | None = None

        def run(self, inputs, params, work):
            return self.Results(seen=f"{inputs.level} {inputs.profile} {inputs.voltage}")
'''


@pytest.fixture
def chain(bench: Bench) -> Bench:
    bench.write("chain.py", CHAIN)
    bench.facts = {"pixel_size": 1.5}
    return bench


def test_a_chain_is_done_and_its_outcome_says_what_and_how_long(chain: Bench) -> None:
    steps = chain.run("make_ramp", "measure_ramp", "count_frames", params={"make_ramp": {"scale": 2.0}})
    assert [step.status for step in steps.values()] == ["done"] * 3
    ramp = steps["make_ramp"]
    assert ramp.values["level"] == pytest.approx(11 / 3)
    assert ramp.products == {"ramp": "ramp.mrc", "profile": "profile.json"}
    assert (ramp.version, ramp.run, ramp.fingerprint) == ("4", "1-make_ramp", "print of make_ramp")
    assert ramp.params == {"scale": 2.0}
    assert "half done" in ramp.log
    assert ramp.seconds >= 0
    assert steps["measure_ramp"].values["ramp_sum"] == pytest.approx(44 + 11 / 3)
    assert steps["count_frames"].values == {"counted": 1}
    folder = chain.exposure / ".run-1"
    assert sorted(path.name for path in folder.iterdir()) == ["log.txt", "profile.json", "ramp.mrc"]
    assert read_image(folder / "ramp.mrc").pixel_size == pytest.approx(1.5)
    assert "== make_ramp 4: done" in (folder / "log.txt").read_text()


def test_memory_and_disk_give_the_same_result(chain: Bench) -> None:
    together = chain.run("make_ramp", "measure_ramp", id="1")
    chain.adopt("1")
    apart = chain.run("measure_ramp", known={"level": together["make_ramp"].values["level"]}, id="2")
    assert apart["measure_ramp"].values == together["measure_ramp"].values
    assert apart["measure_ramp"].values["curve_text"].endswith("float32")


@pytest.mark.parametrize(
    ("mode", "status", "error", "reason"),
    [
        ("cannot", "failed", "StepError", "grid_07: no ramp here"),
        ("fault", "broken", "ZeroDivisionError", "ZeroDivisionError: a fault"),
        ("exit", "broken", "SystemExit", "SystemExit: 2"),
        ("nothing", "broken", "TypeError", "make_ramp.run returned dict, not its Results"),
        ("unwritten", "broken", "FileNotFoundError", "names profile but did not write"),
        ("full", "failed", "ResourceError", "the disk is full"),
    ],
)
def test_a_failure_ends_what_needs_it_and_nothing_else(
    chain: Bench, mode: str, status: str, error: str, reason: str
) -> None:
    chain.run("make_ramp", id="0")
    chain.adopt("0")
    steps = chain.run(
        "make_ramp",
        "measure_ramp",
        "count_frames",
        "take_what_is_there",
        params={"make_ramp": {"mode": mode}},
        known={"level": 99.0},
    )
    failed = steps["make_ramp"]
    assert (failed.status, failed.error) == (status, error)
    assert reason in failed.reason
    assert bool(failed.traceback) == (status == "broken")
    assert not failed.values
    assert not failed.products
    assert steps["measure_ramp"].status == "skipped"
    assert steps["measure_ramp"].reason == "needs ramp, which make_ramp did not make"
    assert steps["measure_ramp"].fingerprint == "print of measure_ramp"
    assert steps["count_frames"].status == "skipped"
    # neither the value nor the file of an earlier run passes for one of this run
    assert steps["take_what_is_there"].values == {"seen": "None None None"}
    assert [path.name for path in (chain.exposure / ".run-1").iterdir()] == ["log.txt"]


def test_a_skipped_step_leaves_no_old_value_to_those_after_it(chain: Bench) -> None:
    chain.write(
        "twice.py",
        """
        from typing import Annotated
        from focusnb.parameters import quantity
        from focusnb.steps.base import Step, StepInputs, StepResults

        class Second(Step):
            name, title, category = "second", "Second", "statistics"

            class Inputs(StepInputs):
                ramp_sum: Annotated[float, quantity("Ramp sum", unit="counts")]

            class Results(StepResults):
                doubled: Annotated[float, quantity("Doubled", unit="counts")] | None = None

            def run(self, inputs, params, work):
                return self.Results(doubled=2 * inputs.ramp_sum)
        """,
    )
    names = ("make_ramp", "measure_ramp", "second")
    steps = chain.run(*names, params={"make_ramp": {"mode": "fault"}}, known={"ramp_sum": 5.0})
    assert [steps[name].status for name in names] == ["broken", "skipped", "skipped"]
    assert steps["second"].reason == "needs ramp_sum, which measure_ramp did not make"


def test_a_result_that_is_no_number_is_missing_and_what_needs_it_fails_saying_so(chain: Bench) -> None:
    chain.run("make_ramp", id="0")
    chain.adopt("0")
    steps = chain.run(
        "make_ramp", "take_what_is_there", "measure_ramp", params={"make_ramp": {"mode": "nan"}}, known={"level": 99.0}
    )
    assert steps["make_ramp"].status == "done"
    assert set(steps["make_ramp"].values) == {"ramp", "ramp_frames"}
    assert steps["take_what_is_there"].values == {"seen": "None None None"}
    assert (steps["measure_ramp"].status, steps["measure_ramp"].error) == ("failed", "StepError")
    assert steps["measure_ramp"].reason == (
        "grid_07: profile (profile) is missing: make_ramp found none for this exposure"
    )


def test_a_missing_fact_is_told_with_the_cure(chain: Bench) -> None:
    chain.facts = {}
    step = chain.run("make_ramp")["make_ramp"]
    assert (step.status, step.error) == ("failed", "StepError")
    assert step.reason == (
        "grid_07: pixel size is not known, and make a ramp needs it; import it again with --set pixel_size=VALUE"
    )


def test_a_missing_finding_says_what_to_run(chain: Bench) -> None:
    step = chain.run("count_frames")["count_frames"]
    assert step.status == "failed"
    assert step.reason == "grid_07: ramp frames (ramp_frames) is not there; run the step that makes it first"


def test_a_parameter_not_declared_any_more_is_reported_and_not_used(chain: Bench) -> None:
    step = chain.run("make_ramp", params={"make_ramp": {"scale": 1.0, "old_name": 3}})["make_ramp"]
    assert step.status == "done"
    assert "old_name is not a parameter of make_ramp any more and was not used" in step.log


def test_a_parameter_outside_its_limits_fails_with_both_numbers(chain: Bench) -> None:
    step = chain.run("make_ramp", params={"make_ramp": {"scale": -1.0}})["make_ramp"]
    assert (step.status, step.error) == ("failed", "ParameterError")
    assert "scale = -1.0: Scale should be greater than 0" in step.reason


def test_an_outcome_stays_small_whatever_was_printed(chain: Bench) -> None:
    task = chain.task("make_ramp", "measure_ramp", "count_frames", params={"make_ramp": {"mode": "long"}})
    outcome = run_task(task)
    assert outcome.steps[0].status == "done"
    assert len(pickle.dumps(outcome)) < 100_000
    assert len(pickle.dumps(task)) < 100_000
    assert (chain.exposure / ".run-1/log.txt").stat().st_size > 700_000


def test_progress_is_told_as_it_happens(chain: Bench) -> None:
    told: list[Progress] = []
    outcome = run_task(chain.task("make_ramp"), told.append)
    assert told[0] == Progress("1", 7, "make_ramp", "half done", 0.5)
    (ended,) = told[1].finished
    assert (ended.step, ended.status, ended.values) == ("make_ramp", "done", outcome.steps[0].values)
    assert len(told) == 2


def test_files_among_the_facts_are_absolute(bench: Bench) -> None:
    bench.write(
        "say.py",
        """
        from typing import Annotated
        from focusnb.parameters import quantity
        from focusnb.quantities import Defects, GainReference, MovieFile
        from focusnb.steps.base import Step, StepInputs, StepResults

        class Say(Step):
            name, title, category = "say", "Say", "prepare"

            class Inputs(StepInputs):
                movie: MovieFile
                gain_reference: GainReference
                defects: Defects

            class Results(StepResults):
                said: Annotated[str, quantity("Said")] | None = None

            def run(self, inputs, params, work):
                return self.Results(said=f"{inputs.movie} {inputs.gain_reference} {inputs.defects}")
        """,
    )
    bench.facts = {"movie": "raw/a.tif", "gain_reference": "references/ab/gain.mrc", "defects": "/camera/defects.txt"}
    said = bench.run("say")["say"].values["said"]
    assert said == f"{bench.exposure}/raw/a.tif {bench.project}/references/ab/gain.mrc /camera/defects.txt"


def test_a_step_that_cannot_be_loaded_is_part_of_the_outcome(chain: Bench) -> None:
    task = replace(chain.task("make_ramp", "measure_ramp"))
    (chain.steps / "chain.py").write_text("import nothing_of_this_name")
    steps = run_task(task).steps
    assert [step.status for step in steps] == ["failed", "skipped"]
    assert "chain.py: cannot be loaded as a step: ModuleNotFoundError" in steps[0].reason
    assert steps[1].reason == "make_ramp could not begin"


def _run(task: Task) -> list[tuple[str, str, str]]:
    return [(step.status, step.error, step.reason) for step in run_task(task).steps]


def test_a_read_only_exposure_fails_with_the_cure(chain: Bench) -> None:
    task = chain.task("make_ramp", "measure_ramp")
    chain.exposure.chmod(0o555)
    try:
        first, second = run_as_nobody(_run, task)
    finally:
        chain.exposure.chmod(0o755)
    assert first[:2] == ("failed", "ResourceError")
    assert "cannot be written (Permission denied); give this user" in first[2]
    assert second[0] == "skipped"


def test_a_full_disk_is_the_machines_fault_not_the_exposures(chain: Bench, small_disk: Callable[[float], Path]) -> None:
    disk = small_disk(0.2)
    (disk / "exposures/import_1/grid_07").mkdir(parents=True)
    (disk / "ballast").write_bytes(bytes(180_000))
    chain.write("big.py", CHAIN.replace("np.arange(12", "np.arange(120000").replace("(3, 4)", "(300, 400)"))
    (chain.steps / "chain.py").unlink()
    task = replace(chain.task("make_ramp"), project=str(disk))
    step = run_task(task).steps[0]
    assert (step.status, step.error) == ("failed", "ResourceError")
    assert "ramp.mrc: the disk is full" in step.reason
    assert not [path for path in (disk / "exposures/import_1/grid_07/.run-1").iterdir() if path.suffix == ".mrc"]


@pytest.mark.parametrize(
    ("exception", "status", "error"),
    [
        (StepError("a"), "failed", "StepError"),
        (FormatError("a"), "failed", "FormatError"),
        (ResourceError("a"), "failed", "ResourceError"),
        (MemoryError(), "failed", "ResourceError"),
        (OSError(28, "No space left on device", "/a/b.mrc"), "failed", "ResourceError"),
        (OSError(30, "Read-only file system", "/a/b.mrc"), "failed", "ResourceError"),
        (FileNotFoundError(2, "No such file", "/a/b.mrc"), "broken", "FileNotFoundError"),
        (KeyError("a"), "broken", "KeyError"),
    ],
)
def test_exceptions_are_sorted(exception: Exception, status: str, error: str) -> None:
    found = classify(exception, "grid_07")
    assert (found[0], found[2]) == (status, error)
    assert bool(found[3]) == (status == "broken")


def test_what_io_says_of_a_full_disk_stays_and_counts_as_the_machines() -> None:
    told = FocusError("a.mrc: the disk is full (12 bytes needed)")
    told.__cause__ = OSError(28, "No space left on device")
    assert classify(told, "grid_07")[:3] == ("failed", str(told), "ResourceError")
    unreadable = FormatError("a.tif: may not be read by this user")
    unreadable.__cause__ = PermissionError(13, "Permission denied")
    assert classify(unreadable, "grid_07")[2] == "FormatError"


def test_half_precision_gives_the_same_in_memory_as_on_disk(chain: Bench) -> None:
    text = CHAIN.replace('work.save("ramp", ramp, pixel_size', 'work.save("ramp", ramp, dtype="float16", pixel_size')
    chain.write("chain.py", text)
    together = chain.run("make_ramp", "measure_ramp", id="1")
    chain.adopt("1")
    apart = chain.run("measure_ramp", known={"level": together["make_ramp"].values["level"]}, id="2")
    assert apart["measure_ramp"].values == together["measure_ramp"].values


def test_an_image_of_the_exposure_is_read_where_it_was_not_made_in_this_task(chain: Bench) -> None:
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_mrc(chain.exposure / "ramp.mrc", image, pixel_size=1.0)
    (chain.exposure / "profile.json").write_text('{"x": []}')
    step = chain.run("measure_ramp", known={"level": 0.5})["measure_ramp"]
    assert step.values["ramp_sum"] == pytest.approx(15.5)
