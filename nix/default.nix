# The library: from a project's pyproject.toml and dbdev.lock to its programs and its shell.
#
#     django_dbdev.lib.mkShell { inherit pkgs; src = ./.; }
let
  engines = {
    postgresql = import ./postgresql.nix;
    mariadb = import ./mariadb.nix;
    mysql = import ./mysql.nix;
  };

  isPackage = given: given ? outPath || given ? type;

  # A package that is passed: for each engine by its name, or one for the only engine.
  packageFor =
    requirements: package: name:
    if package == null || !(isPackage package) then
      (if package == null then { } else package).${name} or null
    else if builtins.length (builtins.attrNames requirements) == 1 then
      package
    else
      throw "django_dbdev: this project has several engines. Say which one the package is for: { package.${name} = …; }.";

  # What a project asks for, by engine, and what an alias has differently; engines of custom
  # backends are their own affair, and sqlite has no programs.
  requirements =
    src:
    let
      asked = import ./project.nix src;
      known = builtins.intersectAttrs engines;
    in
    {
      engines = known asked.engines;
      databases = builtins.mapAttrs (_: known) asked.databases;
    };

  # { postgresql = { package, provider, version, bindir, … }; … }
  programs =
    {
      pkgs,
      src,
      package ? null,
    }:
    let
      asked = (requirements src).engines;
    in
    builtins.mapAttrs (
      name: requirement:
      import ./programs.nix {
        inherit pkgs requirement;
        engine = engines.${name};
        package = packageFor asked package name;
      }
    ) asked;

  # The same of aliases with a pin of their own, by "ALIAS.ENGINE"; a package is passed for one by
  # that name.
  programsOfAliases =
    {
      pkgs,
      src,
      package ? null,
    }:
    builtins.listToAttrs (
      builtins.concatLists (
        builtins.attrValues (
          builtins.mapAttrs (
            alias: asked:
            map (
              name:
              let
                argument = "${alias}.${name}";
              in
              {
                name = argument;
                value = import ./programs.nix {
                  inherit pkgs alias;
                  engine = engines.${name};
                  requirement = asked.${name};
                  package = if isPackage package then null else package.${argument} or null;
                };
              }
            ) (builtins.attrNames asked)
          ) (requirements src).databases
        )
      )
    );

  # What tells django_dbdev where the programs are: absolute paths in the store, and nothing that
  # depends on where the project lies.
  environmentOf =
    found:
    builtins.foldl' (
      all: one:
      all
      // one.environment
      // {
        "DBDEV_${one.variable}_BINDIR${one.suffix}" = one.bindir;
        "DBDEV_${one.variable}_VERSION${one.suffix}" = one.version;
        "DBDEV_${one.variable}_PROVIDER${one.suffix}" = one.provider;
      }
    ) { } (builtins.attrValues found);

  environment = arguments: environmentOf (programs arguments // programsOfAliases arguments);

  # django_dbdev for a set of Python packages such as pkgs.python3Packages.
  pythonPackage = import ./python-package.nix;
in
{
  inherit
    engines
    environment
    programs
    programsOfAliases
    pythonPackage
    ;

  # A check for each engine of a project: it runs the very programs that the shell would have.
  checks =
    {
      pkgs,
      src,
      package ? null,
    }@arguments:
    let
      found = programs arguments;
    in
    builtins.mapAttrs (
      name: requirement:
      engines.${name}.check {
        inherit pkgs;
        inherit (requirement) extensions;
        programs = found.${name};
      }
    ) (requirements src).engines;

  # pkgs.mkShell with a project's programs on PATH and in the environment. Everything that is not
  # named here is handed on to pkgs.mkShell.
  #
  # `python`, such as pkgs.python3, adds that Python with django_dbdev and `pythonPackages`;
  # without it the project brings its own, in a virtual environment for example.
  mkShell =
    {
      pkgs,
      src,
      package ? null,
      python ? null,
      pythonPackages ? (_: [ ]),
      packages ? [ ],
      ...
    }@arguments:
    let
      own = { inherit pkgs src package; };
    in
    pkgs.mkShell (
      environment own
      // builtins.removeAttrs arguments [
        "pkgs"
        "src"
        "package"
        "python"
        "pythonPackages"
      ]
      // {
        packages =
          # Those of aliases are not on PATH: the engine's own would not be found behind them.
          map (one: one.package) (builtins.attrValues (programs own))
          ++ (
            if python == null then
              [ ]
            else
              [ (python.withPackages (ps: [ (pythonPackage ps) ] ++ pythonPackages ps)) ]
          )
          ++ packages;
      }
    );
}
