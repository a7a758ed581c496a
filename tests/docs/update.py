"""Write into the pages what their commands print: ``python -m tests.docs.update PAGE…``."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from .readers import clean_up, follow
from .transcripts import DOCS, rewritten


def main() -> None:
    store = Path(os.environ.get("DBDEV_TEST_STORE", ".pytest_cache/d/dbdev-store")).resolve()
    for page in sys.argv[1:]:
        home = Path(tempfile.mkdtemp(prefix="alice-"))
        try:
            done = follow(page, home, store, None)
            failed = [each for each in done if each.status != each.step.status]
            for each in failed[:1]:
                print(f"{page}: {each.problem()}")
            if not failed:
                source = DOCS / f"{page}.rst"
                source.write_text(rewritten(source.read_text("utf-8"), done), "utf-8")
        finally:
            clean_up(home, store)


if __name__ == "__main__":
    main()
