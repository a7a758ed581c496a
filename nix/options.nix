# The options that the modules for flake-parts and devenv share.
{
  dbdev,
  lib,
  arguments,
}:
{
  src = lib.mkOption {
    type = lib.types.nullOr lib.types.path;
    default = null;
    description = "The folder with the project's pyproject.toml and dbdev.lock.";
  };
  package = lib.mkOption {
    type = lib.types.nullOr (lib.types.either lib.types.package (lib.types.attrsOf lib.types.package));
    default = null;
    example = lib.literalExpression "pkgs.postgresql_16";
    description = "A package in place of the one that is found; by engine, where there are several, and for an alias with a pin of its own by \"ALIAS.ENGINE\".";
  };
  programs = lib.mkOption {
    type = lib.types.attrsOf lib.types.raw;
    readOnly = true;
    default = dbdev.programs arguments;
    defaultText = lib.literalMD "what the pins and the lock give";
    description = "By engine: package, version, provider and bindir.";
  };
  environment = lib.mkOption {
    type = lib.types.attrsOf lib.types.str;
    readOnly = true;
    default = dbdev.environment arguments;
    defaultText = lib.literalMD "what the pins and the lock give";
    description = "The environment variables that tell django_dbdev where the programs are.";
  };
}
