"""The line that tells who works on the project, and starts and stops that."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from focusnb.panels.processing import ProcessingBar
from focusnb.processing import detached
from tests.projects import make_project


def test_a_start_that_fails_is_told_and_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(project: object) -> None:
        raise OSError(28, "No space left on device", "serve.log")

    monkeypatch.setattr(detached, "start", start)

    async def begin() -> None:
        with make_project(tmp_path / "session") as project:
            bar = ProcessingBar(project)
            bar.begin()
            assert bar._text.value.startswith("Starting")
            assert bar._start.disabled
            async with asyncio.timeout(60):
                while bar._start.disabled:
                    await asyncio.sleep(0.01)
            assert "No space left on device" in bar._messages.text
            bar.close()

    asyncio.run(begin())
