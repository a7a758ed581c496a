"""Named steps at which tests kill the command, to see that nothing is lost there.

``DBDEV_FAULT_AT=restore:swapped`` ends the process by SIGKILL when it comes to that step. Without
the variable a step costs a look into the environment.
"""

from __future__ import annotations

import os
import signal

_VARIABLE = "DBDEV_FAULT_AT"


def step(name: str) -> None:
    """Say that the work has come to the step ``name``, such as "backup:copied"."""
    if os.environ.get(_VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
