"""The page that shows a published session: one file, no server behind it, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources

from focusnb.monitoring.quantities import SERIES, Derived
from focusnb.parameters import Spec
from focusnb.steps.base import built_in_steps
from focusnb.views import monitor


@cache
def build_page() -> bytes:
    """The bytes of ``index.html``; it reads ``status.json`` beside it and refreshes itself."""
    folder = resources.files("focusnb.monitoring") / "page"
    page, style, script = ((folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    axes = [monitor.Axis(spec.name, spec.caption, spec.precision) for spec in _specs() if spec.name != "defocus_error"]
    light, dark = (_figures(axes, dark=dark) for dark in (False, True))
    bokeh = _inline(monitor.bokeh_script())
    script = _inline(script)
    places = "".join(f'<div class="plot" id="plot:{name}"></div>' for name in (*(a.name for a in axes), "throughput"))
    parts = {
        "POLICY": _policy([bokeh, script]),
        "STYLE": style,
        "PLOTS": places,
        "LIGHT": light,
        "DARK": dark,
        "BOKEH": bokeh,
        "SCRIPT": script,
    }
    pieces = page.split("@")
    return "".join(parts.get(piece, piece) for piece in pieces).encode()


def _specs() -> list[Spec]:
    """The declarations of all series that a project may have; the page hides those that one has not."""
    declared = {spec.name: spec for step in built_in_steps().values() for spec in step.makes()}
    declared |= {spec.name: spec for spec in Derived.specs()}
    return [declared[name] for name in SERIES if name in declared]


def _figures(axes: list[monitor.Axis], *, dark: bool) -> str:
    documents, items = monitor.embedded(monitor.session_figures(axes, dark=dark))
    told = json.dumps({"documents": json.loads(documents), "items": items}, ensure_ascii=False)
    return told.replace("<", "\\u003c")


def _inline(text: str) -> str:
    """Text that cannot end the script element it stands in."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(scripts: list[str]) -> str:
    """What the page may load: its own scripts by their hashes, and data from where it lies itself."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'; font-src 'none'; base-uri 'none'; form-action 'none'"
    )
