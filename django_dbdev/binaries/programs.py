"""Asking programs that are there: which they are, whether they run here, what they lack."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..exceptions import ProgramError
from .engines import Engine
from .providers.base import Declined
from .systems import libc, os_release

#: Debian's and Fedora's package for libraries that programs from elsewhere want of the host.
_LIBRARY_PACKAGES = {
    "libxml2.so.2": ("libxml2", "libxml2"),
    "libxslt.so.1": ("libxslt1.1", "libxslt"),
    "libssl.so.3": ("libssl3", "openssl-libs"),
    "libcrypto.so.3": ("libssl3", "openssl-libs"),
    "libgssapi_krb5.so.2": ("libgssapi-krb5-2", "krb5-libs"),
    "libkrb5.so.3": ("libkrb5-3", "krb5-libs"),
    "libreadline.so.8": ("libreadline8", "readline"),
    "liblz4.so.1": ("liblz4-1", "lz4-libs"),
    "libzstd.so.1": ("libzstd1", "libzstd"),
    "libz.so.1": ("zlib1g", "zlib"),
    "libicuuc.so.72": ("libicu72", "libicu"),
    "libossp-uuid.so.16": ("libossp-uuid16", "uuid"),
    "libuuid.so.1": ("libuuid1", "libuuid"),
}
_LIBRARY_FOLDERS = ("/usr/lib/*-linux-gnu", "/lib/*-linux-gnu", "/usr/lib64", "/usr/lib")


def list_programs(engine: Engine, folder: Path) -> dict[str, Path]:
    """The programs in an engine's folder, by name; none where there is no such folder.

    Of one that shares folders with all the system, its own programs by the names that they
    have here, also those in the folders beside.
    """
    if not engine.other_names:
        return {name: folder / name for name in _names(folder)}
    found: dict[str, Path] = {}
    folders = [folder, *(folder.with_name(name) for name in engine.beside)]
    for each in dict.fromkeys(folders):
        there = _names(each)
        for program, others in engine.other_names.items():
            name = next((name for name in (program, *others) if name in there), None)
            if name is not None:
                found.setdefault(program, each / name)
    return found


def programs_by_prefix(engine: Engine, home: Path, prefix: Path) -> dict[str, Path]:
    """The programs of a tree, by the project's link to it; ``home`` has their ``bin``."""
    return {
        name: prefix / path.relative_to(home)
        for name, path in list_programs(engine, home / "bin").items()
        if path.is_relative_to(home)
    }


def geo_data(share: Path) -> dict[str, str]:
    """Where GDAL and PROJ find their data, of those that are in the folder ``share``."""
    places = (("GDAL_DATA", "gdal"), ("PROJ_DATA", "proj"), ("PROJ_LIB", "proj"))
    return {name: str(share / place) for name, place in places if (share / place).is_dir()}


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def require_programs(engine: Engine, programs: Mapping[str, Path], where: object) -> None:
    """
    :raises Declined: when one that every installation has is missing or cannot be run.
    """
    missing = [
        name
        for name in engine.required
        if name not in programs or not os.access(programs[name], os.X_OK)
    ]
    if missing:
        raise Declined(f"{where} has no {', '.join(missing)}")


def ask_version(engine: Engine, server: Path, environment: Mapping[str, str]) -> str:
    """The version of an installation, such as "16.15", told by its server program.

    :raises Declined: when the program cannot be run, or tells no version.
    """
    said = _say(server, engine.version_args, environment)
    version = engine.parse_version(said)
    if version is None:
        line = (said.strip().splitlines() or [""])[0]
        raise Declined(f"{server} is not {engine.title}: it says {line!r}")
    return version


def prove(engine: Engine, programs: Mapping[str, Path], environment: Mapping[str, str]) -> None:
    """Run the programs, to see that they load on this machine and find what they need.

    :raises Declined: naming what is missing, with the remedy as a hint.
    """
    require_programs(engine, programs, programs[engine.server].parent)
    for name in engine.proven:
        _say(programs[name], engine.version_args, environment)
    _prove_time_zones(engine, programs, environment)


