"""The wheel as a user gets it: its content, its size, and how it runs in a clean environment."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from minidumper import __version__
from tests.support import paths

LIB = paths.CHECKOUT / "lib"
MANIFEST: dict[str, str] = {
    entry["path"]: entry["sha256"]
    for entry in json.loads((LIB / "MANIFEST.json").read_bytes())["files"]
}


def build(kind: str, folder: Path, system: str = "") -> Path:
    """Build a wheel or sdist of the checkout for a system, this one by default."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", folder],
        cwd=paths.CHECKOUT,
        env=os.environ | {"MINIDUMPER_WHEEL": system},
        capture_output=True,
        check=True,
    )
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"), "linux_x86_64")


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' folder of a virtual environment that holds the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = folder / "bin" / "pip"
    subprocess.run([pip, "--disable-pip-version-check", "install", "--quiet", wheel], check=True)
    return folder / "bin"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command away from the checkout; what it says is in the failure."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def check_content(wheel: Path, other_host: str) -> None:
    """lib/ is in the wheel as its manifest says, but for the other system's host."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("minidumper/lib/")]
        hashes = {
            name.removeprefix("minidumper/lib/"): hashlib.sha256(archive.read(name)).hexdigest()
            for name in names
        }
    assert hashes.pop("MANIFEST.json") == _sha256(LIB / "MANIFEST.json")
    assert hashes == {
        path: sha256
        for path, sha256 in MANIFEST.items()
        if not path.startswith(f"host/{other_host}/")
    }


def test_linux_wheel_is_small_and_holds_its_host(wheel: Path) -> None:
    assert wheel.name == f"minidumper-{__version__}-py3-none-manylinux_2_27_x86_64.whl"
    assert wheel.stat().st_size < 25_000_000
    check_content(wheel, other_host="win-x64")


def test_windows_wheel_is_small_and_holds_its_host(tmp_path: Path) -> None:
    wheel = build("wheel", tmp_path, "win_amd64")
    assert wheel.name == f"minidumper-{__version__}-py3-none-win_amd64.whl"
    assert wheel.stat().st_size < 25_000_000
    check_content(wheel, other_host="linux-x64")


def test_wheel_of_another_system_relies_on_an_installed_host(tmp_path: Path) -> None:
    wheel = build("wheel", tmp_path, "macosx_14_0_arm64")
    assert wheel.name == f"minidumper-{__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert "minidumper/lib/bridge/MiniDumper.Bridge.dll" in names
    assert [name for name in names if "/lib/host/" in name] == []


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    sources = {
        path.relative_to(paths.CHECKOUT).as_posix()
        for path in (paths.CHECKOUT / "minidumper").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {name for name in names if not name.startswith("minidumper/lib/")}
    assert sources >= {"minidumper/py.typed"}
    assert {name for name in ours if ".dist-info/" not in name} == sources
    assert f"minidumper-{__version__}.dist-info/licenses/LICENSE" in ours


def test_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", tmp_path / "sdist")
    # Not tarfile: its filters, which Python 3.12 asks for, came with 3.11.4.
    subprocess.run(["tar", "-xf", sdist, "-C", tmp_path], check=True)
    tree = tmp_path / sdist.name.removesuffix(".tar.gz")
    for path, sha256 in MANIFEST.items():
        assert _sha256(tree / "lib" / path) == sha256, path
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=tree,
        env=os.environ | {"MINIDUMPER_WHEEL": "linux_x86_64"},
        capture_output=True,
        check=True,
    )
    again = zipfile.ZipFile(tmp_path / wheel.name)
    first = zipfile.ZipFile(wheel)
    assert {info.filename: (info.CRC, info.external_attr) for info in again.infolist()} == {
        info.filename: (info.CRC, info.external_attr) for info in first.infolist()
    }


@pytest.mark.gate("linux")
def test_installed_command_says_its_version(environment: Path, tmp_path: Path) -> None:
    assert __version__ in run(environment / "minidumper", "--version", cwd=tmp_path).stdout


@pytest.mark.gate("linux")
def test_import_loads_neither_clr_nor_click(environment: Path, tmp_path: Path) -> None:
    code = (
        "import minidumper, sys; print(sorted({'clr', 'click', 'pythonnet'} & sys.modules.keys()))"
    )
    assert run(environment / "python", "-c", code, cwd=tmp_path).stdout == "[]\n"


@pytest.mark.gate("linux")
def test_installed_host_is_the_package_s_own_and_runs(environment: Path, tmp_path: Path) -> None:
    code = "from minidumper.clr.host import find_host; print(find_host().dotnet_root)"
    root = Path(run(environment / "python", "-c", code, cwd=tmp_path).stdout.strip())
    assert root.parts[-4:] == ("minidumper", "lib", "host", "linux-x64")
    assert "10.0.14" in run(root / "dotnet", "--list-runtimes", cwd=tmp_path).stdout
    assert os.access(root / "shared/Microsoft.NETCore.App/10.0.14/createdump", os.X_OK)


@pytest.mark.gate("linux", "ptrace")
def test_installed_demo_reads_its_own_dump_back(environment: Path, tmp_path: Path) -> None:
    assert run(environment / "minidumper", "demo", cwd=tmp_path).stdout


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
