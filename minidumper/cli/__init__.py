"""The command line: every command is parse, call, render."""
