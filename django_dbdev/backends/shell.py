"""Text for a shell: what guides print for the user to copy."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path


def quote(word: str | Path) -> str:
    """One word for bash or zsh: on one line, and printable whatever is in it.

    What is not printable, such as a tab, a line break or bytes that are no UTF-8, becomes an
    escape in ``$'…'``: a terminal or an editor would not hand it over as it is.
    """
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_escape, text)) + "'"


def _escape(character: str) -> str:
    if character == "\\":
        return r"\\"
    # bash's history looks for "!" before it understands a quote within $'…'.
    if character.isprintable() and character not in "'!":
        return character
    # Octal: the bash of macOS knows no \u.
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


def join(words: Iterable[str | Path]) -> str:
    return " ".join(map(quote, words))


def program(path: str | Path, environment: Mapping[str, str]) -> str:
    """A program by its path, with what it needs in its environment and nothing else does."""
    if not environment:
        return quote(path)
    assignments = " ".join(f"{name}={quote(value)}" for name, value in environment.items())
    return f"env {assignments} {quote(path)}"
