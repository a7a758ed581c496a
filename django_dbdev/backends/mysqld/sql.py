"""What is asked of a running server, through the driver that Django itself would use.

Values are quoted by the driver. Names cannot be: neither driver has a quoting for them, so
:func:`identifier` does it by the rules of "Identifier Names" in both manuals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...exceptions import ConfigurationError, ForeignServerError, ServerError
from ..server.accounts import Account

#: Where accounts may come from. A server that listens on loopback alone calls that so.
LOCALHOST = "localhost"
#: What an account needs that creates test databases and does what migrations do.
_PRIVILEGES = {"SELECT", "INSERT", "CREATE", "DROP", "ALTER", "TRIGGER", "SUPER", "CREATE USER"}
#: Errors of a client that has not met a server at all. Source: MySQL's errmsg.h.
_NOT_MET = range(2000, 3000)


class Cursor(Protocol):
    """What is used of a driver's cursor."""

    def execute(self, statement: str | bytes, parameters: Any = None) -> object: ...
    def nextset(self) -> object: ...
    def fetchone(self) -> tuple[Any, ...] | None: ...
    def fetchall(self) -> Sequence[tuple[Any, ...]]: ...


@dataclass(frozen=True)
class Login:
    """As whom to connect, over the socket, or over TCP where ``socket`` is None."""

    user: str
    password: str
    socket: Path | None = None
    host: str = ""
    port: int = 0
    database: str = ""

    def __str__(self) -> str:
        return str(self.socket or f"{self.host}:{self.port}")


def driver() -> Any:
    """mysqlclient, or PyMySQL in its place: what Django imports as MySQLdb.

    Not Django's own connection: opening one sends signals, on which apps query the alias.

    :raises ConfigurationError: when there is none, or PyMySQL does not stand in its place.
    """
    try:
        import MySQLdb
    except ImportError:
        pass
    else:
        return MySQLdb
    try:
        import pymysql
    except ImportError:
        raise ConfigurationError(
            "No driver for MariaDB and MySQL is installed for Python.",
            hints=[
                "install one: pip install mysqlclient (it is compiled: needs a C compiler and "
                "MariaDB's or MySQL's headers)",
                "or, without a compiler: pip install 'django_dbdev[mysql]', and in settings.py: "
                "import pymysql; pymysql.install_as_MySQLdb()",
            ],
        ) from None
    raise ConfigurationError(
        f"PyMySQL {pymysql.__version__} is installed, and does not stand in for MySQLdb, which "
        "Django imports.",
        hints=["write into settings.py: import pymysql; pymysql.install_as_MySQLdb()"],
    )


@contextmanager
def connect(login: Login) -> Iterator[Cursor]:
    """A cursor, each statement its own transaction.

    :raises ServerError: when the server refuses, or goes down meanwhile; ``__cause__`` is the
        driver's error.
    """
    library = driver()
    where: dict[str, Any] = (
        {"unix_socket": str(login.socket)}
        if login.socket is not None
        else {"host": login.host, "port": login.port}
    )
    if login.database:
        where["database"] = login.database
    try:
        connection = library.connect(
            user=login.user,
            password=login.password,
            connect_timeout=10,
            charset="utf8mb4",
            autocommit=True,
            **where,
        )
    except library.Error as error:
        raise ServerError(
            f"The server on {login} refused {login.user!r} (database {login.database!r}): "
            f"{words(error)}"
        ) from error
    try:
        with connection.cursor() as cursor:
            yield cursor
    except library.Error as error:
        # PyMySQL has no number for a connection that it has given up.
        lost = code(error) == 0 or code(error) in _NOT_MET
        raise ServerError(
            f"The server on {login} {'went down' if lost else 'refused what it was asked'}: "
            f"{words(error) or 'the connection is closed'}",
            hints=["start it again: dbdev_startserver"] if lost else [],
        ) from error
    finally:
        # A server that ended meanwhile has closed it already.
        with suppress(library.Error):
            connection.close()


def code(error: BaseException | None) -> int:
    """The number of a driver's error; 0 where it has none."""
    number = error.args[0] if error is not None and error.args else 0
    return number if isinstance(number, int) else 0


def words(error: BaseException) -> str:
    """What a driver's error says, without its number."""
    return str(error.args[-1] if error.args else error).strip()


def is_met(error: ServerError) -> bool:
    """Whether a server answered, if only to refuse."""
    number = code(error.__cause__)
    return number != 0 and number not in _NOT_MET


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
        raise ServerError(f"{attempt}: {words(error)}") from error


