"""Which processes a name means."""

from __future__ import annotations

import pytest

from minidumper.errors import AmbiguousTargetError, TargetNotFoundError
from minidumper.platforms.finding import Candidate, candidate, find_pid

APP = candidate(7, "dotnet", ["/usr/bin/dotnet", "exec", "/srv/MyApp.dll", "--plugin", "Other.dll"])
SUDO = candidate(6, "sudo", ["sudo", "dotnet", "/srv/MyApp.dll"])
SHELL = candidate(5, "sh", ["sh", "-c", "dotnet /srv/MyApp.dll"])
OURSELVES = candidate(4, "timeout", ["timeout", "9", "minidumper", "-mh", "MyApp.dll"])
HOST = candidate(8, "Api.Gateway", ["./Api.Gateway", "--urls", "http://+:80"])
KERNEL = candidate(2, "kthreadd", [])
ALL = [APP, SUDO, SHELL, OURSELVES, HOST, KERNEL]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("MyApp", APP),
        ("MyApp.dll", APP),
        ("myapp.DLL", APP),
        ("My*", APP),
        ("dotnet", APP),
        ("dotnet.exe", APP),
        ("Api.Gateway", HOST),
        ("api.gatewa?", HOST),
        ("kthreadd", KERNEL),
        ("sudo", SUDO),
    ],
)
def test_a_name_means_one_process(name: str, found: Candidate) -> None:
    assert find_pid(name, ALL) == found.pid


@pytest.mark.parametrize("name", ["Other", "MyAp", "", "minidumper", "api.gateway.dll.dll"])
def test_a_name_means_no_process(name: str) -> None:
    with pytest.raises(TargetNotFoundError) as caught:
        find_pid(name, ALL)
    assert caught.value.name == name


def test_a_name_means_several_processes() -> None:
    twin = candidate(9, "dotnet", ["dotnet", "MyApp.dll"])
    with pytest.raises(AmbiguousTargetError, match="2 processes are named MyApp") as caught:
        find_pid("MyApp", [*ALL, twin])
    told = "dotnet exec MyApp.dll --plugin Other.dll"
    assert caught.value.candidates == ((7, told), (9, "dotnet MyApp.dll"))
