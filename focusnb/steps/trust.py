"""Code inside a project folder runs only after the user has trusted that project.

A project may come from anybody; opening it must not run what somebody put into its ``steps`` folder. Trust is given
by one user, for one project folder and for the code as it is: when a file there is changed, added or removed, the
question is asked again. It is kept in ``~/.config/focusnb/trusted.json``, outside of every project.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from focusnb.errors import FocusError, FormatError
from focusnb.io import files

FOLDER = "steps"
"""Where a project keeps its own code."""

_LONGEST_LIST = 20


@dataclass(frozen=True)
class CodeFile:
    """A file of a project's steps folder, compared with what was trusted before."""

    name: str
    size: int
    digest: str
    state: Literal["new", "changed", "same", "removed"]


def is_trusted(project_folder: Path | str) -> bool:
    """Whether this user trusted the code of a project as it is now; a project without code needs no trust."""
    now = _digests(Path(project_folder))
    return not now or now == _trusted_before(Path(project_folder))


def trust(project_folder: Path | str, *, seen: str | None = None) -> None:
    """Trust the code of a project as it is now.

    seen : the :func:`code_hash` of what the user was shown; FocusError where the code was changed since
    """
    folder = Path(project_folder)
    digests = _digests(folder)
    if seen is not None and seen != _hash(digests):
        raise FocusError(f"{folder / FOLDER}: was changed while the question was open; look at it again")
    projects = _read_store()
    projects[str(folder.resolve())] = digests
    _write_store(projects)


def distrust(project_folder: Path | str) -> None:
    """Take trust in a project back; its own steps do not run any more."""
    projects = _read_store()
    if projects.pop(str(Path(project_folder).resolve()), None) is not None:
        _write_store(projects)


def code_hash(project_folder: Path | str) -> str:
    """Return one hash of all that lies in a project's steps folder."""
    return _hash(_digests(Path(project_folder)))


def code_files(project_folder: Path | str) -> list[CodeFile]:
    """List the files of a project's steps folder, and those removed since it was trusted."""
    folder = Path(project_folder)
    before = _trusted_before(folder)
    now = _digests(folder)
    found = []
    for name in sorted({*now, *before}):
        state: Literal["new", "changed", "same", "removed"] = "same"
        if name not in now:
            state = "removed"
        elif name not in before:
            state = "new"
        elif now[name] != before[name]:
            state = "changed"
        path = folder / FOLDER / name
        size = path.stat().st_size if state != "removed" and path.is_file() else 0
        found.append(CodeFile(name, size, now.get(name, ""), state))
    return found


def describe(project_folder: Path | str) -> str:
    """Explain what the trust question is about: whose code, which files, what changed since it was trusted."""
    folder = Path(project_folder)
    listed = code_files(folder)
    if not listed:
        return f"{folder} holds no code of its own."
    why = (
        "It was trusted before, and has changed since."
        if any(file.state != "new" for file in listed)
        else "It runs with your rights on every worker; trust it if you know who wrote it."
    )
    shown = [file for file in listed if file.state != "same"] or listed
    lines = [f"{folder / FOLDER} holds code of this project. {why}"]
    lines += [f"  {file.name} ({file.size} bytes, {file.state})" for file in shown[:_LONGEST_LIST]]
    if len(shown) > _LONGEST_LIST:
        lines.append(f"  and {len(shown) - _LONGEST_LIST} more")
    unchanged = len(listed) - len(shown)
    return "\n".join([*lines, f"  {unchanged} unchanged"] if unchanged else lines)


def _digests(project_folder: Path) -> dict[str, str]:
    """Hash every file of the steps folder, hidden ones and byte code too: trusted code may read any of them."""
    root = project_folder / FOLDER
    digests: dict[str, str] = {}
    for folder, folders, names in os.walk(root):
        for name in sorted([*names, *(f for f in folders if (Path(folder) / f).is_symlink())]):
            path = Path(folder) / name
            key = str(path.relative_to(root))
            if path.is_file():
                digests[key] = files.hash_file(path)
            else:  # a link to a folder or to nothing: what it points at is what was trusted
                target = os.readlink(path) if path.is_symlink() else "special file"
                digests[key] = "link:" + hashlib.sha256(target.encode()).hexdigest()
    return digests


def _hash(digests: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _trusted_before(project_folder: Path) -> dict[str, str]:
    return _read_store().get(str(project_folder.resolve()), {})


def _store() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "focusnb" / "trusted.json"


def _read_store() -> dict[str, dict[str, str]]:
    path = _store()
    try:
        data: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise FormatError(f"{path}: is not JSON ({error}); remove it, and each project is asked about again") from error
    projects = data.get("projects") if isinstance(data, dict) else None
    if not isinstance(projects, dict) or not all(isinstance(entry, dict) for entry in projects.values()):
        raise FormatError(f"{path}: holds no table of projects; remove it, and each project is asked about again")
    return projects


def _write_store(projects: dict[str, dict[str, str]]) -> None:
    path = _store()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_json(path, {"projects": projects})
