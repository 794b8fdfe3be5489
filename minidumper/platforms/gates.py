"""What a gate is: something that can keep us from dumping a process."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class State(enum.Enum):
    """Whether a gate lets us through."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate, what was seen of it, and how to open it.

    `fixes` maps "shell", "docker" and "kubernetes" to a command or a setting. `blocks` is False
    where only a part of what minidumper does needs it.
    """

    name: str
    state: State
    evidence: str
    fixes: Mapping[str, str] = field(default_factory=dict)
    blocks: bool = True


def gate(
    name: str,
    passed: bool | None,
    evidence: str,
    fixes: Mapping[str, str] | None = None,
    *,
    blocks: bool = True,
) -> Gate:
    """A gate that passed, failed or (None) is not known; an open one needs no fix."""
    state = {True: State.PASSED, False: State.FAILED, None: State.UNKNOWN}[passed]
    return Gate(name, state, evidence, {} if passed else fixes or {}, blocks)
