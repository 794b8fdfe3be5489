"""The exception tree: every error says what failed and why, carries a hint and an exit code.

MiniDumperError                         .hint, .exit_code
  UsageError                            a request that contradicts itself
  TargetError                           .pid, .name
    TargetNotFoundError                 also ProcessLookupError
    AmbiguousTargetError                .candidates
    TargetExitedError
    AccessDeniedError                   .gate; also PermissionError
    AlreadyTracedError                  .tracer_pid
    BitnessMismatchError
    UnsupportedTargetError
  MemoryFaultError                      .address, .size
  ClrError
    HostRuntimeNotFoundError
    NoClrInTargetError
    DacNotFoundError
    DacUntrustedError
    BridgeError                         .exit_status
  CaptureError                          .stage, .path
    StopTimeoutError
    OutputError
    InsufficientMemoryError
    NativeCallError                     .api, .code
  DumpFormatError                       .path, .offset
  VerifyError                           .problems
"""

from __future__ import annotations

from collections.abc import Sequence

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_TARGET = 3
EXIT_ACCESS_DENIED = 4
EXIT_VERIFY = 5
EXIT_INTERRUPTED = 130


class MiniDumperError(Exception):
    """Base of every error that minidumper raises on purpose.

    Attributes:
        hint: what the user can do next; empty where nothing is known.
        exit_code: what the command line ends with.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(MiniDumperError):
    """The request contradicts itself or cannot be understood."""

    exit_code = EXIT_USAGE


class TargetError(MiniDumperError):
    """Something about the process to be dumped."""

    def __init__(self, message: str, *, pid: int = 0, name: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.pid = pid
        self.name = name


class TargetNotFoundError(TargetError, ProcessLookupError):
    """No process has this pid or name."""

    exit_code = EXIT_NO_TARGET


class AmbiguousTargetError(TargetError):
    """A name that several processes carry; `candidates` are (pid, description) pairs."""

    exit_code = EXIT_USAGE

    def __init__(
        self, message: str, *, candidates: Sequence[tuple[int, str]], name: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, name=name, hint=hint)
        self.candidates = tuple(candidates)


class TargetExitedError(TargetError):
    """The process ended while it was being dumped."""

    exit_code = EXIT_NO_TARGET


class AccessDeniedError(TargetError, PermissionError):
    """The system does not let us look into the process.

    `gate` names what closed: "user", "yama", "capability", "seccomp", "protected" or "unknown".
    """

    exit_code = EXIT_ACCESS_DENIED

    def __init__(
        self, message: str, *, gate: str, pid: int = 0, name: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, pid=pid, name=name, hint=hint)
        self.gate = gate


class AlreadyTracedError(TargetError):
    """A debugger holds the process; `tracer_pid` is its pid."""

    exit_code = EXIT_ACCESS_DENIED

    def __init__(self, message: str, *, tracer_pid: int, pid: int = 0, hint: str = "") -> None:
        super().__init__(message, pid=pid, hint=hint)
        self.tracer_pid = tracer_pid


class BitnessMismatchError(TargetError):
    """The process has another pointer size than this Python."""


class UnsupportedTargetError(TargetError):
    """The process can be seen, but this mode cannot serve it (architecture, libc, system)."""


class MemoryFaultError(MiniDumperError):
    """Memory of the target that must be readable was not.

    `address` and `size` (bytes) are those of the request.
    """

    def __init__(self, message: str, *, address: int, size: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.address = address
        self.size = size


class ClrError(MiniDumperError):
    """The CLR side (host, DAC, ClrMD, bridge) cannot serve the target."""


class HostRuntimeNotFoundError(ClrError):
    """No .NET runtime was found to host ClrMD."""


class NoClrInTargetError(ClrError):
    """The target has no CoreCLR in it, or one that has no DAC (NativeAOT)."""


class DacNotFoundError(ClrError):
    """No data access component (DAC) matches the target's runtime."""


class DacUntrustedError(ClrError):
    """The DAC lies where other users can write; loading it would run their code."""


class BridgeError(ClrError):
    """The worker process crashed, hung or answered with an error.

    `exit_status` is that of the worker (negative: the signal), None while it still ran.
    """

    def __init__(self, message: str, *, exit_status: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_status = exit_status


class CaptureError(MiniDumperError):
    """A dump could not be taken; `stage` says where, `path` which file it was for."""

    def __init__(self, message: str, *, stage: str = "", path: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.stage = stage
        self.path = path


class StopTimeoutError(CaptureError):
    """A thread of the target would not stop in time."""


class OutputError(CaptureError):
    """The file cannot be written: it exists, the folder is missing, the disk is full."""


class InsufficientMemoryError(CaptureError):
    """A copy into memory would not fit into this machine or its control group."""


class NativeCallError(CaptureError):
    """A system call or API failed; `api` is its name, `code` its errno, last error or HRESULT."""

    def __init__(self, api: str, code: int, *, detail: str = "", hint: str = "") -> None:
        text = (
            f"{api} failed with 0x{code & 0xFFFFFFFF:08x}"
            if code < 0 or code > 4095
            else (f"{api} failed with error {code}")
        )
        super().__init__(f"{text}{f' ({detail})' if detail else ''}", stage=api, hint=hint)
        self.api = api
        self.code = code


class DumpFormatError(MiniDumperError):
    """A file is not a dump, or a damaged one; `offset` is where in the file (bytes)."""

    def __init__(self, message: str, *, path: str = "", offset: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.offset = offset


class VerifyError(MiniDumperError):
    """A dump does not hold what its readers need; `problems` has one line each."""

    exit_code = EXIT_VERIFY

    def __init__(self, message: str, *, problems: Sequence[str], hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)
