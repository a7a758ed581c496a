{
  description = "A Django project with MariaDB";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    django_dbdev.url = "github:appressoas/django_dbdev";
    django_dbdev.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { nixpkgs, django_dbdev, ... }:
    {
      devShells =
        nixpkgs.lib.genAttrs
          [
            "x86_64-linux"
            "aarch64-linux"
            "aarch64-darwin"
          ]
          (
            system:
            let
              pkgs = nixpkgs.legacyPackages.${system};
            in
            {
              default = django_dbdev.lib.mkShell {
                inherit pkgs;
                src = ./.;
                python = pkgs.python3;
                pythonPackages = ps: [ ps.mysqlclient ];
              };
            }
          );
    };
}
