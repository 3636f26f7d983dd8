"""The overviews without a browser: what is sent, and what is done with what comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from focusnb.errors import ParameterError
from focusnb.panels import overview
from focusnb.panels.overview import REACH, Overviews
from focusnb.panels.polling import poller
from focusnb.project.project import Project
from focusnb.views import payload
from tests.views.shown import make_shown, state


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Project]:
    with make_shown(tmp_path / "project") as project:
        yield project


class Browser:
    """What a browser would get, and a way to answer."""

    def __init__(self, panel: Overviews) -> None:
        self.panel = panel
        self.got: list[tuple[dict[str, Any], list[bytes]]] = []
        panel._tiles.send = lambda message, buffers=None: self.got.append((message, buffers or []))

    def say(self, **message: Any) -> None:
        self.panel._tiles._handle_custom_msg(message, [])

    def take(self, kind: str) -> list[tuple[dict[str, Any], list[bytes]]]:
        found = [item for item in self.got if item[0]["k"] == kind]
        self.got = [item for item in self.got if item[0]["k"] != kind]
        return found


@pytest.fixture
def panel(shown: Project) -> Iterator[Overviews]:
    panel = Overviews(shown)
    yield panel
    panel.close()


@pytest.fixture
def browser(panel: Overviews) -> Browser:
    return Browser(panel)


def test_a_late_viewer_gets_what_is_shown(panel: Overviews, browser: Browser) -> None:
    browser.say(k="ready")
    ((place, _),) = browser.take("show")
    assert (place["id"], place["around"], place["place"], place["total"]) == (1, [1, 2, 3], 1, 3)
    ((message, buffers),) = browser.take("exposure")
    assert message["head"]["name"] == "a"
    assert [tile["buffer"] for tile in message["tiles"]] == [0, 1, 2, 3]
    assert all(buffer.startswith(b"\x89PNG") for buffer in buffers)
    assert next(t["partner"] for t in message["tiles"]) == "micrograph_preview"


def test_show_and_step_are_calls(panel: Overviews, browser: Browser) -> None:
    steps: list[int] = []
    arrived: list[int] = []
    panel.on_step(steps.append)
    panel.on_show(arrived.append)
    panel.show(2)
    panel.step(1)
    panel.step(5)  # there is no more
    panel.step(-2)
    assert panel.current == 1
    assert (steps, arrived) == ([1, -2], [3, 1])
    shown = [message["id"] for message, _ in browser.take("exposure")]
    assert shown == [2, 3, 1]
    browser.take("show")
    panel.show(1)
    assert not browser.got  # it is there already


def test_what_a_browser_has_is_not_sent_again_until_it_changes(
    shown: Project, panel: Overviews, browser: Browser
) -> None:
    browser.say(k="ready")
    browser.say(k="want", ids=[2, 3], overview=0)
    assert [message["id"] for message, _ in browser.take("exposure")] == [1, 2, 3]
    browser.take("show")
    panel.show(2)
    assert not browser.take("exposure")
    assert [message["id"] for message, _ in browser.take("show")] == [2]
    shown.flag([3], "red")
    poller(shown).step()
    panel.show(3)
    ((message, _),) = browser.take("exposure")
    assert (message["id"], message["head"]["flag"]) == (3, "red")
    browser.say(k="ready")  # another browser, or the same one loaded again
    assert [message["id"] for message, _ in browser.take("exposure")] == [3]


def test_what_changes_while_it_is_read_is_read_again(shown: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    real, held = payload.load, threading.Event()

    def load(tiles: Any) -> Any:
        monkeypatch.setattr(payload, "load", real)
        assert held.wait(60)
        return real(tiles)

    async def look() -> None:
        panel = Overviews(shown)
        browser = Browser(panel)
        browser.say(k="ready")
        browser.take("exposure")
        monkeypatch.setattr(payload, "load", load)
        browser.say(k="want", ids=[2], overview=0)
        while payload.load is load:
            await asyncio.sleep(0.01)
        shown.flag([2], "red")
        poller(shown).step()
        held.set()
        while panel._tasks:
            await asyncio.sleep(0.01)
        assert [message["head"]["flag"] for message, _ in browser.take("exposure")] == ["red"]
        panel.close()

    asyncio.run(look())


def test_very_many_changes_are_not_named(
    shown: Project, panel: Overviews, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "MOST_TOLD", 2)
    shown.flag([1, 2, 3], "red")
    poller(shown).step()
    assert [message["ids"] for message, _ in browser.take("forget")] == [None]


def test_a_user_steps_without_waiting_and_the_kernel_follows(panel: Overviews, browser: Browser) -> None:
    arrived: list[int] = []
    panel.on_show(arrived.append)
    panel.on_show(lambda identity: panel.show(identity))  # a table that answers changes nothing
    browser.say(k="go", id=3, delta=2, seq=7)
    ((place, _),) = browser.take("show")
    assert (place["id"], place["seq"], place["place"]) == (3, 7, 3)
    assert not browser.take("exposure")  # the browser has it, or asks for it
    assert (panel.current, arrived) == (3, [3])


def test_what_changes_while_a_user_steps_does_not_lead_back(shown: Project, panel: Overviews, browser: Browser) -> None:
    """The browser is ahead of the kernel by the steps on their way: what tells of a change names the step it knows."""
    browser.say(k="go", id=2, delta=1, seq=1)
    browser.take("show")
    for exposure in (3, 2):  # another one, and the one that the kernel believes is shown
        shown.flag([exposure], "red")
        poller(shown).step()
        assert [message["seq"] for message, _ in browser.take("show")] == [1]
    panel.show(3)  # who is sent somewhere goes there
    assert browser.take("show")[-1][0]["seq"] is None


def test_what_is_wanted_is_sent_each_by_itself(panel: Overviews, browser: Browser) -> None:
    browser.say(k="want", ids=[2, 99, 3], overview=1)
    found = browser.take("exposure")
    assert [(m["id"], m["overview"]) for m, _ in found] == [(2, 1), (99, 1), (3, 1)]
    assert "no exposure 99" in found[1][0]["error"]
    assert found[0][0]["tiles"][2]["type"] == "image/svg+xml"


def test_a_newer_wish_ends_an_older_one(panel: Overviews, browser: Browser) -> None:
    async def wish() -> None:
        browser.say(k="want", ids=[1, 2, 3], overview=0)
        browser.say(k="want", ids=[3], overview=0)
        await asyncio.gather(*panel._tasks)

    asyncio.run(wish())
    assert [message["id"] for message, _ in browser.take("exposure")] == [3]


def test_changes_reach_the_browser(shown: Project, panel: Overviews, browser: Browser) -> None:
    shown.flag([1], "gold")
    poller(shown).step()
    ((forget, _),) = browser.take("forget")
    assert forget["ids"] == [1]
    ((message, _),) = browser.take("exposure")
    assert message["head"]["flag"] == "gold"
    shown.flag([3], "red")
    poller(shown).step()
    assert browser.take("forget")[0][0]["ids"] == [3]
    assert not browser.take("exposure")  # it is not the one that is seen


def test_new_exposures_lengthen_the_way(shown: Project, panel: Overviews, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "d.tif").write_text("no movie")
    shown.add(tmp_path / "more")
    poller(shown).step()
    assert browser.take("show")[-1][0]["total"] == 4
    panel.step(3)
    ((message, buffers),) = browser.take("exposure")
    assert not buffers
    assert all("Not processed yet" in tile["missing"] for tile in message["tiles"])


def test_another_order_is_gone_through(shown: Project, browser: Browser, panel: Overviews) -> None:
    order = [3, 1, 2]
    panel.set_order(lambda: order)
    panel.show(3)
    panel.step(1)
    assert panel.current == 1
    order.remove(1)  # filtered away
    panel.step(1)
    assert panel.current == 3  # begins anew where it stands nowhere
    browser.take("show")
    panel.show(None)
    assert browser.take("show")[0][0]["around"] == []


def test_the_browser_knows_its_neighbours_only(shown: Project, panel: Overviews, browser: Browser) -> None:
    panel.set_order(lambda: range(1, 100_001))
    panel.show(50_000)
    around = browser.take("show")[-1][0]["around"]
    assert (around[0], around[-1], len(around)) == (50_000 - REACH, 50_000 + REACH, 2 * REACH + 1)


def test_overviews_are_chosen_by_their_title(panel: Overviews, browser: Browser) -> None:
    panel.choose("Drift")
    assert panel.overview == "Drift"
    ((message, _),) = browser.take("exposure")
    assert [tile["name"] for tile in message["tiles"]][2] == "trajectory_preview"
    with pytest.raises(ParameterError, match="there are Image, Drift, CTF"):
        panel.choose("Merge")


def test_a_view_to_flip_with_and_a_sharp_one_come_when_asked_for(panel: Overviews, browser: Browser) -> None:
    browser.say(k="view", id=1, name="unaligned_preview")
    ((message, buffers),) = browser.take("view")
    assert (message["tile"]["title"], len(buffers)) == ("Image before correction", 1)
    browser.say(k="sharpen", id=1, name="micrograph_preview")
    ((message, buffers),) = browser.take("sharp")
    assert (message["width"], message["name"]) == (64, "micrograph_preview")
    assert 0 < message["bar"]["part"] <= 0.25
    browser.say(k="sharpen", id=1, name="spectrum_preview")
    assert any(ring["fit"] and ring["label"] == "4.8 Å" for ring in browser.take("sharp")[0][0]["rings"])
    browser.say(k="sharpen", id=1, name="unaligned_preview")  # of which there is no image
    assert not browser.take("sharp")


def test_what_went_wrong_is_said_with_the_exposure(shown: Project, panel: Overviews, browser: Browser) -> None:
    state(shown, 2, "fit_ctf", "failed", reason="b: the voltage is not known; set it")
    panel.show(2)
    message = browser.take("exposure")[-1][0]
    assert message["head"]["failure"]["title"] == "Fit the CTF"
    assert "set it" in message["head"]["failure"]["reason"]
    (shown.path(2) / "image_after.png").write_bytes(b"broken")
    shown.flag([2], "red")
    poller(shown).step()
    tiles = {tile["name"]: tile for tile in browser.take("exposure")[-1][0]["tiles"]}
    assert "is no picture" in tiles["micrograph_preview"]["missing"]
    assert tiles["spectrum_preview"]["buffer"] is not None


@pytest.mark.parametrize("ask", [{"k": "ready"}, {"k": "want", "ids": [1, 2], "overview": 0}])
def test_an_exposure_that_cannot_be_shown_keeps_nobody_from_the_others(
    panel: Overviews, browser: Browser, monkeypatch: pytest.MonkeyPatch, ask: dict[str, Any]
) -> None:
    real = payload.load

    def load(tiles: Any) -> Any:
        monkeypatch.setattr(payload, "load", real)
        raise ZeroDivisionError

    monkeypatch.setattr(payload, "load", load)
    browser.say(**ask)
    told = [message for message, _ in browser.take("exposure")]
    assert told[0]["error"].startswith("Cannot show this exposure")
    assert [message["id"] for message in told] == ask.get("ids", [1])
    assert "error" not in told[-1] or len(told) == 1


def test_a_callback_that_fails_is_told_in_the_panel(panel: Overviews, browser: Browser) -> None:
    def fail(_: int) -> None:
        raise ParameterError("the table is closed; open it again")

    panel.on_step(fail)
    panel.step(1)
    assert "the table is closed" in panel._messages.text


def test_an_empty_project_has_nothing_to_show(tmp_path: Path) -> None:
    with make_shown(tmp_path / "other" / "project", names=()) as project:
        panel = Overviews(project)
        browser = Browser(panel)
        browser.say(k="ready")
        assert browser.take("show")[0][0] == {
            "k": "show",
            "id": None,
            "around": [],
            "seq": None,
            "place": None,
            "total": 0,
        }
        panel.step(1)
        assert panel.current is None
        panel.close()


def test_another_order_is_told_once(shown: Project, browser: Browser, panel: Overviews) -> None:
    order = [3, 1, 2]
    panel.set_order(lambda: order)
    panel.show(3)
    browser.take("show")
    panel.follow_order()
    assert not browser.take("show")
    order.reverse()
    panel.follow_order()
    panel.follow_order()
    ((message, _),) = browser.take("show")
    assert (message["id"], message["around"], message["place"], message["seq"]) == (3, [2, 1, 3], 3, 0)
    order.remove(3)  # filtered away: a step leads to the first
    panel.follow_order()
    ((message, _),) = browser.take("show")
    assert (message["around"], message["place"], message["total"]) == ([2, 1], None, 2)
