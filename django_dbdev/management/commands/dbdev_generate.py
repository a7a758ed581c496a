from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import connections

from ... import conf
from ...environment.files import plan, write
from ...environment.layout import read_layout, repository_of
from ...environment.model import Database, Model, build_model
from ...environment.rendering import KINDS
from ...reporting import seconds
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = (
        "Write files that give colleagues and CI the pinned servers: Nix, direnv, CI, containers."
    )
    default_alias = None
    prints_result = True

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "kind",
            choices=list(KINDS),
            help="; ".join(f"{name}: {kind.help}" for name, kind in KINDS.items()),
        )
        how = parser.add_mutually_exclusive_group()
        how.add_argument(
            "--check",
            action="store_true",
            help="Write nothing; fail with a diff when a file is not what would be generated.",
        )
        how.add_argument(
            "--stdout",
            action="store_true",
            # Django's own option of that name is the command's output.
            dest="printed",
            help="Print instead of writing.",
        )
        how.add_argument("--force", action="store_true", help="Replace files that were edited.")

    def dbdev_handle(self) -> None:
        started = time.perf_counter()
        root = conf.project_root()[0]
        kind = self.options["kind"]
        planned = plan(kind, self._model(root), root, repository_of(root))
        if self.options["printed"]:
            for file in planned:
                self.stdout.write(file.text, ending="")
        elif self.options["check"]:
            differences = "".join(file.diff() for file in planned)
            if differences:
                self.stdout.write(differences)
                raise CommandError(
                    f"{kind} is out of date.\nhint: dbdev_generate {kind} writes it anew"
                )
            self.reporter.fact(f"{', '.join(str(f.path) for f in planned)}: up to date")
        else:
            written = write(planned, force=self.options["force"])
            took = seconds(time.perf_counter() - started)
            for file in planned:
                if file.path in written:
                    self.reporter.fact(f"Generated {file.path} in {took}")
                else:
                    self.reporter.fact(f"{file.path} is up to date")
            if KINDS[kind].follow:
                self.reporter.fact(f"Next: {KINDS[kind].follow}")

    def _model(self, root: Path) -> Model:
        script = Path(sys.argv[0])
        # A link by its own name: where it leads to is nothing of the project's.
        here = script.parent.resolve() if script.name == "manage.py" else root
        # What is generated is for others: where the data is here alone is none of theirs.
        tempdata, repository = conf.tempdata_of_settings(), repository_of(root)
        return build_model(
            read_layout(root, here / "manage.py", conf.pyproject()),
            conf.project().pins,
            self._databases(),
            tempdata.relative_to(repository).as_posix()
            if tempdata.is_relative_to(repository)
            else "",
        )

    def _databases(self) -> list[Database]:
        """One alias for each server of this project with programs that are pinned."""
        return [
            Database(backend.alias, _driver(backend.alias))
            for backend in self.dbdev_backends
            if backend.has_lock and backend.is_here(str(backend.dbsettings.get("HOST") or ""))
        ]


def _driver(alias: str) -> str:
    """The module that Django drives the alias by; empty where it is not installed."""
    try:
        driver = getattr(connections[alias], "Database", None)
    except ImproperlyConfigured:
        return ""
    return getattr(driver, "__name__", "")
