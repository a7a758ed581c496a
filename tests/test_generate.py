"""dbdev_generate: what it writes, what it leaves alone, and that its files are what they claim."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from django_dbdev.environment.layout import OLDEST
from django_dbdev.environment.rendering import FLAKE, KINDS

from .conftest import Project, ProjectFactory
from .workflows import run_steps, steps

EXAMPLE_LOCK = Path(__file__).parent.parent / "example" / "dbdev.lock"
FILES = {kind: [file.path for file in described.files] for kind, described in KINDS.items()}


SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}


def satisfies(schema: str, file: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    subprocess.run([*command, file], check=True)


def generated(project: Project, kind: str) -> Path:
    project.manage("dbdev_generate", kind).ok()
    return project.root / FILES[kind][0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_written_and_is_then_up_to_date(project: Project, kind: str) -> None:
    said = project.manage("dbdev_generate", kind).ok().out
    files = [project.root / path for path in FILES[kind]]
    for file in files:
        assert f"Generated {file}" in said
        assert f"dbdev_generate {kind}" in file.read_text()
    assert "up to date" in project.manage("dbdev_generate", kind, "--check").ok().out
    printed = project.manage("dbdev_generate", kind, "--stdout", "--verbosity", "0").ok().out
    assert printed == "".join(file.read_text() for file in files)


def test_what_is_up_to_date_is_not_written_again(project: Project) -> None:
    missing = project.manage("dbdev_generate", "nix", "--check").failed(1)
    assert "hint: dbdev_generate nix writes it anew" in missing.err
    assert not (project.root / "flake.nix").exists()
    before = generated(project, "nix").stat()
    assert "flake.nix is up to date" in project.manage("dbdev_generate", "nix").ok().out
    assert (project.root / "flake.nix").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("kind", ["nix", "devcontainer"])
def test_an_edit_is_kept(project: Project, kind: str) -> None:
    file = generated(project, kind)
    edited = file.read_text().replace("pkgs.python", "mine.python").replace("python:", "mine:")
    file.write_text(edited)
    said = project.manage("dbdev_generate", kind).failed(2)
    assert f"{file} was edited" in said.err
    assert "--force" in said.err
    assert file.read_text() == edited
    shown = project.manage("dbdev_generate", kind, "--check").failed(1).out
    assert any(line.startswith("-") and "mine" in line for line in shown.splitlines())
    project.manage("dbdev_generate", kind, "--force").ok()
    assert file.read_text() != edited


def test_a_file_of_somebody_else_is_kept(project: Project) -> None:
    # The first of the two files is not there; it is not written either.
    for kind, name, content in (
        ("nix", "flake.nix", b"{ }\n"),
        ("devenv", "devenv.yaml", b"\xff\xfe\n"),
        ("devcontainer", ".devcontainer/devcontainer.json", b"[]\n"),
    ):
        file = project.root / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        assert "was not generated" in project.manage("dbdev_generate", kind).failed(2).err
        assert file.read_bytes() == content
    assert not (project.root / "devenv.nix").exists()


def test_a_file_that_nobody_edited_follows_the_pins(project: Project) -> None:
    flake = generated(project, "nix")
    assert "# postgresql 18\n" in flake.read_text()
    project.pin(
        '[tool.django_dbdev.postgresql]\nversion = ">=16.13,<18"\nextensions = ["pg_trgm"]\n'
        '[build-system]\nrequires = ["hatchling"]\n'
        '[project]\nname = "shop"\nrequires-python = ">=3.12"\n'
    )
    shown = project.manage("dbdev_generate", "nix", "--check").failed(1).out
    assert "-              # postgresql 18\n" in shown
    assert "+              # postgresql >=16.13,<18 with pg_trgm\n" in shown
    project.manage("dbdev_generate", "nix").ok()
    assert "python = pkgs.python312;" in flake.read_text()
    assert "pip install -e ." in generated(project, "github").read_text()


BUILT = "[build-system]\nrequires = ['hatchling']\n"
EXTRAS = (
    "[project]\nname = 'my-shop'\ndependencies = ['Django>=5.2']\n"
    "[project.optional-dependencies]\ndocs = ['sphinx']\ntest = ['pytest_django>=4']\n"
    "dev = ['django_dbdev', 'my_shop[test]']\n"
)
GROUPS = (
    "[project]\nname = 'x'\ndependencies = ['Django']\n[dependency-groups]\n"
    "lint = ['ruff']\ndev = ['pytest-django', {include-group = 'lint'}]\n"
)


@pytest.mark.parametrize(
    ("files", "install"),
    [
        ({}, "django_dbdev 'psycopg[binary]' pytest pytest-django"),
        ({"requirements.txt": "Django\npytest-cov\n"}, "-r requirements.txt pytest pytest-django"),
        (
            {"requirements.txt": "Django\n", "requirements-dev.txt": "pytest-django==4.11\n"},
            "-r requirements.txt -r requirements-dev.txt",
        ),
        ({"pyproject.toml": f"{BUILT}[project]\nname = 'x'\n"}, "-e . pytest pytest-django"),
        ({"pyproject.toml": f"{BUILT}{EXTRAS}"}, "-e '.[test,dev]'"),
        ({"pyproject.toml": f"{BUILT}{GROUPS}"}, "-e . --group=dev"),
        # What does not say how it is built is an application, of several packages mostly.
        (
            {"pyproject.toml": "[project]\nname = 'x'\n"},
            "django_dbdev 'psycopg[binary]' pytest pytest-django",
        ),
        ({"pyproject.toml": EXTRAS}, "'Django>=5.2' 'pytest_django>=4' django_dbdev"),
        ({"pyproject.toml": GROUPS}, "Django --group=dev"),
    ],
)
def test_pytest_is_installed_where_it_runs_the_tests(
    project: Project, files: dict[str, str], install: str
) -> None:
    for name, content in files.items():
        project.write(name, content)
    with (project.root / "pyproject.toml").open("a") as file:
        file.write("[tool.pytest.ini_options]\n")
    first, *_, last = steps(generated(project, "gitlab"), "pip")
    assert last == "python -m pytest"
    update, _, installed = first.rpartition(" && ")
    assert installed == f"python -m pip install {install}"
    # An older pip does not know groups.
    assert update == ("python -m pip install 'pip>=25.1'" if "--group" in install else "")
    assert "ps.pytest-django" in generated(project, "nix").read_text()


@pytest.mark.parametrize(
    ("chosen", "required", "python"),
    [
        ("", ">=3.10", "3.11"),
        ("", "<3.14,>=3.12.4", "3.12"),
        ("", "~=3.13", "3.13"),
        ("3.13.2\n", ">=3.12", "3.13"),
        ("3.9\n", "", "3.11"),
        ("", "nonsense", f"3.{sys.version_info.minor}"),
    ],
)
def test_the_python_of_the_project_as_far_as_django_dbdev_runs_on_it(
    project: Project, chosen: str, required: str, python: str
) -> None:
    project.write(
        "pyproject.toml",
        f"[project]\nname = 'x'\nrequires-python = '{required}'\n" if required else "",
    )
    if chosen:
        project.write(".python-version", chosen)
    assert f"\n  image: python:{python}\n" in generated(project, "gitlab").read_text()


def test_the_oldest_python_is_that_of_the_package() -> None:
    package = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert package["project"]["requires-python"] == f">=3.{OLDEST}"


def test_no_path_of_this_machine_is_written(new_project: ProjectFactory, tmp_path: Path) -> None:
    project = new_project(settings=f"DBDEV_DATADIR = {str(tmp_path / 'elsewhere')!r}")
    script = project.root / "manage.py"
    script.rename(tmp_path / "shared.py")
    script.symlink_to(tmp_path / "shared.py")
    project.environment["PYTHONPATH"] = str(project.root)
    (project.root / "flake.nix").write_text("{ }\n")
    for kind, schema in SCHEMAS.items():
        file = generated(project, kind)
        assert str(tmp_path) not in file.read_text()
        assert "python manage.py dbdev_init --locked" in steps(file, "pip")
        assert ".log" not in file.read_text()
        satisfies(schema, file)


def test_where_the_data_is_on_this_machine_alone_is_not_written(project: Project) -> None:
    """A colleague's --check would fail, and so would one within dbdev_run --ephemeral."""
    file = generated(project, "github")
    said = project.manage("dbdev_generate", "github", "--check", DBDEV_DATADIR="elsewhere").ok()
    assert "up to date" in said.out
    assert 'path: "dbdev_tempdata/*.log"\n' in file.read_text()
    assert "include-hidden-files" not in file.read_text()


