"""The files that configure a server: what renders them, and what becomes of edits."""

from __future__ import annotations

import pytest

from tests.machine import needs_every_major

from .conftest import Project, ProjectFactory

PIN = '[tool.django_dbdev.postgresql]\nversion = "18"\n'


def configuration(project: Project, name: str = "postgresql.conf") -> bytes:
    return (project.tempdata / "PostgresBackend" / name).read_bytes()


def restart(project: Project) -> None:
    project.manage("dbdev_stopserver").ok()
    project.manage("dbdev_startserver").ok()


def test_settings_of_the_pin_act_at_the_next_start_and_until_then_a_restart_is_due(
    project: Project,
) -> None:
    project.manage("dbdev_init").ok()
    assert project.info()["restart_reasons"] == []
    project.pin(
        PIN + "settings = { work_mem = '17MB', max_connections = 33, jit = false, "
        'application_name = "it\'s a \\\\ name" }\n'
    )
    [reason] = project.info()["restart_reasons"]
    assert "postgresql.conf" in reason
    assert "restart" in project.manage("dbdev_serverinfo").ok().out
    restart(project)
    assert project.info()["restart_reasons"] == []
    assert project.query("SHOW work_mem") == [("17MB",)]
    assert project.query("SHOW max_connections") == [("33",)]
    assert project.query("SHOW jit") == [("off",)]
    said = project.query("SELECT setting FROM pg_file_settings WHERE name = 'application_name'")
    assert said == [("it's a \\ name",)]
    # A setting that waits for a restart, made by hand.
    project.query("ALTER SYSTEM SET max_connections = 44")
    project.query("SELECT pg_reload_conf()")
    assert "max_connections" in " ".join(project.info()["restart_reasons"])


def test_what_is_durable_stays_so(project: Project) -> None:
    project.manage("dbdev_init").ok()
    assert project.query("SHOW fsync") == [("on",)]
    assert project.query("SHOW full_page_writes") == [("on",)]
    assert project.query("SHOW synchronous_commit") == [("off",)]


@pytest.mark.parametrize("name", ["port", "listen_addresses", "fsync", "include", "PORT"])
def test_settings_that_are_not_the_pins_are_refused(new_project: ProjectFactory, name: str) -> None:
    project = new_project(pin=PIN + f"settings = {{ {name} = '1' }}\n")
    said = project.manage("dbdev_init").failed(2).err
    assert f"tool.django_dbdev.postgresql.settings.{name}" in said
    assert not (project.tempdata / "PostgresBackend").exists()


def test_a_setting_that_does_not_exist_shows_the_servers_own_words(project: Project) -> None:
    project.pin(PIN + "settings = { shared_bufers = '1MB' }\n")
    said = project.manage("dbdev_init").failed(4).err
    assert "shared_bufers" in said
    assert project.servers() == []
    project.pin(PIN)
    project.manage("dbdev_init").ok()


def test_edits_by_hand_are_rendered_away_at_the_next_start(project: Project) -> None:
    project.manage("dbdev_init").ok()
    before = configuration(project)
    file = project.tempdata / "PostgresBackend" / "postgresql.conf"
    file.write_bytes(before + b"work_mem = '99MB'\n")
    assert project.info()["restart_reasons"] != []
    restart(project)
    assert configuration(project) == before


def test_two_projects_render_the_same_bytes(new_project: ProjectFactory) -> None:
    one, two = new_project("one"), new_project("another/two")
    for project in (one, two):
        project.manage("dbdev_init").ok()
    for name in ("postgresql.conf", "pg_hba.conf"):
        assert configuration(one, name) == configuration(two, name)
    assert configuration(one, "dbdev_local.conf") != configuration(two, "dbdev_local.conf")
    assert b"port = " not in configuration(one)


