"""Running what a generated workflow runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def steps(workflow: Path, job: str) -> list[str]:
    """What a job of a generated workflow runs, in the runner's shell."""
    content: dict[str, Any] = YAML(typ="safe").load(workflow.read_text())
    described = content["jobs"][job]["steps"] if "jobs" in content else content[job]["script"]
    return [s["run"] if isinstance(s, dict) else s for s in described if "uses" not in s]


def run_steps(commands: list[str], cwd: Path, env: Mapping[str, str]) -> str:
    """As the runners do: each step by a shell that stops at the first failure."""
    said = ""
    bin = Path(sys.executable).parent
    for command in commands:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", command],
            cwd=cwd,
            env={**env, "PATH": f"{bin}:{env['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said += done.stdout
        assert done.returncode == 0, f"{command}\n{done.stdout}"
    return said
