"""Where the host is found: embedded, else installed, else an error that says what to do."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from minidumper.clr import host
from minidumper.errors import HostRuntimeNotFoundError


def dotnet(root: Path, version: str) -> Path:
    """A folder laid out as DOTNET_ROOT."""
    for folder in ("host/fxr", "shared/Microsoft.NETCore.App"):
        (root / folder / version).mkdir(parents=True)
    return root


@pytest.fixture
def lib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `lib/` with a bridge and no host, on a machine without .NET."""
    monkeypatch.setattr(host, "_lib", lambda: tmp_path / "lib")
    monkeypatch.setattr(host, "_INSTALLED", ())
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("DOTNET_ROOT", raising=False)
    monkeypatch.delenv("ProgramFiles", raising=False)
    bridge = tmp_path / "lib" / "bridge" / "MiniDumper.Bridge.dll"
    bridge.parent.mkdir(parents=True)
    bridge.touch()
    return tmp_path / "lib"


def test_the_embedded_host_of_this_system(lib: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, folder in (("linux-x86_64", "linux-x64"), ("win-amd64", "win-x64")):
        monkeypatch.setattr(sysconfig, "get_platform", lambda platform=platform: platform)
        embedded = dotnet(lib / "host" / folder, "10.0.14")
        found = host.find_host()
        assert found.dotnet_root == embedded
        assert found.bridge == lib / "bridge" / "MiniDumper.Bridge.dll"
        assert found.runtime_config == lib / "bridge" / "MiniDumper.Bridge.runtimeconfig.json"


def test_an_installed_one_that_is_new_enough(
    lib: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_platform", lambda: "linux-aarch64")
    old = dotnet(tmp_path / "old", "9.0.22")
    new = dotnet(tmp_path / "new", "11.0.0-preview.1")
    monkeypatch.setattr(host, "_INSTALLED", (str(new),))
    monkeypatch.setenv("DOTNET_ROOT", str(old))
    assert host.find_host().dotnet_root == new


def test_none_says_what_to_install(lib: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostRuntimeNotFoundError, match=r"no \.NET 10 or newer") as caught:
        host.find_host()
    assert "DOTNET_ROOT" in caught.value.hint
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    with pytest.raises(HostRuntimeNotFoundError, match=r"no x86 \.NET 10 or newer") as caught:
        host.find_host()
    assert "install the x86 .NET 10 runtime" in caught.value.hint


def test_a_missing_bridge(lib: Path) -> None:
    (lib / "bridge" / "MiniDumper.Bridge.dll").unlink()
    with pytest.raises(HostRuntimeNotFoundError, match="the bridge is missing"):
        host.find_host()
