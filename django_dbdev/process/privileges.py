"""As whom server programs run, when we are root.

PostgreSQL refuses to run as root, and containers run everything as root. In this order:

1. the project belongs to a normal user: the whole command becomes that user
   (:func:`as_project_owner`), so that no file of root's is left in the project;
2. a user namespace in which our own uid bears another number: the files stay root's, and
   folders such as ``/root`` stay closed;
3. an account of its own for the server, where namespaces are forbidden (Docker's default
   seccomp profile does that) but setuid is allowed; data and programs must be reachable by it.

A uid without an account, as containers give with ``--user``, has the second way only: a server
wants a name for its uid.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..exceptions import ProgramError, ServerError
from ..ownership import planted_on_the_way
from .command import Command

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
        """The account's name as the program sees it; empty for a uid without one."""
        return _name(os.geteuid() if self.kind == "direct" else self.uid) or ""

    @property
    def owner(self) -> tuple[int, int]:
        """The uid and gid that the program's files have, seen from here."""
        if self.kind == "setuid":
            return self.uid, self.gid
        return os.geteuid(), os.getegid()

    def preexec(self) -> Callable[[], None] | None:
        """What the child does between fork and exec; None where there is nothing to do."""
        if self.kind == "namespace":
            return _namespace_entry(self.uid)
        if self.kind == "setuid":
            return _setuid_entry(self.uid, self.gid, [self.gid])
        if os.getuid() != os.geteuid():
            # Acting as the project's owner: programs get the owner's uid for good.
            return _setuid_entry(os.geteuid(), os.getegid(), os.getgroups())
        return None

    def adopt(self, path: Path) -> None:
        """Give ``path`` and all below it to the account; only root can, and needs to.

        ``path`` itself comes last: while it is not the account's, the work is not done.
        """
        if os.geteuid() != 0 or (self.kind != "setuid" and path.lstat().st_uid == 0):
            return
        uid, gid = self.owner
        # By descriptors: what the account has by now, it could put a link in the place of.
        for _, folders, files, folder in os.fwalk(path):
            for name in (*folders, *files):
                os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        os.lchown(path, uid, gid)


DIRECT = Identity()


def _namespace_entry(inner: int) -> Callable[[], None]:
    """Enter a user namespace in which our uid is ``inner``.

    Everything that could import or allocate is done here, before the fork.
    """
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    unshare = getattr(libc, "unshare", None)
    if unshare is None:
        raise ProgramError("This system has no user namespaces.", status=126)
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
            try:
                os.write(descriptor, content)
            except OSError as error:
                words = f"user namespaces may not map our uid: {error.strerror}"
                raise OSError(error.errno, words) from None
            os.close(descriptor)

    return enter


def _setuid_entry(uid: int, gid: int, groups: Sequence[int]) -> Callable[[], None]:
    def enter() -> None:
        if os.geteuid() != 0:
            os.seteuid(0)
        os.setgroups(groups)
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


def choose_identity(probe: Command, *ours: Path, data: Path | None = None) -> Identity:
    """The identity for a server: one that its program really starts under.

    :param probe: the server's program, asked for something harmless.
    :param ours: folders of ours below which the server reads and writes. For an account of
        its own they are made, and opened for passing through, not for reading.
    :param data: an existing cluster. It stays with the account that owns it; ours may have to
        be given to another, by :meth:`Identity.adopt`.
    :raises ServerError: when no way works, saying what was tried.
    """
    if not needs_identity():
        return DIRECT
    ours = tuple(dict.fromkeys((*ours, *(path.resolve() for path in ours))))
    identity = DIRECT if data is None else identity_of(data)
    if identity.kind == "setuid":
        candidates = [identity]
    else:
        dedicated = dedicated_identity() if os.geteuid() == 0 else None
        candidates = [namespace_identity(), *([dedicated] if dedicated else [])]
    tried = []
    for candidate in candidates:
        obstacle = _obstacle(candidate, probe, ours)
        if obstacle is None:
            return candidate
        tried.append(f"{_describe(candidate)}: {obstacle}")
    if os.geteuid() == 0:
        who = "root"
        remedies = [
            "run this as a normal user, or give the project's folder to one",
            "or put the project, and DBDEV_STORE, where every account may enter",
        ]
    else:
        who = f"uid {os.geteuid()}, which has no account"
        remedies = [f"give uid {os.geteuid()} an account: a line in /etc/passwd"]
    listing = "".join(f"\n  - {each}" for each in tried)
    raise ServerError(
        f"The server does not run as {who}, and no other way works here:{listing}",
        hints=[
            *remedies,
            "or allow user namespaces (Docker: --security-opt seccomp=unconfined)",
        ],
    )


def _obstacle(identity: Identity, probe: Command, ours: Sequence[Path]) -> str | None:
    """Why the program does not start under the identity; None when it does."""
    if identity.kind == "setuid":
        if os.geteuid() != 0:
            return f"the data belong to it, and uid {os.geteuid()} may not act for it"
        programs = (probe.program.parent, probe.program.resolve().parent)
        groups = [identity.gid]
        for path in (*ours, *programs):
            closed = reachable_by(identity.uid, groups, path, ours)
            if closed is not None:
                return f"it may not enter {closed}"
        for path in (*ours, *programs):
            _open_way(path, ours)
    return _start_problem(identity, probe)


