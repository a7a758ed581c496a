"""Every command of the tutorial and the how-to guides is run, and does what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from django_dbdev.binaries import apt

from ..conftest import Locks
from .readers import BY_APT, clean_up, follow, pages


@pytest.mark.parametrize("page", pages())
def test_a_page_says_what_its_commands_print(
    page: str, tmp_path: Path, store: Path, locks: Locks
) -> None:
    if page in BY_APT and not apt.is_there():
        pytest.skip("this system has no apt")
    home = tmp_path / "alice"
    home.mkdir()
    try:
        problems = [each.problem() for each in follow(page, home, store, locks)]
    finally:
        clean_up(home, store)
    assert not any(problems), "\n\n".join(filter(None, problems))
