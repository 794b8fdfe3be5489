"""Other readers see in our cores what we wrote, and we see in others' cores what they see."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from elftools.elf.elffile import ELFFile

from minidumper.dumpfile import open_dump
from minidumper.formats.elfcore import Core, LoadSegment, layout, read_core
from minidumper.formats.elfnotes import (
    NT_FPREGSET,
    NT_PRSTATUS,
    NT_X86_XSTATE,
    CoreNotes,
    CoreThread,
    MappedFile,
    ProcessInfo,
)
from tests.support import gates

if sys.platform != "linux":
    gates.demand("linux", module=True)

from minidumper.formats.elfimage import build_id, file_image, read_image
from minidumper.platforms.linux.process import LinuxProcess
from tests.support.subject import Subject, subject, write_core

pytestmark = pytest.mark.gate("gcc", "ptrace")

LIB = Path(__file__).parents[2] / "lib"


class Seen(NamedTuple):
    """What pyelftools and our reader can both say of a core."""

    segments: list[LoadSegment]
    process: ProcessInfo
    files: list[MappedFile]
    notes_of_threads: list[int]


def seen_by_pyelftools(path: Path) -> Seen:
    with open(path, "rb") as file:
        elf = ELFFile(file)
        assert elf["e_type"] == "ET_CORE"
        assert elf["e_machine"] == "EM_X86_64"
        headers: list[Any] = list(elf.iter_segments())
        assert len(headers) == elf.num_segments()
        loads = [
            LoadSegment(s["p_vaddr"], s["p_vaddr"] + s["p_filesz"], s["p_flags"], s["p_offset"])
            for s in headers
            if s["p_type"] == "PT_LOAD" and s["p_filesz"]
        ]
        notes = [n for s in headers if s["p_type"] == "PT_NOTE" for n in s.iter_notes()]
    (info,) = [n["n_desc"] for n in notes if n["n_type"] == "NT_PRPSINFO"]
    (mapped,) = [n["n_desc"] for n in notes if n["n_type"] == "NT_FILE"]
    return Seen(
        sorted(loads),
        ProcessInfo(
            *(info["pr_pid"], info["pr_ppid"], info["pr_uid"], info["pr_gid"]),
            *(text(info["pr_fname"]), text(info["pr_psargs"])),
        ),
        [
            MappedFile(
                *(row["vm_start"], row["vm_end"], row["page_offset"] * mapped["page_size"]),
                name.decode(),
            )
            for row, name in zip(mapped["Elf_Nt_File_Entry"], mapped["filename"], strict=True)
        ],
        [len(n["n_descdata"]) for n in notes if n["n_type"] in ("NT_PRSTATUS", "NT_FPREGSET")],
    )


def seen_by_us(path: Path) -> Seen:
    core = read(path)
    assert core.notes.process
    sizes = []
    for thread in core.notes.threads:
        sizes.append(336)  # struct elf_prstatus
        sizes.append(len(thread.regsets[NT_FPREGSET]))
    return Seen(list(core.segments), core.notes.process, list(core.notes.files), sizes)


def read(path: Path) -> Core:
    with open(path, "rb") as file:
        return read_core(file)


def text(field: bytes) -> str:
    return field.split(b"\0")[0].decode()


@pytest.mark.parametrize("count", [5, 70_000])
def test_pyelftools_parses_every_header_of_a_synthetic_core(count: int, tmp_path: Path) -> None:
    notes = CoreNotes(
        process=ProcessInfo(4321, 1, 1000, 100, "dotnet", "dotnet app.dll"),
        auxv={3: 0x400040, 9: 0x401000},
        files=[
            MappedFile(0x7000_0000, 0x7000_2000, 0x5000, "/lib/ä.so"),
            MappedFile(0x7000_2000, 0x7000_3000, 0, "/app/app.dll"),
        ],
        threads=[
            CoreThread(
                tid,
                {NT_PRSTATUS: bytes(216), NT_FPREGSET: bytes(512), NT_X86_XSTATE: bytes(2696)},
                siginfo=bytes(128),
            )
            for tid in (4321, 4322)
        ],
        own={"mode": "heap", "odd": "x"},
    )
    plan = layout(
        notes, [(0x10000 + i * 0x3000, 0x11000 + i * 0x3000, 1 + i % 7) for i in range(count)]
    )
    path = tmp_path / "core"
    with open(path, "wb") as file:
        file.write(plan.header)
        file.truncate(plan.file_size)
    seen = seen_by_pyelftools(path)
    assert seen.segments == list(plan.segments)
    assert seen.process == notes.process
    assert seen.files == notes.files
    assert seen.notes_of_threads == [336, 512] * 2
    assert seen == seen_by_us(path)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with subject(tmp_path_factory.mktemp("subject")) as program:
        yield program


@pytest.fixture(scope="module")
def core(program: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A core of the subject, written by us."""
    path = tmp_path_factory.mktemp("dump") / "core"
    with LinuxProcess(program.pid) as process, process.stopped():
        write_core(process, path)
    return path


@pytest.mark.gate("gdb")
def test_pyelftools_agrees_on_gcores_core(program: Subject, tmp_path: Path) -> None:
    command = ["gcore", "-o", str(tmp_path / "core"), str(program.pid)]
    subprocess.run(command, check=True, capture_output=True)
    path = tmp_path / f"core.{program.pid}"
    assert seen_by_us(path) == seen_by_pyelftools(path)


