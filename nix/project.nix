# What a project asks for, from its pyproject.toml and dbdev.lock:
#
#     {
#       engines.postgresql = { version = "18"; extensions = [ "pg_trgm" ]; locked = null or [ … ]; };
#       databases.reporting.postgresql = { … };
#     }
#
# `locked` is what the lock has for the engine, or for an alias with a pin of its own: the package
# and its fallbacks. The files are the ones that django_dbdev's commands read and write; what it
# checks when it reads them is not checked again here.
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

  lock =
    let
      content = read "dbdev.lock" builtins.fromJSON;
    in
    if content.lock-version or 1 == 1 then
      content
    else
      throw "django_dbdev: dbdev.lock has lock-version ${toString content.lock-version}, and this Nix library reads 1. Update the flake input of django_dbdev.";

  engines = lock.engines or { };

  packages = entry: [ entry ] ++ entry.fallbacks or [ ];

  # The rule of LockedEngine.satisfies in django_dbdev/binaries/lock.py.
  satisfies =
    entry: version: extensions:
    builtins.all (name: builtins.elem name entry.extensions) extensions
    && builtins.all (package: versions.matches version package.version) (packages entry);

  requirement =
    name: pin: locked:
    let
      version = pin.version or "";
      extensions = pin.extensions or [ ];
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
{
  # Tables that are no engine's are nobody's to ask for.
  engines = builtins.mapAttrs (
    name: _: requirement name (pins.${name} or { }) (engines.${name} or null)
  ) (engines // pins);

  # What an alias has differently; it inherits the rest.
  databases = builtins.mapAttrs (
    alias:
    builtins.mapAttrs (
      name: own:
      requirement name ((pins.${name} or { }) // own) (lock.databases.${alias}.${name} or null)
    )
  ) (pins.databases or { });
}
