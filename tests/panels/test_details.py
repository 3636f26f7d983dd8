"""The details of an exposure without a browser."""

from __future__ import annotations

import asyncio
from pathlib import Path

from focusnb.panels.details import REST, TABS, Details
from focusnb.panels.polling import poller
from tests.views.shown import make_shown


def test_details_follow_the_exposure_and_what_changes(tmp_path: Path) -> None:
    with make_shown(tmp_path / "project") as project:
        panel = Details(project)
        sent: list[dict] = []
        panel._tables.send = lambda message, buffers=None: sent.append(message)
        panel._tables._handle_custom_msg({"k": "ready"}, [])
        assert sent == [{"k": "show", "id": None}]
        panel.show(2)
        assert sent[-1]["head"]["name"] == "b"
        assert {"failures", "facts", "findings", "parameters", "runs", "log"} <= set(sent[-1])
        project.override(2, drift=99.0)
        project.flag([1], "red")
        poller(project).step()
        assert len(sent) == 3
        (drift,) = [row for row in panel.shown["findings"] if row["name"] == "drift"]
        assert (drift["text"], drift["origin"]) == ("99.0", "by hand")
        project.flag([1], None)
        poller(project).step()
        assert len(sent) == 3  # of another exposure
        panel.choose("Log")
        assert panel._tables.tab == TABS[4]
        panel.show(77)
        assert "no exposure 77" in sent[-1]["error"]
        panel.close()


def test_who_steps_on_waits_for_no_numbers(tmp_path: Path) -> None:
    async def step() -> None:
        with make_shown(tmp_path / "project") as project:
            panel = Details(project)
            sent: list[dict] = []
            panel._tables.send = lambda message, buffers=None: sent.append(message)
            for exposure in (1, 2, 3):
                panel.show(exposure)
            assert sent == []
            async with asyncio.timeout(60):
                while not sent:
                    await asyncio.sleep(REST)
            await asyncio.sleep(2 * REST)
            assert [message["id"] for message in sent] == [3]
            panel.show(1)
            panel.close()
            await asyncio.sleep(2 * REST)
            assert len(sent) == 1

    asyncio.run(step())
