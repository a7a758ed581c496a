from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from django_dbdev.exceptions import PinError
from django_dbdev.pins import Requirement, parse_pins

SOURCE = Path("pyproject.toml")


@pytest.mark.parametrize(
    ("pin", "version", "matches"),
    [
        ("16", "16.15", True),
        ("16", "17.1", False),
        ("1", "16.15", False),
        ("16.1", "16.15", False),
        ("16.15", "16.15", True),
        ("16.15", "16.15.0", True),
        ("16.15.0", "16.15", True),
        ("10.11", "10.11.14", True),
        (">=16.13,<17", "16.15", True),
        (">=16.13,<17", "17.0", False),
        ("~=16.13", "16.15", True),
        ("", "9.6", True),
    ],
)
def test_a_version_matches_a_pin(pin: str, version: str, matches: bool) -> None:
    assert Requirement("postgresql", pin).matches(version) is matches


def test_an_alias_inherits_what_it_does_not_say() -> None:
    pins = parse_pins(
        {
            "postgresql": {
                "version": "16",
                "extensions": ["pg_trgm"],
                "settings": {"work_mem": "8MB"},
                "port": 5433,
            },
            "databases": {"reporting": {"postgresql": {"version": "15"}}},
        },
        SOURCE,
    )
    own = pins.get("postgresql", "reporting")
    assert own.requirement == Requirement("postgresql", "15", ("pg_trgm",))
    assert own.settings == {"work_mem": "8MB"}
    assert own.port is None, "two servers cannot have one port"
    assert pins.get("postgresql", "default").requirement.version == "16"
    assert pins.get("mariadb").requirement.version == ""


@pytest.mark.parametrize(
    ("table", "key", "says"),
    [
        ("16", "tool.django_dbdev", "must be a table"),
        ({"postgresql": "16"}, "tool.django_dbdev.postgresql", "must be a table"),
        ({"postgresql": {"version": 16}}, "postgresql.version", 'version = "16"'),
        ({"postgresql": {"version": "sixteen"}}, "postgresql.version", "PEP 440"),
        ({"postgresql": {"version": ">=16,<<17"}}, "postgresql.version", "PEP 440"),
        ({"postgresql": {"versoin": "16"}}, "postgresql.versoin", "did you mean version?"),
        ({"postgresql": {"extensions": "pg_trgm"}}, "postgresql.extensions", "list"),
        ({"postgresql": {"extensions": ["a;b"]}}, "postgresql.extensions[0]", "a;b"),
        ({"postgresql": {"settings": {"a b": 1}}}, "settings.a b", "server setting"),
        ({"postgresql": {"settings": {"a": [1]}}}, "settings.a", "a list"),
        ({"postgresql": {"settings": {"a": "x\ny = 1"}}}, "settings.a", "one line"),
        ({"postgresql": {"port": "5432"}}, "postgresql.port", "port number"),
        ({"postgresql": {"port": True}}, "postgresql.port", "port number"),
        ({"postgresql": {"port": 65536}}, "postgresql.port", "port number"),
        ({"postgres": {}}, "tool.django_dbdev.postgres", "tool.django_dbdev.postgresql"),
        ({"databases": {"x": {"mysq": {}}}}, "databases.x.mysq", "did you mean"),
        ({"conda": {"channel": ["x"]}}, "tool.django_dbdev.conda.channel", "name of a channel"),
        ({"conda": {"chanel": "x"}}, "tool.django_dbdev.conda.chanel", "did you mean channel?"),
        ({"apt": {"suites": "sid"}}, "tool.django_dbdev.apt.suites", "did you mean suite?"),
        ({"apt": {"suite": 13}}, "tool.django_dbdev.apt.suite", "must be a string or a list"),
        ({"apt": {"suite": ["sid", "../x"]}}, "tool.django_dbdev.apt.suite", "name of a suite"),
    ],
)
def test_what_is_malformed_is_named_by_its_key_path(table: Any, key: str, says: str) -> None:
    with pytest.raises(PinError) as caught:
        parse_pins(table, SOURCE)
    assert key in str(caught.value)
    assert says in str(caught.value)


def test_a_custom_backend_may_have_a_table_of_its_own() -> None:
    assert parse_pins({"oracle": {"version": "23"}}, SOURCE).get("oracle").requirement.version


def test_suites_to_look_in() -> None:
    assert parse_pins({"apt": {"suite": "trixie"}}, SOURCE).suites == ("trixie",)
    assert parse_pins({"apt": {"suite": ["trixie", "sid"]}}, SOURCE).suites == ("trixie", "sid")
    assert parse_pins({}, SOURCE).suites == ()
