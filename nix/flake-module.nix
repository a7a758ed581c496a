# For flake-parts:
#
#     imports = [ inputs.django_dbdev.flakeModules.default ];
#     perSystem = { pkgs, ... }: {
#       dbdev = { src = ./.; python = pkgs.python3; };
#     };
#
# gives devShells.default and a check for each engine. What is built on it finds the programs in
# config.dbdev.programs and the environment in config.dbdev.environment.
dbdev:
{ flake-parts-lib, ... }:
{
  options.perSystem = flake-parts-lib.mkPerSystemOption (
    {
      config,
      lib,
      pkgs,
      ...
    }:
    let
      cfg = config.dbdev;
      arguments = {
        inherit pkgs;
        inherit (cfg) src package;
      };
    in
    {
      options.dbdev = import ./options.nix { inherit dbdev lib arguments; } // {
        python = lib.mkOption {
          type = lib.types.nullOr lib.types.package;
          default = null;
          description = "A Python that gets django_dbdev; without it the project brings its own.";
        };
        pythonPackages = lib.mkOption {
          type = lib.types.functionTo (lib.types.listOf lib.types.package);
          default = _: [ ];
          defaultText = lib.literalExpression "ps: [ ]";
          description = "More packages for that Python.";
        };
        packages = lib.mkOption {
          type = lib.types.listOf lib.types.package;
          default = [ ];
          description = "More programs for the shell.";
        };
      };

      config = lib.mkIf (cfg.src != null) {
        devShells.default = lib.mkDefault (
          dbdev.mkShell (
            arguments
            // {
              inherit (cfg) python pythonPackages packages;
            }
          )
        );
        checks = lib.mapAttrs' (name: lib.nameValuePair "dbdev-${name}") (dbdev.checks arguments);
      };
    }
  );
}
