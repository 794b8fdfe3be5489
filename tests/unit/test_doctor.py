"""The verdict and the text of `doctor`."""

from __future__ import annotations

from minidumper.cli import doctor
from minidumper.platforms.gates import Gate, gate


def opened(*, but: str = "", blocks: bool = True) -> list[Gate]:
    names = ("exists", "user", "runtime", "stop and plan", "memory for --async")
    fixes = {"shell": "sudo", "docker": "cap", "kubernetes": "cap"}
    return [gate(name, name != but, f"about {name}", fixes, blocks=blocks) for name in names]


def test_the_exit_code_is_that_of_the_first_closed_gate() -> None:
    assert doctor.exit_code(opened()) == 0
    assert doctor.exit_code(opened(but="exists")) == 3
    assert doctor.exit_code(opened(but="user")) == 4
    assert doctor.exit_code(opened(but="runtime")) == 1


def test_a_gate_that_only_a_part_needs_does_not_decide() -> None:
    assert doctor.exit_code(opened(but="memory for --async", blocks=False)) == 0


def test_an_unknown_gate_does_not_decide() -> None:
    assert doctor.exit_code([gate("user", None, "hidden", {"shell": "sudo"})]) == 0


def test_equal_fixes_share_a_line() -> None:
    assert list(doctor.text(opened(but="user")))[1:4] == [
        "failed   user                about user",
        "         shell: sudo",
        "         Docker, Kubernetes: cap",
    ]
    assert list(doctor.text(opened(but="user")))[-1] == "a heap dump would not work"
    assert list(doctor.text(opened()))[-1] == "a heap dump would work"


def test_without_a_process_no_dump_is_promised() -> None:
    assert "would work" not in list(doctor.text([gate("host", True, "there")]))[-1]
