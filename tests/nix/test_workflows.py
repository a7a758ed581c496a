"""The jobs of generated workflows that use Nix, run as their runners do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ..conftest import ProjectFactory
from ..workflows import run_steps, steps
from .conftest import REPOSITORY, Nix, add_to_git, new_store

RUNNERS = {
    "github": (".github/workflows/dbdev.yml", "GITHUB_WORKSPACE", "RUNNER_TEMP"),
    "gitlab": (".gitlab-ci.yml", "CI_PROJECT_DIR", "CI_BUILDS_DIR"),
}


@pytest.mark.parametrize("kind", RUNNERS)
def test_a_second_run_has_the_programs_from_the_cache(
    nix: Nix, nix_project: ProjectFactory, tmp_path: Path, kind: str
) -> None:
    project = nix_project(lock=False)
    shutil.copy(REPOSITORY / "example" / "dbdev.lock", project.root)
    project.manage("dbdev_generate", kind).ok()
    project.write("tests.py", "")
    # The runner takes the inputs from the lock: here the stand-ins.
    nix("flake lock", cwd=project.root).ok()
    project.write(".gitignore", "dbdev_tempdata/\n.nix-cache/\n")
    add_to_git(nix, project)
    file, workspace, temporary = RUNNERS[kind]
    commands = steps(project.root / file, "nix")

    for run in ("first", "second"):
        # Each runner is a new machine; a store's paths belong to its place.
        runner = new_store(tmp_path / "nix")
        places = {workspace: str(project.root), temporary: str(runner.base)}
        try:
            said = run_steps(commands, project.root, project.env(**runner.environment, **places))
        finally:
            project.manage("dbdev_stopserver")
            shutil.rmtree(project.tempdata, ignore_errors=True)
            runner.remove()
        assert "Ran 0 tests" in said
        built = "-postgresql-18.6.drv'" in said
        assert built is (run == "first")


def test_what_is_generated_for_devenv(nix: Nix, nix_project: ProjectFactory) -> None:
    """devenv cannot be had: its module is evaluated as it would, without the module system."""
    project = nix_project()
    project.manage("dbdev_generate", "devenv").ok()
    said = nix.evaluate(
        f"""
        let
          module = import {project.root}/devenv.nix {{
            inherit pkgs;
            inputs.django_dbdev.devenvModules.default = "the module";
          }};
        in
        {{
          inherit (module) imports;
          src = toString module.dbdev.src;
          python = module.languages.python.package.outPath;
        }}
        """,
        project.root,
    )
    evaluated = json.loads(said.ok().out)
    assert evaluated["imports"] == ["the module"]
    assert evaluated["src"] == str(project.root)
    assert "-python3" in evaluated["python"]
