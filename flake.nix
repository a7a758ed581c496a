{
  description = "Reproducible database servers for Django development";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      eachSystem =
        outputs:
        nixpkgs.lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
          "aarch64-darwin"
        ] (system: outputs nixpkgs.legacyPackages.${system});

      # nixpkgs' own packages for the engines; what only throws is one that it has not.
      toolchains =
        pkgs:
        let
          names = builtins.concatMap (engine: engine.attributes) (builtins.attrValues self.lib.engines);
          offered = builtins.filter (
            name: pkgs ? ${name} && (builtins.tryEval pkgs.${name}.version).success
          ) names;
        in
        nixpkgs.lib.genAttrs offered (name: pkgs.${name});
    in
    {
      lib = import ./nix;

      overlays.default = _final: prev: {
        pythonPackagesExtensions = prev.pythonPackagesExtensions ++ [
          (ps: _previous: { django-dbdev = self.lib.pythonPackage ps; })
        ];
      };

      packages = eachSystem (
        pkgs: { default = self.lib.pythonPackage pkgs.python3Packages; } // toolchains pkgs
      );

      # To work on this project: its tools come from `pip install -e '.[dev]'`.
      devShells = eachSystem (pkgs: {
        default = self.lib.mkShell {
          inherit pkgs;
          src = ./example;
          packages = [ pkgs.python3 ];
        };
        # The example alone, with this django_dbdev.
        example = self.lib.mkShell {
          inherit pkgs;
          src = ./example;
          python = pkgs.python3;
          pythonPackages = ps: [ ps.psycopg ];
        };
      });

      templates = {
        default = self.templates.postgresql;
        postgresql = {
          path = ./templates/postgresql;
          description = "A Django project with PostgreSQL";
          welcomeText = import ./templates/welcome.nix "PostgreSQL";
        };
        postgis = {
          path = ./templates/postgis;
          description = "A Django project with PostgreSQL and PostGIS";
          welcomeText = import ./templates/welcome.nix "PostgreSQL and PostGIS";
        };
        mariadb = {
          path = ./templates/mariadb;
          description = "A Django project with MariaDB";
          welcomeText = import ./templates/welcome.nix "MariaDB";
        };
      };

      flakeModules.default = import ./nix/flake-module.nix self.lib;
      devenvModules.default = import ./nix/devenv-module.nix self.lib;

      checks = eachSystem (
        pkgs:
        {
          library = import ./nix/tests.nix { inherit pkgs; };
        }
        // self.lib.checks {
          inherit pkgs;
          src = ./example;
        }
      );

      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
