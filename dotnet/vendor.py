"""Fill lib/: bridge, guardian, ClrMD, a trimmed .NET host for two systems, demo program, licences.

    python dotnet/vendor.py [--toolchain DIR]

Everything comes from the pinned packages in DIR (offline) and from the sources beside this file,
so a second run, or a run in another checkout, gives the same bytes and touches nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

DOTNET = Path(__file__).resolve().parent
LIB = DOTNET.parent / "lib"

RUNTIME_VERSION = "10.0.14"
SDK_VERSION = "10.0.401"
SHARED = f"shared/Microsoft.NETCore.App/{RUNTIME_VERSION}"

# What lies beside the bridge; everything else that ClrMD names serves symbol servers and snapshots
# of its own making.
BRIDGE_PACKAGES = {
    "Microsoft.Diagnostics.Runtime": "ClrMD",
    "Azure.Core": "ClrMD: the type of an option that it reads before it looks for any file",
}

# What the worker (pythonnet, bridge, ClrMD) and the demo program reach: the type references of
# these four, followed through every facade, and what is loaded at the end of a run. Left out is
# what ClrMD needs for symbol servers, diagnostic ports and Authenticode, none of which minidumper
# asks it for. tests/packaging/test_host.py compiles every method on the result.
ASSEMBLIES = {
    "Microsoft.CSharp": "pythonnet: its dynamic objects",
    "Microsoft.Win32.Primitives": "facade (Win32Exception)",
    "netstandard": "facade: pythonnet is built against it",
    "System.Collections": "LinkedList, SortedDictionary, Stack",
    "System.Collections.Concurrent": "pythonnet, ClrMD",
    "System.Collections.Immutable": "ClrMD: its public collections",
    "System.Collections.NonGeneric": "ClrMD, System.ComponentModel.Primitives",
    "System.Collections.Specialized": "System.Diagnostics.Process",
    "System.ComponentModel": "ClrMD: IServiceProvider",
    "System.ComponentModel.Primitives": "System.Diagnostics.Process",
    "System.Console": "the demo's line; errors of the runtime itself",
    "System.Diagnostics.FileVersionInfo": "System.Diagnostics.Process",
    "System.Diagnostics.Process": "pythonnet, ClrMD",
    "System.Diagnostics.StackTrace": "facade; text of exceptions",
    "System.Diagnostics.TraceSource": "ClrMD: Trace",
    "System.Diagnostics.Tracing": "facade (EventSource)",
    "System.IO.MemoryMappedFiles": "ClrMD: dump files",
    "System.IO.Pipelines": "System.Text.Json: in signatures of its documents",
    "System.Linq": "all four",
    "System.Linq.Expressions": "pythonnet: loaded at its start",
    "System.Memory": "ClrMD, bridge: spans, sequences",
    "System.Numerics.Vectors": "facade: loaded at pythonnet's start",
    "System.ObjectModel": "pythonnet: KeyedCollection",
    "System.Private.CoreLib": "the core library, kept precompiled (15 MB) for a quick start",
    "System.Private.Uri": "ClrMD: a static Uri",
    "System.Reflection.Emit": "pythonnet: types for delegates; the demo's dynamic assembly",
    "System.Reflection.Emit.ILGeneration": "facade",
    "System.Reflection.Emit.Lightweight": "facade (DynamicMethod)",
    "System.Reflection.Metadata": "System.Reflection.Emit; stack traces with portable symbols",
    "System.Reflection.Primitives": "facade",
    "System.Runtime": "facade: everything is built against it",
    "System.Runtime.Extensions": "facade",
    "System.Runtime.InteropServices": "ComWrappers, Marshal, NativeLibrary",
    "System.Runtime.Intrinsics": "facade",
    "System.Runtime.Loader": "facade (AssemblyLoadContext): hostfxr's entry points",
    "System.Runtime.Numerics": "pythonnet: BigInteger",
    "System.Runtime.Serialization.Formatters": "pythonnet: loaded at its start",
    "System.Text.Encoding.Extensions": "facade",
    "System.Text.Encodings.Web": "System.Text.Json",
    "System.Text.Json": "bridge: questions and answers",
    "System.Threading": "Barrier, ReaderWriterLock and facade (Monitor)",
    "System.Threading.Tasks": "facade",
    "System.Threading.Thread": "facade",
    "System.Threading.ThreadPool": "facade",
}


@dataclass(frozen=True)
class System:
    """What differs between the two hosts.

    The muxer (`dotnet`) is in no runtime package: it is the toolchain's own, of the version that
    its file states.
    """

    rid: str
    hostfxr: str
    native: dict[str, str]
    assemblies: dict[str, str]
    muxer: str
    muxer_package: str
    muxer_version: str
    muxer_licence: str


SYSTEMS = (
    System(
        rid="linux-x64",
        hostfxr="libhostfxr.so",
        native={
            "createdump": "the runtime's own dumps, to compare ours with",
            "libSystem.Native.so": "files, processes, console",
            "libclrjit.so": "the JIT",
            "libcoreclr.so": "the runtime",
            "libhostpolicy.so": "reads runtimeconfig and deps.json",
            "libmscordaccore.so": "the DAC: the demo's dump is made and read with it",
            "libmscordbi.so": "ICorDebug on the demo",
        },
        assemblies={},
        muxer="dotnet/dotnet",
        muxer_package=f".NET SDK {SDK_VERSION} linux-x64, dotnet-sdk.tar.xz of the toolchain",
        muxer_version="10.0.1226.42308",
        muxer_licence="dotnet/LICENSE.txt",
    ),
    System(
        rid="win-x64",
        hostfxr="hostfxr.dll",
        native={
            "clrjit.dll": "the JIT",
            "coreclr.dll": "the runtime",
            "createdump.exe": "the runtime's own dumps, to compare ours with",
            "hostpolicy.dll": "reads runtimeconfig and deps.json",
            "mscordaccore.dll": "the DAC: the demo's dump is made and read with it",
            "mscordbi.dll": "ICorDebug on the demo",
            "mscorrc.dll": "the texts of the runtime's errors",
        },
        assemblies={"Microsoft.Win32.Registry": "System.Diagnostics.Process"},
        muxer="windows/dotnet.exe",
        muxer_package=".NET host win-x64, windows-debuggers.tar.xz of the toolchain",
        muxer_version="8.0.424.16909",
        muxer_licence="windows/DOTNET-LICENSE.txt",
    ),
)

EXECUTABLE = {"dotnet", "createdump"}

# Packages beside the bridge name their licence (MIT) and their owner, and carry no text.
MICROSOFT_MIT = """\
The MIT License (MIT)

