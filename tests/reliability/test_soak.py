"""Rounds of everything leave what there was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from . import soak
from .scenarios import share_trees
from .worlds import PostgresWorld, world


@pytest.mark.parametrize("rounds", [2, pytest.param(200, marks=pytest.mark.slow)])
def test_nothing_grows(tmp_path: Path, store: Path, rounds: int) -> None:
    # Others put things into the shared store meanwhile.
    share_trees(store, tmp_path / "store")
    with world(PostgresWorld, tmp_path / "p", tmp_path / "store") as made:
        counts = soak.soak(made, rounds, lambda number, count: None)
    assert soak.grown(counts) == []
    more = replace(counts[-1], store_files=counts[0].store_files + 1)
    assert soak.grown([*counts, more]) != []
    assert "nothing grew" in soak.report(counts)
