"""Settings that a user writes by hand, as TOML in a file of their own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from focusnb.errors import ParameterError


def read_settings_file(path: Path) -> dict[str, Any]:
    """Read a file of settings, also with the mark that some editors put at its beginning; none where it is not there.

    Raises ParameterError, with the cure, where it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ParameterError(f"{path}: cannot be read ({error.strerror}); give this user the right to") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: is not TOML ({error}); correct it there") from error