def identifier(*names: str) -> str:
    """A name, or several with dots between, as statements write it that have no parameters."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def scalar(cursor: Cursor, statement: str, parameters: Sequence[object] = ()) -> Any:
    """The first column of the first row; None where there is no row."""
    cursor.execute(statement, tuple(parameters) or None)
    row = cursor.fetchone()
    return None if row is None else row[0]


def execute_raw(cursor: Cursor, statement: bytes) -> None:
    """Carry out a statement as it is, and take all that it gives back."""
    cursor.execute(statement)
    while cursor.nextset():
        """Of a procedure that is called."""


def server_version(cursor: Cursor) -> str:
    """The numbers alone: "10.11.19"."""
    return str(scalar(cursor, "SELECT VERSION()")).split("-")[0]


def prove_identity(cursor: Cursor, datadir: Path) -> None:
    """Make sure that the server's data directory is ``datadir``.

    :raises ForeignServerError: when it is another one.
    """
    answered = Path(str(scalar(cursor, "SELECT @@datadir")))
    if answered.resolve() != datadir.resolve():
        raise ForeignServerError(
            f"The server that answers works on {answered}, not on {datadir}: it is not touched."
        )


def lacks(cursor: Cursor, account: Account) -> list[str]:
    """What the account that is logged in may not do, of what it has to."""
    cursor.execute(
        "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES"
        " WHERE GRANTEE = CONCAT('''', %s, '''@''', %s, '''') AND IS_GRANTABLE = 'YES'",
        (account.user, LOCALHOST),
    )
    return sorted(_PRIVILEGES - {str(name) for (name,) in cursor.fetchall()})


def knows_zones(cursor: Cursor) -> bool:
    """Whether the server's tables of time zones are filled."""
    asked = "SELECT CONVERT_TZ('2000-01-01 00:00:00', 'UTC', 'Europe/London')"
    return scalar(cursor, asked) is not None


def ensure_user(cursor: Cursor, user: str, password: str) -> bool:
    """Create the user, or set its password and rights. True when it was created.

    It may do everything: a developer's user creates test databases, and the server holds
    nothing but the project's own data. That of 1.2.3 was root.
    """
    exists = scalar(
        cursor, "SELECT 1 FROM mysql.user WHERE User = %s AND Host = %s", (user, LOCALHOST)
    )
    name = f"{_literal(user)}@{_literal(LOCALHOST)}"
    with explained(f"The user {user!r} could not be created"):
        cursor.execute(f"CREATE USER IF NOT EXISTS {name}")
        if _is_mariadb(cursor):
            # Its own server log can hold statements: not the password, its digest.
            cursor.execute(f"ALTER USER {name} IDENTIFIED BY PASSWORD '{_native(password)}'")
        else:
            cursor.execute(f"ALTER USER {name.replace('%', '%%')} IDENTIFIED BY %s", (password,))
        cursor.execute(f"GRANT ALL PRIVILEGES ON *.* TO {name} WITH GRANT OPTION")
    return not exists


def _is_mariadb(cursor: Cursor) -> bool:
    return "mariadb" in str(scalar(cursor, "SELECT VERSION()")).lower()


def _native(password: str) -> str:
    """The digest by which mysql_native_password knows a password."""
    once = hashlib.sha1(password.encode(), usedforsecurity=False)
    return "*" + hashlib.sha1(once.digest(), usedforsecurity=False).hexdigest().upper()


def _literal(text: str) -> str:
    """A string, where the statement has no place for a parameter."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def remove_other_accounts(cursor: Cursor, kept: Sequence[str]) -> None:
    """Remove what an installation makes besides: root without a password, from everywhere."""
    cursor.execute("SELECT User, Host FROM mysql.user WHERE User IN ('', 'root')")
    _drop_users(cursor, [(u, h) for u, h in cursor.fetchall() if u not in kept or h != LOCALHOST])


def remove_open_accounts(cursor: Cursor) -> None:
    """Remove root and the nameless, where they come in without a password."""
    cursor.execute(
        "SELECT User, Host FROM mysql.user WHERE User IN ('', 'root')"
        " AND authentication_string = ''"
        " AND plugin IN ('', 'mysql_native_password', 'caching_sha2_password')"
    )
    _drop_users(cursor, cursor.fetchall())


def _drop_users(cursor: Cursor, accounts: Sequence[tuple[Any, ...]]) -> None:
    for user, host in accounts:
        cursor.execute(f"DROP USER {_literal(user)}@{_literal(host)}")


def ensure_database(cursor: Cursor, database: str) -> bool:
    """Create the database, for every character. True when it was created."""
    exists = scalar(
        cursor, "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s", (database,)
    )
    if exists:
        return False
    with explained(f"The database {database!r} could not be created"):
        cursor.execute(f"CREATE DATABASE {identifier(database)} CHARACTER SET utf8mb4")
    return True


def clients(cursor: Cursor) -> int:
    """How many clients are connected, ourselves aside."""
    return int(
        scalar(
            cursor,
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST"
            " WHERE ID <> CONNECTION_ID() AND HOST <> '' AND USER NOT IN"
            " ('event_scheduler', 'system user', 'unauthenticated user')",
        )
    )
