"""Every command of the guide is run, in order, in one bash, as its reader would."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.guide_commands import all_commands
from tests.test_guide import run_all

from .conftest import MySqlFactory


def test_every_command_of_the_guide_runs(new_mysql: MySqlFactory, tmp_path: Path) -> None:
    project = new_mysql("it's a prôject 100% $HOME")
    project.manage("dbdev_init").ok()
    project.manage("migrate", "-v0").ok()
    rst = project.manage("dbdev_guide").ok().out
    done = run_all(project, rst, tmp_path / "reader")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert len(all_commands(rst)) > 45
    assert "ERROR " not in done.stderr
    shutil.rmtree(tmp_path / "reader")


def test_the_guide_of_another_alias_means_its_account(new_mysql: MySqlFactory) -> None:
    project = new_mysql(
        settings='DATABASES["audit"] = {**DBSETTINGS, "NAME": "a", "USER": "b", "PASSWORD": "c"}'
    )
    project.manage("dbdev_init", "--database", "audit").ok()
    rst = project.manage("dbdev_guide", "--database", "audit").ok().out
    assert "--defaults-group-suffix=_audit a" in rst
    assert "dbdev_loaddump mydump.sql.gz --database audit" in rst
