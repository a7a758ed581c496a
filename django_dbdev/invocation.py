"""How this project's manage.py was called, for commands that the user can paste."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

#: Whether what runs here brings servers up though no command of ours does: pytest with --dbdev, or
#: by its configuration.
servers_asked_for = False


def manage_command() -> str:
    """The command line, as one would type it in the working directory."""
    python = "python" if _same(shutil.which("python"), sys.executable) else _short(sys.executable)
    return shlex.join([*_settings(), python, *_script(_short)])


def manage_arguments() -> tuple[str, ...]:
    """The Python and the script by their absolute paths: the same from every directory."""
    return (*_settings(), sys.executable, *_script(os.path.abspath))


def _settings() -> tuple[str, ...]:
    """What makes another command take the settings that this one was given by ``--settings``.

    Without it that would work on other databases.
    """
    own = itertools.takewhile(lambda word: word != "--", sys.argv[2:])
    if not any(word.partition("=")[0] == "--settings" for word in own):
        return ()
    return ("env", f"DJANGO_SETTINGS_MODULE={os.environ['DJANGO_SETTINGS_MODULE']}")


def _script(spell: Callable[[str], str]) -> tuple[str, ...]:
    script = sys.argv[0] if sys.argv else ""
    return (spell(script),) if Path(script).name == "manage.py" else ("-m", "django")


def _same(one: str | None, other: str) -> bool:
    """Whether two paths are one interpreter; a link to the base Python is another environment."""
    return one is not None and os.path.abspath(one) == os.path.abspath(other)


def _short(path: str) -> str:
    """A path as it is seen from the working directory, where it lies below that."""
    absolute = Path(os.path.abspath(path))
    try:
        here = Path.cwd()
    except OSError:
        return str(absolute)
    if here == Path(here.anchor) or not absolute.is_relative_to(here):
        return str(absolute)
    return str(absolute.relative_to(here))
