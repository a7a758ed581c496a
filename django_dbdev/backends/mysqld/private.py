"""A server for ourselves: reached over its socket alone, by our own account, and not for long."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ... import conf
from ...binaries.toolchain import Toolchain
from . import pristine, sql
from .configuration import client_file
from .control import MySqlControl
from .files import MySqlFiles

if TYPE_CHECKING:
    from ..mysql import MySqlBackend


@contextmanager
def serving(
    backend: MySqlBackend,
    files: MySqlFiles,
    toolchain: Toolchain,
    *options: str,
    discard: bool = False,
) -> Iterator[sql.Login]:
    """Our own account on a server of the cluster in ``files``, which is stopped at the end.

    It is configured as the cluster is.

    :param discard: nobody wants the data afterwards.
    """
    control = MySqlControl(files, backend.title)
    identity = backend.choose_identity(toolchain, data=files.datadir)
    # It names the socket: nobody who knows the project's comes in.
    port = random.choice(conf.EPHEMERAL_PORTS)  # nosec B311
    configuration = replace(
        backend.configuration(toolchain, port, identity), socket=files.socket(port)
    )
    if files.config.exists():
        configuration.write_local(files.datadir)
    else:
        # One from elsewhere; the pin's settings are for another version.
        replace(configuration, settings={}).write(files.datadir)
    identity.adopt(files.datadir)
    control.start(
        toolchain,
        port,
        identity,
        "--skip-networking",
        "--event-scheduler=OFF",
        *options,
        ends_with_us=True,
    )
    try:
        recorded = control.recorded()
        assert recorded is not None
        admin = control.admin(recorded)
        if not admin.password:
            assert admin.socket is not None
            logins = [sql.Login(a.user, a.password, admin.socket) for a in backend.accounts()]
            pristine.adopt(files, logins, admin.socket)
            admin = control.admin(recorded)
        yield admin
    finally:
        if (server := control.running()) is not None:
            control.stop(server, discard=discard)


def option_file(login: sql.Login) -> bytes:
    """What makes client programs meet such a server."""
    where = {"socket": str(login.socket), "protocol": "socket"}
    return client_file(where, [("", login.user, login.password)])
