"""What killed builders of pristine clusters leave."""

from __future__ import annotations

import subprocess
from pathlib import Path

from django_dbdev.backends.server import pristine
from django_dbdev.binaries.store import Store
from django_dbdev.process.sockets import make_private, socket_folders


def test_the_folder_of_a_killed_builders_socket_goes(tmp_path: Path) -> None:
    """It is below /tmp where the store lies deep."""
    store = Store(tmp_path / ("deep" * 25) / "store")
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = store.root / "clusters" / f".key.{ended.pid}.new"
    left.mkdir(parents=True)
    sockets = socket_folders(left)[-1]
    make_private(sockets)

    def build(folder: Path) -> None:
        (folder / pristine.NAME).mkdir(parents=True)

    pristine.clone("other", store, tmp_path / "cluster", build)
    assert not sockets.exists()
    assert not left.exists()
