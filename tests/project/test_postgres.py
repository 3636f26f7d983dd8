"""A library on a PostgreSQL server behaves as one in a file does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from focusnb.errors import ProjectError
from focusnb.monitoring.alerts import AlertBook
from focusnb.monitoring.rules import Check, DriftRule
from focusnb.monitoring.settings import PublishSettings
from focusnb.monitoring.snapshot import SnapshotMaker
from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.processing.queue import Queue
from focusnb.project import lease
from focusnb.project.browsing import Browser
from focusnb.project.project import Project
from focusnb.steps import trust
from tests.ports import free_port
from tests.projects import CHAIN, STEPS, process, statuses, write_shots


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of its own on loopback with three databases; PostgreSQL refuses to run as root."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed on this machine")
    pytest.importorskip("pg8000")
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="focusnb-postgres-"))
    if user:
        shutil.chown(folder, "postgres")
    port = free_port()

    def run(program: str, *arguments: str) -> None:
        command = [*user, str(programs[-1] / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    try:
        run("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "postgres", "--no-sync")
        options = f"-p {port} -k {folder} -h 127.0.0.1 -c fsync=off"
        run("pg_ctl", "-D", f"{folder}/data", "-w", "-o", options, "-l", f"{folder}/log", "start")
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"PostgreSQL cannot be started here: {error}")
    for name in ("second", "third"):
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", name)
    yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


def test_a_project_lives_on_a_server(server: str, tmp_path: Path) -> None:
    camera = write_shots(tmp_path / "camera", a="", b="fail scale\n")
    with Project.create(tmp_path / "project", mode="drift", library=server) as project:
        (project.folder / "steps" / "chain.py").write_text(textwrap.dedent(STEPS))
        trust.trust(project.folder)
        project.declare()
        project.use_steps(*CHAIN)
        project.add(camera, kind="movie", facts={"voltage": 300})
        revision = project.revision
        process(project)
        assert statuses(project) == {"a": "done", "b": "failed"}
        assert len(project.changes(revision).exposures) == 2
        project.flag([1], "gold")
        project.override(1, scaled=7.0)
    with Project.open(tmp_path / "project") as project:
        table = project.table()
        assert table.flag.tolist()[0] == "gold"
        assert table.scaled.tolist()[0] == 7.0
        assert table.voltage.tolist() == [300.0, 300.0]
        assert set(project.runs().status) == {"done", "failed", "skipped"}
        project.set_params("judge", limit=7)
        assert process(project).done == 1
    with pytest.raises(ProjectError, match="holds a project's library already"):
        Project.create(tmp_path / "other", mode="drift", library=server)


def test_the_explorer_and_the_night_watch_read_from_a_server(server: str, tmp_path: Path) -> None:
    camera = write_shots(tmp_path / "camera", **{f"s{number}": f"{number}\n" for number in range(1, 6)})
    library = f"{server.rpartition('/')[0]}/third"
    with Project.create(tmp_path / "project", mode="drift", library=library) as project:
        (project.folder / "steps" / "chain.py").write_text(textwrap.dedent(STEPS))
        trust.trust(project.folder)
        project.declare()
        project.use_steps(*CHAIN)
        project.add(camera, kind="movie", facts={"voltage": 300})
        with Project.open(project.folder) as other:
            mine, theirs = Browser(project), Browser(other)
            for browser in (mine, theirs):
                browser.group_by(None)
            theirs.sort("-exposure")
            theirs.filter(flag="red")
            assert (mine.shown, theirs.shown) == ([1, 2, 3, 4, 5], [])
            project.flag([2, 4], "red")
            theirs.refresh()
            assert theirs.shown == [4, 2]
            other.move([4], "TRASH")
            for browser in (mine, theirs):
                browser.refresh()
            assert (mine.shown, theirs.shown) == ([1, 2, 3, 5], [2])
            other.move([4], "camera")
            process(project)
            theirs.refresh()
            theirs.show_column("scaled")
            assert [line.cells[-1] for line in theirs.window(0, 2)] == ["600", "600"]
        maker = SnapshotMaker(project)
        snapshot = maker.make(PublishSettings())
        assert snapshot.status["counts"]["images"] == 5
        AlertBook(project.folder).open(DriftRule(), Check("drift.far", True, "It drifts"), time.time())
        assert [alert["key"] for alert in maker.make(PublishSettings()).status["alerts"]] == ["drift.far"]


CLIENT = """
import random, sys
from focusnb import Queue, Workflow, open_project
from tests.projects import chain
project = open_project(sys.argv[1])
queue, draw = Queue(project), random.Random(int(sys.argv[2]))
for turn in range(12):
    some = draw.sample(project.ids(), 3)
    queue.submit(chain(project), some, first=draw.random() < 0.5, everything=True)
    queue.put_first(draw.sample(project.ids(), 1))
    queue.cancel(draw.sample(project.ids(), 1))
    project.flag(some, draw.choice(["red", "green", None]))
"""


def test_several_clients_and_a_processor_share_a_server(server: str, tmp_path: Path) -> None:
    camera = write_shots(tmp_path / "camera", **{f"s{number}": "1\n" for number in range(8)})
    library = f"{server.rpartition('/')[0]}/second"
    with Project.create(tmp_path / "project", mode="drift", library=library) as project:
        (project.folder / "steps" / "chain.py").write_text(textwrap.dedent(STEPS))
        trust.trust(project.folder)
        project.declare()
        project.use_steps(*CHAIN)
        project.add(camera, kind="movie", facts={"voltage": 300})
        clients = [
            subprocess.Popen([sys.executable, "-c", CLIENT, str(project.folder), str(seed)], stderr=subprocess.PIPE)
            for seed in range(2)
        ]
        processor = Processor(project, InlineExecutor())
        deadline = time.monotonic() + 100
        while any(client.poll() is None for client in clients) and time.monotonic() < deadline:
            processor.run()
        for client in clients:
            _, errors = client.communicate(timeout=60)
            assert client.returncode == 0, errors.decode()
        processor.run()
        assert not {"queued", "running"} & set(statuses(project).values())
        counts = processor.queue()
        assert set(counts) <= {"done", "cancelled"}
        assert counts["done"] > 0
        log = Queue(project).log(sort="exposure")
        assert set(log["status"]) == {"done"}
        assert lease.holder(project.library) is None