@pytest.mark.gate("kernel-cores")
def test_pyelftools_agrees_on_the_kernels_core(tmp_path: Path) -> None:
    with subject(tmp_path) as program:
        resource.prlimit(program.pid, resource.RLIMIT_CORE, (-1, -1))
        os.kill(program.pid, signal.SIGABRT)
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    (path,) = {*tmp_path.glob("core*")} - {program.path}
    assert seen_by_us(path) == seen_by_pyelftools(path)
    threads = read(path).notes.threads
    assert [thread.signal for thread in threads] == [signal.SIGABRT] * 3
    assert [len(thread.siginfo) for thread in threads] == [128, 0, 0]


@pytest.fixture(scope="module")
def demo() -> Iterator[int]:
    """The pid of a .NET process: the demo program on the runtime in lib/."""
    dotnet = next(LIB.glob("**/linux-x64/**/dotnet"))
    program = next(LIB.glob("**/Demo.dll"))
    with subprocess.Popen(
        [dotnet, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready %d\n" % process.pid
            yield process.pid
        finally:
            process.kill()


@pytest.mark.gate("embedded-host")
@pytest.mark.parametrize("mode", ["--withheap", "--normal"])
def test_pyelftools_agrees_on_createdumps_core(mode: str, demo: int, tmp_path: Path) -> None:
    createdump = next(LIB.glob("**/linux-x64/**/createdump"))
    path = tmp_path / "core"
    command = [str(createdump), mode, "-f", str(path), str(demo)]
    subprocess.run(command, check=True, capture_output=True)
    assert seen_by_us(path) == seen_by_pyelftools(path)
    with open_dump(path) as dump:
        assert (dump.pid, dump.name, dump.note) == (demo, "dotnet", None)
        (runtime,) = [m for m in dump.modules() if m.path.endswith("/libcoreclr.so")]
        image = read_image(dump.memory.read, runtime.base)
        assert image
        assert image.span.start == runtime.base
        assert image.span.end >= runtime.end  # .bss goes beyond the mapped file
        on_disk = file_image(Path(runtime.path).read_bytes())
        assert on_disk
        assert build_id(image) == build_id(on_disk) != ""


def gdb(core: Path, program: Subject, *commands: str) -> str:
    words = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-batch", "-nx", *words, str(program.path), str(core)],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.gate("gdb")
def test_gdb_knows_threads_and_stacks(core: Path, program: Subject) -> None:
    told = gdb(core, program, "info threads", "thread apply all bt")
    assert "Core was generated by `core_subject'" in told
    lwps = [int(lwp) for lwp in re.findall(r"^[* ] +\d+ .*\(LWP (\d+)\)", told, re.MULTILINE)]
    assert lwps == [t.tid for t in read(core).notes.threads]
    assert len(lwps) == 3
    stacks = told[told.index("\nThread 3") :].split("\nThread ")[1:]
    assert [bool(re.search(r" wait_in_worker \(", stack)) for stack in stacks] == [1, 1, 0]
    assert re.search(r" wait_in_main \(.*\n.*in main \(", stacks[2])


@pytest.mark.gate("gdb")
def test_gdb_knows_mappings_and_memory(core: Path, program: Subject) -> None:
    told = gdb(core, program, "info proc mappings", "info auxv", "x/s &message")
    rows = re.findall(r"^ +0x(\w+) +0x(\w+) +0x\w+ +0x(\w+) +(\S+)$", told, re.MULTILINE)
    mapped = [
        (int(start, 16), int(end, 16), int(offset, 16), path) for start, end, offset, path in rows
    ]
    assert mapped == [tuple(file) for file in read(core).notes.files]
    assert str(program.path) in {row[3] for row in mapped}
    assert re.search(r"AT_EXECFN .*\"" + re.escape(str(program.path)) + '"', told)
    assert f'0x{program.message:x} <message>:\t"a string in the data segment"' in told
    heap = gdb(core, program, f"x/s 0x{program.heap:x}")
    assert '"a string on the heap"' in heap


@pytest.mark.gate("gdb")
def test_gdb_reads_the_registers_that_we_wrote(core: Path, program: Subject) -> None:
    told = gdb(core, program, "thread 2", "p/x $rip", "p/x $fs_base", "p/x $mxcsr")
    values = [int(value, 16) for value in re.findall(r"^\$\d = 0x(\w+)$", told, re.MULTILINE)]
    regsets = read(core).notes.threads[1].regsets
    regs = regsets[NT_PRSTATUS]
    assert values == [
        int.from_bytes(regs[16 * 8 : 17 * 8], "little"),
        int.from_bytes(regs[21 * 8 : 22 * 8], "little"),
        int.from_bytes(regsets[NT_FPREGSET][24:28], "little"),
    ]


@pytest.mark.gate("lldb")
def test_lldb_knows_threads_stacks_and_memory(core: Path, program: Subject) -> None:
    commands = ("thread list", "bt all", "x/s &message")
    words = [word for command in commands for word in ("-o", command)]
    done = subprocess.run(
        ["lldb", "--no-lldbinit", "-b", *words, "-c", str(core), str(program.path)],
        check=True,
        capture_output=True,
        text=True,
    )
    tids = [int(tid) for tid in re.findall(r"thread #\d+: tid = (\d+)", done.stdout)]
    assert tids == [t.tid for t in read(core).notes.threads]
    assert done.stdout.count("`wait_in_worker(") == 2
    assert done.stdout.count("`wait_in_main(") == 1
    assert '"a string in the data segment"' in done.stdout
