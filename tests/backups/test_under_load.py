"""While pgbench writes: snapshots are consistent, and so is what a killed server leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def load(project: Project, scale: int, clients: int) -> Iterator[subprocess.Popen[bytes]]:
    programs, environment = client(project)
    subprocess.run(
        [programs / "pgbench", "-i", "-q", "-s", str(scale)],
        env=environment,
        check=True,
        capture_output=True,
    )
    bench = subprocess.Popen(
        [programs / "pgbench", "-c", str(clients), "-j", "2", "-T", "600", "-n"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield bench
    finally:
        bench.terminate()
        bench.wait(30)


def transactions(project: Project) -> int:
    """How many are in the history, which agrees with all balances."""
    ((accounts, branches, tellers, history),) = project.query(SUMS)
    assert accounts == branches == tellers == history
    count: int = project.query("SELECT count(*) FROM pgbench_history")[0][0]
    return count


@pytest.mark.parametrize("victim", ["backend", "postmaster"])
def test_killed_in_the_middle_of_it(project: Project, victim: str) -> None:
    """As the kernel does when it is out of memory: whichever process it takes."""
    project.manage("dbdev_init").ok()
    with load(project, 1, 4) as bench:
        while not project.query("SELECT 1 FROM pgbench_history LIMIT 1"):
            time.sleep(0.05)
        before = transactions(project)
        # What has been committed before it is on disk with it.
        project.query("SET synchronous_commit = on; CREATE TABLE marked ()")
        ((backend,),) = project.query(
            "SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'"
        )
        os.kill(backend if victim == "backend" else project.pid(), signal.SIGKILL)
        assert bench.wait(30) != 0
    project.manage("dbdev_startserver").ok()
    assert transactions(project) >= before
    log = (project.tempdata / "PostgresBackend.log").read_text()
    assert "automatic recovery in progress" in log
    project.manage("dbdev_backup").ok()


@pytest.mark.slow
def test_snapshots_under_load(project: Project) -> None:
    # Checkpoints all the time, which recycle what WAL is not held.
    project.pin(
        '[tool.django_dbdev.postgresql]\nversion = "18"\n'
        'settings = { checkpoint_timeout = "30s", max_wal_size = "16MB", min_wal_size = "2MB" }\n'
    )
    project.manage("dbdev_init").ok()
    project.query("CREATE EXTENSION amcheck")
    with load(project, 10, 8) as bench:
        for number in range(20):
            project.manage("dbdev_backup", "-n", f"n{number}").ok()
            assert bench.poll() is None
    assert len(backups(project)) == 20
    counts = []
    for number in range(20):
        project.manage("dbdev_restore", "-n", f"n{number}", "--no-safety", "--verify").ok()
        programs, environment = client(project)
        subprocess.run(
            [programs / "pg_amcheck", "--all", "--heapallindexed"],
            env=environment,
            check=True,
            capture_output=True,
        )
        counts.append(transactions(project))
        assert_nothing_is_shared(project)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
