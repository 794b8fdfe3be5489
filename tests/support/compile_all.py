"""A program for test_host: compiles every method of some assemblies on lib/'s own host.

    python compile_all.py DOTNET_ROOT BRIDGE ASSEMBLY…

Prints as JSON how many methods compiled, and for each type with methods that do not, the
assemblies that they lack.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from minidumper.clr.worker import load_bridge


def main() -> None:
    dotnet_root, bridge, *assemblies = sys.argv[1:]
    load_bridge(dotnet_root, str(Path(bridge).with_suffix(".runtimeconfig.json")), bridge)
    from System.Reflection import Assembly, ReflectionTypeLoadException

    compiled = 0
    missing: dict[str, list[str]] = {}
    for path in assemblies:
        try:
            types = Assembly.LoadFrom(path).GetTypes()
        except ReflectionTypeLoadException as error:
            types = [each for each in error.Types if each]
        for each in types:
            count, lacks = compile_type(each)
            compiled += count
            if lacks:
                missing[each.FullName] = sorted(lacks)
    print(json.dumps({"compiled": compiled, "missing": missing}))


def compile_type(each: Any) -> tuple[int, set[str]]:
    """How many methods compiled, and the assemblies that others need and do not find."""
    from System.IO import FileNotFoundException
    from System.Reflection import BindingFlags, MethodAttributes, MethodImplAttributes
    from System.Runtime.CompilerServices import RuntimeHelpers

    everything = (
        BindingFlags.DeclaredOnly
        | BindingFlags.Instance
        | BindingFlags.Static
        | BindingFlags.Public
        | BindingFlags.NonPublic
    )
    without_code = MethodAttributes.Abstract | MethodAttributes.PinvokeImpl
    compiled, lacks = 0, set()
    for method in [*each.GetMethods(everything), *each.GetConstructors(everything)]:
        if (
            each.ContainsGenericParameters
            or method.ContainsGenericParameters
            or int(method.Attributes & without_code)
            or int(method.MethodImplementationFlags) & int(MethodImplAttributes.Runtime)
        ):
            continue
        try:
            RuntimeHelpers.PrepareMethod(method.MethodHandle)
            compiled += 1
        except FileNotFoundException as error:
            lacks.add(error.FileName.partition(",")[0])
    return compiled, lacks


if __name__ == "__main__":
    main()
