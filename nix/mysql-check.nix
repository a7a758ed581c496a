# Runs a MariaDB or MySQL far enough to tell its version, without the host's option files.
{
  pkgs,
  programs,
  extensions ? [ ],
}:
pkgs.runCommand "django-dbdev-${programs.name}-${programs.version}"
  {
    nativeBuildInputs = [ programs.package ];
  }
  ''
    ${if programs.name == "mariadb" then "mariadbd" else "mysqld"} --no-defaults --version |
      grep -F "${programs.version}"
    ${if programs.name == "mariadb" then "mariadb" else "mysql"} --no-defaults --version
    echo "${programs.version}" >"$out"
  ''
