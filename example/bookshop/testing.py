from typing import Any
from unittest import TestSuite

from django.test.runner import DiscoverRunner


class BookshopRunner(DiscoverRunner):
    """Finds the bookshop's tests from every working directory."""

    def build_suite(self, test_labels: Any = None, **kwargs: Any) -> TestSuite:
        return super().build_suite(test_labels or ["bookshop"], **kwargs)
