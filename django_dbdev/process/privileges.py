"""As whom server programs run, when we are root.

PostgreSQL refuses to run as root, and containers run everything as root. In this order:

1. the project belongs to a normal user: the whole command becomes that user
   (:func:`as_project_owner`), so that no file of root's is left in the project;
2. a user namespace in which our own uid bears another number: the files stay root's, and
   folders such as ``/root`` stay closed;
3. a uid of its own for the server, where namespaces are forbidden (Docker's default seccomp
   profile does that) but setuid is allowed; data and programs must be reachable by it.
"""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..exceptions import ProgramError, ServerError

_CLONE_NEWUSER = 0x10000000
#: The kernel shows every uid that a namespace does not map as this one.
_OVERFLOW_UID = 65534


@dataclass(frozen=True)
class Identity:
    """As whom a program runs.

    :param kind: "direct", "setuid" or "namespace".
    :param uid: the uid that the program sees as its own; files are ours but for "setuid".
    """

    kind: str = "direct"
    uid: int = -1
    gid: int = -1

    @property
    def account(self) -> str:
        """The account's name as the program sees it."""
        return _name(os.geteuid() if self.kind == "direct" else self.uid) or ""

    def preexec(self) -> Callable[[], None] | None:
        """What the child does between fork and exec; None where there is nothing to do."""
        if self.kind == "namespace":
            return _namespace_entry(self.uid)
        if self.kind == "setuid":
            return _setuid_entry(self.uid, self.gid)
        if os.getuid() != os.geteuid():
            # Acting as the project's owner: programs get the owner's uid for good.
            return _setuid_entry(os.geteuid(), os.getegid())
        return None

    def adopt(self, path: Path) -> None:
        """Give ``path`` and all below it to the account, where it is not ours already."""
        if self.kind != "setuid":
            return
        os.lchown(path, self.uid, self.gid)
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.lchown(os.path.join(folder, name), self.uid, self.gid)


DIRECT = Identity()


def _namespace_entry(inner: int) -> Callable[[], None]:
    """Enter a user namespace in which our uid is ``inner``.

    Everything that could import or allocate is done here, before the fork.
    """
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    unshare = libc.unshare
    unshare.argtypes = [ctypes.c_int]
    maps = (
        (b"/proc/self/setgroups", b"deny"),
        (b"/proc/self/uid_map", f"{inner} {outer_uid} 1".encode()),
        (b"/proc/self/gid_map", f"{inner} {outer_gid} 1".encode()),
    )

    def enter() -> None:
        if unshare(_CLONE_NEWUSER) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"user namespaces are not allowed: {os.strerror(error)}")
        for file, content in maps:
            descriptor = os.open(file, os.O_WRONLY)
            os.write(descriptor, content)
            os.close(descriptor)

    return enter


def _setuid_entry(uid: int, gid: int) -> Callable[[], None]:
    def enter() -> None:
        if os.geteuid() != 0:
            os.seteuid(0)
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)

    return enter


def namespace_identity() -> Identity:
    """A namespace identity whose uid has a name and is not the kernel's overflow uid.

    A process outside the namespace looks like the overflow uid to a server inside it, and
    must not look like the server's own account.
    """
    accounts = sorted(pwd.getpwall(), key=lambda account: account.pw_uid)
    named = (a.pw_uid for a in accounts if a.pw_uid not in (0, _OVERFLOW_UID))
    inner = next(named, _OVERFLOW_UID)
    return Identity("namespace", inner, inner)


def dedicated_identity() -> Identity | None:
    """An existing account for the server alone: ``postgres`` or ``nobody``."""
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        if account.pw_uid != 0:
            return Identity("setuid", account.pw_uid, account.pw_gid)
    return None


def choose_identity(program: Path, *ways: Path) -> Identity:
    """The identity for new data: what ``program`` really starts under.

    :param ways: folders below which the server reads and writes. For an account of its own
        they are opened for passing through, not for reading; what is above them must be open.
    :raises ServerError: when no way works, saying what was tried.
    """
    if not needs_identity():
        return DIRECT
    from .command import Command
    from .run import run

    probe = Command(program, ("--version",))
    tried = []
    candidates = [namespace_identity()]
    if os.geteuid() == 0 and (dedicated := dedicated_identity()):
        candidates.append(dedicated)
    for identity in candidates:
        if identity.kind == "setuid":
            for way in ways:
                _open_way(way)
            closed = _first_closed(identity, *ways, program.resolve().parent)
            if closed is not None:
                tried.append(f"as {identity.account}: it may not enter {closed}")
                continue
        try:
            run(probe, identity=identity)
        except ProgramError as error:
            tried.append(f"{_describe(identity)}: {error.output or error.message}")
            continue
        return identity
    who = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}, which has no account"
    listing = "".join(f"\n  - {each}" for each in tried)
    raise ServerError(
        f"PostgreSQL does not run as {who}, and no other way works here:{listing}",
        hints=[
            "run this as a normal user, or give the project's folder to one",
            "or put the project and DBDEV_STORE where every account may enter",
            "or allow user namespaces (Docker: --security-opt seccomp=unconfined)",
        ],
    )


def _describe(identity: Identity) -> str:
    return "in a user namespace" if identity.kind == "namespace" else f"as {identity.account}"


def _first_closed(identity: Identity, *paths: Path) -> Path | None:
    for path in paths:
        closed = reachable_by(identity.uid, identity.gid, path)
        if closed is not None:
            return closed
    return None


def _open_way(folder: Path) -> None:
    """Let everybody pass through a folder of ours; its contents keep their own modes."""
    mode = folder.stat().st_mode & 0o777
    if mode & 0o011 != 0o011:
        folder.chmod(mode | 0o011)


def needs_identity() -> bool:
    """Whether programs that refuse root, or that want a named account, cannot just be run."""
    return os.geteuid() == 0 or _name(os.geteuid()) is None


def identity_of(path: Path) -> Identity:
    """The identity that owns existing data."""
    if not needs_identity():
        return DIRECT
    owner = path.stat()
    if owner.st_uid == os.geteuid():
        return namespace_identity()
    return Identity("setuid", owner.st_uid, owner.st_gid)


def reachable_by(uid: int, gid: int, path: Path) -> Path | None:
    """The first folder on the way to ``path`` that ``uid`` may not search; None when all may be."""
    for folder in (*reversed(path.parents), path):
        try:
            status = folder.stat()
        except OSError:
            return folder
        bit = 0o100 if status.st_uid == uid else 0o010 if status.st_gid == gid else 0o001
        if not status.st_mode & bit:
            return folder
    return None


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


@contextmanager
def as_project_owner(root: Path) -> Iterator[None]:
    """As root in the project of a normal user: become that user for a while.

    Nothing is done where the owner has no account, or cannot read the Python that runs us.
    """
    try:
        owner = root.stat()
        account = pwd.getpwuid(owner.st_uid)
    except (OSError, KeyError):
        yield
        return
    ours = Path(__file__).resolve()
    if (
        os.geteuid() != 0
        or owner.st_uid == 0
        or reachable_by(account.pw_uid, account.pw_gid, ours.parent) is not None
    ):
        yield
        return
    groups, home = os.getgroups(), os.environ.get("HOME")
    caches = {name: os.environ.pop(name, None) for name in ("XDG_CACHE_HOME", "XDG_RUNTIME_DIR")}
    os.setgroups(os.getgrouplist(account.pw_name, account.pw_gid))
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    os.environ["HOME"] = account.pw_dir
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        for name, value in {**caches, "HOME": home}.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
