"""For the type checker's plugin, and for tests that need Django in their own process."""

SECRET_KEY = "for tests"
INSTALLED_APPS = ["django_dbdev"]
DEBUG = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
