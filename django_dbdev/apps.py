from __future__ import annotations

from django.apps import AppConfig


class DbdevConfig(AppConfig):
    name = "django_dbdev"
    verbose_name = "django_dbdev"

    def ready(self) -> None:
        from . import checks, conf  # noqa: F401

        if conf.is_ephemeral():
            conf.use_ephemeral_ports()
