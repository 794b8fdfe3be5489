"""Dumps as bytes: what goes where, and ways out for it."""
