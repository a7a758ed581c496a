"""Reproducible database servers for Django development."""

from .registry import backendregistry

__all__ = ["__version__", "backendregistry"]
__version__ = "2.0.0.dev0"
