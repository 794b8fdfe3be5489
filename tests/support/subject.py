"""A C program to be dumped, and the simplest possible copier of a target into a core."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from minidumper.formats.elfcore import CoreLayout, flags_of, layout
from minidumper.formats.elfnotes import CoreNotes, CoreThread, MappedFile, ProcessInfo
from minidumper.platforms.linux.process import LinuxProcess
from minidumper.platforms.linux.procfs import parse_auxv
from minidumper.ranges import MemoryRange

SOURCE = Path(__file__).parent / "core_subject.c"
MESSAGE = b"a string in the data segment\0"
HEAP_STRING = b"a string on the heap\0"
PAGES = 64


class Subject(NamedTuple):
    """The running program and the addresses it told."""

    pid: int
    path: Path
    message: int
    heap: int
    sparse: int
    code: int

    def sparse_bytes(self) -> bytes:
        """What the half-written anonymous memory holds."""
        return b"".join(
            bytes(4096) if i % 2 else bytes([ord("A") + i // 2 % 26]) * 4096 for i in range(PAGES)
        )


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    """Compile and run core_subject.c; it is ready when this returns, and gone afterwards."""
    compiler = shutil.which("gcc")
    assert compiler, "core_subject.c needs gcc"
    program = folder / "core_subject"
    subprocess.run([compiler, "-g", "-O0", "-pthread", SOURCE, "-o", program], check=True)
    with subprocess.Popen(
        [program], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            addresses = [int(word, 16) for word in process.stdout.readline().split()]
            yield Subject(process.pid, program, *addresses)
        finally:
            process.kill()


def write_core(process: LinuxProcess, path: Path) -> CoreLayout:
    """All readable memory of a stopped process as a core; absent pages stay holes."""
    regions = process.regions()
    # The kernel's own data and the vsyscall page can only be read by the process itself.
    kept = [r for r in regions if r.readable and not r.path.startswith(("[vvar", "[vsys"))]
    notes = CoreNotes(
        process=ProcessInfo(process.pid, 1, name="core_subject", args="core_subject"),
        auxv=parse_auxv(process.auxv()),
        files=[MappedFile(r.start, r.end, r.offset, r.path) for r in regions],
        threads=[CoreThread(t.tid, t.regsets, t.siginfo, t.signal) for t in process.threads()],
        own={"mode": "full"},
    )
    plan = layout(notes, [(r.start, r.end, flags_of(r.protection)) for r in kept])
    with open(path, "xb") as file:
        file.write(plan.header)
        file.truncate(plan.file_size)
        for segment in plan.segments:
            span = MemoryRange(segment.start, segment.end)
            for start, end in process.resident(regions, span):
                file.seek(segment.offset + start - segment.start)
                file.write(process.memory.read(start, end - start))
    return plan
