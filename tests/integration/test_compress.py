"""Compressed dumps: what every command reads as if it were plain, and pipes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidumper.dumpfile import open_dump
from tests.support import gates
from tests.support.commands import ENVIRONMENT, PROGRAM, minidumper
from tests.support.targets import Running, running

gates.demand("linux", module=True)
pytestmark = pytest.mark.gate("ptrace", "toolchain", "embedded-host")


@pytest.fixture(scope="module")
def app() -> Iterator[Running]:
    with running("GcHeap", args=["--small", "40", "--large", "20"]) as target:
        yield target


def told(*words: str | Path | int, cwd: Path) -> str:
    done = minidumper(*words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.gate("zstd")
@pytest.mark.parametrize("how", ["", "--async"])
def test_every_command_reads_it_as_the_plain_one(app: Running, tmp_path: Path, how: str) -> None:
    words = filter(None, ["-mh", "--compress", "3", how, "--json", str(app.pid)])
    report = json.loads(told(*words, cwd=tmp_path))
    packed = Path(report["path"])
    assert packed.name.endswith(".dmp.zst")
    assert packed.stat().st_size * 100 <= report["size"] * 30
    assert report["disk_size"] == packed.stat().st_blocks * 512
    told("unpack", packed, cwd=tmp_path)
    plain = packed.with_suffix("")
    own = subprocess.run(["zstd", "-dc", packed], capture_output=True, check=True).stdout
    assert plain.read_bytes() == own
    assert len(own) == report["size"]
    assert plain.stat().st_blocks * 512 < report["size"]  # its holes
    for command in ("heapstat", "verify"):
        outputs = [told(command, "--json", path, cwd=tmp_path) for path in (packed, plain)]
        assert outputs[0].replace(str(packed), "") == outputs[1].replace(str(plain), "")
    assert "GC_HEAP" in told("regions", "--json", packed, cwd=tmp_path)
    info = json.loads(told("info", "--json", packed, cwd=tmp_path))
    assert info["format"] == "ELF core, compressed (zstd)"
    assert info["size"] == packed.stat().st_size
    with open_dump(packed) as dump:
        assert dump.note
        assert dump.note["pause_s"] == report["pause_s"]


def test_a_name_is_enough(app: Running, tmp_path: Path) -> None:
    told("-ma", app.pid, "x.dmp.zst", cwd=tmp_path)
    assert (tmp_path / "x.dmp.zst").read_bytes()[:4].hex() == "28b52ffd"


def test_nothing_is_packed_inside_the_stop(app: Running, tmp_path: Path) -> None:
    """By a high level it takes seconds."""
    app.start_clock()
    report = json.loads(told("-mh", "--compress=12", "--json", app.pid, cwd=tmp_path))
    gap = app.gap_ms() / 1000
    assert report["total_s"] > 4 * report["pause_s"]
    assert gap < report["total_s"] / 4


def test_a_disk_that_fills_while_it_is_packed(app: Running, tmp_path: Path) -> None:
    done = minidumper(
        *("-mh", "--compress", "-o", tmp_path / "dumps", app.pid),
        cwd=tmp_path,
        prefix=["sh", "-c", 'ulimit -f 40000; exec "$@"', "sh"],  # 20 MB: SIGXFSZ is ignored
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "File too large" in done.stderr
    assert app.alive()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["-mh"], ["-ma", "--async"], ["-mh", "--async", "--compress"]])
def test_a_pipe_gets_the_whole_dump(app: Running, tmp_path: Path, words: list[str]) -> None:
    path = tmp_path / "received"
    with open(path, "wb") as file:
        command = [*PROGRAM, *words, "--json", "-o", "-", str(app.pid)]
        writer = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        reader = subprocess.run(["cat"], stdin=writer.stdout, stdout=file, check=True)
        assert reader.returncode == 0
        assert writer.stdout
        writer.stdout.close()
        assert writer.stderr
        report = json.loads(writer.stderr.read())
        writer.stderr.close()
        assert writer.wait() == 0
    assert report["path"] == "-"
    found = json.loads(told("verify", "--json", path, cwd=tmp_path))
    assert found["problems"] == []
    with open_dump(path) as dump:
        assert dump.note
        assert dump.note["mode"] == report["mode"]


def test_a_pipe_whose_reader_leaves(app: Running, tmp_path: Path) -> None:
    command = [*PROGRAM, "-ma", "-o", "-", str(app.pid)]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as writer:
        assert writer.stdout
        writer.stdout.read(16)
        writer.stdout.close()
        assert writer.stderr
        said = writer.stderr.read()
    assert writer.returncode == 1
    assert b"cannot write -: Broken pipe" in said
    assert app.alive()