def _prove_time_zones(
    engine: Engine, programs: Mapping[str, Path], environment: Mapping[str, str]
) -> None:
    """Django sets the time zone when it connects, and some builds read the system's list."""
    if engine.config_program not in programs:
        return
    try:
        said = _say(programs[engine.config_program], ("--configure",), environment)
    except Declined:
        return
    found = re.search(r"--with-system-tzdata=([^'\s]+)", said)
    if found and not Path(found.group(1), "UTC").exists():
        raise Declined(
            f"it reads the system's time zones, and {found.group(1)} does not hold them",
            hints=[_install("tzdata", "tzdata") or "install the time zone database (tzdata)"],
        )


def require_extensions(
    engine: Engine,
    programs: Mapping[str, Path],
    environment: Mapping[str, str],
    names: Iterable[str],
    sharedir: Path | None = None,
) -> None:
    """
    :param sharedir: where the engine's shared files are, if known; else it is asked.
    :raises Declined: naming the extensions that the installation does not have.
    """
    wanted = list(names)
    if not wanted or not engine.extension_file:
        return
    if sharedir is None and engine.config_program not in programs:
        raise Declined(
            f"it has no {engine.config_program} that could tell whether it has {', '.join(wanted)}"
        )
    features = [name for name in wanted if name in engine.features]
    # Of a package without that program it is known which features it brings.
    if features and engine.config_program in programs:
        config = programs[engine.config_program]
        configured = _say(config, ("--configure",), environment)
        version = _say(config, ("--version",), environment)
        if missing := [n for n in features if not _is_built_in(engine, n, configured, version)]:
            raise lacks(missing)
    if sharedir is None:
        said = _say(programs[engine.config_program], ("--sharedir",), environment)
        sharedir = Path(said.strip())
    files = {n: engine.extension_file.format(n) for n in wanted if n not in engine.features}
    if missing := [name for name, file in files.items() if not (sharedir / file).is_file()]:
        raise lacks(missing)


def _is_built_in(engine: Engine, feature: str, configured: str, version: str) -> bool:
    """
    :param configured: the options of configure or meson, as ``pg_config --configure`` has them.
    :param version: what it says of the version: "PostgreSQL 18.6".
    """
    if re.search(rf"--without-{feature}\b|-D{feature}=disabled", configured):
        return False
    if re.search(rf"--with-{feature}\b|-D{feature}=enabled", configured):
        return True
    major = re.search(r"\d+", version)
    return major is not None and int(major.group()) >= engine.features[feature]


def lacks(extensions: Sequence[str]) -> Declined:
    plural = "extensions" if len(extensions) > 1 else "extension"
    return Declined(f"it lacks the {plural} {', '.join(extensions)}", everywhere=True)


def prove_extensions(
    engine: Engine,
    server: Path,
    environment: Mapping[str, str],
    home: Path,
    names: Iterable[str],
) -> None:
    """See that the libraries of extensions find the libraries that they need.

    :param home: the folder with bin, lib and share.
    :raises Declined: naming the first that is missing. Only glibc's loader can be asked.
    """
    if not libc().startswith("glibc"):
        return
    for name in names:
        if name in engine.features:
            continue
        control = (home / "share" / engine.extension_file.format(name)).read_text("utf-8")
        module = re.search(r"^module_pathname\s*=\s*'\$libdir/([^/']+)'", control, re.MULTILINE)
        library = home / "lib" / f"{module.group(1)}.so" if module else None
        if library is None or not library.is_file():
            continue
        # The loader lists what it would load and runs nothing. It splits LD_PRELOAD at blanks,
        # so the folder must not stand in it.
        asked = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_PRELOAD": f"./{library.name}"}
        said = _say(server, engine.version_args, {**environment, **asked}, cwd=library.parent)
        if missing := re.search(r"^\s*(\S+) => not found", said, re.MULTILINE):
            raise _missing_library(f"the extension {name}", missing.group(1))


