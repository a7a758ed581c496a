"""The accounts that the aliases' settings ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...exceptions import ConfigurationError


@dataclass(frozen=True)
class Account:
    """A role with its password, and the database that it works on."""

    user: str
    password: str
    database: str


@dataclass(frozen=True)
class NameLimits:
    """How long names may be: ``unit`` is "bytes" or "characters".

    :param plain_passwords: drivers do not agree how they send anything but ASCII.
    """

    title: str
    user: int
    database: int
    unit: str = "bytes"
    plain_passwords: bool = False

    def length(self, name: str) -> int:
        return len(name.encode() if self.unit == "bytes" else name)


def account_of(settings: Mapping[str, Any], alias: str, limits: NameLimits) -> Account:
    """What the alias's settings ask for.

    :raises ConfigurationError: when a name is missing or cannot be one.
    """
    for key, longest in (("NAME", limits.database), ("USER", limits.user)):
        value = settings.get(key)
        where = f"DATABASES[{alias!r}][{key!r}]"
        if not value:
            raise ConfigurationError(
                f"{where} is empty.", hints=["use DBSETTINGS, or name it in settings.py"]
            )
        if not isinstance(value, str):
            raise ConfigurationError(f"{where} is {value!r}, not a string.")
        if not _is_text(value):
            raise ConfigurationError(f"{where} is {value!a}, which is not UTF-8 text.")
        if any(character in value for character in "\0\r\n"):
            raise ConfigurationError(
                f"{where} contains a zero byte or a line break, which no name should have."
            )
        if (length := limits.length(value)) > longest:
            raise ConfigurationError(
                f"{where} has {length} {limits.unit}; {limits.title}'s names have at most "
                f"{longest}."
            )
    password = str(settings.get("PASSWORD") or "")
    if not password:
        raise ConfigurationError(
            f"DATABASES[{alias!r}]['PASSWORD'] is empty; over TCP the server asks for one.",
            hints=["use DBSETTINGS, or set one in settings.py"],
        )
    if not _is_text(password):
        raise ConfigurationError(f"DATABASES[{alias!r}]['PASSWORD'] is not UTF-8 text.")
    if any(character in password for character in "\0\r\n"):
        raise ConfigurationError(
            f"DATABASES[{alias!r}]['PASSWORD'] contains a zero byte or a line break, "
            "which no password can have."
        )
    if limits.plain_passwords and not password.isascii():
        raise ConfigurationError(
            f"DATABASES[{alias!r}]['PASSWORD'] has characters beyond ASCII, which the drivers for "
            f"{limits.title} send differently.",
            hints=["use letters, digits and signs of ASCII"],
        )
    return Account(settings["USER"], password, settings["NAME"])


def _is_text(value: str) -> bool:
    """False for bytes that were none, as in an environment variable that settings.py reads."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_for_each_database(accounts: Sequence[Account]) -> list[Account]:
    """Of accounts that share a database the first."""
    return list({account.database: account for account in reversed(accounts)}.values())
