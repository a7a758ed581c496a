# Runs a PostgreSQL: its version, and a server that answers and makes the extensions.
{
  pkgs,
  programs,
  extensions ? [ ],
}:
pkgs.runCommand "django-dbdev-postgresql-${programs.version}"
  {
    nativeBuildInputs = [ programs.package ];
  }
  ''
    postgres --version | grep -F " ${programs.version}"
    # PostgreSQL refuses root, which only a Nix without build users builds as.
    if [ "$(id -u)" -ne 0 ]; then
      initdb --no-sync --no-locale --encoding=UTF8 --auth=trust --username=postgres -D "$PWD/data" >/dev/null
      # The folder of a socket has room for 107 bytes; the build's own may be deeper.
      socket=$(mktemp -d "''${TMPDIR:-/tmp}/s.XXXXXX")
      pg_ctl -w -D "$PWD/data" -l "$PWD/log" -o "-k $socket -c listen_addresses=" start >/dev/null ||
        { cat "$PWD/log"; exit 1; }
      trap 'pg_ctl -D "$PWD/data" -m immediate stop >/dev/null' EXIT
      say() { psql -X -A -t -v ON_ERROR_STOP=1 -h "$socket" -U postgres -c "$1" postgres; }
      say 'SHOW server_version' | grep -F "${programs.version}"
      for extension in ${toString (builtins.filter (name: name != "icu") extensions)}; do
        say "CREATE EXTENSION \"$extension\" CASCADE"
      done
    fi
    echo "${programs.version}" >"$out"
  ''
