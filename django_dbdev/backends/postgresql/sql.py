"""What is asked of a running server, through the driver that Django itself would use.

Names and passwords are quoted by the driver's own quoting (its module ``sql``), which psycopg 3
and psycopg2 offer alike.
"""

from __future__ import annotations

import importlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...exceptions import ConfigurationError, ForeignServerError, ServerError
from ..server.accounts import Account
from ..server.control import START_TIMEOUT
from .commands import SESSION, SUPERUSER

#: What a server says for a while when one of its processes was killed; libpq tells no code.
_RECOVERING = re.compile("the database system is (in recovery mode|starting up|not yet accepting)")


class Cursor(Protocol):
    """What is used of a driver's cursor."""

    connection: Any

    def execute(self, statement: Any, parameters: Any = None) -> object: ...
    def fetchone(self) -> tuple[Any, ...] | None: ...
    def fetchall(self) -> list[tuple[Any, ...]]: ...


@dataclass(frozen=True)
class Login:
    """Where and as whom to connect. ``host`` may be a socket's folder."""

    host: str
    port: int
    database: str
    user: str
    password: str = ""


def superuser(socket_directory: Path, port: int) -> Login:
    return Login(str(socket_directory), port, "postgres", SUPERUSER)


@contextmanager
def connect(login: Login) -> Iterator[Cursor]:
    """A cursor, each statement its own transaction. A server that recovers is waited for.

    :raises ServerError: when the server refuses, or goes down meanwhile; ``__cause__`` is the
        driver's error.
    """
    library = driver()
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            connection = _connection(library, login)
            break
        except library.Error as error:
            if _RECOVERING.search(str(error)) and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise ServerError(
                f"The server on {login.host}:{login.port} refused {login.user!r} "
                f"(database {login.database!r}): {str(error).strip()}"
            ) from error
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            if connection.info.server_version >= 170000:
                cursor.execute("SET transaction_timeout = 0")
            yield cursor
    except library.Error as error:
        raise ServerError(
            f"The server on {login.host}:{login.port} "
            f"{'went down' if connection.closed else 'refused what it was asked'}: "
            f"{str(error).strip()}",
            hints=["start it again: dbdev_startserver"] if connection.closed else [],
        ) from error
    finally:
        connection.close()


def _connection(library: Any, login: Login) -> Any:
    with _own_variables_alone():
        return library.connect(
            host=login.host,
            port=login.port,
            dbname=login.database,
            user=login.user,
            password=login.password,
            connect_timeout=10,
            application_name="django_dbdev",
            client_encoding="UTF8",
            options=" ".join(f"-c {name}={value}" for name, value in SESSION.items()),
            sslmode="disable",
            gssencmode="disable",
        )


@contextmanager
def _own_variables_alone() -> Iterator[None]:
    """Without PGHOSTADDR, PGSERVICE, PGCHANNELBINDING and the like, which would lead elsewhere."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith("PG")}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def driver() -> Any:
    """psycopg 3, else psycopg2: the order in which Django prefers them.

    Not Django's own connection: opening one sends signals, on which apps query the alias.
    """
    try:
        import psycopg
    except ImportError:
        try:
            import psycopg2
        except ImportError:
            raise ConfigurationError(
                "No PostgreSQL driver for Python is installed.",
                hints=["install one: pip install 'django_dbdev[postgresql]'"],
            ) from None
        return psycopg2
    return psycopg


def quoting() -> Any:
    """The driver's module ``sql``, for statements that name things."""
    return importlib.import_module(f"{driver().__name__}.sql")


@contextmanager
def explained(attempt: str) -> Iterator[None]:
    """Turn what the server says against a statement into an error of ours.

    :param attempt: what was tried, as a sentence without its end.
    :raises ServerError: ``__cause__`` is the driver's error.
    """
    library = driver()
    try:
        yield
    except library.Error as error:
        raise ServerError(f"{attempt}: {str(error).strip()}") from error


def code(error: BaseException | None) -> str | None:
    """The SQLSTATE of a driver's error."""
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


