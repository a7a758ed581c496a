from __future__ import annotations

import os
import random
import re
import shlex
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from django_dbdev.backends import shell, sqlite_guide
from django_dbdev.backends.postgresql.guide_values import GuideValues, guide_values
from django_dbdev.binaries.toolchain import Toolchain
from django_dbdev.exceptions import DbdevError, ToolchainError
from django_dbdev.guide import render_for_terminal, render_template, template_names

from .guide_commands import ASKS, INTERACTIVE, GuideCommand, all_commands, commands

# Spaces, both quotes, what a shell expands, what rst marks up, and letters beyond ASCII.
HOSTILE = """it's a "prôject" $HOME `id` 100% \\n *x* |y| ``z`` {{ v }} ünï!!"""
SETTINGS = {"HOST": "127.0.0.1", "PORT": 23817, "NAME": "dbdev", "USER": "dbdev"}
ESCAPE = re.compile("\x1b\\[[0-9;]*m")


def toolchain(folder: Path, **environment: str) -> Toolchain:
    programs = {name: folder / name for name in ("psql", "pg_dump", "pg_restore")}
    return Toolchain("postgresql", "16.15", "a test", programs, "00", environment)


def values(tempdata: Path, **overrides: Any) -> GuideValues:
    arguments: dict[str, Any] = {
        "toolchain": toolchain(tempdata / "bin"),
        "settings": SETTINGS,
        "datadir": tempdata / "PostgresBackend",
        "log": tempdata / "PostgresBackend.log",
        "passfile": tempdata / "PostgresBackend.pgpass",
        "socket_directory": tempdata / "sockets",
        "manage": ("python", "manage.py"),
        **overrides,
    }
    return guide_values(**arguments)


def postgres_guide(tempdata: Path, **overrides: Any) -> str:
    backend = SimpleNamespace(guide_values=values(tempdata, **overrides))
    return render_template("django_dbdev/postgresbackend.rst", {"backend": backend})


def sqlite_guide_of(database: Path, manage: tuple[str, ...] = ("python", "manage.py")) -> str:
    backend = SimpleNamespace(
        guide_values=sqlite_guide.guide_values(
            database,
            manage=manage,
            python=sys.executable,
            python_version=sys.version_info[:2],
            sqlite_version=sqlite3.sqlite_version,
        )
    )
    return render_template("django_dbdev/sqlitebackend.rst", {"backend": backend})


def bash(script: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


# Quoting.


@pytest.mark.parametrize(
    "word",
    [
        "",
        "plain",
        HOSTILE,
        "-n",
        "two\nlines",
        "a\ttab",
        "a'quote\tand a tab, it's \\ and !x",
        "an escape \x1b[31m",
        "\u2028 \x85 \x0b \x0c \x1c",
        "\u202eright to left",
        os.fsdecode(b"no utf-8: \xff\t\xe9"),
    ],
)
def test_a_quoted_word_comes_back_as_it_was(word: str) -> None:
    quoted = shell.quote(word)
    assert quoted.isprintable()
    for program in (["bash", "-c"], ["bash", "-o", "history", "-o", "histexpand", "-c"]):
        echoed = subprocess.run(
            [*program, f"printf %s {quoted}"], capture_output=True, check=True
        ).stdout
        assert echoed == os.fsencode(word)


def test_a_programs_environment_goes_before_it() -> None:
    assert shell.program("/a b/psql", {}) == "'/a b/psql'"
    assert shell.program("/psql", {"A": "1 2", "B": "3"}) == "env A='1 2' B=3 /psql"


# Values.


def test_every_value_is_text_on_one_line() -> None:
    made = values(Path("/" + HOSTILE + "\n\t"), alias="two\nlines")
    for field in fields(made):
        assert getattr(made, field.name).isprintable(), field.name


def test_the_default_alias_goes_without_saying() -> None:
    assert values(Path("/x")).database_option == ""
    assert values(Path("/x"), alias="a b").database_option == " --database 'a b'"
    assert values(Path("/x"), alias="a b").dbshell.endswith("manage.py dbshell --database 'a b'")


@pytest.mark.parametrize("host", ["", None, "localhost", "127.0.0.1"])
def test_the_host_is_the_one_in_the_password_file(host: str | None) -> None:
    made = values(Path("/x"), settings={**SETTINGS, "HOST": host})
    assert made.psql == "/x/bin/psql -h 127.0.0.1 -p 23817 -U dbdev -d dbdev"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "/run/user/1000/a b"])
