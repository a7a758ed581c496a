# For devenv:
#
#     { inputs, ... }:
#     {
#       imports = [ inputs.django_dbdev.devenvModules.default ];
#       dbdev.src = ./.;
#     }
dbdev:
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
  options.dbdev = import ./options.nix { inherit dbdev lib arguments; };

  config = lib.mkIf (cfg.src != null) {
    packages = map (one: one.package) (lib.attrValues cfg.programs);
    env = cfg.environment;
  };
}