def test_a_template_of_the_projects_extends_ours(new_project: ProjectFactory) -> None:
    project = new_project(settings='DBDEV_TEMPLATE_DIRS = ["dbconfig"]')
    template = project.write(
        "dbconfig/postgresql/postgresql.conf.j2",
        '{% extends "django_dbdev/postgresql/postgresql.conf.j2" %}\n'
        "{% block memory %}\n{{ super() }}work_mem = 23MB\n{% endblock %}\n",
    )
    project.manage("dbdev_init").ok()
    assert project.query("SHOW work_mem") == [("23MB",)]
    assert project.query("SHOW maintenance_work_mem") == [("128MB",)], "the rest is ours"
    # What a template includes is looked at as well, wherever it is.
    project.write("dbconfig/own/memory.j2", "work_mem = 24MB\n")
    template.write_text(
        template.read_text().replace("work_mem = 23MB", '{% include "own/memory.j2" %}')
    )
    restart(project)
    assert project.query("SHOW work_mem") == [("24MB",)]
    project.write("dbconfig/own/memory.j2", "work_mem = 25MB\n")
    assert project.info()["restart_reasons"] != []
    restart(project)
    assert project.query("SHOW work_mem") == [("25MB",)]


def test_a_template_of_the_projects_replaces_ours(new_project: ProjectFactory) -> None:
    project = new_project(settings="DBDEV_TEMPLATE_DIRS = (BASE_DIR / 'dbconfig',)")
    project.write(
        "dbconfig/postgresql/postgresql.conf.j2",
        """
        listen_addresses = '127.0.0.1'
        cluster_name = {{ "it's \\\\ mine" | pg_value }}
        {% if major >= 18 %}
        work_mem = 26MB
        {% endif %}
        include_if_exists = 'dbdev_local.conf'
        """,
    )
    project.manage("dbdev_init").ok()
    assert project.query("SHOW cluster_name") == [("it's \\ mine",)]
    assert project.query("SHOW work_mem") == [("26MB",)]
    assert project.query("SHOW synchronous_commit") == [("on",)], "none of ours is left"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% if %}\n", "line 1"),
        ("{{ nothing_of_the_kind }}\n", "nothing_of_the_kind"),
        ("work_mem = {{ 1 + settings }}\n", "TypeError"),
        ('{% extends "nothing.j2" %}', "nothing.j2"),
        ("work_mem = 1MB\n", "dbdev_local.conf"),
    ],
)
def test_a_broken_template_is_an_error_and_nothing_is_half_made(
    new_project: ProjectFactory, template: str, says: str
) -> None:
    project = new_project(settings='DBDEV_TEMPLATE_DIRS = ["dbconfig"]')
    project.write("dbconfig/postgresql/postgresql.conf.j2", template)
    assert says in project.manage("dbdev_init").failed(2).err
    assert not (project.tempdata / "PostgresBackend").exists()
    assert project.servers() == []


@needs_every_major
def test_the_locale_is_the_same_everywhere_and_can_be_overridden(
    new_project: ProjectFactory,
) -> None:
    query = "SELECT datlocprovider, {} FROM pg_database WHERE datname = 'dbdev'"
    project = new_project("eighteen")
    project.manage("dbdev_init").ok()
    assert project.query(query.format("datlocale")) == [("b", "C.UTF-8")]
    other = new_project("own", settings='DBDEV_POSTGRES_CREATEDB_LOCALE = "C"')
    other.manage("dbdev_init").ok()
    assert other.query(query.format("datcollate")) == [("c", "C")]
    older = new_project("sixteen", pin=PIN.replace("18", "16"))
    older.manage("dbdev_init").ok()
    assert older.query(query.format("datcollate")) == [("c", "C.UTF-8")]
    lacking = new_project("lacking", settings='DBDEV_POSTGRES_CREATEDB_LOCALE = "xx_YY.UTF-8"')
    said = lacking.manage("dbdev_init").failed(2).err
    assert "xx_YY.UTF-8" in said
    assert "POSIX" in said, "the locales that the machine has are listed"
    assert not (lacking.tempdata / "PostgresBackend").exists()
