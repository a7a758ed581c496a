from __future__ import annotations

import sys
from argparse import ArgumentParser

from ...doctor import Examination, examine
from ...exceptions import DbdevError
from ...findings import NOTE
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = (
        "Look at all that decides whether the project's servers work: pins, lock, programs, "
        "data, ports, permissions, leftovers. The exit status is 1 when something is to be done."
    )
    default_alias = None
    prints_result = True

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--fix", action="store_true", help="Do what is safe to do about what is found."
        )
        parser.add_argument(
            "--format", choices=("text", "json"), default="text", help="json for scripts."
        )

    def dbdev_handle(self) -> None:
        found = self._examine()
        if self.options["fix"] and any(finding.fix for finding in found.findings):
            self._fix(found)
            found = self._examine()
        if self.options["format"] == "json":
            self.stdout.write(found.as_json())
        else:
            self._print(found)
        self.healthy = found.is_healthy

    def last_step(self) -> None:
        if not self.healthy:
            sys.exit(1)

    def _examine(self) -> Examination:
        return examine(lambda: self.dbdev_backends)

    def _fix(self, found: Examination) -> None:
        for finding in found.findings:
            if finding.fix is None:
                continue
            try:
                finding.fix()
            except (DbdevError, OSError) as error:
                self.reporter.warning(f"This could not be mended: {finding.text}: {error}")
            else:
                self.stderr.write(f"Mended: {finding.text}", lambda text: text)

    def _print(self, found: Examination) -> None:
        before = ""
        for topic, text in found.facts:
            label = f"{topic}:" if topic != before else ""
            self.stdout.write(f"{label:<17} {text}")
            before = topic
        if found.digest:
            self.stdout.write(f"{'digest:':<17} {found.digest}")
        for finding in found.findings:
            style = self.style.NOTICE if finding.level == NOTE else self.style.WARNING
            self.stdout.write(f"{style(finding.level)}: {finding.subject}: {finding.text}")
            for hint in finding.hints:
                self.stdout.write(f"  hint: {hint}")
        if any(finding.fix for finding in found.findings):
            self.reporter.next_command("dbdev_doctor --fix")
        elif found.is_healthy:
            self.stdout.write("Nothing is to be done")
