"""The history of MariaDB's system-versioned tables, which a dump holds only when it is asked to.

MySQL has no such tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import sql
from .served import Served

#: mariadb-dump reads history since. Source: MariaDB documentation, "mariadb-dump".
_SINCE = (10, 11)


@dataclass(frozen=True)
class History:
    """
    :param readable: whether there is history, and a dump can hold it.
    :param lost: what of it no dump can hold and why, in words; empty where there is nothing.
    """

    readable: bool
    lost: str


def find(served: Served, without: Sequence[str] = ()) -> History:
    """What a dump of the account's database can have; ``without`` are tables left out of it."""
    database = served.account.database
    with sql.connect(served.admin) as cursor:
        cursor.execute(
            "SELECT TABLE_NAME FROM information_schema.TABLES"
            " WHERE TABLE_SCHEMA = %s AND TABLE_TYPE = 'SYSTEM VERSIONED' ORDER BY TABLE_NAME",
            (database,),
        )
        versioned = [str(name) for (name,) in cursor.fetchall() if name not in without]
        if not versioned:
            return History(False, "")
        cursor.execute(
            "SELECT TABLE_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s"
            " AND GENERATION_EXPRESSION = 'ROW END' AND DATA_TYPE = 'bigint' ORDER BY TABLE_NAME",
            (database,),
        )
        precise = [str(name) for (name,) in cursor.fetchall() if name in versioned]
    version = served.toolchain.version
    if tuple(int(part) for part in version.split(".")) < _SINCE:
        reason = f"mariadb-dump reads history since 10.11, and this is {version}"
    elif precise:
        reason = f"mariadb-dump cannot read that of {', '.join(precise)}, which names transactions"
    else:
        return History(True, "")
    return History(False, f"the history of {', '.join(versioned)}: {reason}")
