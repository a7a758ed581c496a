"""Kills every command that writes at its steps, the command or the server, or cuts the power of
the disk that it writes to, and sees what is left.

``python -m tests.reliability.matrix`` does it for all, and writes ``docs/reliability.rst``;
``python -m tests.reliability.matrix --engine PostgreSQL init reinit`` for some. What was found is
kept in ``build/reliability.json``, from which the page is written, so that it can be done in parts.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from .disk import disk
from .instrument import cut_power
from .scenarios import SCENARIOS, Scenario, share_trees
from .worlds import BindirWorld, CondaWorld, PostgresWorld, SqliteWorld, World

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
KEPT = ROOT / "build" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.rst"
STORE = ROOT / "build" / "reliability-store"
COMMAND, SERVER, POWER = VICTIMS = "command", "server", "power"
#: How many kills of each kind a command gets, unless all are asked for.
MOST = 12


@dataclass(frozen=True)
class Step:
    """A place in the code that changes something, the number of the time, and whether a server
    was there to be killed."""

    key: str
    number: int
    served: bool

    @property
    def title(self) -> str:
        event, *places = self.key.split(" < ")
        where = f" in {places[0]}" if places else ""
        return f"{event}{where}" + (f" ({self.number})" if self.number > 1 else "")


@dataclass(frozen=True)
class Kill:
    """What came of one. ``steps`` is how many there are, of which this was one."""

    engine: str
    command: str
    victim: str
    step: str
    steps: int
    outcome: str
    problems: tuple[str, ...] = ()
    doctor: tuple[str, ...] = ()


#: Where the power is cut as well.
ENDED = Step("ended", 1, served=False)

SURVIVED, LOST, MISSED = "survived", "lost", "missed"


def steps(world: World, scenario: Scenario, *, every: bool = False) -> list[Step]:
    """The steps of a command, found by running it: the first and a middle time of each place."""
    scenario.prepare(world)
    file = world.root / "steps.json"
    done = world.instrumented(*scenario.args, RELIABILITY_STEPS=str(file))
    done.ok()
    world.wait_for_background()
    found = []
    for key, count, served in json.loads(file.read_text()):
        if scenario.within and f" < {scenario.within}" not in key:
            continue
        numbers = range(1, count + 1) if every else sorted({1, count // 2 + 1})
        found += [Step(key, number, served) for number in numbers]
    file.unlink()
    return found


def sample(all_steps: Sequence[Step], most: int | None) -> list[Step]:
    """At most so many, evenly over the whole, with the first and the last."""
    if most is None or len(all_steps) <= most:
        return list(all_steps)
    if most == 1:
        return [all_steps[len(all_steps) // 2]]
    last = len(all_steps) - 1
    return [all_steps[round(number * last / (most - 1))] for number in range(most)]


def kill(world: World, scenario: Scenario, victim: str, step: Step, of: int = 1) -> Kill:
    """One kill, and all that is to be seen after it."""
    scenario.prepare(world)
    had = world.backups()
    world.hit.unlink(missing_ok=True)
    environment = {
        "RELIABILITY_AT": f"{step.key}#{step.number}",
        "RELIABILITY_VICTIM": victim,
        "RELIABILITY_HIT": str(world.hit),
    }
    if world.disk is not None:
        world.settle()
        environment["RELIABILITY_DISK"] = str(world.disk.folder)
    done = world.instrumented(*scenario.args, **environment)
    if world.disk is not None:
        if step == ENDED:
            done.ok()
            world.hit.touch()
            cut_power(world.disk.folder)
        world.power_up()
    result = (world.engine, scenario.name, victim, step.title, of)
    if not world.hit.exists():
        return Kill(*result, MISSED)
    problems = list(_after_kill(world, scenario, victim, done.status, done.all))
    doctor = []
    if not problems:
        doctor = list(_doctor(world, problems))
        problems += _next(world, scenario, victim, had)
    if not problems:
        problems += _again(world, scenario, victim, had)
    return Kill(*result, LOST if problems else SURVIVED, tuple(problems), tuple(doctor))


def _damaged(world: World, scenario: Scenario, victim: str, had: Sequence[Path]) -> Iterator[str]:
    """Backups that are not whole, but for a new one that need not be on disk."""
    waited = victim != POWER or scenario.waits
    return world.damaged(each for each in world.backups() if waited or each in had)


def _after_kill(
    world: World, scenario: Scenario, victim: str, status: int, said: str
) -> Iterator[str]:
    if victim == COMMAND and status != -9:
        yield f"the command ended with {status} though it was killed"
    if victim == SERVER and "Traceback" in said:
        yield f"a traceback: {said[-2000:]}"
    if victim == SERVER and status < 0:
        yield f"the command died of signal {-status}"


def _doctor(world: World, problems: list[str]) -> Iterator[str]:
    """What dbdev_doctor finds, without the paths and numbers of the run."""
    done = world.manage("dbdev_doctor", "--format", "json")
    try:
        found = json.loads(done.out)
    except ValueError:
        problems.append(f"dbdev_doctor: {done.all[-1000:]}")
        return
    for finding in found["findings"]:
        text = finding["text"].replace(f"{world.root}/", "")
        text = re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d+", "TIME", text)
        text = re.sub(r"port \d+ is taken by .*", "the port is taken by …", text)
        yield f"{finding['level']}: {re.sub(r'  +', ' ', text)}"


def _next(world: World, scenario: Scenario, victim: str, had: Sequence[Path]) -> Iterator[str]:
    done = world.manage(*scenario.next)
    if victim == POWER and not scenario.waits and "is not whole" in done.err:
        done = world.manage("dbdev_reinit", "--noinput")
    if done.status != 0 or "Traceback" in done.all:
        yield f"{scenario.next[0]} after it: {done.all[-2000:]}"
        return
    content = world.content()
    if content not in (scenario.before, scenario.after):
        yield f"the content is {content}"
    yield from _damaged(world, scenario, victim, had)
    if not len(had) <= len(world.backups()) <= len(had) + max(1, scenario.backups):
        yield f"there are {len(world.backups())} backups, where {len(had)} were"


def _again(world: World, scenario: Scenario, victim: str, had: Sequence[Path]) -> Iterator[str]:
    """The same command once more: it succeeds, and then nothing is left of the killed one."""
    already = len(world.backups())
    if world.content() is not None or scenario.before is None:
        done = world.manage(*scenario.args)
        if done.status != 0:
            yield f"the same command again: {done.all[-2000:]}"
            return
    if world.unfinished():
        # A killed backup is kept until somebody clears: it may be what is needed.
        world.manage("dbdev_clearbackups", "--keep", "99", "--noinput").ok()
    world.wait_for_background()
    left = [*world.leftovers(), *world.unfinished(), *world.strays()]
    if world.has_server and world.is_running():
        left += world.databases()
        if (content := world.content()) != scenario.after:
            yield f"the content is {content} after the same command again"
    if left:
        yield f"left: {', '.join(left)}"
    yield from _damaged(world, scenario, victim, had)
    if len(world.backups()) < already:
        yield "a backup is gone"


def try_all(
    world: World,
    scenario: Scenario,
    *,
    most: int | None = MOST,
    every: bool = False,
    victims: Sequence[str] = (COMMAND, SERVER),
) -> Iterator[Kill]:
    scenario.begin(world)
    found = steps(world, scenario, every=every)
    for victim in victims:
        chosen = [step for step in found if victim != SERVER or step.served]
        if victim == POWER:
            chosen.append(ENDED)
        for step in sample(chosen, most):
            yield kill(world, scenario, victim, step, len(chosen))


def worlds() -> dict[str, type[World]]:
    from .mariadb_world import MariaDbWorld

    class Npm(PostgresWorld):
        engine = "npm"
        # No wheel has it.
        pin = '[tool.django_dbdev.postgresql]\nversion = "16.4"\n'

    class Apt(MariaDbWorld):
        engine = "apt"

    found = (PostgresWorld, MariaDbWorld, SqliteWorld, Npm, Apt, CondaWorld, BindirWorld)
    return {w.engine: w for w in found}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m tests.reliability.matrix", description=__doc__)
    parser.add_argument("commands", nargs="*", help="Their names; all of them by default.")
    parser.add_argument("--engine", action="append", choices=sorted(worlds()))
    parser.add_argument("--victim", action="append", choices=VICTIMS)
    parser.add_argument("--most", type=int, default=MOST, help="Kills of each kind per command.")
    parser.add_argument("--every-step", action="store_true", help="No sample: all steps.")
    parser.add_argument("--all", action="store_true", help="Every step, every time it comes.")
    parser.add_argument("--jobs", type=int, default=1, help="Commands that are tried at once.")
    parser.add_argument("--store", type=Path, default=STORE, help="Programs that were fetched.")
    parser.add_argument("--page", action="store_true", help="Only write the page.")
    options = parser.parse_args(arguments)
    kept = _kept()
    victims = options.victim or VICTIMS
    chosen = [
        (scenario, engine, together)
        for scenario in SCENARIOS
        for engine in scenario.engines
        for together in ([v for v in victims if v != POWER], [v for v in victims if v == POWER])
        if together
        and (not options.commands or scenario.name in options.commands)
        and (not options.engine or engine in options.engine)
        and not options.page
    ]
    options.store.mkdir(parents=True, exist_ok=True)
    broken = False
    with ThreadPoolExecutor(options.jobs) as pool:
        begun = [pool.submit(_try_one, options, *each) for each in chosen]
        for done in as_completed(begun):
            try:
                new = done.result()
            except Exception:
                traceback.print_exc()
                broken = True
                continue
            again = {(each.engine, each.command, each.victim) for each in new}
            kept = [e for e in kept if (e.engine, e.command, e.victim) not in again] + new
            _keep(kept)
    PAGE.write_text(page(kept), "utf-8")
    return int(broken or any(each.outcome == LOST for each in kept))


def _try_one(
    options: argparse.Namespace, scenario: Scenario, engine: str, victims: Sequence[str]
) -> list[Kill]:
    """One command, in a project and a store of its own; tells what came of it."""
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="k"))).resolve()
        own = stack.enter_context(disk(folder)) if POWER in victims else None
        root = (own.folder if own else folder) / "p"
        world = worlds()[engine](root, root / "store", disk=own)
        try:
            if not scenario.within:
                share_trees(options.store.resolve(), world.store)
            kills = list(
                try_all(
                    world,
                    scenario,
                    most=None if options.all or options.every_step else options.most,
                    every=options.all,
                    victims=victims,
                )
            )
        finally:
            world.clean_up()
            shutil.rmtree(root, ignore_errors=True)
    said = [
        f"{' '.join(row[:3])}: {row[3]} steps, {row[4]} tried, {row[5]} survived, {row[6]} lost"
        for row in rows(kills)
    ]
    for each in kills:
        if each.outcome != SURVIVED:
            said += [f"  {each.outcome}: {each.victim} at {each.step}", *each.problems]
    print(*said, f"  in {time.monotonic() - started:.0f} s", sep="\n", flush=True)
    return kills


def _kept() -> list[Kill]:
    if not KEPT.exists():
        return []
    return [
        Kill(**{**each, "problems": tuple(each["problems"]), "doctor": tuple(each["doctor"])})
        for each in json.loads(KEPT.read_text())
    ]


def _keep(kills: Iterable[Kill]) -> None:
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps([asdict(each) for each in kills], indent=1) + "\n")


def rows(kills: Iterable[Kill]) -> list[tuple[str, ...]]:
    """Engine, command, victim, steps, and how many were tried, survived and lost."""
    counted: dict[tuple[str, ...], Counter[str]] = {}
    for each in kills:
        if each.outcome != MISSED:
            key = (each.engine, each.command, each.victim, str(each.steps))
            counted.setdefault(key, Counter())[each.outcome] += 1
    return [
        (*key, str(count.total()), str(count[SURVIVED]), str(count[LOST]))
        for key, count in counted.items()
    ]


def page(kills: Sequence[Kill]) -> str:
    text = (HERE.with_name("page.rst")).read_text("utf-8")
    order = [(engine, s.name) for engine in worlds() for s in SCENARIOS]
    ordered = sorted(kills, key=lambda each: order.index((each.engine, each.command)))
    counted = rows(ordered)
    sums = [str(sum(int(row[column]) for row in counted)) for column in (3, 4, 5, 6)]
    heads = ("engine", "command", "killed", "steps", "tried", "survived", "lost")
    table = _table(heads, [*counted, ("", "all", "", *sums)])
    # What projects have left in the store of the tests is not of the kill.
    told = [[line for line in each.doctor if "of the store" not in line] for each in ordered]
    said = Counter(line for lines in told for line in set(lines))
    silent = sum(
        each.outcome == SURVIVED and not lines for each, lines in zip(ordered, told, strict=True)
    )
    doctor = _table(
        ("what it said", "times"),
        [
            *((f"``{line}``", str(count)) for line, count in said.most_common()),
            ("nothing is to be done", str(silent)),
        ],
    )
    return text.replace("{{ kills }}", table).replace("{{ doctor }}", doctor)


def _table(heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (heads, *body):
        for number, cell in enumerate(row):
            lines.append(f"   {'* -' if number == 0 else '  -'} {cell}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
