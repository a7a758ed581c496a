"""The project's own flake: its outputs, its checks, and what comes of its templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..conftest import ProjectFactory
from .conftest import SYSTEM, Nix, add_to_git

SYSTEMS = {"x86_64-linux", "aarch64-linux", "aarch64-darwin"}


def test_the_checks_pass_and_run_the_servers(anybody: Nix, flake: Path) -> None:
    anybody("flake check", f"path:{flake}", cwd=flake).ok()
    checked = list(anybody.store.glob("*-django-dbdev-postgresql-18.6"))
    assert [file.read_text() for file in checked] == ["18.6\n"]


def test_what_the_flake_shows(nix: Nix, flake: Path) -> None:
    shown = json.loads(nix("flake show", "--json", f"path:{flake}", cwd=flake).ok().out)
    for output in ("packages", "devShells", "checks", "formatter"):
        assert set(shown[output]) == SYSTEMS, output
    assert {"default", "postgresql_18", "mariadb_118", "mysql84"} <= set(shown["packages"][SYSTEM])
    # nixpkgs throws where it has removed a package.
    assert "postgresql_14" not in shown["packages"][SYSTEM]
    assert {"default", "postgresql", "postgis", "mariadb"} == set(shown["templates"])
    assert set(shown) >= {"lib", "overlays", "flakeModules", "devenvModules"}


def test_the_lock_of_the_flake_names_one_input_by_revision(flake: Path) -> None:
    nodes = json.loads((flake / "flake.lock").read_text())["nodes"]
    assert set(nodes) == {"nixpkgs", "root"}
    assert len(nodes["nixpkgs"]["locked"]["rev"]) == 40
    assert nodes["nixpkgs"]["locked"]["narHash"].startswith("sha256-")


def test_the_python_package_is_built_from_this_repository(nix: Nix, flake: Path) -> None:
    nix("build", "--no-link", f"path:{flake}", cwd=flake).ok()
    (built,) = nix.store.glob("*-django-dbdev-2*/lib/django_dbdev")
    assert (built / "environment" / "templates" / "flake.nix.j2").is_file()


@pytest.mark.parametrize(
    ("template", "variable"),
    [
        ("postgis", "DBDEV_POSTGRESQL_VERSION = 17.9"),
        ("mariadb", "DBDEV_MARIADB_VERSION = 11.8.6"),
    ],
)
def test_a_template_gets_the_engine_that_it_pins(
    nix: Nix, flake: Path, tmp_path: Path, template: str, variable: str
) -> None:
    said = nix.run("nix", "flake", "init", "-t", f"path:{flake}#{template}", cwd=tmp_path).ok()
    assert "python manage.py dbdev_init" in said.all
    name, _, value = variable.partition(" = ")
    attribute = f".#devShells.{SYSTEM}.default.{name}"
    assert nix("eval", "--raw", attribute, cwd=tmp_path).ok().out == value
    if template == "postgis":
        attribute = f".#devShells.{SYSTEM}.default.GDAL_LIBRARY_PATH"
        library = nix("eval", "--raw", attribute, cwd=tmp_path).ok().out
        assert library.endswith("-gdal/lib/libgdal.so")


def test_the_template_runs(nix: Nix, flake: Path, new_project: ProjectFactory) -> None:
    project = new_project("made", lock=False)
    for made in ("manage.py", "settings.py", "pyproject.toml"):
        (project.root / made).unlink()
    nix.run("nix", "flake", "init", "-t", f"path:{flake}", cwd=project.root).ok()
    add_to_git(nix, project)
    said = nix.develop(project, "python manage.py dbdev_init", "python manage.py migrate")
    assert "Applying admin.0001_initial... OK" in said[1]


def test_the_modules_for_flake_parts_and_devenv(nix: Nix, tmp_path: Path) -> None:
    """The module system is nixpkgs' own and cannot be had: its functions are stood in for."""
    (tmp_path / "pyproject.toml").write_text('[tool.django_dbdev.postgresql]\nversion = "18"\n')
    module = f"""
      let
        lib = builtins // rec {{
          types = {{
            nullOr = x: x; either = a: b: a; attrsOf = x: x; listOf = x: x; functionTo = x: x;
            package = "package"; path = "path"; raw = "raw"; str = "str";
          }};
          mkOption = option: option;
          mkDefault = value: value;
          mkIf = condition: value: if condition then value else {{ }};
          literalExpression = text: text;
          literalMD = text: text;
          nameValuePair = name: value: {{ inherit name value; }};
          mapAttrs' = f: set: builtins.listToAttrs (lib.attrValues (builtins.mapAttrs f set));
        }};
        defaults = builtins.mapAttrs (_: option: option.default);
        evaluate = module: settings:
          let
            evaluated = module {{ inherit config lib pkgs; }};
            config.dbdev = defaults evaluated.options.dbdev // settings;
          in
          evaluated.config // {{ inherit (config) dbdev; }};
        src = {tmp_path};
        parts = import {Path(__file__).parents[2]}/nix/flake-module.nix dbdev {{
          flake-parts-lib.mkPerSystemOption = module: module;
        }};
        made = evaluate parts.options.perSystem {{ inherit src; python = pkgs.python3; }};
        devenv = evaluate (import {Path(__file__).parents[2]}/nix/devenv-module.nix dbdev) {{
          inherit src;
        }};
        unset = evaluate parts.options.perSystem {{ }};
      in
      {{
        shell = made.devShells.default.DBDEV_POSTGRESQL_VERSION;
        checks = builtins.attrNames made.checks;
        provider = made.dbdev.programs.postgresql.provider;
        env = devenv.env.DBDEV_POSTGRESQL_PROVIDER;
        packages = map (package: package.version) devenv.packages;
        unset = builtins.attrNames unset;
      }}
    """
    assert json.loads(nix.evaluate(module, tmp_path).ok().out) == {
        "shell": "18.6",
        "checks": ["dbdev-postgresql"],
        "provider": "nixpkgs",
        "env": "nixpkgs",
        "packages": ["18.6"],
        "unset": ["dbdev"],
    }


def test_the_overlay_adds_the_package_to_every_python(nix: Nix, flake: Path) -> None:
    said = nix.evaluate(
        f"""
        let
          overlay = (builtins.getFlake "path:{flake}").overlays.default;
          extended = overlay {{ }} {{ pythonPackagesExtensions = [ ]; }};
          extension = builtins.head extended.pythonPackagesExtensions;
        in
        (extension pkgs.python3Packages {{ }}).django-dbdev.name
        """,
        flake,
    )
    assert json.loads(said.ok().out).startswith("django-dbdev-2")
