from __future__ import annotations

from django.apps import AppConfig


class DbdevConfig(AppConfig):
    name = "django_dbdev"
    verbose_name = "django_dbdev"

    def ready(self) -> None:
        from . import checks  # noqa: F401
