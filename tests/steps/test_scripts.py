"""Users' own steps: an external program, a Python file, scripts with a header; each in about twenty lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.io.images import read_image, write_mrc
from focusnb.steps.headers import has_header
from focusnb.steps.scripts import step_from_script
from tests.steps.conftest import Bench

EXTERNAL = '''
    from typing import Annotated

    from focusnb.parameters import quantity
    from focusnb.steps.base import StepInputs, StepParams, StepResults
    from focusnb.steps.external import Command, ExternalStep
    from focusnb.quantities import PixelSize


    class FieldOfView(ExternalStep):
        """Let awk multiply."""

        name, title, category = "field_of_view", "Field of view", "statistics"
        program = "awk"

        class Inputs(StepInputs):
            pixel_size: PixelSize

        class Params(StepParams):
            pixels: Annotated[int, quantity("Pixels", unit="px", gt=0)] = 4096

        class Results(StepResults):
            field_of_view: Annotated[float, quantity("Field of view", unit="Å")] | None = None

        def command(self, inputs, params, work):
            return Command(["{ print $1 * $2 }"], stdin=f"{inputs.pixel_size} {params.pixels}")

        def read(self, output, work):
            return self.Results(field_of_view=float(output))
'''

SHELL = """
    #!/bin/sh
    # /// focusnb-step
    # title = "Describe the image"
    # manual = "Tell size and mean, and keep a copy."
    # category = "statistics"
    # version = "2"
    # needs = ["micrograph", "pixel_size", "voltage?"]
    # programs = ["awk"]
    # timeout = 30
    #
    # [parameters.factor]
    # type = "float"
    # default = 2.0
    # label = "Factor"
    # gt = 0
    #
    # [results.image_bytes]
    # type = "int"
    # label = "Bytes of the image"
    # unit = "B"
    #
    # [results.scaled_pixel]
    # label = "Scaled pixel"
    # unit = "Å/px"
    #
    # [results.backup]
    # kind = "image"
    # label = "Copy"
    # file = "copy.mrc"
    # ///
    echo "looking at $FOCUSNB_MICROGRAPH of $FOCUSNB_EXPOSURE, voltage ${FOCUSNB_VOLTAGE-unknown}"
    cp "$FOCUSNB_MICROGRAPH" copy.mrc
    echo "image_bytes = $(wc -c < "$FOCUSNB_MICROGRAPH")" >> "$FOCUSNB_RESULTS"
    "$FOCUSNB_AWK" -v p="$FOCUSNB_PIXEL_SIZE" -v f="$FOCUSNB_FACTOR" \\
        'BEGIN { print "scaled_pixel = " p * f }' >> "$FOCUSNB_RESULTS"
"""

PYTHON = """
    # /// focusnb-step
    # title = "Count dark pixels"
    # category = "statistics"
    # needs = ["micrograph"]
    # [parameters.invert]
    # type = "bool"
    # default = false
    # label = "Invert"
    # [results.dark]
    # type = "int"
    # label = "Dark pixels"
    # [results.verdict]
    # type = "text"
    # choices = ["good", "bad"]
    # label = "Verdict"
    # [results.histogram]
    # kind = "curve"
    # file = "histogram.json"
    # label = "Histogram"
    # ///
    import json, os
    from focusnb.io.images import read_image

    image = read_image(os.environ["FOCUSNB_MICROGRAPH"]).data
    dark = image < 2
    if os.environ["FOCUSNB_INVERT"] == "true":
        dark = ~dark
    json.dump({"counts": [1, 2]}, open("histogram.json", "w"))
    print("Å printed in the C locale")
    with open(os.environ["FOCUSNB_RESULTS"], "a") as file:
        print("dark =", dark.sum(), file=file)
        print('verdict = "good"', file=file)
"""

MINIMAL = """
    #!/bin/sh
    # /// focusnb-step
    # title = "Try"
    # category = "ctf"
    # [results.number]
    # label = "Number"
    # [results.count]
    # type = "int"
    # label = "Count"
    # [results.flag]
    # type = "bool"
    # label = "Flag"
    # [results.word]
    # type = "text"
    # label = "Word"
    # [results.picture]
    # kind = "picture"
    # file = "picture.png"
    # label = "Picture"
    # ///
