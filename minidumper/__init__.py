"""Precise dumps of .NET processes: as small as possible, complete for every CLR reader."""

from __future__ import annotations

from ._version import __version__

__all__ = ["__version__"]