def _say(
    program: Path,
    args: Iterable[str],
    environment: Mapping[str, str],
    cwd: Path | None = None,
) -> str:
    """What a program says when it runs well."""
    from ..process.command import Command
    from ..process.run import run

    command = Command(program, tuple(args), {"LC_ALL": "C", **environment}, cwd=cwd)
    try:
        completed = run(command, check=False)
    except ProgramError as error:
        raise Declined(_not_started(program, error)) from None
    if completed.status != 0:
        raise loader_problem(program.name, completed.errors or completed.output, completed.status)
    return completed.output


def _not_started(program: Path, error: ProgramError) -> str:
    if "No such file" in error.output and program.exists():
        # What the kernel does not find is the dynamic loader that the program names.
        return (
            f"{program.name} names a dynamic loader that this system does not have: it was "
            "built for another C library, or this is NixOS"
        )
    reason = error.output or error.message
    return f"{program.name} cannot be run: {reason}"


def loader_problem(program: str, said: str, status: int) -> Declined:
    """Why a program did not load, in plain words, from what the dynamic loader said."""
    if found := re.search(r"(?:shared libraries: |shared library )([^\s:]+)", said):
        return _missing_library(program, found.group(1))
    if found := re.search(r"Library not loaded: (\S+)", said):
        return Declined(f"{program} needs {found.group(1)}, and this system has none")
    if found := re.search(r"version [`'](GLIBC\w*_[\d.]+)' not found", said):
        needed = found.group(1).replace("_", " ")
        return Declined(f"{program} needs {needed}, and this system has {libc() or 'another libc'}")
    how = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return Declined(f"{program} {how}{f': {lines[-1]}' if lines else ''}")


def _missing_library(program: str, library: str) -> Declined:
    others = sorted(_same_library(library))
    instead = f"; it has {', '.join(others)} instead, which does not fit" if others else ""
    remedy = None if others else _install(*_LIBRARY_PACKAGES.get(library, ("", "")))
    return Declined(
        f"{program} needs {library}, and this system has none{instead}",
        hints=[remedy] if remedy else [],
    )


def _same_library(library: str) -> set[str]:
    """Other versions of a library that the system has, such as libxml2.so.16 for libxml2.so.2."""
    from glob import glob

    stem = library.partition(".so")[0]
    found = (path for folder in _LIBRARY_FOLDERS for path in glob(f"{folder}/{stem}.so.*"))
    # Full versions such as libxml2.so.16.0.5 are files behind the name that programs ask for.
    return {n for path in found if re.fullmatch(r".+\.so\.\d+", n := os.path.basename(path))}


def _install(debian: str, fedora: str) -> str | None:
    """The command that installs a package on this system; None for systems not known here."""
    found = re.findall(r"^ID(?:_LIKE)?=(.*)$", os_release(), re.MULTILINE)
    names = " ".join(found).replace('"', "").split()
    if debian and {"debian", "ubuntu"} & set(names):
        return f"apt-get install {debian}"
    if fedora and {"fedora", "rhel", "centos"} & set(names):
        return f"dnf install {fedora}"
    return None


def host_key() -> str:
    """Changes when the system does, and with it perhaps which programs load. Hexadecimal."""
    text = f"{os.uname().machine}\0{os.uname().sysname}\0{libc()}\0{os_release()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def installation_digest(programs: Mapping[str, Path]) -> str:
    """Names an installation that is not ours, without reading it. Hexadecimal.

    It changes when a program is replaced: by an upgrade of the system, for example.
    """
    lines = []
    for name, path in sorted(programs.items()):
        status = path.stat()
        lines.append(f"{name}\0{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
