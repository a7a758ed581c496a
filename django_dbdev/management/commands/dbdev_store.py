from __future__ import annotations

import json
import time
from argparse import ArgumentParser

from ... import conf
from ...binaries import upkeep
from ...binaries.store import Store
from ...binaries.upkeep import Item
from ...exceptions import IntegrityError
from ...reporting import seconds, size
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = (
        "Look after the store, where all projects of this user have their programs: list what is "
        "there and who uses it, prune what no project uses, verify that it is what was unpacked."
    )
    default_alias = None
    prints_result = True

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=("list", "prune", "verify"))
        parser.add_argument(
            "--format", choices=("text", "json"), default="text", help="For list; json for scripts."
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="For prune: say what would go, and leave it."
        )
        parser.add_argument(
            "--remove",
            action="store_true",
            help="For verify: remove what is damaged, so that the next command fetches it anew.",
        )

    def dbdev_handle(self) -> None:
        self.store = Store(conf.store())
        actions = {"list": self._list, "prune": self._prune, "verify": self._verify}
        actions[self.options["action"]]()

    def _list(self) -> None:
        found = upkeep.items(self.store)
        if self.options["format"] == "json":
            self.stdout.write(json.dumps([_plain(item) for item in found], indent=2))
            return
        for item in found:
            self.stdout.write(f"{item.title:<34}{size(item.size):>10}  {_use(item)}")
        if debs := upkeep.disk_usage(self.store.root / "debs"):
            self.stdout.write(f"{'packages of Debian':<34}{size(debs):>10}  what trees are made of")
        total = size(sum(item.size for item in found) + debs)
        self.stdout.write(f"{self.store.root}: {total} in {len(found)} folders")

    def _prune(self) -> None:
        started = time.perf_counter()
        if self.options["dry_run"]:
            gone, verb = upkeep.prunable(self.store), "Would remove"
        else:
            gone, verb = upkeep.prune(self.store), "Removed"
        for item in gone.items:
            self.reporter.fact(f"{verb} {item.title} ({size(item.size)})")
        packages = f" and {len(gone.packages)} packages of Debian" if gone.packages else ""
        took = seconds(time.perf_counter() - started)
        self.reporter.fact(
            f"{verb} {len(gone.items)} folders{packages}, {size(gone.size)}, in {took}"
        )

    def _verify(self) -> None:
        damaged = []
        started, count = time.perf_counter(), 0
        for verified in upkeep.verify(self.store):
            count += 1
            if verified.noted:
                self.reporter.warning(
                    f"{verified.item.title} was unpacked before digests were noted; this one is "
                    "noted now"
                )
            if verified.problem:
                damaged.append(verified)
        for each in damaged:
            if self.options["remove"]:
                self.store.remove(each.item.kind, each.item.key)
                self.reporter.fact(f"Removed {each.item.title}: {each.problem}")
        took = seconds(time.perf_counter() - started)
        if damaged and not self.options["remove"]:
            raise IntegrityError(
                f"{len(damaged)} of {count} programs in {self.store.root} are damaged:"
                + "".join(f"\n  - {d.item.folder} ({d.item.title}): {d.problem}" for d in damaged),
                hints=[
                    "remove them, and the next command fetches them: dbdev_store verify --remove"
                ],
            )
        self.reporter.fact(f"Verified {count - len(damaged)} programs in {took}")


def _use(item: Item) -> str:
    if item.kind == upkeep.TREES:
        return f"used by {', '.join(item.used_by)}" if item.used_by else "used by no project"
    days = int((time.time() - item.last_used) / 86400)
    return f"last used {days} d ago" if days else "last used today"


def _plain(item: Item) -> dict[str, object]:
    return {
        "kind": item.kind,
        "key": item.key,
        "title": item.title,
        "folder": str(item.folder),
        "size": item.size,
        "last_used": item.last_used,
        "used_by": list(item.used_by),
        **{name: item.record[name] for name in ("package", "version") if name in item.record},
    }
