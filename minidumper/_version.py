"""The version, and nothing else: hatch reads it."""

__version__ = "0.1.0"
