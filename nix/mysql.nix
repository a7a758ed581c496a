# MySQL. Its check, beside this file, runs it.
{
  name = "mysql";
  # Of the environment variables: DBDEV_MYSQL_BINDIR and its like.
  variable = "MYSQL";
  title = "MySQL";

  attributes = [ "mysql84" ];

  missing = _package: names: names;
  extend = package: _names: package;
  environment = _pkgs: _names: { };
  wheels = { };

  check = import ./mysql-check.nix;
}