@pytest.mark.parametrize("name", ["dbdev", "postgres://x", HOSTILE, "a=b", "we're \\ = /?#@:%20"])
def test_libpq_reads_the_url_and_the_database_as_they_are_meant(host: str, name: str) -> None:
    made = values(Path("/x"), settings={"HOST": host, "NAME": name, "USER": f"@{name}"})
    (url,) = shlex.split(made.url)
    assert conninfo_to_dict(url) == {
        "host": host, "port": "5432", "user": f"@{name}", "dbname": name
    }  # fmt: skip
    arguments = shlex.split(made.psql)
    argument = arguments[arguments.index("-d") + 1]
    if "=" in argument or "://" in argument:
        assert conninfo_to_dict(argument) == {"dbname": name}
    else:
        assert argument == name


def test_a_missing_program_is_named() -> None:
    without = Toolchain("postgresql", "16.15", "a test", {"psql": Path("/psql")}, "00")
    with pytest.raises(ToolchainError, match="no program 'pg_dump'"):
        values(Path("/x"), toolchain=without)


# The guides.


def test_the_guide_names_every_value(tmp_path: Path) -> None:
    """A name that the template misspells would be an empty string."""
    marked = GuideValues(**{field.name: f"«{field.name}»" for field in fields(GuideValues)})
    rst = render_template(
        "django_dbdev/postgresbackend.rst", {"backend": SimpleNamespace(guide_values=marked)}
    )
    used = set(re.findall("«(.*?)»", rst))
    assert used == {field.name for field in fields(GuideValues)}
    assert not [line for line in commands(rst) if line.startswith(("-", " "))]


def test_without_a_socket_there_is_no_line_for_one() -> None:
    assert "-U postgres" in postgres_guide(Path("/x"))
    assert "-U postgres" not in postgres_guide(Path("/x"), socket_directory=None)


def test_marked_commands_are_told_apart(tmp_path: Path) -> None:
    kinds = {
        shlex.split(command.line)[-1]: command.kind
        for command in all_commands(postgres_guide(tmp_path))
    }
    assert kinds["dbdev_fgrunserver"] == INTERACTIVE
    assert kinds["myapp"] == "needs the Heroku program"
    assert kinds["dbdev_reinit"] == ASKS
    assert kinds["dbdev_init"] == ""
    assert all_commands("See (here)::\n\n    true\n") == [GuideCommand("true")]


