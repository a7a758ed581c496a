# What the library decides without building anything; a failure names the case.
{ pkgs }:
let
  versions = import ./versions.nix;
  # Requirement, version, and whether it satisfies; tests/nix compares the same with Python.
  cases = builtins.fromJSON (builtins.readFile ./tests.json);
  wrong = builtins.filter (
    case: versions.matches case.requirement case.version != case.matches
  ) cases;
in
if wrong == [ ] then
  pkgs.runCommand "django-dbdev-library" { } ''
    echo ${toString (builtins.length cases)} >"$out"
  ''
else
  throw "django_dbdev: versions are read wrongly: ${builtins.toJSON wrong}"
