# The programs of one engine for a project. In this order:
#
# 1. the package that the caller passes,
# 2. nixpkgs' own, where its version is the one that is locked (without a lock: the newest that
#    the pin allows),
# 3. the very file that the lock names, so that Nix and pip users run the same bytes.
#
# What cannot be met fails at evaluation, and says what can be done.
{
  pkgs,
  engine,
  requirement,
  package ? null,
  # Of a pin of its own.
  alias ? null,
}:
let
  argument = "mkShell { package.${
    if alias == null then engine.name else builtins.toJSON "${alias}.${engine.name}"
  } = …; }";

  # Letters and digits, the letters capital, and "_" in the place of anything else.
  inVariable =
    text:
    let
      small = letters "abcdefghijklmnopqrstuvwxyz";
      capital = letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
      plain = map (c: if builtins.match "[A-Za-z0-9]" c == null then "_" else c) (letters text);
    in
    builtins.replaceStrings small capital (builtins.concatStringsSep "" plain);

  letters = text: builtins.genList (i: builtins.substring i 1 text) (builtins.stringLength text);

  versions = import ./versions.nix;
  inherit (pkgs.stdenv.hostPlatform) system;
  inherit (requirement) extensions locked;

  fits =
    version:
    versions.matches requirement.version version
    && (locked == null || builtins.any (entry: versions.same entry.version version) locked);

  wanted =
    if locked != null then
      "dbdev.lock has ${engine.title} ${(builtins.head locked).version}"
    else
      "pyproject.toml pins ${engine.title} ${requirement.version}";

  # What nixpkgs has, the newest first. An attribute that only throws is one that it has not.
  offered = builtins.filter (candidate: candidate.version != null) (
    map (attribute: {
      inherit attribute;
      version =
        let
          asked = builtins.tryEval pkgs.${attribute}.version;
        in
        if pkgs ? ${attribute} && asked.success then asked.value else null;
    }) engine.attributes
  );

  # Files of the lock that Nix can use on this system.
  files = builtins.filter (
    entry: engine.wheels ? ${entry.provider} && entry.systems ? ${system}
  ) (if locked == null then [ ] else locked);

  # With the extensions; the final package is what is asked for its version.
  extended =
    base: origin:
    let
      missing = engine.missing base extensions;
      final = engine.extend base extensions;
    in
    if missing != [ ] then
      throw "django_dbdev: pyproject.toml asks for ${engine.title} with ${builtins.concatStringsSep ", " missing}, and ${origin} has no such extension. Pass a package that has it: ${argument}."
    else if !fits final.version then
      throw "django_dbdev: ${wanted}, and ${origin} with its extensions is ${final.version}."
    else
      final;

  passed =
    if !(package ? version) then
      throw "django_dbdev: the package that is passed for ${engine.name} does not tell its version."
    else if !fits package.version then
      throw "django_dbdev: ${wanted}, and the package that is passed is ${package.version}. Pass another, or change the pin and run `python manage.py dbdev_lock`."
    else
      extended package "the package that is passed";

  found = builtins.filter (candidate: fits candidate.version) offered;
  nixpkgs = builtins.head found;
  file = builtins.head files;

  nothing = throw (
    "django_dbdev: ${wanted}${
      if locked == null then "" else " from ${(builtins.head locked).provider}"
    }, and neither nixpkgs (${
      if offered == [ ] then
        "nothing"
      else
        builtins.concatStringsSep ", " (map (c: "${c.attribute} is ${c.version}") offered)
    }) nor a file of the lock for ${system} that Nix can use has it. "
    + "What can be done: pin one of those and run `python manage.py dbdev_lock`, take a revision of nixpkgs that has it, or pass a package: ${argument}."
  );

  chosen =
    if package != null then
      {
        provider = "package";
        package = passed;
      }
    else if found != [ ] && (files == [ ] || engine.missing pkgs.${nixpkgs.attribute} extensions == [ ]) then
      {
        provider = "nixpkgs";
        package = extended pkgs.${nixpkgs.attribute} nixpkgs.attribute;
      }
    else if files != [ ] then
      {
        inherit (file) provider;
        package = engine.wheels.${file.provider} {
          inherit pkgs extensions;
          entry = file;
          file = file.systems.${system};
        };
      }
    else
      nothing;
in
chosen
// {
  inherit (chosen.package) version;
  inherit (engine) name variable;
  # As Engine.suffix_of in django_dbdev/binaries/engines.py.
  suffix = if alias == null then "" else "_${inVariable alias}";
  bindir = "${chosen.package}/bin";
  environment = engine.environment pkgs extensions;
}
