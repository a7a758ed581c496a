# MariaDB. Its check, beside this file, runs it.
{
  name = "mariadb";
  # Of the environment variables: DBDEV_MARIADB_BINDIR and its like.
  variable = "MARIADB";
  title = "MariaDB";

  attributes = [
    "mariadb_118"
    "mariadb_114"
    "mariadb_1011"
    "mariadb_106"
  ];

  # MariaDB's plugins are not extensions of the pin's kind.
  missing = _package: names: names;
  extend = package: _names: package;
  environment = _pkgs: _names: { };

  # No package index carries it; what the lock names is the host's packages.
  wheels = { };

  check = import ./mysql-check.nix;
}