def stub(path: Path) -> None:
    """A program that records how it was called, by which path and where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '#!/bin/sh\nprintf "%s\\0" "$LIBRARIES" "$PGPASSFILE" "$0" "$@" >> "$RECORD"\n'
        'printf "\\1" >> "$RECORD"\n'
    )
    path.chmod(0o755)


def test_a_shell_runs_every_line_as_it_is_meant(tmp_path: Path) -> None:
    """All of the PostgreSQL guide, with stand-ins for the programs of PostgreSQL."""
    tempdata = tmp_path / f"{HOSTILE}\n\ttwo lines"
    libraries = f"{tempdata}/lib"
    tools = toolchain(tempdata / "bin", LIBRARIES=libraries)
    manage = tmp_path / "ma nage"
    for path in (*tools.programs.values(), manage):
        stub(path)
    (tempdata / "PostgresBackend" / "pg_wal").mkdir(parents=True)
    for name in (
        "PostgresBackend.log",
        "PostgresBackend.pgpass",
        "PostgresBackend/postgresql.conf",
    ):
        (tempdata / name).write_text("")
    rst = postgres_guide(tempdata, toolchain=tools, manage=(str(manage),), alias="re porting")
    record = tmp_path / "record"
    # One shell, as a user's: what the first lines export holds for the rest.
    lines = [command.line for command in all_commands(rst) if command.kind in ("", ASKS)]
    done = bash("\n".join(lines), tmp_path, RECORD=str(record), LIBRARIES="other")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    calls = [call.split("\0")[:-1] for call in record.read_text().split("\1")[:-1]]
    passfile = str(tempdata / "PostgresBackend.pgpass")
    for call in calls:
        assert call[1] == passfile
        if call[2] == str(manage):
            assert call[-2:] == ["--database", "re porting"] or call[3] == "dbshell"
            continue
        assert call[0] == libraries
        assert call[2] in map(str, tools.programs.values())
        if "--list" not in call and not call[3].startswith("postgresql://"):
            assert call[3:9:2] == ["-h", "-p", "-U"]
    called = {call[3] for call in calls if call[2] == str(manage)}
    assert called == {
        "dbshell", "migrate", "dbdev_destroy", "dbdev_guide", "dbdev_init", "dbdev_listbackups",
        "dbdev_reinit", "dbdev_serverinfo", "dbdev_startserver", "dbdev_stopserver",
        "dbdev_upgrade",
    }  # fmt: skip
    (dbshell,) = [call for call in calls if call[3] == "dbshell"]
    assert dbshell[4:] == ["--database", "re porting", "--", "-c", "SELECT 1 AS connected"]


def test_every_line_of_the_sqlite_guide_runs(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE
    folder.mkdir()
    database = folder / "db.sqlite3"
    connection = sqlite3.connect(database)
    connection.executescript("CREATE TABLE t (x TEXT); INSERT INTO t VALUES ('çà\n%')")
    connection.close()
    manage = tmp_path / "manage"
    stub(manage)
    rst = sqlite_guide_of(database, manage=(str(manage),))
    lines = commands(rst)
    assert len(lines) > 20
    for line in lines:
        done = bash(line, tmp_path, RECORD=os.devnull, LIBRARIES="", PGPASSFILE="")
        assert (done.returncode, done.stderr) == (0, ""), line
        if "integrity_check" in line:
            assert done.stdout == "('ok',)\n"
    for copy in ("mycopy.sqlite3", "myload.sqlite3"):
        connection = sqlite3.connect(tmp_path / copy)
        assert connection.execute("SELECT x FROM t").fetchall() == [("çà\n%",)]
        connection.close()


def test_the_sqlite_guide_makes_no_file_at_a_wrong_path(tmp_path: Path) -> None:
    line = next(line for line in commands(sqlite_guide_of(tmp_path / "no.sqlite3")))
    assert bash(line, tmp_path).returncode != 0
    assert not (tmp_path / "no.sqlite3").exists()


@pytest.mark.parametrize(("version", "found"), [((3, 11), False), ((3, 12), True)])
def test_pythons_own_sqlite_shell(version: tuple[int, int], found: bool) -> None:
    made = sqlite_guide.guide_values(
        Path("/x"), manage=("m",), python="/py", python_version=version, sqlite_version="3.40"
    )
    assert bool(made.shell) is found


# Finding templates.


def test_a_missing_guide_says_what_to_create() -> None:
    with pytest.raises(DbdevError) as error:
        render_template("django_dbdev/oraclebackend.rst", {})
    assert "django_dbdev/oraclebackend.rst does not exist" in str(error.value)
    assert "hint: create it in the folder `templates` of an installed app" in str(error.value)


@dataclass
class Package:
    """A third party's package on the path, with a backend in ``backends.oracle``."""

    root: Path
    backend: object

    def write(self, path: str, content: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(content, "utf-8")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    root = tmp_path / "thirdparty_dbdev"
    made = Package(root, None)
    made.write("__init__.py", "")
    made.write("backends/__init__.py", "")
    made.write(
        "backends/oracle.py", "class OracleBackend:\n    name = 'O<>\\''\n    port = 20021\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for module in [name for name in sys.modules if name.split(".")[0] == root.name]:
        monkeypatch.delitem(sys.modules, module)
    from importlib import import_module

    made.backend = import_module("thirdparty_dbdev.backends.oracle").OracleBackend()
    return made


ORACLE = "django_dbdev/oraclebackend.rst"


@pytest.mark.parametrize("folder", ["backends/templates", "templates"])
def test_a_template_beside_the_backend_or_its_package(package: Package, folder: str) -> None:
    package.write(f"{folder}/{ORACLE}", "\n{{ backend.name }} {{ backend.port }}{{ x.y }}\n\n")
    assert render_template(ORACLE, {"backend": package.backend}) == "O<>' 20021\n"


def test_the_hint_names_the_file_beside_the_backend(package: Package) -> None:
    with pytest.raises(DbdevError) as error:
        render_template(ORACLE, {"backend": package.backend})
    assert str(package.root / "backends" / "templates" / ORACLE) in str(error.value)


def test_a_broken_template_is_named(package: Package) -> None:
    package.write(f"templates/{ORACLE}", "{% nothing %}")
    with pytest.raises(
        DbdevError, match=r"oraclebackend\.rst cannot be rendered: .*Invalid block tag"
    ):
        render_template(ORACLE, {"backend": package.backend})
    package.write(f"templates/{ORACLE}", "{% include 'missing.rst' %}")
    with pytest.raises(DbdevError, match=r"oraclebackend\.rst uses the template missing\.rst"):
        render_template(ORACLE, {"backend": package.backend})


def test_errors_of_a_value_are_not_hidden(package: Package) -> None:
    class Broken:
        @property
        def guide_values(self) -> object:
            raise ToolchainError("no psql")

    with pytest.raises(ToolchainError, match="no psql"):
        render_template("django_dbdev/postgresbackend.rst", {"backend": Broken()})


def test_a_subclass_without_a_guide_has_that_of_its_parent() -> None:
    class PostgresBackend:
        guide_values = values(Path("/x"))

    class MyBackend(PostgresBackend):
        pass

    names = template_names(MyBackend)
    assert names == ["django_dbdev/mybackend.rst", "django_dbdev/postgresbackend.rst"]
    assert render_template(names, {"backend": MyBackend()}).startswith("PostgreSQL 16.15\n")


PROJECT = """
import sys
from django.conf import settings
settings.configure(INSTALLED_APPS=["anapp"], USE_THOUSAND_SEPARATOR=True, {settings})
import django
django.setup()
from django_dbdev.guide import render_template
sys.stdout.write(render_template("django_dbdev/oraclebackend.rst", {{"a": "<'>", "port": 20021}}))
"""


def in_a_project(folder: Path, settings: str) -> str:
    """What the template renders to in a Django project with these settings."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROJECT.format(settings=settings)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    app = tmp_path / "anapp"
    (app / "templatetags").mkdir(parents=True)
    (app / "__init__.py").touch()
    (app / "templatetags" / "__init__.py").touch()
    (app / "templatetags" / "shout.py").write_text(
        "from django import template\nregister = template.Library()\n"
        "register.filter('shout', lambda text: text.upper())\n"
    )
    return tmp_path


def write_template(folder: Path, content: str) -> None:
    (folder / "django_dbdev").mkdir(parents=True)
    (folder / ORACLE).write_text(content)


def test_an_installed_app_brings_a_guide_and_its_tags(project: Path) -> None:
    write_template(
        project / "anapp" / "templates", "{% load shout %}{{ a }} {{ port }} {{ 'app'|shout }}"
    )
    assert in_a_project(project, "TEMPLATES=[]") == "<'> 20021 APP\n"


def test_the_projects_own_folder_comes_first(project: Path) -> None:
    write_template(project / "anapp" / "templates", "app")
    write_template(project / "own", "{{ a }} own")
    backend = "django.template.backends.django.DjangoTemplates"
    settings = f"TEMPLATES=[{{'BACKEND': '{backend}', 'DIRS': [{str(project / 'own')!r}]}}]"
    assert in_a_project(project, settings) == "<'> own\n"


def test_the_projects_loaders_come_last(project: Path) -> None:
    settings = """TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader",
            {"django_dbdev/oraclebackend.rst": "{{ a }} {{ port }} loader"})]},
    }]"""
    assert in_a_project(project, settings) == "<'> 20021 loader\n"
    write_template(project / "anapp" / "templates", "app")
    assert in_a_project(project, settings) == "app\n"


def test_engines_and_tags_that_cannot_be_loaded_are_not_needed(project: Path) -> None:
    write_template(project / "anapp" / "templates", "app")
    (project / "anapp" / "templatetags" / "broken.py").write_text("1 / 0")
    assert in_a_project(project, "TEMPLATES=[{'BACKEND': 'no.such.Engine'}]") == "app\n"


# The terminal.


def shown(rst: str, width: int = 40) -> str:
    text = render_for_terminal(textwrap.dedent(rst), color=False, width=width)
    assert "\x1b" not in text
    return text


@pytest.mark.parametrize("width", [1, 40, 88, 500])
@pytest.mark.parametrize("color", [True, False])
@pytest.mark.parametrize("which", ["postgres", "sqlite"])
def test_no_line_to_copy_is_wrapped_or_clipped(
    which: str, color: bool, width: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = tmp_path / f"{HOSTILE}\n\t"
    rst = postgres_guide(hostile) if which == "postgres" else sqlite_guide_of(hostile)
    text = render_for_terminal(rst, color=color, width=width)
    assert ("\x1b[" in text) is color
    lines = [line.strip() for line in ESCAPE.sub("", text).splitlines()]
    found = all_commands(rst)
    assert len(found) > 20
    for command in found:
        assert command.line in lines
    assert "not valid" not in text
    assert capfd.readouterr() == ("", "")


def test_paragraphs_are_wrapped_to_the_width() -> None:
    prose = "one two three " * 40
    assert max(map(len, shown(prose, 40).splitlines())) <= 40
    # Wide letters take two columns.
    assert max(map(len, shown("日本 " * 40, 40).splitlines())) <= 27


def test_a_word_longer_than_the_width_stays_whole() -> None:
    assert shown(f"see {'x' * 60} there", 40) == f"see\n{'x' * 60}\nthere\n"
    assert shown("run ``manage.py dbdev_init --database default now`` or not", 30) == (
        "run\nmanage.py dbdev_init --database default now\nor not\n"
    )


def test_headings_by_depth() -> None:
    rst = """
        One
        ===

        Two
        ---

        Text.

        Three
        -----

        Four
        ~~~~

        Text.
    """
    assert shown(rst) == (
        "One\n===\n\nTwo\n---\n\nText.\n\n\nThree\n-----\n\nFour\n~~~~\n\nText.\n"
    )
    colored = render_for_terminal("A *b*\n=====\n\n**bold** ``x``\n", color=True, width=40)
    assert (
        colored == "\x1b[1;4mA\x1b[0m \x1b[1;4;3mb\x1b[0m\n\n\x1b[1mbold\x1b[0m \x1b[36mx\x1b[0m\n"
    )


@pytest.mark.parametrize(
    ("rst", "text"),
    [
        ("- a\n- b\n", "- a\n- b\n"),
        ("- a\n\n  b\n- c\n", "- a\n\n  b\n\n- c\n"),
        ("- a\n\n  - b\n", "- a\n\n  - b\n"),
        ("#. a\n#. b\n", "1. a\n2. b\n"),
        ("9. a\n10. b\n", " 9. a\n10. b\n"),
        ("b. a\nc. b\n", "b. a\nc. b\n"),
        ("term : kind\n    What *it* is.\n", "term\n    kind\n    What it is.\n"),
        ("a\n  b\n\nc\n  d\n", "a\n    b\n\nc\n    d\n"),
        (":key: value\n", "key\n    value\n"),
        ("-a FILE  what\n--bb  that\n", "-a FILE\n    what\n\n--bb\n    that\n"),
        (".. note:: Mind *this*.\n", "Note:\n    Mind this.\n"),
        (".. warning::\n\n   Mind\n", "Warning:\n    Mind\n"),
        (".. admonition:: Own\n\n   Mind\n", "Own:\n    Mind\n"),
        (".. topic:: Own\n\n   Mind\n", "Own:\n    Mind\n"),
        ("`Django <https://x.org/a>`_ is", "Django (https://x.org/a) is\n"),
        ("see https://x.org/a or me@x.org", "see https://x.org/a or me@x.org\n"),
        ("see A_\n\nA\n=\n\nx\n", "see A\n\n\nA\n=\n\nx\n"),
        ("a::\n\n    b\n\n      c\n", "a:\n\n    b\n\n      c\n"),
        (".. code-block:: toml\n\n   a = 1\n", "    a = 1\n"),
        (">>> 1\n1\n", "    >>> 1\n    1\n"),
        ("a\n\n    quoted\n", "a\n\n    quoted\n"),
        ("a\n\n----\n\nb\n", "a\n\n" + "-" * 40 + "\n\nb\n"),
        ("| a\n|\n| b\n|   c\n", "a\n\nb\n    c\n"),
        ("=  =\na  b\n=  =\n1  2\n=  =\n", "a | b\n\n1 | 2\n"),
        ("a [1]_\n\n.. [1] b\n", "a [1]\n\n[1] b\n"),
        (".. image:: x.png\n   :alt: A picture\n", "A picture\n"),
        ("|x| b\n\n.. |x| image:: y.png\n", "x b\n"),
        (".. |x| replace:: yes\n\n|x| :sub:`2` :math:`a b`", "yes 2 a b\n"),
        (".. a comment\n\n.. _target:\n\nText.\n", "Text.\n"),
        (".. rubric:: Un *known*\n", "Un known\n"),
        (".. container:: x\n\n   Inside.\n", "Inside.\n"),
        ("tight*\\ *emph*\\ ``lit``.", "tight*emphlit.\n"),
        ("", "\n"),
    ],
)  # fmt: skip
def test_nodes(rst: str, text: str) -> None:
    assert shown(rst) == text


# Text that means no good, or makes no sense.


@pytest.mark.parametrize(
    "rst",
    [
        ".. include:: {file}\n",
        ".. include:: {file}\n   :literal:\n",
        ".. literalinclude:: {file}\n",
        ".. raw:: html\n   :file: {file}\n",
        ".. raw:: html\n   :url: file://{file}\n",
        ".. csv-table:: x\n   :file: {file}\n",
        ".. code:: text\n   :file: {file}\n",
    ],
)
def test_a_guide_reads_no_files(
    rst: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("open sesame")
    text = shown(rst.format(file=file), 400)
    assert "open sesame" not in text
    assert "secret.txt" in text
    assert capfd.readouterr() == ("", "")


def test_a_configuration_of_docutils_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docutils.conf").write_text("[general]\nfile_insertion_enabled: yes\n")
    (tmp_path / "secret.txt").write_text("open sesame")
    monkeypatch.chdir(tmp_path)
    assert "open sesame" not in shown(".. include:: secret.txt\n")


MALFORMED = [
    ".. sphinx-only:: x\n\n   content to keep\n",
    ":role:`content to keep`\n",
    "|undefined| content to keep\n",
    "missing_ content to keep\n",
    "Title\n==\n\n    content to keep\n  less\n\nTitle\n~~~\n\n=======\nnope\n",
    "A\n=\n\nB\n-\n\nC\n~\n\nD\n=\n\nE\n~\n\ncontent to keep\n",
    "=== ===\na\n=== content to keep\n",
    "``content to keep\n\n*unclosed\n",
    ".. |a| replace:: |b|\n.. |b| replace:: |a|\n\n|a| content to keep\n",
    ".. code-block::\n   :nope: 1\n\n   content to keep\n",
    ".. role:: raw-x(raw)\n   :format: html\n\n:raw-x:`content to keep`\n",
    "> " * 4 + "content to keep",
    "\x00\x1b]0;title\x07content to keep\x9b31m\r\n\ud800 \u202e",
]


@pytest.mark.parametrize("rst", MALFORMED)
def test_malformed_text_is_shown_all_the_same(rst: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = shown(rst)
    assert "content to keep" in " ".join(text.split())
    assert capfd.readouterr() == ("", "")
    text.encode("utf-8")


def test_what_is_not_valid_is_given_as_it_is() -> None:
    rst = "Text.\n\n.. nope:: x\n\n     kept   as it is\n"
    assert shown(rst) == (
        'This guide is not valid reStructuredText (line 3: Unknown directive type "nope".). '
        "As it is:\n\n" + rst
    )


def test_escape_codes_in_the_text_do_not_reach_the_terminal() -> None:
    for rst in ("a \x1b[31m b\n", ".. nope:: \x1b[31m \x9b\n", "::\n\n  x \x1b]0;t\x07\n"):
        text = shown(rst)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
        assert "\ufffd" in text


def test_deep_nesting_and_long_lines_do_not_end_in_an_error() -> None:
    deep = "\n\n".join("  " * depth + "- x" for depth in range(400))
    assert shown(deep).count("- x") == 400
    long = "x " * 30_000
    assert shown(f"::\n\n    {long}end\n").strip().endswith("end")


def test_random_text_does_not_end_in_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(20021)
    pieces = [
        *"*`_|:.-=~<>[]\\ \n\t^#(){}'\"!$%&@/;,?", "a", "日", "\n\n", "    ", "::", ".. ", "``",
        "1. ", "=====\n", "-----\n", "|a|", "`x <y>`_", "[1]_", ".. [1] ", ".. |a| ", "replace:: ",
        "note:: ", "table:: ", "list-table:: ", "class:: ", "role:: x\n", ":x:`y`", "\x1b", "\x00",
    ]  # fmt: skip
    for _ in range(400):
        rst = "".join(chance.choices(pieces, k=chance.randint(1, 80)))
        text = render_for_terminal(rst, color=False, width=chance.randint(0, 100))
        assert "\x1b" not in text
        assert text.endswith("\n")
    assert capfd.readouterr() == ("", "")
