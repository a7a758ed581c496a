"""Commands and servers that are killed at any step: a sample, and all of it when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from . import matrix
from .disk import NoDiskError, disk
from .instrument import cut_power
from .mariadb_world import MariaDbWorld
from .scenarios import SCENARIOS, Scenario, named, needs_own_store, share_trees
from .worlds import OLD, PostgresWorld, SqliteWorld, World, world


@pytest.fixture
def postgres(tmp_path: Path, store: Path) -> Iterator[World]:
    with world(PostgresWorld, tmp_path / "p", store) as made:
        yield made


def lost(kills: list[matrix.Kill]) -> list[matrix.Kill]:
    return [each for each in kills if each.outcome == matrix.LOST]


def test_a_sample(postgres: World) -> None:
    init = named("init")
    found = matrix.steps(postgres, init)
    kinds = {step.key.split(" < ")[0] for step in found}
    assert {"open", "os.rename", "os.mkdir", "os.fork", "forked", "statement"} <= kinds
    swapped = next(step for step in found if "DatabaseServer.move_in" in step.title)
    asked = next(step for step in found if step.served and step.key.startswith("statement"))
    kills = [
        matrix.kill(postgres, init, matrix.COMMAND, swapped),
        # The server goes down in the middle of what is asked of it.
        matrix.kill(postgres, init, matrix.SERVER, asked),
    ]
    assert [each.outcome for each in kills] == [matrix.SURVIVED] * 2, kills
    # A table that cannot have a bad row would be worth nothing.
    wrong = replace(init, before=OLD, after=OLD)
    assert matrix.kill(postgres, wrong, matrix.COMMAND, swapped).outcome == matrix.LOST


def test_all_of_the_shortest_command(tmp_path: Path, store: Path) -> None:
    with world(SqliteWorld, tmp_path / "p", store) as made:
        kills = list(matrix.try_all(made, named("destroy"), victims=[matrix.COMMAND]))
    assert [each.outcome for each in kills] == [matrix.SURVIVED] * len(kills), kills
    assert kills


@contextmanager
def powered(kind: type[World], folder: Path, store: Path) -> Iterator[World]:
    """A project on a disk whose power can be cut; its programs are elsewhere."""
    try:
        with disk(folder) as own, world(kind, own.folder / "p", store, own) as made:
            yield made
    except NoDiskError as error:
        pytest.skip(f"this machine gives us no disk of our own: {error}")


@pytest.mark.parametrize(
    ("kind", "command", "part"),
    [
        (PostgresWorld, "restore", "Replacement.swap"),
        # Right after RENAME TABLE.
        (MariaDbWorld, "loaddump (SQL)", "ballast.held"),
    ],
)
def test_the_power_of_the_disk(
    tmp_path: Path, store: Path, kind: type[World], command: str, part: str
) -> None:
    with powered(kind, tmp_path, store) as made:
        scenario = named(command)
        scenario.begin(made)
        there = [each for each in matrix.steps(made, scenario) if part in each.title]
        assert len(there) >= 2
        tried = (there[0], there[-1], matrix.ENDED)
        kills = [matrix.kill(made, scenario, matrix.POWER, step) for step in tried]
    assert [each.outcome for each in kills] == [matrix.SURVIVED] * 3, kills


def test_what_was_not_written_is_gone_with_the_power(tmp_path: Path, store: Path) -> None:
    """Else the test above would say nothing."""
    with powered(PostgresWorld, tmp_path, store) as made:
        assert made.disk is not None
        kept, lost = made.root / "kept", made.root / "lost"
        kept.write_text("x" * 10_000)
        made.settle()
        lost.write_text("x" * 10_000)
        cut_power(made.disk.folder)
        with pytest.raises(OSError, match="Input/output error"):
            (made.root / "more").write_text("x")
        made.power_up()
        assert kept.read_text() == "x" * 10_000
        assert not lost.exists() or lost.read_text() == ""


def test_the_page_is_a_table_of_what_came_of_them() -> None:
    kill = matrix.Kill("PostgreSQL", "init", matrix.COMMAND, "os.rename", 9, matrix.SURVIVED)
    other = matrix.Kill("PostgreSQL", "init", matrix.SERVER, "x", 9, matrix.LOST)
    text = matrix.page([kill, kill, other])
    rows = [" ".join(line.split()) for line in text.splitlines()]
    at = rows.index("* - PostgreSQL")
    assert rows[at + 1 : at + 7] == ["- init", "- command", "- 9", "- 2", "- 2", "- 0"]


KINDS: tuple[type[World], ...] = (PostgresWorld, MariaDbWorld, SqliteWorld)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scenario"),
    [(kind, each) for kind in KINDS for each in SCENARIOS if kind.engine in each.engines],
    ids=lambda value: value.name if isinstance(value, Scenario) else value.engine,
)
def test_every_command(
    tmp_path: Path,
    store: Path,
    kind: type[World],
    scenario: Scenario,
) -> None:
    own = tmp_path / "p" / "store"
    given = own if needs_own_store(scenario) else store
    with world(kind, tmp_path / "p", given) as made:
        if needs_own_store(scenario) and not scenario.within:
            share_trees(store, own)
        kills = list(matrix.try_all(made, scenario))
    assert kills
    assert lost(kills) == []
