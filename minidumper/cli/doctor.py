"""Which gate would keep us from dumping a process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import EXIT_ACCESS_DENIED, EXIT_FAILED, EXIT_NO_TARGET, UsageError
from . import options, talk

if TYPE_CHECKING:
    from ..platforms.gates import Gate

_ACCESS = {
    *("user", "yama", "capabilities", "seccomp", "dumpable", "not traced", "namespaces"),
    "access",
}
_PROOF = "stop and plan"
_PLACES = {"shell": "shell", "docker": "Docker", "kubernetes": "Kubernetes"}


@click.command(
    "doctor",
    help="Tell which gate would keep a process from being dumped, and what opens it; without a "
    "process what is the same for all. The process is stopped for a moment where no gate is "
    "closed. The exit code is 0 only when a heap dump would work.",
)
@click.option(
    "--rescue",
    "rescues",
    is_flag=True,
    help="Let a process run on that a .NET debugger left stopped when it died (Linux).",
)
@options.DAC
@options.JSON
@options.QUIET
@options.VERBOSE
@click.argument("process", required=False, metavar="[PID|NAME]")
@click.pass_context
def command(
    context: click.Context,
    rescues: bool,
    dac: Sequence[Path],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    process: str | None,
) -> None:
    talk.begin(quiet=quiet, verbose=verbose)
    from .. import platforms
    from ..doctor import examine, rescue

    pid = None
    if process is not None:
        pid = (
            int(process) if process.isascii() and process.isdecimal() else platforms.pid_of(process)
        )
    if rescues:
        if pid is None:
            raise UsageError("--rescue needs a process", hint="minidumper doctor --rescue PID")
        freed = rescue(pid) > 0
        if as_json:
            talk.data({"pid": pid, "freed": freed})
        else:
            talk.result(
                f"process {pid} was stopped, and runs on" if freed else f"process {pid} runs"
            )
        return
    gates = list(examine(pid, dac))
    if as_json:
        talk.data([_row(gate) for gate in gates])
    else:
        talk.result("\n".join(text(gates)))
    context.exit(exit_code(gates))


def exit_code(gates: Sequence[Gate]) -> int:
    """0 only when no gate that a capture needs is closed; else that of the first closed one."""
    for gate in gates:
        if gate.state.value == "failed" and gate.blocks:
            if gate.name == "exists":
                return EXIT_NO_TARGET
            return EXIT_ACCESS_DENIED if gate.name in _ACCESS else EXIT_FAILED
    return 0


def text(gates: Sequence[Gate]) -> Iterator[str]:
    """A line a gate, with what opens a closed one below it, and the verdict."""
    width = max(len(gate.name) for gate in gates)
    for gate in gates:
        yield f"{gate.state.value:<7}  {gate.name:<{width}}  {gate.evidence}"
        if gate.fixes:
            fixes: dict[str, list[str]] = {}
            for place, fix in gate.fixes.items():
                fixes.setdefault(fix, []).append(_PLACES[place])
            for fix, places in fixes.items():
                yield f"{'':>9}{', '.join(places)}: {fix}"
    yield ""
    yield _verdict(gates)


def _verdict(gates: Sequence[Gate]) -> str:
    if exit_code(gates):
        return "a heap dump would not work"
    if any(gate.name == _PROOF for gate in gates):
        return "a heap dump would work"
    return "nothing keeps us from all processes alike; minidumper doctor PID looks at one"


def _row(gate: Gate) -> dict[str, object]:
    return {
        "gate": gate.name,
        "state": gate.state.value,
        "evidence": gate.evidence,
        "fixes": dict(gate.fixes),
        "blocks": gate.blocks,
    }
