"""dbdev_store: what is there, who uses it, and what goes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import Project, ProjectFactory


@pytest.fixture
def own_store(store: Path, tmp_path: Path, new_project: ProjectFactory) -> Project:
    """A project whose store is its own, with copies of the programs: these tests spoil them."""
    own = tmp_path / "own-store"
    project = new_project(store=own)
    new_project("filler").manage("dbdev_init").ok()
    lock = json.loads((tmp_path / "filler" / "dbdev.lock").read_text())
    shutil.copy(tmp_path / "filler" / "dbdev.lock", project.root)
    entry = lock["engines"]["postgresql"]
    for package in (entry, *entry.get("fallbacks", [])):
        for file in package["systems"].values():
            tree = store / "trees" / file["sha256"]
            if tree.is_dir():
                shutil.copytree(tree, own / "trees" / tree.name, symlinks=True)
                shutil.copy(f"{tree}.json", own / "trees")
    project.manage("dbdev_init", "--offline").ok()
    project.manage("dbdev_stopserver").ok()
    return project


def listed(project: Project, kind: str = "trees") -> list[dict[str, Any]]:
    content = json.loads(project.manage("dbdev_store", "list", "--format", "json").ok().out)
    return [item for item in content if item["kind"] == kind]


def age(project: Project, days: float) -> None:
    """Have everything in the store unused for so long."""
    for folder in (*project.store.glob("trees/*/"), *project.store.glob("clusters/*/")):
        then = folder.stat().st_mtime - days * 86400
        os.utime(folder, (then, then))


def test_what_no_project_uses_goes(own_store: Project) -> None:
    assert any(item["used_by"] == [str(own_store.root)] for item in listed(own_store))
    assert str(own_store.root) in own_store.manage("dbdev_store", "list").ok().out
    age(own_store, 1)
    used = [item["key"] for item in listed(own_store) if item["used_by"]]
    own_store.manage("dbdev_store", "prune", "--dry-run").ok()
    own_store.manage("dbdev_store", "prune").ok()
    # Used ones stay, and so do clusters that were cloned lately.
    assert [item["key"] for item in listed(own_store)] == used
    assert len(listed(own_store, "clusters")) == 1
    own_store.manage("dbdev_startserver", "--verbosity", "0").ok()
    own_store.manage("dbdev_stopserver").ok()
    # A project that is gone uses nothing, and idle clusters go.
    shutil.rmtree(own_store.tempdata)
    age(own_store, 30)
    said = own_store.manage("dbdev_store", "prune").ok().out
    assert "pristine cluster" in said
    assert listed(own_store) == listed(own_store, "clusters") == []
    assert not list(own_store.store.glob("projects/*"))
    assert not list(own_store.store.glob("*/.*"))


def test_what_a_project_has_left_behind_goes(own_store: Project) -> None:
    """Its prefix still leads to an older version, which its lock names no more."""
    (used,) = [item for item in listed(own_store) if item["used_by"]]
    trees = own_store.store / "trees"
    old = trees / ("0" * 64)
    (old / "bin").mkdir(parents=True)
    # Stands for a server that runs until it is restarted.
    shutil.copy(shutil.which("sleep") or "", old / "bin" / "postgres")
    record = json.loads((trees / f"{used['key']}.json").read_text())
    (trees / f"{old.name}.json").write_text(json.dumps({**record, "version": "18.3"}))
    link = own_store.tempdata / "prefix" / "postgresql-18.3"
    link.symlink_to(old)
    age(own_store, 1)
    with subprocess.Popen([link / "bin" / "postgres", "60"]) as running:
        try:
            own_store.manage("dbdev_store", "prune").ok()
            assert old.is_dir()
        finally:
            running.kill()
    said = own_store.manage("dbdev_store", "prune", "--dry-run").ok().out
    assert "1 folders" in said
    # A damaged lock names nothing, and proves nothing either.
    lock = own_store.root / "dbdev.lock"
    whole = lock.read_text()
    lock.write_text(whole[:-9])
    own_store.manage("dbdev_store", "prune").ok()
    assert old.is_dir()
    lock.write_text(whole)
    own_store.manage("dbdev_store", "prune").ok()
    assert not old.exists()
    assert not link.is_symlink()
    assert [item["key"] for item in listed(own_store)] == [used["key"]]
    own_store.manage("dbdev_startserver").ok()
    own_store.manage("dbdev_stopserver").ok()


def test_damage_is_found_and_fetched_anew(own_store: Project) -> None:
    # Noted at the first look where an older version unpacked it; compared from then on.
    own_store.manage("dbdev_store", "verify").ok()
    own_store.manage("dbdev_store", "verify").ok()
    (used,) = [item for item in listed(own_store) if item["used_by"]]
    program = next(Path(used["folder"]).glob("**/bin/psql"))
    program.write_bytes(program.read_bytes() + b"more")
    said = own_store.manage("dbdev_store", "verify").failed(3).err
    assert used["folder"] in said
    own_store.manage("dbdev_store", "verify", "--remove").ok()
    assert used["key"] not in [item["key"] for item in listed(own_store)]
    own_store.manage("dbdev_store", "verify").ok()
