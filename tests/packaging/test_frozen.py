"""`make dist` in a root folder that has glibc, zlib and nothing else: no shell, Python or .NET."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from minidumper import __version__
from tests.support import gates, oracle, paths, runtimes, targets

gates.demand("linux", module=True)

pytestmark = pytest.mark.gate("freezer", "toolchain", "ptrace", "root", "unshare")

FOLDER = "minidumper-linux-x64"
PROGRAM = f"/closed/{FOLDER}/minidumper"
MOUNT = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
ENTER = ["unshare", "--mount", "sh", "-c", MOUNT]
GLIBC_AND_ZLIB = {
    *("ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0"),
    *("librt.so.1", "libutil.so.1", "libz.so.1"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with the unpacked archive, in a folder that only root may enter, and glibc."""
    dist = tmp_path_factory.mktemp("dist")
    command = ["make", "--silent", "dist", f"PYTHON={sys.executable}", f"DIST={dist}"]
    done = subprocess.run(
        command, cwd=paths.CHECKOUT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{dist}/{FOLDER}.tar.gz\n"
    root = tmp_path_factory.mktemp("root")
    for name in ("proc", "tmp", "dev", "closed"):
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    root.chmod(0o755)
    (root / "closed").chmod(0o700)
    for name, minor in (("null", 3), ("urandom", 9)):  # null(4), urandom(4)
        os.mknod(root / "dev" / name, 0o020666, os.makedev(1, minor))
        (root / "dev" / name).chmod(0o666)
    # Not tarfile: its filters, which Python 3.12 asks for, came with 3.11.4.
    archive = dist / f"{FOLDER}.tar.gz"
    subprocess.run(["tar", "-xf", archive, "-C", root / "closed"], check=True)
    for path in needed(root / "closed" / FOLDER):
        copy = root.joinpath(*path.parts[1:])
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return root


def programs(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        with path.open("rb") if path.is_file() else open(os.devnull, "rb") as file:
            if file.read(4) == b"\x7fELF":
                yield path


def needed(folder: Path) -> list[Path]:
    """The libraries outside of the folder that its programs are linked with, by ldd(1)."""
    own = folder / "_internal"
    said = ldd("", [folder / "minidumper"]) + ldd(f"{own}", programs(own))
    found = {Path(path) for path in re.findall(r"(/\S+) \(0x", said)}
    return [path for path in found if not path.is_relative_to(folder)]


def ldd(libraries: str, files: Iterable[Path]) -> str:
    environment = os.environ | {"LD_LIBRARY_PATH": libraries}
    # One that is linked with nothing is a failure to ldd.
    done = subprocess.run(["ldd", *files], env=environment, capture_output=True, text=True)
    assert "not found" not in done.stdout
    return done.stdout


def run(root: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The frozen program in that root folder."""
    command = [*ENTER, str(root), PROGRAM, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def answer(root: Path, *words: object) -> Any:
    done = run(root, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_needs_glibc_alone_of_the_version_that_the_readme_tells(root: Path) -> None:
    folder = root / "closed" / FOLDER
    assert {path.name for path in needed(folder)} <= GLIBC_AND_ZLIB
    told = re.search(r"glibc 2\.(\d+)", (paths.CHECKOUT / "README.md").read_text())
    assert told
    assert 0 < max(map(glibc, programs(folder))) <= int(told[1])


def glibc(path: Path) -> int:
    """The newest glibc whose symbols a program asks for: 36 of 2.36, 0 for none."""
    with path.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".gnu.version_r")
        if not isinstance(section, GNUVerNeedSection):
            return 0
        names = [entry.name for _, entries in section.iter_versions() for entry in entries]
    found = [re.fullmatch(r"GLIBC_2\.(\d+)(\.\d+)?", name) for name in names]
    return max((int(match[1]) for match in found if match), default=0)


def test_it_says_its_version(root: Path) -> None:
    assert run(root, "--version").stdout == f"minidumper {__version__}\n"


def test_it_dumps_a_process_of_another_mount_namespace(root: Path) -> None:
    with targets.running("GcHeap", prefix=["unshare", "-pfm"]) as running:
        pid = running.pid
        assert pid in [row["pid"] for row in answer(root, "ps")]
        assert run(root, "doctor", pid).returncode == 0
        totals = answer(root, "regions", pid)["totals"]
        rows = answer(root, "heapstat", pid, "--top", 1)
        done = run(root, "-mh", pid, "-o", "/tmp/heap.dmp")
        assert done.returncode == 0, done.stderr
        dac = f"/proc/{pid}/root{runtimes.framework('10.0.14')}"
        info = answer(root, "info", "/tmp/heap.dmp", "--dac", dac)
        assert run(root, "verify", "/tmp/heap.dmp", "--dac", dac).returncode == 0
        assert running.alive()
    assert totals["GC_HEAP"]["size"] > 10e6
    assert rows[0]["type"] == "System.String"
    assert info["runtime"]["dac"].startswith(dac)
    dump = root / "tmp" / "heap.dmp"
    found = oracle.sections(dump, runtimes.dac("10.0.14"), ["types"])
    dump.unlink()
    assert any("Heap+Record" in line for line in found["types"])


def test_it_reads_everything_of_its_own_before_it_gives_up_its_rights(root: Path) -> None:
    with targets.running("GcHeap", user="nobody") as running:
        done = run(root, "-mh", running.pid, "-o", "/tmp/nobody.dmp")
        assert done.returncode == 0, done.stderr
    (root / "tmp" / "nobody.dmp").unlink()


def test_the_programs_that_it_starts_run_there(root: Path) -> None:
    """The demo program and createdump; the guardian, without which there is no waiting."""
    done = run(root, "demo")
    assert done.returncode == 0, done.stderr
    assert "createdump takes" in done.stdout
    with targets.running("GcHeap") as running:
        command = [*ENTER, str(root), PROGRAM, "-mh", "-t", str(running.pid), "-o", "/tmp/"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
            assert waiting.stderr
            assert "waiting in process" in waiting.stderr.readline()
            waiting.send_signal(signal.SIGINT)
            assert "GcHeap runs on" in waiting.stderr.readline()
        assert running.alive()
