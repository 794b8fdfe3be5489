"""Dump file formats: bytes to values and back, no process in sight."""
