from __future__ import annotations

from argparse import ArgumentParser

from ... import conf
from ...backends.variables import SHELLS, as_statements, shell_of_user, variables
from ...exceptions import ConfigurationError
from ._base import BaseDbdevCommand


class Command(BaseDbdevCommand):
    help = (
        "Print what makes a shell meet the project's server: DATABASE_URL, PGHOST and their like, "
        'and PATH with the pinned programs. For eval "$(manage.py dbdev_env)" in bash and zsh, '
        "and manage.py dbdev_env | source in fish. It holds the password."
    )
    prints_result = True

    def add_extra_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--shell",
            choices=SHELLS,
            help="Whose syntax to print. Default: that of $SHELL, else what every POSIX shell has.",
        )

    def dbdev_handle(self) -> None:
        backend = self.dbdev_backend
        if not backend.has_info:
            raise ConfigurationError(f"{type(backend).__name__} does not tell how it is reached.")
        values = variables([backend.info()], conf.tempdata() / "prefix")
        self.stdout.write(as_statements(values, self.options["shell"] or shell_of_user()))
