"""Defining, registering and loading steps; what their results accept."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.quantities import CtfQuality, DefocusU, PixelSize
from focusnb.steps.base import (
    CATEGORIES,
    Cost,
    StepResults,
    built_in_steps,
    faults_in,
    find_step,
    known_values,
    steps_in,
)
from tests.steps.conftest import Bench

COUNT_GOLD = '''
    """Count gold beads."""

    from __future__ import annotations

    from typing import Annotated

    from focusnb.parameters import quantity
    from focusnb.quantities import Micrograph, PixelSize
    from focusnb.steps.base import Step, StepInputs, StepParams, StepResults


    class CountGold(Step):
        """Count what is far darker than the mean."""

        name = "count_gold"
        title = "Count gold beads"
        category = "statistics"

        class Inputs(StepInputs):
            micrograph: Micrograph
            pixel_size: PixelSize

        class Params(StepParams):
            threshold: Annotated[float, quantity("Threshold", unit="σ", gt=0)] = 3.0

        class Results(StepResults):
            gold_beads: Annotated[int, quantity("Gold beads")] | None = None

        def run(self, inputs, params, work):
            image = work["micrograph"]
            dark = image < image.mean() - params.threshold * image.std()
            return self.Results(gold_beads=int(dark.sum()))
'''


class Measured(StepResults):
    defocus_u: DefocusU | None = None
    ctf_quality: CtfQuality | None = None
    pixel: PixelSize | None = None


def test_results_take_numpy_numbers_and_drop_what_is_no_number() -> None:
    results = Measured(defocus_u=np.float32(15000.5), ctf_quality="ok", pixel=np.nan)
    assert type(results.defocus_u) is float
    assert results.defocus_u == 15000.5
    assert results.pixel is None
    assert Measured(defocus_u=float("-inf")).defocus_u is None


def test_cost_of_a_chain_is_the_largest_of_each() -> None:
    assert Cost(10, 0, 4) | Cost(3, 7, 1) == Cost(10, 7, 4)


def test_a_step_from_a_file_is_found_with_its_needs_and_its_hash(bench: Bench) -> None:
    bench.write("count_gold.py", COUNT_GOLD)
    step = find_step("count_gold", bench.steps)
    assert step.title == "Count gold beads"
    assert [spec.name for spec in step.needs()] == ["micrograph"]
    assert [spec.name for spec in step.facts()] == ["pixel_size"]
    assert [spec.name for spec in step.makes()] == ["gold_beads"]
    assert len(step.origin) == 64
    assert "count_gold" not in built_in_steps()
    assert "count_gold" not in steps_in(None)


def test_a_changed_file_is_loaded_again_with_another_hash(bench: Bench) -> None:
    path = bench.write("count_gold.py", COUNT_GOLD)
    first = find_step("count_gold", bench.steps)
    assert find_step("count_gold", bench.steps) is first
    bench.write("count_gold.py", COUNT_GOLD.replace("= 3.0", "= 4.0"))
    os.utime(path, ns=(1, 1))
    second = find_step("count_gold", bench.steps)
    assert second.Params().threshold == 4.0  # type: ignore[attr-defined]
    assert second.origin != first.origin
    path.unlink()
    with pytest.raises(ParameterError, match="there is no step count_gold; there are"):
        find_step("count_gold", bench.steps)


def test_byte_code_beside_a_step_is_neither_made_nor_run(bench: Bench, tmp_path: Path) -> None:
    path = bench.write("count_gold.py", COUNT_GOLD)
    other = tmp_path / "other.py"
    other.write_text("raise SystemExit('planted byte code ran')")
    cache = bench.steps / "__pycache__"
    cache.mkdir()
    py_compile.compile(str(other), cfile=str(cache / "count_gold.cpython-311.pyc"))
    before = sorted(cache.iterdir())
    assert find_step("count_gold", bench.steps).name == "count_gold"
    assert sorted(cache.iterdir()) == before
    assert path.is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("import quantity", "import quantitty"), "cannot be loaded as a step: ImportError"),
        (('"count_gold"', '"count-gold"'), "step count-gold: a name is small letters"),
        (('"statistics"', '"gold"'), "category 'gold' is not one of prepare, align"),
        (("gold_beads:", "voltage:"), "makes voltage, which is a fact"),
        (("threshold:", "gold_beads:"), "gold_beads is a choice and a fact or finding at once"),
        (("threshold:", "micrograph:"), "micrograph is a choice and a fact or finding at once"),
        (('Annotated[int, quantity("Gold beads")]', "int"), "gold_beads is not declared"),
        (("class CountGold", "raise SystemExit(2)\n    class CountGold"), "SystemExit: 2"),
    ],
)
def test_a_faulty_file_is_named(bench: Bench, change: tuple[str, str], message: str) -> None:
    path = bench.write("count_gold.py", COUNT_GOLD.replace(*change))
    other = bench.write("other.py", COUNT_GOLD.replace('"count_gold"', '"count_silver"'))
    assert "count_gold" not in steps_in(bench.steps)
    (told,) = faults_in(bench.steps)
    assert message in told
    assert str(path) in told
    assert find_step("count_silver", bench.steps).name == "count_silver", f"{other} has no fault"
    with pytest.raises(ParameterError, match="there is no step count_gold") as caught:
        find_step("count_gold", bench.steps)
    assert message in str(caught.value)


def test_a_file_without_a_step_is_told_unless_its_name_says_that_it_has_none(bench: Bench) -> None:
    bench.write("forgotten.py", COUNT_GOLD.replace('    name = "count_gold"', ""))
    bench.write("plain.sh", "#!/bin/sh\ntrue\n")
    bench.write("_helpers.py", "x = 1\n")
    told = faults_in(bench.steps)
    assert [fault.split(":")[0].rsplit("/", 1)[-1] for fault in told] == ["forgotten.py", "plain.sh"]
    assert all("defines no step" in fault for fault in told)


def test_a_parameter_without_default_is_refused(bench: Bench) -> None:
    bench.write("count_gold.py", COUNT_GOLD.replace(" = 3.0", ""))
    (told,) = faults_in(bench.steps)
    assert "parameter threshold has no default" in told


def test_one_name_in_two_files_is_refused_with_both(bench: Bench) -> None:
    bench.write("a.py", COUNT_GOLD)
    bench.write("b.py", COUNT_GOLD)
    assert "count_gold" not in steps_in(bench.steps)
    with pytest.raises(ParameterError, match=r"step count_gold is defined in .*a\.py and in .*b\.py; rename"):
        find_step("count_gold", bench.steps)


def test_a_built_in_name_is_refused(bench: Bench) -> None:
    name = sorted(built_in_steps())[0]
    bench.write("mine.py", COUNT_GOLD.replace('"count_gold"', f'"{name}"'))
    (told,) = faults_in(bench.steps)
    assert f"step {name} is defined twice" in told
    assert built_in_steps()[name].__module__.startswith("focusnb.steps.")


def test_threads_that_load_at_once_get_their_own_steps(tmp_path: Path) -> None:
    folders = []
    for number in range(6):
        folder = tmp_path / f"steps_{number}"
        folder.mkdir()
        text = COUNT_GOLD.replace('"count_gold"', f'"count_gold_{number}"')
        (folder / "mine.py").write_text("\n".join(line[4:] for line in text.splitlines()))
        folders.append(folder)
    found: dict[int, set[str]] = {}
    begin = threading.Barrier(len(folders))

    def load(number: int) -> None:
        begin.wait()
        found[number] = set(steps_in(folders[number])) - set(built_in_steps())

    threads = [threading.Thread(target=load, args=(number,)) for number in range(len(folders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: {f"count_gold_{number}"} for number in range(len(folders))}


def test_known_values_are_facts_and_what_built_in_steps_make() -> None:
    known = known_values()
    assert known["pixel_size"] == PixelSize
    assert {"voltage", "movie"} <= set(known)
    made = {spec.name for step in built_in_steps().values() for spec in step.makes()}
    assert made <= set(known)


def test_categories_are_folders_or_to_come() -> None:
    assert {step.category for step in built_in_steps().values()} <= set(CATEGORIES)


def test_steps_come_in_one_order_whichever_was_imported_first() -> None:
    told = "from focusnb.steps.base import built_in_steps; print(*built_in_steps())"
    first = "from focusnb.steps.statistics import judge_exposure; from focusnb.steps.align import align_frames; "
    orders = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for code in (told, first + told)
    ]
    assert orders[0].split()[:3] == ["prepare_image", "prepare_movie", "align_frames"]
    assert orders[1] == orders[0]
