"""Snapshots while pgbench writes: every one is consistent."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import Project

from .helpers import assert_nothing_is_shared, backups

SUMS = (
    "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) "
    "FROM pgbench_branches), (SELECT sum(tbalance) FROM pgbench_tellers), "
    "(SELECT coalesce(sum(delta), 0) FROM pgbench_history)"
)


def client(project: Project) -> tuple[Path, dict[str, str]]:
    folder = next((project.tempdata / "prefix").glob("postgresql-*")).resolve()
    return folder / "bin", {
        **project.env(),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(project.port()),
        "PGUSER": "dbdev",
        "PGPASSWORD": "dbdev",
        "PGDATABASE": "dbdev",
        "LD_LIBRARY_PATH": str(folder / "lib"),
    }


@pytest.mark.slow
def test_snapshots_under_load(project: Project) -> None:
    # Checkpoints all the time, which recycle what WAL is not held.
    project.pin(
        '[tool.django_dbdev.postgresql]\nversion = "18"\n'
        'settings = { checkpoint_timeout = "30s", max_wal_size = "16MB", min_wal_size = "2MB" }\n'
    )
    project.manage("dbdev_init").ok()
    programs, environment = client(project)
    subprocess.run(
        [programs / "pgbench", "-i", "-q", "-s", "10"],
        env=environment,
        check=True,
        capture_output=True,
    )
    project.query("CREATE EXTENSION amcheck")
    load = subprocess.Popen(
        [programs / "pgbench", "-c", "8", "-j", "2", "-T", "600", "-n"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for number in range(20):
            project.manage("dbdev_backup", "-n", f"n{number}").ok()
            assert load.poll() is None
    finally:
        load.terminate()
        load.wait(30)
    assert len(backups(project)) == 20
    counts = []
    for number in range(20):
        project.manage("dbdev_restore", "-n", f"n{number}", "--no-safety", "--verify").ok()
        _, environment = client(project)
        subprocess.run(
            [programs / "pg_amcheck", "--all", "--heapallindexed"],
            env=environment,
            check=True,
            capture_output=True,
        )
        ((accounts, branches, tellers, history),) = project.query(SUMS)
        assert accounts == branches == tellers == history
        counts.append(project.query("SELECT count(*) FROM pgbench_history")[0][0])
        assert_nothing_is_shared(project)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
