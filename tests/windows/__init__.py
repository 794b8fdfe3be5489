"""Tests that run inside Windows; tests/integration/test_windows.py starts them under Wine."""
