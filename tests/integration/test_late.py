"""What the runtime allocates after the rehearsal is in a heap dump, however large the C heap."""

from __future__ import annotations

from pathlib import Path

import pytest

from minidumper import platforms
from minidumper.capture import Capture
from minidumper.plan import DumpMode
from tests.support import gates, late
from tests.support.commands import minidumper
from tests.support.targets import running

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")

OLD = pytest.mark.gate("old-runtimes")


@pytest.mark.parametrize(
    "version",
    [
        "10.0.14",
        "9.0.22",
        pytest.param("8.0.4", marks=OLD),
        pytest.param("3.1.23", marks=OLD),
    ],
)
def test_versions_of_code_that_are_new(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dump"
    with running("Tiers", version, late.ARGS, env=late.ENV) as app:
        late.works_on(app, monkeypatch)
        with (
            platforms.open_target(app.pid) as target,
            Capture(target, [DumpMode.HEAP]) as capture,
        ):
            (report,) = capture.write([str(path)])
        assert app.alive()
    assert report.warnings == ()
    late.assert_small(report)
    done = minidumper("verify", path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
