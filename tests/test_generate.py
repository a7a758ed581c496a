"""dbdev_generate: what it writes, what it leaves alone, and that its files are what they claim."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from django_dbdev.environment.rendering import FLAKE, KINDS

from .conftest import Project, ProjectFactory
from .workflows import run_steps, steps

EXAMPLE_LOCK = Path(__file__).parent.parent / "example" / "dbdev.lock"
FILES = {kind: [file.path for file in described.files] for kind, described in KINDS.items()}


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
        '[project]\nname = "shop"\nrequires-python = ">=3.12"\n'
    )
    shown = project.manage("dbdev_generate", "nix", "--check").failed(1).out
    assert "-              # postgresql 18\n" in shown
    assert "+              # postgresql >=16.13,<18 with pg_trgm\n" in shown
    project.manage("dbdev_generate", "nix").ok()
    assert "python = pkgs.python312;" in flake.read_text()
    assert "pip install -e ." in generated(project, "github").read_text()


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


def test_a_project_within_a_repository(new_project: ProjectFactory) -> None:
    project = new_project("repository/back end")
    repository = project.root.parent
    (repository / ".git").mkdir()
    project.manage("dbdev_generate", "github").ok()
    project.manage("dbdev_generate", "gitlab").ok()
    workflow = repository / ".github" / "workflows" / "dbdev.yml"
    content = YAML(typ="safe").load(workflow.read_text())
    assert content["defaults"]["run"]["working-directory"] == "back end"
    assert "hashFiles('back end/dbdev.lock')" in workflow.read_text()
    assert "back end/dbdev_tempdata/*.log" in workflow.read_text()
    assert steps(repository / ".gitlab-ci.yml", "pip")[0] == "cd 'back end'"


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


@pytest.mark.parametrize(
    ("kind", "schema"), [("github", "vendor.github-workflows"), ("gitlab", "vendor.gitlab-ci")]
)
@pytest.mark.parametrize("flake", [False, True])
def test_workflows_satisfy_their_schemas(
    project: Project, kind: str, schema: str, flake: bool
) -> None:
    if flake:
        (project.root / "flake.nix").write_text("{ }\n")
    file = generated(project, kind)
    subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, file], check=True
    )
    content = YAML(typ="safe").load(file.read_text())
    assert ("nix" in content.get("jobs", content)) is flake


def test_the_container_has_only_what_its_format_knows(project: Project) -> None:
    """The format's own schema is on no index; these are the properties of its reference."""
    content = json.loads(generated(project, "devcontainer").read_text())
    known = {"name": str, "image": str, "postCreateCommand": str, "postStartCommand": str}
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
