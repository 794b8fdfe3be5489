"""Gates (see support/gates.py), and the rule that a test leaves no process behind."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

from tests.support import gates, processes, wine

# A busy machine is no failure: time is measured in benchmarks/, never asserted.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default="",
        metavar="GATES",
        help="gates that must be open: names separated by commas, or 'all'",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gate(*names): needs these gates open (support/gates.py)")
    text: str = config.getoption("--require")
    gates.required.update(gates.GATES if text == "all" else filter(None, text.split(",")))
    if unknown := gates.required - gates.GATES.keys():
        raise pytest.UsageError(
            f"--require: no gate {', '.join(sorted(unknown))}; there are {', '.join(gates.GATES)}"
        )
    processes.adopt_orphans()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture, so that none is made for a test that will not run."""
    gates.demand(*(name for mark in item.iter_markers("gate") for name in mark.args))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if gates.met_closed:
        terminalreporter.section("closed gates")
    for name, reason in sorted(gates.met_closed.items()):
        terminalreporter.line(f"{name}: {reason}")


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """A test ends the processes that it starts; those of its wider fixtures may stay."""
    before = processes.descendants()
    yield
    left = processes.end_left_over(before)
    assert not left, f"the test left processes behind: {left}"


@pytest.fixture(scope="session")
def wine_session() -> Iterator[None]:
    """Wine that stays up for all tests: its prefix is locked, so there can be but one."""
    with wine.session():
        yield