def test_logs_in_a_hidden_folder_are_kept(new_project: ProjectFactory) -> None:
    project = new_project(settings="DBDEV_DATADIR = '.state/db'")
    file = generated(project, "github")
    satisfies(SCHEMAS["github"], file)
    upload = YAML(typ="safe").load(file.read_text())["jobs"]["pip"]["steps"][-1]
    assert upload["with"]["path"] == ".state/db/*.log"
    # upload-artifact leaves them out otherwise. Source: its README, "Uploading Hidden Files".
    assert upload["with"]["include-hidden-files"] is True


@pytest.mark.parametrize(
    ("name", "content", "test"),
    [
        ("setup.cfg", "[tool:pytest]\n", "python -m pytest"),
        ("tox.ini", "[tox]\nenvlist = py312\n[pytest]\naddopts = -p %(x)s\n", "python -m pytest"),
        (".pytest.ini", "", "python -m pytest"),
        ("pytest.toml", "", "python -m pytest"),
        ("setup.cfg", "[metadata]\nname = x\n", "python manage.py test"),
        ("tox.ini", "no section\n", "python manage.py test"),
    ],
)
def test_pytest_runs_the_tests_where_it_is_configured(
    project: Project, name: str, content: str, test: str
) -> None:
    project.write(name, content)
    assert steps(generated(project, "gitlab"), "pip")[-1] == test


