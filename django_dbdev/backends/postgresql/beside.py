"""A new database beside the old one, put into its place when it is whole.

Renaming a database is transactional: both renames are one transaction, so that at every moment
there is a whole database by the name. Renaming locks the name, which new connections wait for, so
that only those that are there already have to be ended.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from ...exceptions import ServerError
from ..server.accounts import Account
from . import sql
from .sql import Cursor, Login

_LONGEST = 63
_MARK = re.compile(r"__dbdev_(?:new|old)_\d{20}\Z")
#: Seconds between two looks for clients to disconnect; PostgreSQL itself waits 5 s for them.
_INTERVAL = 0.02
_ATTEMPTS = 3
#: object_in_use, lock_not_available. Source: PostgreSQL documentation, "Error Codes".
_BUSY = {"55006", "55P03"}


def name_beside(database: str, kind: str) -> str:
    """A name for a database beside ``database``: "shop__dbdev_new_20261122133000123456".

    :param kind: "new" or "old".
    """
    end = f"__dbdev_{kind}_{datetime.now():%Y%m%d%H%M%S%f}"
    start = database.encode()[: _LONGEST - len(end)].decode("utf-8", "ignore")
    return start + end


def sweep(cursor: Cursor) -> tuple[list[str], list[str]]:
    """Remove what killed commands left. The server's lock must be held.

    What the load before is still removing is gone when this returns.

    :returns: The names of what was removed, and why something else was not.
    """
    cursor.execute("SELECT datname FROM pg_database")
    removed, problems = [], []
    for name in sorted(name for (name,) in cursor.fetchall() if _MARK.search(name)):
        try:
            drop(cursor, name)
            removed.append(name)
        except ServerError as error:
            # It is in nobody's way.
            problems.append(error.message)
    return removed, problems


def drop(cursor: Cursor, database: str) -> None:
    """Remove a database, its connections first."""
    with sql.explained(f"The database {database} could not be removed"):
        if sql.scalar(
            cursor, "SELECT datistemplate FROM pg_database WHERE datname = %s", [database]
        ):
            _mark_template(cursor, database, False)
        cursor.execute(
            sql.quoting()
            .SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            .format(sql.quoting().Identifier(database))
        )


def _mark_template(cursor: Cursor, database: str, wanted: bool) -> None:
    """A template cannot be dropped."""
    quoting = sql.quoting()
    statement = quoting.SQL("ALTER DATABASE {} IS_TEMPLATE {}")
    cursor.execute(statement.format(quoting.Identifier(database), quoting.Literal(wanted)))


def refuse_what_cannot_go(login: Login, database: str) -> None:
    """See that ``database`` can be renamed and dropped, before anything is loaded.

    :raises ServerError: when something of the server's own depends on it.
    """
    with sql.connect(login) as cursor:
        prepared = sql.scalar(
            cursor, "SELECT count(*) FROM pg_prepared_xacts WHERE database = %s", [database]
        )
        subscriptions = sql.scalar(
            cursor,
            "SELECT string_agg(subname, ', ') FROM pg_subscription s"
            " JOIN pg_database d ON d.oid = s.subdbid WHERE datname = %s",
            [database],
        )
    if prepared:
        raise ServerError(
            f"{database} has {prepared} prepared transactions: it cannot be replaced.",
            hints=["end them: SELECT gid FROM pg_prepared_xacts, then ROLLBACK PREPARED"],
        )
    if subscriptions:
        raise ServerError(
            f"{database} has subscriptions ({subscriptions}): it cannot be replaced.",
            hints=["remove them: DROP SUBSCRIPTION"],
        )


def create(cursor: Cursor, account: Account) -> str:
    """An empty database with the encoding, locale and owner of the account's; its name."""
    new = name_beside(account.database, "new")
    quoting = sql.quoting()
    cursor.execute("SELECT to_jsonb(d) FROM pg_database d WHERE datname = %s", [account.database])
    row = cursor.fetchone()
    owner = account.user
    options: list[tuple[str, str]] = []
    if row is not None:
        owner = sql.scalar(cursor, "SELECT pg_get_userbyid(%s::oid)", [row[0]["datdba"]])
        encoding = sql.scalar(cursor, "SELECT pg_encoding_to_char(%s)", [row[0]["encoding"]])
        options = [("ENCODING", encoding), *_locale(row[0])]
    statement = quoting.SQL("CREATE DATABASE {} TEMPLATE template0 OWNER {}").format(
        quoting.Identifier(new), quoting.Identifier(owner)
    )
    for key, value in options:
        statement += quoting.SQL(f" {key} {{}}").format(quoting.Literal(value))
    with sql.explained("A database beside the old one could not be created"):
        cursor.execute(statement)
    return new


