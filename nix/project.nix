# What a project asks for, from its pyproject.toml and dbdev.lock:
#
#     { postgresql = { version = "18"; extensions = [ "pg_trgm" ]; locked = null or { … }; }; … }
#
# `locked` is the lock's entry for the engine. The files are the ones that django_dbdev's commands
# read and write; what it checks when it reads them is not checked again here.
src:
let
  versions = import ./versions.nix;

  read =
    name: parse:
    let
      file = src + "/${name}";
    in
    if builtins.pathExists file then parse (builtins.readFile file) else { };

  pins = (read "pyproject.toml" builtins.fromTOML).tool.django_dbdev or { };
  lock = read "dbdev.lock" builtins.fromJSON;

  engines =
    if lock.lock-version or 1 == 1 then
      lock.engines or { }
    else
      throw "django_dbdev: dbdev.lock has lock-version ${toString lock.lock-version}, and this Nix library reads 1. Update the flake input of django_dbdev.";

  # sqlite has no programs of its own.
  names = builtins.attrNames (
    builtins.removeAttrs (engines // pins) [
      "databases"
      "sqlite"
    ]
  );

  packages = entry: [ entry ] ++ entry.fallbacks or [ ];

  # The rule of LockedEngine.satisfies in django_dbdev/binaries/lock.py.
  satisfies =
    entry: version: extensions:
    builtins.all (name: builtins.elem name entry.extensions) extensions
    && builtins.all (package: versions.matches version package.version) (packages entry);

  requirement =
    name:
    let
      version = pins.${name}.version or "";
      extensions = pins.${name}.extensions or [ ];
      locked = engines.${name} or null;
    in
    if locked == null || satisfies locked version extensions then
      {
        inherit version extensions;
        locked = if locked == null then null else packages locked;
      }
    else
      throw "django_dbdev: pyproject.toml pins ${
        describe name version extensions
      }, and dbdev.lock has ${
        describe name locked.version locked.extensions
      }. Run `python manage.py dbdev_lock` and commit dbdev.lock; where that needs this shell, move dbdev.lock away first.";

  describe =
    name: version: extensions:
    "${name} ${if version == "" then "in any version" else version}${
      if extensions == [ ] then "" else " with ${builtins.concatStringsSep ", " extensions}"
    }";
in
builtins.listToAttrs (
  map (name: {
    inherit name;
    value = requirement name;
  }) names
)
