"""Which DAC fits, and whose file is trusted enough to be loaded."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from minidumper.clr import dac as dac_module
from minidumper.clr.dac import Dac, find_dac
from minidumper.clr.runtime import Runtime, RuntimeKind
from minidumper.errors import DacNotFoundError, DacUntrustedError, NoClrInTargetError
from minidumper.formats.elfimage import build_id, file_image

US, OTHER, TARGET = 1000, 1001, 1002
DIRECTORY, FILE, LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK

linux = pytest.mark.gate("linux")  # takes an ELF file of its own


def check(mode: int, owner: int, group: int = 0) -> None:
    status = os.stat_result((mode, 0, 0, 1, owner, group, 0, 0, 0, 0))
    dac_module._check(Path("/there"), status, {0, US, TARGET})


@pytest.mark.parametrize(
    ("mode", "owner", "group"),
    [
        (FILE | 0o644, 0, 0),
        (FILE | 0o600, US, US),
        (DIRECTORY | 0o755, TARGET, 5),
        (FILE | 0o664, US, US),  # the group is that user alone
        (DIRECTORY | 0o775, US, 0),
        (DIRECTORY | 0o1777, 0, 0),  # as /tmp: nobody can replace what is another's
    ],
)
def test_trusted(mode: int, owner: int, group: int) -> None:
    check(mode, owner, group)


@pytest.mark.parametrize(
    ("mode", "owner", "group", "why"),
    [
        (FILE | 0o644, OTHER, 0, "belongs to user 1001"),
        (FILE | 0o666, 0, 0, "every user"),
        (DIRECTORY | 0o777, 0, 0, "every user"),
        (FILE | 0o664, US, 100, "group 100"),
        (FILE | 0o1666, US, 0, "every user"),  # sticky means nothing on a file
        (LINK | 0o777, 0, 0, "symbolic link"),
    ],
)
def test_untrusted(mode: int, owner: int, group: int, why: str) -> None:
    with pytest.raises(DacUntrustedError, match=why) as caught:
        check(mode, owner, group)
    assert "chmod" in caught.value.hint


def runtime_at(folder: Path, **more: str) -> Runtime:
    """A runtime whose build id is that of the Python that runs here."""
    image = file_image(Path(sys.executable).resolve().read_bytes())
    assert image
    return Runtime(
        RuntimeKind.CORECLR,
        str(folder / "libcoreclr.so"),
        *(0x1000, 0x2000, build_id(image)),
        version="10.0.14",
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A runtime's folder; an ELF file stands for both files in it."""
    place = tmp_path / "runtime"
    place.mkdir()
    for name in ("libcoreclr.so", "libmscordaccore.so"):
        shutil.copyfile(Path(sys.executable).resolve(), place / name)
    return place


@linux
def test_beside_the_runtime(folder: Path) -> None:
    with find_dac(runtime_at(folder)) as found:
        assert found.path == folder / "libmscordaccore.so"
        assert found.descriptor is not None
        assert os.fstat(found.descriptor).st_ino == found.path.stat().st_ino


@linux
def test_below_another_root(folder: Path, tmp_path: Path) -> None:
    inside = Path("/", *folder.relative_to(tmp_path).parts)
    with find_dac(runtime_at(inside), root=tmp_path) as found:
        assert found.path == folder / "libmscordaccore.so"


@linux
@pytest.mark.parametrize("name", ["", "libmscordaccore.so"])
def test_where_the_user_says(folder: Path, tmp_path: Path, name: str) -> None:
    gone = runtime_at(tmp_path / "gone")
    with find_dac(gone, [tmp_path / "nowhere", folder / name]) as found:
        assert found.path == folder / "libmscordaccore.so"


@linux
def test_a_single_file_names_its_dac(folder: Path) -> None:
    own = runtime_at(folder)
    (folder / "libcoreclr.so").unlink()
    single = runtime_at(folder, dac_build_id=own.build_id)
    with find_dac(single) as found:
        assert found.path == folder / "libmscordaccore.so"


@linux
def test_one_of_another_build_does_not_fit(folder: Path) -> None:
    shutil.copyfile("/bin/true", folder / "libcoreclr.so")
    with pytest.raises(DacNotFoundError) as caught:
        find_dac(runtime_at(folder))
    assert runtime_at(folder).build_id in str(caught.value)
    assert "microsoft.netcore.app.runtime.linux-x64 10.0.14" in caught.value.hint
    assert "--dac" in caught.value.hint


@linux
def test_an_untrusted_one_gives_way_to_one_that_is_named(folder: Path, tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    shutil.copytree(folder, safe)
    (folder / "libmscordaccore.so").chmod(0o666)
    with pytest.raises(DacUntrustedError):
        find_dac(runtime_at(folder))
    with find_dac(runtime_at(folder), [safe]) as found:
        assert found.path.parent == safe


@linux
def test_a_link_beside_the_runtime_is_not_followed(folder: Path) -> None:
    real = folder / "libmscordaccore.so"
    real.rename(folder / "elsewhere.so")
    real.symlink_to("elsewhere.so")
    with pytest.raises(DacUntrustedError, match="cannot be opened"):
        find_dac(runtime_at(folder))


def test_native_code_has_none() -> None:
    native = Runtime(RuntimeKind.NATIVE_AOT, "/app", 0, 1, "")
    with pytest.raises(NoClrInTargetError, match="NativeAOT"):
        find_dac(native)


@linux
def test_a_path_in_the_root_of_another_process(tmp_path: Path) -> None:
    """The link /proc/PID/root reads "/", whatever that process has as its root (proc(5))."""
    path, top = dac_module._located(Path("/proc/self/../4711/root/usr/lib/dac.so"))
    assert (path, top) == (Path("/proc/4711/root/usr/lib/dac.so"), Path("/proc/4711/root"))
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert dac_module._located(tmp_path / "link") == (tmp_path / "there", Path("/"))


def test_the_file_tells_its_version_where_a_dump_does_not(tmp_path: Path) -> None:
    path = tmp_path / "libmscordaccore.so"
    path.write_bytes(b"\0@(#)Version 10.0.1426.52326 @Commit: 1234\0")
    assert Dac(path).version == "10.0.14"
    path.write_bytes(b"no such words")
    assert Dac(path).version == ""