"""


@pytest.fixture
def image(bench: Bench) -> np.ndarray[Any, Any]:
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_mrc(bench.exposure / "micrograph.mrc", image, pixel_size=1.5)
    bench.facts = {"pixel_size": 1.5}
    return image


def test_an_external_program_is_a_step(bench: Bench) -> None:
    bench.write("field.py", EXTERNAL)
    bench.facts = {"pixel_size": 0.5}
    step = bench.run("field_of_view", params={"field_of_view": {"pixels": 300}})["field_of_view"]
    assert (step.status, step.reason) == ("done", "")
    assert step.values == {"field_of_view": 150.0}
    assert step.log == "150"
    assert step.cpu_seconds >= 0
    assert bench.find("field_of_view").programs() == ("awk",)
    assert list(step.versions) == ["awk"]
    assert step.versions["awk"]


def test_an_external_program_that_is_missing_fails_that_step(bench: Bench) -> None:
    bench.write("field.py", EXTERNAL.replace('"awk"', '"ctffind5"'))
    bench.facts = {"pixel_size": 0.5}
    step = bench.run("field_of_view")["field_of_view"]
    assert (step.status, step.error) == ("failed", "ProgramMissing")
    assert "FOCUSNB_CTFFIND5" in step.reason


def test_the_output_of_a_failed_program_is_in_the_log(bench: Bench) -> None:
    bench.write("field.py", EXTERNAL.replace("print $1 * $2", 'print \\"so far\\"; exit 7'))
    bench.facts = {"pixel_size": 0.5}
    step = bench.run("field_of_view")["field_of_view"]
    assert step.status == "failed"
    assert step.reason == "awk: ended with exit status 7; its last lines: so far"
    assert step.log.splitlines()[0] == "so far"


def test_a_shell_script_is_a_step(bench: Bench, image: np.ndarray[Any, Any]) -> None:
    bench.write("describe.sh", SHELL)
    declared = bench.find("describe")
    assert (declared.title, declared.version, declared.category) == ("Describe the image", "2", "statistics")
    assert declared.__doc__ == "Tell size and mean, and keep a copy."
    assert [spec.name for spec in declared.needs()] == ["micrograph"]
    assert [(spec.name, spec.required) for spec in declared.facts()] == [("pixel_size", True), ("voltage", False)]
    assert declared.Params.spec("factor").limits == {"gt": 0}
    assert declared.Params.spec("factor").unitless
    assert declared.Results.spec("scaled_pixel").caption == "Scaled pixel (Å/px)"

    step = bench.run("describe", params={"describe": {"factor": 3.0}})["describe"]
    assert (step.status, step.reason) == ("done", "")
    assert step.values == {"image_bytes": 1024 + 48, "scaled_pixel": 4.5, "backup": "copy.mrc"}
    assert step.products == {"backup": "copy.mrc"}
    assert step.log == f"looking at {bench.exposure}/micrograph.mrc of grid_07, voltage unknown"
    assert list(step.versions) == ["awk"]
    folder = bench.exposure / ".run-1"
    assert np.array_equal(read_image(folder / "copy.mrc").data, image)
    assert sorted(path.name for path in folder.iterdir()) == ["copy.mrc", "log.txt"]


def test_a_python_script_is_a_step(bench: Bench, image: np.ndarray[Any, Any]) -> None:
    bench.write("count_dark.py", PYTHON)
    step = bench.run("count_dark")["count_dark"]
    assert (step.status, step.reason) == ("done", "")
    assert step.values == {"dark": 2, "verdict": "good", "histogram": "histogram.json"}
    assert step.log == "Å printed in the C locale"
    inverted = bench.run("count_dark", params={"count_dark": {"invert": True}})["count_dark"]
    assert inverted.values["dark"] == image.size - 2


def test_a_file_made_in_the_same_task_reaches_the_script(bench: Bench, image: np.ndarray[Any, Any]) -> None:
    first = SHELL.replace('needs = ["micrograph", "pixel_size", "voltage?"]', 'needs = ["micrograph", "pixel_size"]')
    bench.write("describe.sh", first)
    bench.write(
        "look.sh",
        """
        #!/bin/sh
        # /// focusnb-step
        # title = "Look at the copy"
        # category = "statistics"
        # needs = ["backup", "scaled_pixel?"]
        # [inputs.backup]
        # kind = "image"
        # label = "Copy"
        # file = "copy.mrc"
        # [inputs.scaled_pixel]
        # label = "Scaled pixel"
        # unit = "Å/px"
        # [results.seen]
        # type = "text"
        # label = "Seen"
        # ///
        echo "seen = $FOCUSNB_BACKUP $FOCUSNB_SCALED_PIXEL" >> "$FOCUSNB_RESULTS"
        """,
    )
    steps = bench.run("describe", "look")
    assert steps["look"].values == {"seen": f"{bench.exposure}/.run-1/copy.mrc 3.0"}


def test_values_the_vocabulary_knows_are_not_declared_again(bench: Bench) -> None:
    bench.write(
        "my_ctf.sh",
        """
        # /// focusnb-step
        # title = "My CTF"
        # category = "ctf"
        # [results.defocus_u]
        # [results.ctf_quality]
        # ///
        echo "defocus_u = 15000" >> "$FOCUSNB_RESULTS"
        echo "ctf_quality = ok" >> "$FOCUSNB_RESULTS"
        """,
    )
    declared = bench.find("my_ctf")
    assert declared.Results.spec("defocus_u").unit == "Å"
    assert declared.Results.spec("ctf_quality").choices == ("ok", "poor", "failed")
    assert bench.run("my_ctf")["my_ctf"].values == {"defocus_u": 15000.0, "ctf_quality": "ok"}


def test_numbers_as_awk_and_printf_write_them(bench: Bench) -> None:
    answers = "number = .5e1\\ncount = 1e3\\nflag = 1\\nword = two words"
    bench.write("try.sh", MINIMAL + f'    printf "{answers}" >> "$FOCUSNB_RESULTS"')
    step = bench.run("try")["try"]
    assert step.values == {"number": 5.0, "count": 1000, "flag": True, "word": "two words"}


def test_what_is_not_written_or_no_number_is_missing(bench: Bench) -> None:
    bench.write("try.sh", MINIMAL + '    echo "number = -nan" >> "$FOCUSNB_RESULTS"')
    step = bench.run("try")["try"]
    assert (step.status, dict(step.values)) == ("done", {})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("number = many", "line 1 of its results, 'number = many': 'many' is no float"),
        ("count = 1.5", "'1.5' is no int"),
        ("count = inf", "'inf' is no int"),
        ("flag = yes", "'yes' is no bool"),
        ("number 3", "write 'name = value' with a name of number, count, flag, word, picture"),
        ("nmber = 3", "write 'name = value' with a name of number"),
        ("picture = picture.png", "picture is a file; write picture.png in the folder instead"),
        (r"number = 1\nnumber = 2", "line 2 of its results, 'number = 2': number was written before"),
    ],
)
def test_a_faulty_answer_is_told_with_its_line(bench: Bench, answer: str, message: str) -> None:
    bench.write("try.sh", MINIMAL + f'    printf "{answer}" >> "$FOCUSNB_RESULTS"')
    step = bench.run("try")["try"]
    assert (step.status, step.error) == ("failed", "StepError")
    assert message in step.reason
    assert "try.sh" in step.reason


def test_an_answer_outside_the_vocabularys_choices_is_told(bench: Bench) -> None:
    bench.write("count_dark.py", PYTHON.replace('"good"\'', '"splendid"\''))
    bench.facts = {"pixel_size": 1.0}
    write_mrc(bench.exposure / "micrograph.mrc", np.ones((2, 2), np.float32), pixel_size=1.0)
    step = bench.run("count_dark")["count_dark"]
    assert step.status == "failed"
    assert "count_dark.py: wrote a result outside its limits: verdict = 'splendid'" in step.reason


def test_exit_status_three_says_this_exposure_cannot(bench: Bench) -> None:
    code = "    echo said before >&2; echo 'no gold here' >&2; echo 'printed last'; exit 3"
    bench.write("try.sh", MINIMAL + code)
    step = bench.run("try")["try"]
    assert (step.status, step.error, step.reason) == ("failed", "StepError", "grid_07: no gold here")
    assert "printed last" in step.log


def test_another_exit_status_names_the_script_and_its_last_lines(bench: Bench) -> None:
    bench.write("try.sh", MINIMAL + "    echo half; frobnicate --all; exit 5")
    step = bench.run("try")["try"]
    assert step.status == "failed"
    assert step.reason.startswith("try.sh: ended with exit status 5; its last lines: ")
    assert "frobnicate" in step.reason


def test_a_script_is_stopped_after_its_timeout(bench: Bench) -> None:
    bench.write("try.sh", MINIMAL.replace('category = "ctf"', 'category = "ctf"\n    # timeout = 0.3') + "    sleep 60")
    step = bench.run("try")["try"]
    assert step.status == "failed"
    assert "try.sh: was not done after 0.3 s" in step.reason


def test_a_script_changed_after_it_was_loaded_does_not_run(bench: Bench) -> None:
    path = bench.write("try.sh", MINIMAL + "    touch it_ran")
    step = bench.find("try")
    path.write_text(path.read_text() + "touch it_ran_changed")
    with pytest.raises(Exception, match=r"try\.sh: was changed after this task was made; run it again"):
        step().run(step.Inputs(), step.Params(), None)


def test_the_first_line_chooses_what_runs_it(bench: Bench) -> None:
    bench.write("try.sh", MINIMAL.replace("#!/bin/sh", "#!/usr/bin/env -S bash -u") + '    echo "$BASH"; echo "$UNSET"')
    step = bench.run("try")["try"]
    assert "bash" in step.log.splitlines()[0]
    assert "UNSET: unbound variable" in step.reason
    bench.write("try.sh", MINIMAL.replace("#!/bin/sh", "#!/opt/none/perl"))
    step = bench.run("try")["try"]
    assert step.error == "ProgramMissing"
    assert "its first line asks for /opt/none/perl" in step.reason


def test_the_hash_and_the_name_come_from_the_file(bench: Bench) -> None:
    path = bench.write("Mark-Ice.sh", MINIMAL)
    first = step_from_script(path)
    assert first.name == "mark_ice"
    path.write_text(path.read_text() + "# another comment\n")
    assert step_from_script(path).origin != first.origin
    assert (
        step_from_script(bench.write("a.sh", MINIMAL.replace("# title", '# name = "other"\n    # title'))).name
        == "other"
    )


def test_only_leading_comments_are_a_header(bench: Bench) -> None:
    assert has_header(bench.write("a.sh", MINIMAL))
    assert not has_header(bench.write("b.py", '"""No header."""\n# /// focusnb-step\n'))
    assert not has_header(bench.write("c.sh", "#!/bin/sh\necho\n"))
    assert not has_header(bench.write("d.sh", "# PEP 723 is another format\n# /// script\n# ///\n"))


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("# ///\n", "", 2, "the header has no end; close it with a comment line '# ///'"),
        ('"Try"', "Try", 3, 'Invalid value; the header is TOML: name = "text"'),
        ('# title = "Try"\n', "", 2, 'title is missing; write title = "..." in the header'),
        ("title =", "titel =", 3, "titel: titel is not known; did you mean title?"),
        ('"ctf"', '"cft"', 4, "category: 'cft' is not one of prepare, align, statistics, ctf"),
        ('"ctf"', '"ctf"\n    # gpu = "yes"', 5, "gpu: 'yes' is not one of no, uses, needs"),
        ('"ctf"', '"ctf"\n    # timeout = 0', 5, "timeout: 0 is not a number of seconds above 0"),
        ('"ctf"', '"ctf"\n    # needs = "micrograph"', 5, 'write needs = ["one", "two"]'),
        (
            '"ctf"',
            '"ctf"\n    # needs = ["micrograf"]',
            5,
            "micrograf is not known; did you mean micrograph?, or declare",
        ),
        ('"ctf"', '"ctf"\n    # needs = ["frames"]', 5, "frames lives in memory only"),
        ('"ctf"', '"ctf"\n    # name = "My step"', 5, "name: 'My step' is no name for a step"),
        ('"ctf"', '"ctf"\n    # programs = ["results"]', 2, "results and results would both be FOCUSNB_RESULTS"),
        ('# label = "Count"\n', "", 7, "[results.count]: label is missing"),
        ('"int"', '"integer"', 7, "[results.count]: type 'integer' is not one of float, int, text, bool"),
        (
            '"picture"',
            '"photo"',
            16,
            "[results.picture]: kind 'photo' is not one of value, image, picture, table, curve",
        ),
        ('"picture.png"', '"../picture.png"', 16, "file '../picture.png' is not a plain file name"),
        (
            '# label = "Number"',
            '# label = "Number"\n    # maximum = 3',
            5,
            "maximum is not known; there are type, label",
        ),
        ('# label = "Number"', "# label = 3", 5, "label = 3 is not text; write it in quotes"),
        ("[results.number]", "[results.Number]", 5, "[results.Number]: a name is small letters"),
        ("[results.number]", "[results.defocus_u]", 5, "focusnb declares this name already; leave its section empty"),
        ("[results.number]", "[results.copy]", 5, "copy cannot be the name of a value; choose another"),
        ("[results.number]", "[results.voltage]", None, "leave its section empty"),
        ("# [results", "# [parameters.p]\n    # [results", 5, "[parameters.p]: default is missing"),
        (
            "# [results.n",
            '# [parameters.p]\n    # label = "P"\n    # default = "x"\n    # [results.n',
            5,
            "[parameters.p]: default: 'x': P should be a valid number",
        ),
        (
            "# [results.n",
            '# [parameters.p]\n    # label = "P"\n    # default = 5.0\n    # lt = 4\n    # [results.n',
            5,
            "[parameters.p]: default: 5.0: P should be less than 4",
        ),
        (
            "# [results.n",
            '# [inputs.p]\n    # label = "P"\n    # [results.n',
            5,
            '[inputs.p]: is declared but not needed; add "p" to needs or remove it',
        ),
    ],
)
def test_a_fault_in_a_header_names_file_line_key_and_cure(
    bench: Bench, old: str, new: str, line: int | None, message: str
) -> None:
    assert old in MINIMAL
    path = bench.write("try.sh", MINIMAL.replace(old, new, 1))
    with pytest.raises(ParameterError) as caught:
        step_from_script(path)
    text = str(caught.value)
    assert message in text
    assert text.startswith(f"{path}, line {line}: " if line else str(path))


def test_a_script_without_results_or_with_two_headers_is_refused(bench: Bench) -> None:
    path = bench.write("a.sh", '# /// focusnb-step\n# title = "A"\n# category = "ctf"\n# ///\n')
    with pytest.raises(ParameterError, match=r"no results are declared; add a section \[results\.NAME\]"):
        step_from_script(path)
    twice = "\n".join(line.strip() for line in MINIMAL.splitlines())
    path.write_text(twice + twice.replace("#!/bin/sh", ""))
    with pytest.raises(ParameterError, match="line 23: has a second header; a script is one step"):
        step_from_script(path)
    path.write_bytes(b'# /// focusnb-step\n# title = "\xe5"\n# ///\n')
    with pytest.raises(ParameterError, match=r"is not UTF-8 text \(byte 30\); save it as UTF-8"):
        step_from_script(path)


def test_a_script_cannot_take_the_name_of_a_built_in_step(bench: Bench) -> None:
    from focusnb.steps.base import built_in_steps

    name = sorted(built_in_steps())[0]
    path = bench.write(f"{name}.sh", MINIMAL)
    with pytest.raises(ParameterError, match=f"{name} is defined twice"):
        step_from_script(path)


def test_no_variable_of_the_workers_stands_for_a_missing_input(
    bench: Bench, image: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOCUSNB_VOLTAGE", "200")
    bench.write("describe.sh", SHELL)
    assert bench.run("describe")["describe"].log.endswith("voltage unknown")
    assert os.environ["FOCUSNB_VOLTAGE"] == "200"


def test_nothing_is_written_beside_the_script(bench: Bench, image: np.ndarray[Any, Any]) -> None:
    bench.write("helper.py", "VALUE = 1")
    bench.write("count_dark.py", PYTHON.replace("import json, os", "import json, os, helper"))
    step = bench.run("count_dark")["count_dark"]
    assert step.status == "done"
    assert sorted(path.name for path in Path(bench.steps).iterdir()) == ["count_dark.py", "helper.py"]