Copyright (c) Microsoft Corporation. All rights reserved.

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


@dataclass(frozen=True)
class Source:
    """Where a file comes from."""

    package: str
    version: str


class Shelf:
    """The files of lib/, in memory until all are there."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, Source]] = {}

    def add(self, path: str, content: bytes, source: Source) -> None:
        """Put one file at `path`, relative to lib/."""
        self._files[path] = (content, source)

    def write(self, folder: Path) -> int:
        """Make `folder` hold these files and no others; return how many had to change."""
        contents = {path: content for path, (content, _) in self._files.items()}
        contents["MANIFEST.json"] = self._manifest()
        changed = sum(_write(folder / path, content) for path, content in contents.items())
        for extra in sorted(folder.rglob("*"), reverse=True):
            if extra.is_dir():
                if not any(extra.iterdir()):
                    extra.rmdir()
            elif extra.relative_to(folder).as_posix() not in contents:
                extra.unlink()
                changed += 1
        return changed

    def _manifest(self) -> bytes:
        entries = [
            {
                "path": path,
                "package": source.package,
                "version": source.version,
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for path, (content, source) in sorted(self._files.items())
        ]
        return (json.dumps({"files": entries}, indent=1) + "\n").encode()


def _write(path: Path, content: bytes) -> bool:
    """Replace the file at `path` where its bytes differ: a process may have the old one mapped."""
    mode = 0o755 if path.name in EXECUTABLE else 0o644
    if path.is_file() and path.read_bytes() == content and path.stat().st_mode & 0o777 == mode:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(content)
    fresh.chmod(mode)
    fresh.replace(path)
    return True


@dataclass(frozen=True)
class Toolchain:
    """The unpacked toolchain: its packages, and the folder that its install.py filled."""

    nuget: Path
    root: Path

    @classmethod
    def install(cls, folder: Path) -> Toolchain:
        """Run the toolchain's install.py into the user's cache; a second run does nothing."""
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        root = cache / "minidumper-toolchain"
        _run([sys.executable, str(folder / "install.py"), "--dest", str(root), "--windows"])
        return cls(folder / "nuget", root)

    def package(self, name: str, version: str) -> ZipFile:
        """Open a NuGet package."""
        return ZipFile(self.nuget / f"{name}.{version}.nupkg".lower())

    def build(self, project: Path, output: Path) -> None:
        """Build one project into `output`, leaving nothing beside its sources nor a process."""
        dotnet = self.root / "dotnet"
        environment = os.environ | {
            "DOTNET_ROOT": str(dotnet),
            "DOTNET_CLI_TELEMETRY_OPTOUT": "1",
            "DOTNET_NOLOGO": "1",
            "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",
            "NUGET_PACKAGES": str(self.root / "packages"),
        }
        with tempfile.TemporaryDirectory() as artifacts:
            _run(
                [
                    *(str(dotnet / "dotnet"), "build", str(project), "-c", "Release"),
                    *("--configfile", str(self.root / "NuGet.Config"), "-o", str(output)),
                    *("--artifacts-path", artifacts, "--disable-build-servers", "-v", "quiet"),
                ],
                environment,
            )


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nvendor.py: {command[0]} ended with {done.returncode}")


def add_host(shelf: Shelf, toolchain: Toolchain, system: System) -> None:
    """Lay one trimmed runtime out as a DOTNET_ROOT."""
    rid = system.rid
    name = f"Microsoft.NETCore.App.Runtime.{rid}"
    source = Source(name, RUNTIME_VERSION)
    host = f"host/{rid}"
    managed = {f"{assembly}.dll" for assembly in ASSEMBLIES | system.assemblies}

    with toolchain.package(name, RUNTIME_VERSION) as package:
        library, native = f"runtimes/{rid}/lib/net10.0", f"runtimes/{rid}/native"
        for leaf in managed:
            shelf.add(f"{host}/{SHARED}/{leaf}", package.read(f"{library}/{leaf}"), source)
        for leaf in system.native:
            shelf.add(f"{host}/{SHARED}/{leaf}", package.read(f"{native}/{leaf}"), source)
        hostfxr = package.read(f"{native}/{system.hostfxr}")
        shelf.add(f"{host}/host/fxr/{RUNTIME_VERSION}/{system.hostfxr}", hostfxr, source)

        deps = "Microsoft.NETCore.App.deps.json"
        trimmed = trim_deps(package.read(f"{library}/{deps}"), managed | system.native.keys())
        shelf.add(f"{host}/{SHARED}/{deps}", trimmed, source)

        for leaf in ("LICENSE.TXT", "THIRD-PARTY-NOTICES.TXT"):
            shelf.add(f"licences/dotnet-{rid}/{leaf}", package.read(leaf), source)

    muxer = toolchain.root / system.muxer
    muxer_source = Source(system.muxer_package, system.muxer_version)
    shelf.add(f"{host}/{muxer.name}", muxer.read_bytes(), muxer_source)
    licence = (toolchain.root / system.muxer_licence).read_bytes()
    shelf.add(f"licences/dotnet-{rid}/MUXER-LICENSE.txt", licence, muxer_source)


def trim_deps(deps: bytes, keep: set[str]) -> bytes:
    """Leave only `keep` in a framework's deps.json: hostpolicy wants every file it names."""
    content = json.loads(deps)
    for libraries in content["targets"].values():
        for library in libraries.values():
            for kind in ("runtime", "native"):
                files = library.get(kind, {})
                library[kind] = {leaf: about for leaf, about in files.items() if leaf in keep}
    return (json.dumps(content, indent=1) + "\n").encode()


