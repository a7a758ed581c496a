"""Pristine clusters: initialised once per toolchain and options, then cloned.

Initialising takes seconds or a good part of one, cloning its result a tenth of that. A pristine
cluster lies in the store, with the accounts and databases that the project asks for in it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ...backups.copying import copy_tree
from ...binaries.store import Store
from ...binaries.toolchain import Toolchain
from ...process import processes
from ...process.leftovers import end_servers_in
from ...process.privileges import Identity
from ...process.sockets import socket_folders
from .accounts import Account

#: The cluster's name within the folder that the store gives to build it in.
NAME = "cluster"


def key(
    toolchain: Toolchain,
    accounts: Sequence[Account],
    identity: Identity,
    *options: object,
) -> str:
    """A name for the store. Guessing a password from it is as dear as from its verifier.

    :param options: all else that a cluster depends on; for JSON.
    """
    named = sorted((a.user, a.database, _fingerprint(a.user, a.password)) for a in accounts)
    whose = [identity.kind, identity.owner[0]]
    content = json.dumps([*options, named, whose])
    return hashlib.sha256(f"{toolchain.digest}\0{content}".encode()).hexdigest()


def clone(name: str, store: Store, target: Path, build: Callable[[Path], None]) -> None:
    """Put a pristine cluster at ``target``, which must not exist.

    :param build: makes the cluster :data:`NAME` in the folder that it is given.
    """
    if not store.folder("clusters", name).is_dir():
        _end_orphans(store)
    pristine = store.ensure("clusters", name, build)
    copy_tree(pristine / NAME, target)


def _end_orphans(store: Store) -> None:
    """End servers in what killed commands were building, and remove their sockets' folders.

    The store removes the folders themselves.
    """
    for folder in (store.root / "clusters").glob(".*.new"):
        builder = folder.name.split(".")[-2]
        if builder.isdecimal() and not processes.is_alive(int(builder)):
            end_servers_in(folder)
            for sockets in socket_folders(folder):
                shutil.rmtree(sockets, ignore_errors=True)


def _fingerprint(user: str, password: str) -> str:
    """As many rounds as PostgreSQL's own SCRAM verifiers have (``scram_iterations``)."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), user.encode(), 4096).hex()