def prove_identity(cursor: Cursor, datadir: Path) -> None:
    """Make sure that the server's data directory is ``datadir``.

    :raises ForeignServerError: when it is another one.
    """
    # As bytes: a database of another encoding would have it converted.
    name = "convert_to(current_setting('data_directory'), getdatabaseencoding())"
    answered = Path(os.fsdecode(bytes(scalar(cursor, f"SELECT {name}"))))
    if answered.resolve() != datadir.resolve():
        raise ForeignServerError(
            f"The server that answers works on {answered}, not on {datadir}: it is not touched."
        )


def may_ask_identity(cursor: Cursor) -> bool:
    """Whether the role is told where the data is."""
    return bool(scalar(cursor, "SELECT pg_has_role('pg_read_all_settings', 'USAGE')"))


def prove_same_server(cursor: Cursor, other: Cursor) -> None:
    """Make sure that both are connected to the same server.

    :raises ForeignServerError: when they are not.
    """
    asked = "SELECT pg_postmaster_start_time()"
    if scalar(cursor, asked) != scalar(other, asked):
        raise ForeignServerError(
            "The server that answers on the port is not the one on the socket: it is not touched."
        )


def scalar(cursor: Cursor, statement: str, parameters: Sequence[object] = ()) -> Any:
    """The first column of the first row; None where there is no row."""
    cursor.execute(statement, parameters or None)
    row = cursor.fetchone()
    return None if row is None else row[0]


def ensure_role(cursor: Cursor, account: Account) -> bool:
    """Create the role, or set its password and rights. True when it was created.

    It is a superuser: a developer's role creates test databases and extensions, and the
    server holds nothing but the project's own data. 1.2.3 did the same.
    """
    sql = quoting()

    exists = scalar(cursor, "SELECT 1 FROM pg_roles WHERE rolname = %s", [account.user])
    with explained(f"The role {account.user!r} could not be created"):
        cursor.execute(
            sql.SQL("{} ROLE {} WITH SUPERUSER LOGIN PASSWORD {}").format(
                sql.SQL("ALTER" if exists else "CREATE"),
                sql.Identifier(account.user),
                sql.Literal(_verifier(cursor, account)),
            )
        )
    return not exists


def _verifier(cursor: Cursor, account: Account) -> str:
    """The SCRAM verifier, made by libpq here: the password itself could end in a server log."""
    connection = cursor.connection
    if hasattr(connection, "pgconn"):
        encrypted: bytes = connection.pgconn.encrypt_password(
            account.password.encode(), account.user.encode(), b"scram-sha-256"
        )
        return encrypted.decode()
    from psycopg2.extensions import encrypt_password

    return str(encrypt_password(account.password, account.user, connection, "scram-sha-256"))


def ensure_database(cursor: Cursor, account: Account) -> bool:
    """Create the database, owned by the role. True when it was created."""
    sql = quoting()

    if scalar(cursor, "SELECT 1 FROM pg_database WHERE datname = %s", [account.database]):
        return False
    with explained(f"The database {account.database!r} could not be created"):
        cursor.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(
                sql.Identifier(account.database), sql.Identifier(account.user)
            )
        )
    return True


def ensure_extensions(cursor: Cursor, extensions: Sequence[str]) -> list[str]:
    """Create the extensions that the pin names; those that were missing."""
    sql = quoting()

    created = []
    if scalar(cursor, "SELECT to_regnamespace('public') IS NOT NULL"):
        # Where they are looked for, whatever the database's own search_path.
        cursor.execute("SET search_path = public")
    for name in extensions:
        if not scalar(cursor, "SELECT 1 FROM pg_extension WHERE extname = %s", [name]):
            with explained(f"The extension {name!r} could not be created"):
                cursor.execute(sql.SQL("CREATE EXTENSION {} CASCADE").format(sql.Identifier(name)))
            created.append(name)
    return created


def extension_versions(cursor: Cursor, extensions: Sequence[str]) -> dict[str, str]:
    """Those of the extensions that the database has, and in which version."""
    cursor.execute(
        "SELECT extname, extversion FROM pg_extension WHERE extname = ANY(%s) ORDER BY extname",
        [list(extensions)],
    )
    return {str(name): str(version) for name, version in cursor.fetchall()}


def pending_restart(cursor: Cursor) -> list[str]:
    """The names of settings that wait for a restart."""
    cursor.execute("SELECT name FROM pg_settings WHERE pending_restart ORDER BY name")
    return [name for (name,) in cursor.fetchall()]
