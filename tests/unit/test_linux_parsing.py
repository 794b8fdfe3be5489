"""What /proc says, as values; limits and gates read from substituted files."""

from __future__ import annotations

from pathlib import Path

import pytest

from minidumper.errors import AccessDeniedError, AlreadyTracedError
from minidumper.platforms.linux import access, limits
from minidumper.platforms.linux.procfs import Status, parse_auxv, parse_maps, parse_status

_MAPS = rb"""55d0c0a00000-55d0c0a10000 r--p 00000000 08:01 131 /usr/bin/two words
7f0000000000-7f0000021000 rw-p 00000000 00:00 0
7f1000000000-7f1000001000 r-xs 00002000 00:05 99 /memfd:doublemapper (deleted)
7f2000000000-7f2000001000 r--p 00000000 08:01 77 /tmp/new\012line
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
"""


def test_maps() -> None:
    program, anonymous, memfd, newline, stack, vdso = parse_maps(_MAPS)
    assert (program.start, program.size, program.path) == (
        0x55D0C0A00000,
        0x10000,
        "/usr/bin/two words",
    )
    assert program.is_file
    assert not program.private_anonymous
    assert anonymous.private_anonymous
    assert memfd.offset == 0x2000
    assert not memfd.private_anonymous
    assert newline.path == "/tmp/new\nline"
    assert stack.private_anonymous
    assert not vdso.private_anonymous, "an absent page of the vdso is not a page of zeros"


def test_status() -> None:
    status = parse_status(
        "Name:\tdotnet\nTgid:\t7\nPPid:\t1\nTracerPid:\t9\nUid:\t1\t1000\t1\t1\n"
        "Gid:\t1\t1001\t1\t1\nNSpid:\t7\t3\nVmRSS:\t   10 kB\nVmSwap:\t   2 kB\nSeccomp:\t2\n"
    )
    assert (status.uid, status.gid, status.tracer_pid) == (1000, 1001, 9)
    assert (status.namespace_pid, status.seccomp, status.commit) == (3, 2, 12 * 1024)


def test_auxv_ends_at_null() -> None:
    data = b"".join(n.to_bytes(8, "little") for n in (6, 4096, 33, 77, 0, 0))
    assert parse_auxv(data) == {6: 4096, 33: 77}


def _status(*, uid: int = 0, tracer: int = 0) -> Status:
    return parse_status(f"Name:\tapp\nTgid:\t7\nUid:\t0\t{uid}\t0\t0\nTracerPid:\t{tracer}\n")


def test_a_debugger_is_named() -> None:
    error = access.denied(7, _status(tracer=55))
    assert isinstance(error, AlreadyTracedError)
    assert error.tracer_pid == 55
    assert "55" in str(error)


@pytest.mark.parametrize(
    ("scope", "capable", "uid", "gate"),
    [
        ("3", True, 0, "yama"),
        ("1", False, None, "yama"),
        ("1", False, 4242, "user"),
        (None, False, 4242, "user"),
        (None, False, None, "protected"),
        (None, True, None, "unknown"),
    ],
)
def test_the_closed_gate_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scope: str | None,
    capable: bool,
    uid: int | None,
    gate: str,
) -> None:
    """Yama is absent from many kernels, so its file is a substitute."""
    file = tmp_path / "ptrace_scope"
    if scope is not None:
        file.write_text(scope + "\n")
    own = parse_status(Path("/proc/self/status").read_text())
    monkeypatch.setattr(access, "YAMA_SCOPE", file)
    monkeypatch.setattr(access, "has_capability", lambda number: capable)
    error = access.denied(7, _status(uid=own.uid if uid is None else uid))
    assert isinstance(error, AccessDeniedError)
    assert error.gate == gate
    assert error.hint


def _group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_the_tightest_group_of_both_versions_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cgroup"
    _group(root / "a", memory__max="1000\n", memory__current="900\n", memory__stat="")
    _group(
        root / "a" / "b",
        memory__max="max\n",
        memory__current="50\n",
        memory__stat="",
    )
    _group(
        root / "memory" / "c",
        memory__limit_in_bytes="500\n",
        memory__usage_in_bytes="480\n",
        memory__stat="total_inactive_file 30\n",
    )
    own = tmp_path / "own"
    own.write_text("0::/a/b\n4:memory:/c\n3:cpu:/c\n")
    monkeypatch.setattr(limits, "CGROUP", own)
    monkeypatch.setattr(limits, "CGROUP_ROOT", root)
    assert limits.cgroup_headroom() == (50, str(root / "memory" / "c"))


def test_no_limit_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.write_text("0::/\n")
    monkeypatch.setattr(limits, "CGROUP", own)
    monkeypatch.setattr(limits, "CGROUP_ROOT", tmp_path)
    assert limits.cgroup_headroom() is None
