"""`python -m minidumper` is the `minidumper` command."""

from __future__ import annotations

from .cli.main import main

raise SystemExit(main())