def test_every_server_is_initialised(new_project: ProjectFactory) -> None:
    project = new_project(
        "it's a project",
        settings="""
            DATABASES["reporting"] = {**DBSETTINGS, "PORT": 20999}
            DATABASES["shared"] = {**DBSETTINGS, "NAME": "other"}
            DATABASES["files"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "x"}
        """,
    )
    ours = ["python manage.py dbdev_init --locked"]
    reporting = f"{ours[0]} --database reporting"
    assert steps(generated(project, "github"), "pip")[1:3] == [*ours, reporting]
    container = json.loads(generated(project, "devcontainer").read_text())
    assert container["name"] == "it's a project"
    assert container["postCreateCommand"].endswith(f"{ours[0]} && {reporting}")


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ('DATABASES["other"] = {"ENGINE": "django.db.backends.oracle", "NAME": "x"}', ""),
        ('DATABASES["other"] = {**DBSETTINGS, "HOST": "db.example.com"}', ""),
        ('DATABASES = {"default": {}, "app": DBSETTINGS}', " --database app"),
    ],
)
def test_servers_of_somebody_else_are_not_initialised(
    new_project: ProjectFactory, settings: str, option: str
) -> None:
    project = new_project(settings=settings)
    _, *rest, _ = steps(generated(project, "gitlab"), "pip")
    assert rest == [f"python manage.py dbdev_init --locked{option}"]


def test_a_project_within_a_repository(new_project: ProjectFactory) -> None:
    project = new_project("repository/it's: back end")
    repository = project.root.parent
    (repository / ".git").mkdir()
    project.manage("dbdev_generate", "github").ok()
    project.manage("dbdev_generate", "gitlab").ok()
    workflow = repository / ".github" / "workflows" / "dbdev.yml"
    content = YAML(typ="safe").load(workflow.read_text())
    assert content["defaults"]["run"]["working-directory"] == "it's: back end"
    (cache,) = (s for s in content["jobs"]["pip"]["steps"] if "cache" in s.get("uses", ""))
    assert "hashFiles('it''s: back end/dbdev.lock')" in cache["with"]["key"]
    assert "it's: back end/dbdev_tempdata/*.log" in workflow.read_text()
    enter = steps(repository / ".gitlab-ci.yml", "pip")[0]
    assert shlex.split(enter) == ["cd", "it's: back end"]


def test_direnv_loads_what_there_is(project: Project) -> None:
    for name, command in (
        ("", "layout python"),
        ("devenv.nix", "use devenv"),
        ("flake.nix", "use flake"),
    ):
        if name:
            (project.root / name).write_text("{ }\n")
        envrc = generated(project, "direnv")
        assert f"\n{command}" in envrc.read_text()
        subprocess.run(["bash", "-n", envrc], check=True)


@pytest.mark.parametrize(("kind", "schema"), SCHEMAS.items())
@pytest.mark.parametrize("flake", [False, True])
def test_workflows_satisfy_their_schemas(
    project: Project, kind: str, schema: str, flake: bool
) -> None:
    if flake:
        (project.root / "flake.nix").write_text("{ }\n")
    file = generated(project, kind)
    satisfies(schema, file)
    content = YAML(typ="safe").load(file.read_text())
    assert ("nix" in content.get("jobs", content)) is flake


def test_the_container_has_only_what_its_format_knows(project: Project) -> None:
    """The format's own schema is on no index; these are the properties of its reference."""
    content = json.loads(generated(project, "devcontainer").read_text())
    known: dict[str, type] = {
        "name": str,
        "image": str,
        "postCreateCommand": str,
        "postStartCommand": str,
    }
    known |= {"workspaceFolder": str, "customizations": dict}
    assert all(isinstance(value, known[name]) for name, value in content.items())
    assert isinstance(content["customizations"]["django_dbdev"], dict)


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_what_the_workflow_runs_works(project: Project, kind: str) -> None:
    shutil.copy(EXAMPLE_LOCK, project.root)
    # The first pip of the workflow fetches what the project needs; here it is there already.
    project.write("requirements.txt", "Django\n")
    project.write(
        "tests.py",
        """
        from django.db import connection
        from django.test import TestCase

        class Version(TestCase):
            def test_version(self):
                assert connection.pg_version // 10000 == 18
        """,
    )
    commands = steps(generated(project, kind), "pip")
    said = run_steps(commands, project.root, project.env())
    assert "Ran 1 test" in said
    assert list(project.root.glob("dbdev_tempdata/*.log"))


def test_nothing_is_generated_for_what_nobody_knows(project: Project) -> None:
    assert "invalid choice: 'make'" in project.manage("dbdev_generate", "make").all


def test_the_templates_name_the_same_flake() -> None:
    for flake in (Path(__file__).parents[1] / "templates").glob("*/flake.nix"):
        assert f'django_dbdev.url = "{FLAKE}";' in flake.read_text()
