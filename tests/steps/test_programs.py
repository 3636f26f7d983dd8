"""External programs: found, run, bounded, stopped, and gone with their worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from focusnb.errors import ProgramMissing, ResourceError, StepError
from focusnb.steps import programs
from tests.conftest import REPOSITORY
from tests.waiting import wait_until

FAMILY = """
import subprocess, sys, time, pathlib
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("family.txt").write_text(f"{__import__('os').getpid()} {child.pid}")
time.sleep(600)
"""
"""A program that starts another and waits; it writes both numbers."""


def make_program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def family(folder: Path) -> list[int]:
    path = folder / "family.txt"
    wait_until(lambda: path.exists() and len(path.read_text().split()) == 2)
    return [int(word) for word in path.read_text().split()]


def test_output_and_errors_come_in_the_order_they_were_printed(tmp_path: Path) -> None:
    result = programs.run(["sh", "-c", "echo one; echo two >&2; pwd; exit 4"], folder=tmp_path, check=False)
    assert result.output == f"one\ntwo\n{tmp_path}\n"
    assert (result.returncode, result.errors, result.program) == (4, "", "sh")
    assert 0 < result.seconds < 60


def test_errors_are_kept_apart_on_request() -> None:
    result = programs.run(["sh", "-c", "echo one; echo two >&2"], separate=True)
    assert sorted(result.output.split()) == ["one", "two"]
    assert result.errors == "two\n"


def test_standard_input_variables_and_locale() -> None:
    text = "line of input\n" * 50_000
    result = programs.run(
        ["sh", "-c", 'wc -l; echo "$LC_ALL $GREETING ${HOME-no home}"'],
        stdin=text,
        environment={"GREETING": "moin", "HOME": None},
    )
    assert result.output.split() == ["50000", "C", "moin", "no", "home"]


def test_a_program_that_reads_nothing_of_its_input_ends() -> None:
    assert programs.run(["true"], stdin="x" * 3_000_000).returncode == 0


def test_no_input_is_an_empty_one() -> None:
    assert programs.run(["cat"]).output == ""


def test_of_a_huge_output_the_end_is_kept() -> None:
    code = "import sys\nfor i in range(60): sys.stdout.write('x' * 99_999 + '\\n')\nprint('the end')"
    result = programs.run([sys.executable, "-c", code])
    assert programs.KEPT_OUTPUT <= len(result.output) < 1.2 * programs.KEPT_OUTPUT
    assert result.output.startswith("[the first ")
    assert result.output.endswith("x\nthe end\n")
    left_out = int(result.output.split()[2])
    assert left_out + len(result.output.split("\n", 1)[1]) == 6_000_008


def test_a_failure_names_program_status_and_last_lines() -> None:
    with pytest.raises(StepError) as caught:
        programs.run(["sh", "-c", "for i in 1 2 3 4 5 6 7; do echo line $i; done; exit 9"])
    assert str(caught.value) == (
        "sh: ended with exit status 9; its last lines: line 3 | line 4 | line 5 | line 6 | line 7"
    )
    with pytest.raises(StepError, match="sh: ended with exit status 1; it printed nothing"):
        programs.run(["sh", "-c", "exit 1"])


def test_a_signal_is_named() -> None:
    with pytest.raises(StepError, match=r"was ended by signal 11 \(SIGSEGV\)"):
        programs.run(["sh", "-c", "kill -SEGV $$"])


def test_what_the_machine_did_is_not_the_exposures_fault() -> None:
    with pytest.raises(ResourceError, match=r"was killed after .* memory runs out; run with fewer workers"):
        programs.run(["sh", "-c", "kill -KILL $$"])
    with pytest.raises(ResourceError, match="the disk is full"):
        programs.run(["sh", "-c", "echo 'write error: No space left on device' >&2; exit 1"])


def test_a_timeout_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    with pytest.raises(StepError) as caught:
        programs.run(["sh", "-c", "sleep 600 & echo $$ $! > family.txt; wait"], folder=tmp_path, timeout=3)
    assert "was not done after 3 s and was stopped; give it a longer timeout" in str(caught.value)
    wait_until(lambda: not any(map(is_running, family(tmp_path))))


def test_a_timeout_counts_for_a_program_that_closed_its_output() -> None:
    with pytest.raises(StepError, match=r"was not done after 0\.3 s"):
        programs.run(["sh", "-c", "exec >&- 2>&-; sleep 60"], timeout=0.3)


def test_what_a_program_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    started = time.monotonic()
    result = programs.run(["sh", "-c", "sleep 600 & echo $!; echo done"], folder=tmp_path)
    left, done = result.output.split()
    assert done == "done"
    wait_until(lambda: not is_running(int(left)))
    assert time.monotonic() - started < 500


def test_an_exception_in_the_worker_ends_the_program(tmp_path: Path) -> None:
    code = f"""