#: Under which identities which program was seen to start.
_seen: set[tuple[Identity, Path]] = set()


def _start_problem(identity: Identity, probe: Command) -> str | None:
    from .run import run

    if (identity, probe.program) in _seen:
        return None
    try:
        run(probe, identity=identity)
    except ProgramError as error:
        return (error.output or error.message).strip()
    _seen.add((identity, probe.program))
    return None


def _describe(identity: Identity) -> str:
    if identity.kind == "namespace":
        return "in a user namespace"
    return f"as {identity.account or f'uid {identity.uid}'}"


def _is_ours(folder: Path, ours: Sequence[Path]) -> bool:
    return any(folder.is_relative_to(root) for root in ours)


def _open_way(path: Path, ours: Sequence[Path]) -> None:
    """Let everybody pass through folders of ours; their contents keep their own modes."""
    for folder in (*reversed(path.parents), path):
        if not _is_ours(folder, ours):
            continue
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode & 0o777
        if mode & 0o011 != 0o011:
            folder.chmod(mode | 0o011)


def needs_identity() -> bool:
    """Whether programs that refuse root, or that want a named account, cannot just be run."""
    return os.geteuid() == 0 or _name(os.geteuid()) is None


def identity_of(path: Path) -> Identity:
    """The identity that existing data belongs to."""
    if not needs_identity():
        return DIRECT
    owner = path.stat()
    if owner.st_uid == os.geteuid():
        return namespace_identity()
    return Identity("setuid", owner.st_uid, owner.st_gid)


def reachable_by(
    uid: int, groups: Sequence[int], path: Path, opened: Sequence[Path] = ()
) -> Path | None:
    """The first folder on the way to ``path`` that ``uid`` may not search; None when all may be.

    :param opened: folders that are to be opened, they and what is below them.
    """
    for folder in (*reversed(path.parents), path):
        if _is_ours(folder, opened):
            continue
        try:
            status = folder.stat()
        except FileNotFoundError:
            return None
        except OSError:
            return folder
        in_group = status.st_gid in groups
        bit = 0o100 if status.st_uid == uid else 0o010 if in_group else 0o001
        if not status.st_mode & bit:
            return folder
    return None


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


@contextmanager
def acting_as(uid: int, gid: int, groups: Sequence[int]) -> Iterator[None]:
    """As root: have another's rights for a while, and no more than those.

    :raises PermissionError: where a container forbids it; nothing is changed then.
    """
    before = os.geteuid(), os.getegid(), os.getgroups()

    def go_back() -> None:
        os.seteuid(before[0])
        os.setegid(before[1])
        os.setgroups(before[2])

    try:
        os.setgroups(groups)
        os.setegid(gid)
        os.seteuid(uid)
    except OSError:
        go_back()
        raise
    try:
        yield
    finally:
        go_back()


@contextmanager
def as_project_owner(root: Path, state: Path | None = None) -> Iterator[str | None]:
    """As root in the project of a normal user: become that user for a while.

    Nothing is done where the owner has no account. Gives a warning where it has one and root
    stays root all the same.

    :param state: the folder for state, which decides where it exists: root goes on with what
        root has made. Not so where somebody else may have planted it.
    """
    if state is not None and state.exists() and planted_on_the_way(state, root) is None:
        root = state
    account = _owner(root)
    if os.geteuid() != 0 or account is None:
        yield None
        return
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    with ExitStack() as switched:
        problem = None
        try:
            switched.enter_context(acting_as(account.pw_uid, account.pw_gid, groups))
        except PermissionError:
            problem = "this container does not let root become another"
        else:
            if (closed := _unreadable()) is not None:
                problem = f"{account.pw_name} may not read {closed}"
        if problem is not None:
            switched.close()
            yield (
                f"{root} belongs to {account.pw_name}, but {problem}: what is made there now "
                "will be root's"
            )
            return
        switched.enter_context(_environment_of(account))
        yield None


def whose(path: Path) -> str:
    """For a hint, ``"/a/b belongs to root; "``: the nearest that is not ours on the way there."""
    for each in (path, *path.parents):
        try:
            uid = each.lstat().st_uid
        except OSError:
            continue
        return "" if uid == os.geteuid() else f"{each} belongs to {_name(uid) or f'uid {uid}'}; "
    return ""


def _owner(root: Path) -> pwd.struct_passwd | None:
    """The account of the normal user to whom a folder belongs."""
    try:
        uid = root.stat().st_uid
        # The overflow uid stands for owners that this container cannot name.
        return None if uid in (0, _OVERFLOW_UID) else pwd.getpwuid(uid)
    except (OSError, KeyError):
        return None


def _unreadable() -> str | None:
    """What of the Python that runs us the effective user may not read."""
    for path in (sys.executable, os.__file__, __file__):
        if not os.access(path, os.R_OK, effective_ids=True):
            return path
    return None


@contextmanager
def _environment_of(account: pwd.struct_passwd) -> Iterator[None]:
    """The environment as that user would have it: folders of root's are not for the user."""
    before = dict(os.environ)
    theirs = {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}
    try:
        for name in before:
            if name.startswith("XDG_"):
                del os.environ[name]
        os.environ.update(theirs)
        yield
    finally:
        for name in (*theirs, *(n for n in before if n.startswith("XDG_"))):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
