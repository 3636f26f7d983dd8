"""Several microscopes at a glance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from focusnb.errors import ParameterError
from focusnb.monitoring.microscopes import Microscope, Microscopes, read_microscopes
from focusnb.monitoring.publish import Publisher
from focusnb.monitoring.settings import PublishSettings, write_publishing
from tests.monitoring.conftest import Recorded


def test_a_project_a_published_session_and_one_that_is_not_there(recorded: Recorded, tmp_path: Path) -> None:
    write_publishing(recorded.project.folder, PublishSettings(title="T1"), ())
    Publisher(str(tmp_path / "web"), page=None).publish(recorded.maker().make())
    config = tmp_path / "microscopes.toml"
    config.write_text(
        f'[titan1]\nproject = "{recorded.project.folder.name}"\n'
        f'[glacios]\npublished = "{tmp_path / "web"}"\n[gone]\npublished = "{tmp_path / "nowhere"}"\n'
    )
    now = [recorded.night.end]
    microscopes = Microscopes(read_microscopes(config), clock=lambda: now[0])
    titan, glacios, gone = microscopes.glance()
    assert (titan.word, titan.level, titan.alerts) == ("recording", "warning", 0)  # images wait, nobody processes
    assert titan.snapshot is not None
    assert titan.snapshot.status["title"] == "T1"
    assert glacios.word == "recording"
    assert glacios.images_per_hour == titan.images_per_hour
    assert glacios.age == pytest.approx(titan.age, abs=60)
    assert (gone.word, gone.level) == ("unreachable", "bad")
    assert "nowhere" in gone.sentence
    now[0] += 200
    assert [glance.word for glance in microscopes.glance(files=False)][:2] == ["idle", "stale"]
    # an outage: what was seen last is kept, and said to be old
    (tmp_path / "web" / "status.json").rename(tmp_path / "web" / "away.json")
    lost = microscopes.look("glacios")
    assert (lost.word, lost.stale, lost.snapshot is not None) == ("unreachable", True, True)
    (tmp_path / "web" / "away.json").rename(tmp_path / "web" / "status.json")
    assert microscopes.look("glacios").word == "stale"
    with pytest.raises(ParameterError, match="there is no microscope nautilus"):
        microscopes.look("nautilus")
    microscopes.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no microscope"),
        ("[a", "cannot be read as TOML"),
        ('a = "b"', "a is not a table"),
        ("[a]", "needs either project or published"),
        ('[a]\nproject = "x"\npublished = "y"', "it has project, published"),
        ('[a]\nprojekt = "x"', "projekt is unknown"),
        ("[a]\nproject = 3", "a text"),
    ],
)
def test_a_file_that_is_wrong_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.toml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=message):
        read_microscopes(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="there is no such file"):
        read_microscopes(tmp_path / "none.toml")
    path = tmp_path / "m.toml"
    path.write_text('[a]\nproject = "/data/p"\n')
    assert read_microscopes(path) == [Microscope("a", Path("/data/p"))]


def test_a_state_that_makes_no_sense_hides_no_other_microscope(recorded: Recorded, tmp_path: Path) -> None:
    Publisher(str(tmp_path / "good"), page=None).publish(recorded.maker().make())
    shutil.copytree(tmp_path / "good", tmp_path / "odd")
    status = json.loads((tmp_path / "odd" / "status.json").read_text())
    (tmp_path / "odd" / "status.json").write_text(json.dumps({**status, "alerts": 3}))
    microscopes = Microscopes([Microscope(name, None, str(tmp_path / name)) for name in ("odd", "good")])
    odd, good = microscopes.glance()
    assert (odd.word, odd.level) == ("unreachable", "bad")
    assert "cannot be understood" in odd.sentence
    assert good.snapshot is not None
