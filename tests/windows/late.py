"""What the runtime allocates after the rehearsal is in a heap dump, however large the C heap."""

from __future__ import annotations

from pathlib import Path

import pytest

from minidumper import platforms
from minidumper.capture import Capture
from minidumper.plan import DumpMode
from minidumper.verification import verify
from tests.support import late

from .programs import running


def test_versions_of_code_that_are_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "late.dmp")
    for name, value in late.ENV.items():
        monkeypatch.setenv(name, value)
    with running("Tiers", *late.ARGS) as program:
        late.works_on(program, monkeypatch)
        with (
            platforms.open_target(program.process.pid) as target,
            Capture(target, [DumpMode.HEAP]) as capture,
        ):
            (report,) = capture.write([path])
        assert program.alive()
    assert report.warnings == ()
    late.assert_small(report)
    assert verify(path).problems == ()
