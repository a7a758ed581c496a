"""The reference names all that the code has, and nothing else."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from django_dbdev import checks, conf, exceptions, pins
from django_dbdev.binaries.engines import ENGINES

from .transcripts import DOCS

PACKAGE = DOCS.parent / "django_dbdev"
_OPTION = r"(?<![\w-])--?[a-z][a-z-]*"
COMMANDS = PACKAGE / "management" / "commands"

sys.path += [str(DOCS), str(DOCS / "_ext")]


def described(kind: str) -> set[str]:
    """What ``.. KIND:: NAME`` describes, on all pages."""
    found: list[str] = []
    for page in DOCS.rglob("*.rst"):
        found += re.findall(rf"^ *\.\. {kind}:: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    assert len(found) == len(set(found)), f"twice: {sorted(found)}"
    return set(found)


def sources() -> Iterator[ast.Module]:
    for file in PACKAGE.rglob("*.py"):
        yield ast.parse(file.read_text("utf-8"), str(file))


def variables() -> set[str]:
    """All names in the code that begin with DBDEV_, also those that are put together."""
    found = {
        node.value
        for tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"DBDEV_[A-Z_]+[A-Z]", node.value)
    }
    found |= {engine.bindir_variable for engine in ENGINES.values()}
    found |= {engine.provider_variable for engine in ENGINES.values()}
    found |= {conf.port_variable(family) for family in conf.FALLBACK_PORTS}
    return found | {"DBDEV_LOCKED", "DBDEV_OFFLINE"}


def options(command: str) -> set[str]:
    """The options that the command's modules add, as their source has them."""
    files = [COMMANDS / f"{command}.py", COMMANDS / "_base.py"]
    return {
        str(argument.value)
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
        for argument in node.args
        if isinstance(argument, ast.Constant)
        and str(argument.value).startswith("-")
        and (file.name != "_base.py" or argument.value == "--database")
    }


def names() -> list[str]:
    return sorted(file.stem for file in COMMANDS.glob("dbdev_*.py"))


def test_settings_and_environment_variables() -> None:
    assert described("setting") | described("envvar") == variables()


def test_commands() -> None:
    assert described("dbdev-command") == set(names())


@pytest.mark.parametrize("name", names())
def test_a_commands_options_are_written_out(name: str) -> None:
    assert options(name) - told(name) == set()
    text = "\n".join(described_options(name))
    assert not re.search(r"^\.\. option:: .*\n\n\s*\n", text, re.MULTILINE), "without a text"


def described_options(name: str) -> list[str]:
    """What the page of a command is made of; the directive that makes it is one of Sphinx's."""
    pytest.importorskip("sphinx", reason="Sphinx, of the extra docs, is not installed")
    lines: list[str] = import_module("dbdev_reference").describe(name)
    return lines


def told(name: str) -> set[str]:
    """The options and arguments that the command's page tells."""
    lines = described_options(name)
    signatures = [line.removeprefix(".. option:: ") for line in lines if ".. option:: " in line]
    return {word for each in signatures for word in re.findall(_OPTION, each)}


def test_options_on_all_pages_are_those_of_the_commands() -> None:
    known = {name: told(name) for name in names()}
    django = {"--verbosity", "--settings", "--force-color", "-v"}
    readme = DOCS.parent / "README.md"
    wrong = []
    for page in [*DOCS.rglob("*.rst"), readme]:
        for name, arguments in re.findall(
            r"\b(dbdev_[a-z_]+)((?: +(?!&&|\|)[^\s`|&;]+)*)", page.read_text("utf-8")
        ):
            if name in ("dbdev_tempdata", "dbdev_reference", "dbdev_local", "dbdev_old"):
                continue
            if name not in known:
                wrong.append(f"{page.name}: {name}")
                continue
            for option in re.findall(_OPTION, arguments):
                if option not in known[name] | django and option[:2] not in django:
                    wrong.append(f"{page.name}: {name} {option}")
    assert not wrong


def test_the_readme_tells_every_command_and_every_link_of_it_is_there() -> None:
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    told = re.findall(r"`(dbdev_\w+)", readme.partition("## What there is")[2])
    assert set(told) == set(names())
    links = re.findall(r"\]\(([^)#:]+)\)", readme)
    assert links
    assert not [link for link in links if not (DOCS.parent / link).exists()]


def test_pins() -> None:
    code = (PACKAGE / "pins.py").read_text("utf-8")
    assert described("pin") == set(re.findall(r'table\.get\("(\w+)"', code)) | set(pins._KEYS)


def test_checks() -> None:
    code = (PACKAGE / "checks.py").read_text("utf-8")
    assert {f"{checks.TAG}.{number}" for number in re.findall(r"\b[EWI]\d{3}\b", code)} == (
        described("check")
    )


def test_exit_status() -> None:
    found = {
        str(error.exit_status)
        for error in vars(exceptions).values()
        if isinstance(error, type) and issubclass(error, exceptions.DbdevError)
    }
    assert found | {"130"} == described("exitstatus")


def test_lock_keys() -> None:
    """The keys that the lock's writer knows are told on its page."""
    page = Path(DOCS / "reference" / "lock.rst").read_text("utf-8")
    code = ast.parse((PACKAGE / "binaries" / "lock.py").read_text("utf-8"))
    written = {
        key.value
        for function in ast.walk(code)
        if isinstance(function, ast.FunctionDef)
        and function.name in ("to_json", "_engine_table", "_package_table", "_system_table")
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    assert written
    assert not {key for key in written if f"``{key!s}``" not in page}


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ('<a href="other.html#there">', ""),
        ('<a href="https://example.com/">', ""),
        ('<a href="gone.html">', "no such file"),
        ('<a href="other.html#gone">', "no such anchor"),
        ('<img src="gone.svg">', "no such file"),
        ('<script src="https://example.com/x.js">', "loads"),
    ],
)
def test_links_are_looked_at(tmp_path: Path, link: str, problem: str) -> None:
    (tmp_path / "index.html").write_text(link)
    (tmp_path / "other.html").write_text('<h1 id="there">')
    found: list[str] = import_module("check_links").problems(tmp_path)
    assert [problem in each for each in found] == ([True] if problem else [])


def test_the_picture_of_the_rooms_is_that_of_the_contract() -> None:
    rooms = import_module("rooms")
    assert rooms.PICTURE.read_text("utf-8") == rooms.picture(), "python docs/rooms.py draws it anew"