def add_bridge(shelf: Shelf, toolchain: Toolchain) -> None:
    """Build the bridge, and take the packages that it needs at run time from its output."""
    project = DOTNET / "MiniDumper.Bridge/MiniDumper.Bridge.csproj"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        toolchain.build(project, output)
        for leaf in ("MiniDumper.Bridge.dll", "MiniDumper.Bridge.runtimeconfig.json"):
            shelf.add(f"bridge/{leaf}", (output / leaf).read_bytes(), built_here(project))

        deps = json.loads((output / "MiniDumper.Bridge.deps.json").read_bytes())
        versions = dict(library.split("/") for library in deps["libraries"])
        for name in BRIDGE_PACKAGES:
            source = Source(name, versions[name])
            shelf.add(f"bridge/{name}.dll", (output / f"{name}.dll").read_bytes(), source)
            shelf.add(f"licences/{name}/LICENSE.TXT", MICROSOFT_MIT.encode(), source)


def add_guardian(shelf: Shelf, toolchain: Toolchain) -> None:
    """Build the process that holds a target while minidumper waits."""
    project = DOTNET / "MiniDumper.Guardian/MiniDumper.Guardian.csproj"
    with tempfile.TemporaryDirectory() as folder:
        toolchain.build(project, Path(folder))
        for leaf in ("MiniDumper.Guardian.dll", "MiniDumper.Guardian.runtimeconfig.json"):
            shelf.add(f"guardian/{leaf}", (Path(folder) / leaf).read_bytes(), built_here(project))


def add_demo(shelf: Shelf, toolchain: Toolchain) -> None:
    """Build the demo program: one file for both systems, started by the muxer."""
    project = DOTNET / "targets/Demo/Demo.csproj"
    with tempfile.TemporaryDirectory() as folder:
        toolchain.build(project, Path(folder))
        for leaf in ("Demo.dll", "Demo.runtimeconfig.json"):
            content = (Path(folder) / leaf).read_bytes()
            shelf.add(f"targets/{leaf}", content, built_here(project))


def built_here(project: Path) -> Source:
    """Name a project of this checkout, and what compiled it."""
    return Source(project.parent.relative_to(DOTNET.parent).as_posix(), f"SDK {SDK_VERSION}")


def main() -> None:
    """Fill lib/ and say what changed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = DOTNET.parent.parent / "shared/toolchain"
    parser.add_argument("--toolchain", type=Path, default=default, metavar="DIR")
    toolchain = Toolchain.install(parser.parse_args().toolchain)

    shelf = Shelf()
    for system in SYSTEMS:
        add_host(shelf, toolchain, system)
    add_bridge(shelf, toolchain)
    add_guardian(shelf, toolchain)
    add_demo(shelf, toolchain)
    changed = shelf.write(LIB)
    print(f"lib/: {changed} files changed" if changed else "lib/ is up to date")


if __name__ == "__main__":
    main()