import signal, sys
from focusnb.steps import programs
signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
programs.run([sys.executable, "-c", {FAMILY!r}], folder={str(tmp_path)!r})
"""
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    numbers = family(tmp_path)
    worker.terminate()
    assert "stopped" in worker.communicate(timeout=60)[1]
    wait_until(lambda: not any(map(is_running, numbers)))


def test_a_program_and_what_it_started_die_with_a_killed_worker(tmp_path: Path) -> None:
    code = f"""
from focusnb.steps import programs
import sys
programs.run([sys.executable, "-c", {FAMILY!r}], folder={str(tmp_path)!r})
"""
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
    numbers = family(tmp_path)
    assert all(map(is_running, numbers))
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    wait_until(lambda: not any(map(is_running, numbers)))


def test_nothing_is_left_open_or_running(tmp_path: Path) -> None:
    programs.run(["true"])
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        programs.run(["cat"], stdin="x")
        with pytest.raises(ProgramMissing):
            programs.run([tmp_path / "nothing"])
    assert sorted(os.listdir("/proc/self/fd")) == before
    children = subprocess.run(["ps", "-o", "args", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
    assert "read -r line" not in children


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    path = make_program(tmp_path, "alien", "\x7fELF of another machine")
    with pytest.raises(ProgramMissing, match=r"alien: cannot be started .* made for this machine"):
        programs.run([path])


def test_a_missing_program_is_told_with_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/opt/none")
    with pytest.raises(ProgramMissing) as caught:
        programs.find("ctf-find5")
    text = str(caught.value)
    assert text.startswith("ctf-find5: is not installed: not found on the PATH (/usr/bin, /opt/none)")
    assert "FOCUSNB_CTF_FIND5 is not set; install it, or set FOCUSNB_CTF_FIND5 to its full path" in text
    monkeypatch.setenv("FOCUSNB_CTF_FIND5", "/opt/none/ctffind")
    with pytest.raises(ProgramMissing, match="FOCUSNB_CTF_FIND5 names /opt/none/ctffind, which is no program"):
        programs.find("ctf-find5")


def test_a_program_is_found_by_variable_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, version in (("a", "4.1.14"), ("b", "5.0.2")):
        (tmp_path / folder).mkdir()
        make_program(tmp_path / folder, "ctffind", f"#!/bin/sh\necho 'CTFFind version {version}'")
    monkeypatch.setenv("PATH", f"{tmp_path}/a:/usr/bin:/bin")
    found = programs.find("ctffind")
    assert (found.name, found.path, found.version) == ("ctffind", str(tmp_path / "a/ctffind"), "4.1.14")
    monkeypatch.setenv("FOCUSNB_CTFFIND", str(tmp_path / "b/ctffind"))
    assert programs.find("ctffind").version == "5.0.2"


def test_a_version_is_asked_once_until_the_program_changes(tmp_path: Path) -> None:
    text = "#!/bin/sh\necho asked >> {0}/asked\necho 'Unblur version {1}'"
    path = make_program(tmp_path, "unblur", text.format(tmp_path, "1.0.2"))
    assert programs.version(path) == programs.version(path) == "1.0.2"
    assert (tmp_path / "asked").read_text().count("asked") == 1
    make_program(tmp_path, "unblur", text.format(tmp_path, "2.0.0-beta"))
    os.utime(path, ns=(1, 1))
    assert programs.version(path) == "2.0.0-beta"


@pytest.mark.parametrize(
    "text",
    ["#!/bin/sh\nexit 1", "#!/bin/sh\necho ready in 0.034 s\necho threads 1.2", "#!/bin/sh\necho version 1.0; exit 2"],
)
def test_a_program_that_does_not_tell_its_version_is_known_by_its_content(tmp_path: Path, text: str) -> None:
    path = make_program(tmp_path, "mute", text)
    version = programs.version(path)
    assert version.startswith("sha256:")
    make_program(tmp_path, "mute", text + " ")
    assert programs.version(path) != version


def test_progress_bars_are_left_out_of_the_log() -> None:
    assert programs.without_overwritten("a\n10%\r50%\r100%\ndone\r\nend") == "a\n100%\ndone\nend"
