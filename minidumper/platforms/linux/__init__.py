"""Linux: procfs, ptrace, ELF cores."""