def _locale(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The options that make a locale again; ``row`` is that of pg_database, by its columns.

    Source: PostgreSQL documentation, "pg_database" and "CREATE DATABASE", of 14 to 18.
    """
    yield "LC_COLLATE", row["datcollate"]
    yield "LC_CTYPE", row["datctype"]
    provider = {"c": "libc", "i": "icu", "b": "builtin"}.get(row.get("datlocprovider", ""))
    if provider is None:
        return
    yield "LOCALE_PROVIDER", provider
    locale = row.get("datlocale") or row.get("daticulocale")
    if locale and provider != "libc":
        yield f"{provider.upper()}_LOCALE", locale
    if rules := row.get("daticurules"):
        yield "ICU_RULES", rules


@contextmanager
def new_database(login: Login, account: Account) -> Iterator[str]:
    """The name of a new, empty database, which is removed again when the block fails."""
    with sql.connect(login) as cursor:
        new = create(cursor, account)
    try:
        yield new
    except BaseException:
        # A server that is gone too must not hide why; the next load sweeps.
        try:
            with sql.connect(login) as cursor:
                drop(cursor, new)
        except ServerError:
            pass
        raise


def swap(login: Login, database: str, new: str) -> tuple[str | None, Counter[str]]:
    """Put ``new`` into the place of ``database``, with the settings that this one has.

    :returns: The name that the old one has now, None where there was none; and the clients that
        were disconnected, by application and role.
    :raises ServerError: when the old one is still in use; it is as it was then.
    """
    with sql.connect(login) as cursor:
        # What follows removes the old one: the new one must be on disk by then.
        cursor.execute("SET synchronous_commit = on")
        cursor.execute("SET lock_timeout = '20s'")
        exists = sql.scalar(cursor, "SELECT 1 FROM pg_database WHERE datname = %s", [database])
        old = name_beside(database, "old") if exists else None
        ended: Counter[str] = Counter()
        for attempt in range(_ATTEMPTS):
            try:
                with (
                    sql.explained(f"{database} could not be replaced, and is as it was"),
                    _clients_ended(login, [database, new], ended),
                ):
                    _rename(cursor, database, new, old)
                break
            except ServerError as error:
                busy = sql.code(error.__cause__) in _BUSY
                if not busy or attempt == _ATTEMPTS - 1:
                    raise
        return old, ended


def _rename(cursor: Cursor, database: str, new: str, old: str | None) -> None:
    quoting = sql.quoting()
    rename = quoting.SQL("ALTER DATABASE {} RENAME TO {}")
    names = {name: quoting.Identifier(name) for name in (database, new, old) if name}
    cursor.execute("BEGIN")
    try:
        if old is not None:
            _carry_over(cursor, database, new)
            cursor.execute(rename.format(names[database], names[old]))
        cursor.execute(rename.format(names[new], names[database]))
        cursor.execute("COMMIT")
    except BaseException:
        cursor.execute("ROLLBACK")
        raise


def _carry_over(cursor: Cursor, database: str, new: str) -> None:
    """Give ``new`` what ALTER DATABASE, COMMENT and GRANT have given to ``database``."""
    quoting = sql.quoting()
    target = quoting.Identifier(new)
    oids = "SELECT %s::oid, setrole, setconfig FROM pg_db_role_setting WHERE setdatabase = %s::oid"
    source = sql.scalar(cursor, "SELECT oid FROM pg_database WHERE datname = %s", [database])
    copy = sql.scalar(cursor, "SELECT oid FROM pg_database WHERE datname = %s", [new])
    # As rows: a list such as search_path could not be written as a statement without knowing
    # how each setting reads its value.
    cursor.execute(f"INSERT INTO pg_db_role_setting {oids}", [copy, source])
    comment = sql.scalar(cursor, "SELECT shobj_description(%s::oid, 'pg_database')", [source])
    if comment is not None:
        cursor.execute(
            quoting.SQL("COMMENT ON DATABASE {} IS {}").format(target, quoting.Literal(comment))
        )
    if sql.scalar(cursor, "SELECT datistemplate FROM pg_database WHERE oid = %s", [source]):
        _mark_template(cursor, new, True)
        _mark_template(cursor, database, False)
    limit = sql.scalar(cursor, "SELECT datconnlimit FROM pg_database WHERE oid = %s", [source])
    if limit >= 0:
        cursor.execute(
            quoting.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
                target, quoting.Literal(limit)
            )
        )
    cursor.execute(
        "SELECT CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END, privilege_type,"
        " is_grantable FROM pg_database, aclexplode(datacl) WHERE pg_database.oid = %s",
        [source],
    )
    granted = cursor.fetchall()
    if granted:
        cursor.execute(quoting.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(target))
    for role, privilege, grantable in granted:
        cursor.execute(
            quoting.SQL(f"GRANT {privilege} ON DATABASE {{}} TO {{}}{{}}").format(
                target,
                quoting.Identifier(role) if role else quoting.SQL("PUBLIC"),
                quoting.SQL(" WITH GRANT OPTION" if grantable and role else ""),
            )
        )


@contextmanager
def _clients_ended(login: Login, databases: list[str], ended: Counter[str]) -> Iterator[None]:
    """Disconnect all clients of ``databases`` again and again until the block ends."""
    done = threading.Event()
    with sql.connect(login) as cursor:
        # By their numbers: names change before the others see it.
        cursor.execute("SELECT oid FROM pg_database WHERE datname = ANY(%s)", [databases])
        numbers = [oid for (oid,) in cursor.fetchall()]
        seen: set[int] = set()

        def look() -> None:
            # In two parts: of conditions side by side PostgreSQL tries the cheapest first, and may
            # find it cheapest to end everybody and to ask for the database then.
            cursor.execute(
                "WITH found AS MATERIALIZED ("
                "SELECT pid, coalesce(nullif(application_name, ''), 'a client'), usename"
                " FROM pg_stat_activity WHERE datid = ANY(%s::oid[])"
                " AND backend_type IN ('client backend', 'walsender')"
                ") SELECT * FROM found WHERE pg_terminate_backend(pid)",
                [numbers],
            )
            for pid, application, user in cursor.fetchall():
                if pid not in seen:
                    seen.add(pid)
                    ended[f"{application} as {user}"] += 1

        def keep_looking() -> None:
            # A server that goes down is the block's to tell of.
            with suppress(sql.driver().Error):
                while not done.wait(_INTERVAL):
                    look()

        look()
        thread = threading.Thread(target=keep_looking, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
