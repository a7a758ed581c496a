"""The page of benchmarks is what the last run measured."""

from __future__ import annotations

from typing import Any

import pytest
from docutils.core import publish_doctree
from docutils.utils import Reporter

from benchmarks import report
from benchmarks.everything import replaced


def test_the_page_is_made_from_the_results() -> None:
    remedy = "python -m benchmarks.report writes it anew"
    assert report.PAGE.read_text("utf-8") == report.page(report.read()), remedy


@pytest.mark.parametrize("goal", [None, 0.7])
def test_a_page_with_results_has_every_figure(goal: float | None) -> None:
    ratio = {"min": 0.4, "median": 0.5, "max": 0.61, "goal": goal}
    results = {
        "machine": {"cores": "2"},
        "sections": [
            {
                "title": "Init",
                "date": "2026-11-22",
                "seconds": {"a script": [1.0, 3.0, 2.0]},
                "ratios": {"ours / a script": ratio},
            }
        ],
        "sizes": [{"megabytes": n, "seconds": {"first snapshot": n / 100}} for n in (50, 200)],
    }
    rst = report.page(results)
    for figure in ("2.000", "1.000 to 3.000", "0.50", "0.40 to 0.61", "3 rounds", "50 MB", "2.00"):
        assert figure in rst
    assert ("0.70" in rst) == (goal is not None)
    # Sphinx has code-block; docutils calls it code.
    plain = rst.replace("code-block::", "code::")
    publish_doctree(plain, settings_overrides={"halt_level": Reporter.WARNING_LEVEL})


def test_the_sections_of_a_part_are_replaced_and_the_others_stay() -> None:
    def of(day: str, *titles: str) -> dict[str, Any]:
        return {"sections": [{"title": title, "date": day} for title in titles], "sizes": [day]}

    found = replaced(of("1", "Init", "Backups", "Dumps"), {**of("2", "Backups"), "sizes": []})
    assert [(each["title"], each["date"]) for each in found["sections"]] == [
        ("Init", "1"),
        ("Backups", "2"),
        ("Dumps", "1"),
    ]
    assert found["sizes"] == ["1"]
