"""The page of `regions --html` in a real Chromium: what is seen, hovered, searched and printed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minidumper.cli import regionpage
from minidumper.plan import DumpMode
from minidumper.ranges import Reason
from minidumper.regionmap import Estimate, RegionMap, RegionRow
from tests.support import gates

gates.demand("linux", module=True)

from tests.support.browser import Browser, browser  # noqa: E402

pytestmark = pytest.mark.gate("chromium")

HEAP = 0x7ED1_0800_0000
MB = 1 << 20
HOSTILE = "/lib/<script>window.hostile=1</script>.so"


def small() -> RegionMap:
    """60 MB of GC heap, 40 MB of native heap that a heap dump leaves out, small ones behind."""
    rows = (
        RegionRow(HEAP, HEAP + 60 * MB, 60 * MB, "rw-p", "", Reason.GC_HEAP | Reason.DAC_READ),
        RegionRow(HEAP + 60 * MB, HEAP + 4096 * MB, 0, "---p", "", Reason(0)),
        RegionRow(HEAP + 5000 * MB, HEAP + 5040 * MB, 40 * MB, "rw-p", "[heap]", Reason(0)),
        RegionRow(HEAP + 5040 * MB, HEAP + 5041 * MB, MB, "r--p", HOSTILE, Reason.METADATA),
        RegionRow(2**64 - 10 * MB, 2**64 - 10 * MB + 4096, 0, "--xp", "[vsyscall]", Reason(0)),
    )
    estimate = Estimate(61 * MB, 61 * MB, 0.2, 0.1, 1e9, 1e9, 10**11, 10**10, "MemAvailable")
    facts: dict[str, object] = {"runtime": "10.0.14"}
    return RegionMap(
        "1234", "Shop", 1234, DumpMode.HEAP, rows, ("gc: late",), facts, 0.01, estimate
    )


def large(count: int) -> RegionMap:
    """Many regions with many long names, as a large server has them."""
    folder = "/usr/share/dotnet/shared/Microsoft.NETCore.App/10.0.14"
    rows = [
        RegionRow(
            HEAP + index * 0x9000,
            HEAP + index * 0x9000 + 0x3000,
            0x2000,
            "rw-p",
            f"{folder}/System.Some.Long.Library.Name.{index // 4}.dll" if index % 3 else "",
            Reason(1 << index % 12) if index % 5 else Reason(0),
        )
        for index in range(count)
    ]
    return RegionMap("large.dmp", "Shop", 1234, DumpMode.HEAP, tuple(rows), ())


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    gates.demand("chromium")
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(chromium: Browser, tmp_path: Path) -> Browser:
    path = tmp_path / "page.html"
    path.write_text(regionpage.page(small()), encoding="utf-8")
    chromium.media()
    chromium.size(1200, 1400)
    chromium.open(path)
    return chromium


def text(page: Browser, selector: str) -> str:
    found: str = page.run(f"document.querySelector({selector!r}).innerText")
    return found


def point(page: Browser, part: float, line: int) -> tuple[float, float]:
    """Where in the window a part of a line of the picture is."""
    box: dict[str, float] = page.run("canvas.getBoundingClientRect().toJSON()")
    return box["x"] + part * box["width"], box["y"] + line * 18 + 7


def mouse(page: Browser, kind: str, at: tuple[float, float], **more: Any) -> None:
    page.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], **more)


def click(page: Browser, selector: str) -> None:
    page.run(f"(document.querySelector({selector!r}).click(), 1)")


def color_at(page: Browser, part: float, line: int) -> list[int]:
    """Red, green, blue of the picture itself."""
    script = (
        f"Array.from(context.getImageData({part} * canvas.width, {line} * 18 + 2, 1, 1).data)"
        ".slice(0, 3)"
    )
    found: list[int] = page.run(script)
    return found


def hex_color(text: str) -> list[int]:
    return [int(text[at : at + 2], 16) for at in (1, 3, 5)]


def test_the_page_asks_for_nothing_and_complains_of_nothing(page: Browser) -> None:
    (request,) = page.requests()
    assert request.startswith("file:")
    assert page.complaints() == []


def test_the_figures_say_what_is_in_and_what_is_left_out(page: Browser) -> None:
    assert text(page, "h1") == "Shop: what a heap dump holds"
    figures = text(page, "#figures")
    assert "64.0 MB" in figures  # 61 MiB
    assert "left out of a full one (40 %)" in figures
    assert "41.9 MB" in figures
    assert text(page, "#warnings") == "gc: late"


def test_the_bar_and_the_picture_have_the_same_proportions(page: Browser) -> None:
    widths = page.run("[...$('bar').children].map(part => part.getBoundingClientRect().width)")
    assert [round(width / sum(widths), 2) for width in widths] == [0.59, 0.01, 0.4]
    heap = hex_color(page.run("LIGHT[0]"))
    lines = page.run("shape.lines")
    assert color_at(page, 0.5, 0) == heap
    assert color_at(page, 0.3, int(lines * 0.5)) == heap
    left_out = color_at(page, 0.5, int(lines * 0.7))
    assert max(left_out) - min(left_out) < 20, "left out is gray"


def test_hovering_tells_of_a_region(page: Browser) -> None:
    mouse(page, "mouseMoved", point(page, 0.5, 1))
    tip = text(page, "#tip")
    assert "0x7ed108000000\u20130x7ed10bc00000" in tip
    assert "62.9 MB, 62.9 MB resident, rw-p" in tip
    assert "GC heap, read by the DAC" in tip
    mouse(page, "mouseMoved", point(page, 0.5, page.run("shape.lines") - 4))
    assert "left out" in text(page, "#tip")
    assert "[heap]" in text(page, "#tip")
    mouse(page, "mouseMoved", (5, 5))
    assert page.run("$('tip').hidden") is True


def test_every_way_to_zoom(page: Browser) -> None:
    total = page.run("TOTAL")

    def window() -> float:
        size: float = page.run("view.to - view.from")
        return size

    click(page, "#in")
    assert window() == total / 2
    click(page, "#whole")
    assert window() == total
    mouse(page, "mouseWheel", point(page, 0.5, 2), deltaX=0, deltaY=-100, modifiers=2)
    assert window() == pytest.approx(total * 0.8)
    click(page, "#out")
    page.run("(canvas.focus(), 1)")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="+", text="+")
    assert window() == pytest.approx(total / 2)
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Home")
    assert window() == total
    page.run("(canvas.dispatchEvent(new MouseEvent('dblclick', {clientX: 600, clientY: 600})), 1)")
    assert window() == pytest.approx(total / 4)


def test_a_plain_wheel_scrolls_the_page(page: Browser) -> None:
    page.size(1200, 500)
    page.run("(window.scrolled = new Promise(done => addEventListener('scroll', done)), 1)")
    mouse(page, "mouseWheel", (600, 450), deltaX=0, deltaY=200)
    assert page.run("window.scrolled.then(() => scrollY > 0)") is True
    assert page.run("view.to - view.from") == page.run("TOTAL")


def test_dragging_moves_a_zoomed_picture(page: Browser) -> None:
    click(page, "#in")
    before = page.run("view.from")
    mouse(page, "mousePressed", point(page, 0.5, 3), button="left", clickCount=1)
    mouse(page, "mouseMoved", point(page, 0.5, 5), button="left", buttons=1)
    mouse(page, "mouseReleased", point(page, 0.5, 5), button="left", clickCount=1)
    assert page.run("view.from") < before


def rows(page: Browser) -> list[list[str]]:
    found: list[list[str]] = page.run(
        "[...$('body').rows].map(row => [...row.cells].map(cell => cell.innerText))"
    )
    return found


def search(page: Browser, words: str) -> list[list[str]]:
    page.run(f"($('search').value = {words!r}, $('search').dispatchEvent(new Event('input')), 1)")
    return rows(page)


def test_searching_by_address_file_protection_and_reason(page: Browser) -> None:
    assert [row[0] for row in search(page, "0x7ed108123456")] == ["7ed108000000"]
    assert [row[6] for row in search(page, "[HEAP]")] == ["[heap]"]
    assert [row[4] for row in search(page, "---p")] == ["---p"]
    assert [row[5] for row in search(page, "read by")] == ["GC heap, read by the DAC"]
    assert search(page, "nothing has this name") == []
    assert text(page, "#count") == "0 of 5, 0.0 kB resident"
    assert len(search(page, "")) == 5


def test_addresses_of_64_bits_are_exact(page: Browser) -> None:
    assert rows(page)[-1][:2] == ["ffffffffff600000", "ffffffffff601000"]
    assert [row[6] for row in search(page, "ffffffffff600123")] == ["[vsyscall]"]


def test_a_chip_shows_one_reason_alone(page: Browser) -> None:
    click(page, "#legend button:last-child")
    assert [row[6] for row in rows(page)] == ["[heap]"]
    assert color_at(page, 0.5, 0) != hex_color(page.run("LIGHT[0]")), "the others are dimmed"
    assert page.run("document.querySelector('#legend button:last-child').ariaPressed") == "true"
    click(page, "#legend button:last-child")
    assert len(rows(page)) == 5


def test_sorting_by_a_column(page: Browser) -> None:
    click(page, "#head th:nth-child(4) button")
    assert [row[3] for row in rows(page)][:3] == ["62.9 MB", "41.9 MB", "1.0 MB"]
    assert page.run("$('head').children[3].ariaSort") == "ascending"


def test_a_row_leads_to_its_region(page: Browser) -> None:
    page.run("($('body').rows[3].click(), 1)")
    assert page.run("view.to - view.from") == 384  # 1 MB and a quarter on each side, in pages


def test_names_in_the_data_stay_text(page: Browser) -> None:
    assert page.run("document.scripts.length") == 2
    assert page.run("window.hostile === undefined") is True
    assert search(page, "hostile")[0][6] == HOSTILE


def test_dark_and_light(page: Browser) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.run(background) == "rgb(255, 255, 255)"
    page.media(dark=True)
    assert page.run(background) == "rgb(20, 23, 27)"
    assert color_at(page, 0.5, 0) == hex_color(page.run("DARK[0]"))


def test_a_phone_needs_no_sideways_scrolling(page: Browser) -> None:
    page.size(390, 844, phone=True)
    assert page.run("document.documentElement.scrollWidth") == 390
    table = "document.querySelector('.scroll')"
    assert page.run(f"{table}.scrollWidth - {table}.clientWidth") == 0
    assert page.run("getComputedStyle($('head').children[1]).display") == "none"
    page.run("(canvas.scrollIntoView(), 1)")
    x, y = point(page, 0.5, 1)
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert "0x7ed108000000" in text(page, "#tip")
    assert page.run("$('tip').getBoundingClientRect().right <= 390") is True


def test_print_is_light_and_has_no_tools(page: Browser, tmp_path: Path) -> None:
    page.media(dark=True, media="print")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.run("getComputedStyle(document.querySelector('.tools')).display") == "none"
    page.media()
    page.run("(dispatchEvent(new Event('beforeprint')), 1)")
    assert color_at(page, 0.5, 0) == hex_color(page.run("LIGHT[0]"))
    page.run("(dispatchEvent(new Event('afterprint')), 1)")
    paper = base64.b64decode(page.call("Page.printToPDF")["data"])
    assert paper.startswith(b"%PDF")
    assert b"/Subtype /Image" in paper, "the picture is on the paper"


def test_20000_regions_stay_below_2_mb_and_quick(chromium: Browser, tmp_path: Path) -> None:
    text = regionpage.page(large(20_000))
    assert len(text.encode()) < 2_000_000
    path = tmp_path / "large.html"
    path.write_text(text, encoding="utf-8")
    chromium.size(1200, 1400)
    chromium.open(path)
    assert chromium.complaints() == []
    assert chromium.run("regions.length") == 20_000
    assert chromium.run("$('body').rows.length") == 300
    chromium.run("($('scroll').scrollTop = $('scroll').scrollHeight, 1)")
    assert chromium.run("$('body').rows.length") == 600
    script = "(began => (draw(), performance.now() - began))(performance.now())"
    assert min(chromium.run(script) for _ in range(5)) < 200


def test_an_empty_map_is_a_page_too(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "empty.html"
    empty = RegionMap("1", "gone", 1, DumpMode.FULL, (), ())
    path.write_text(regionpage.page(empty), encoding="utf-8")
    chromium.open(path)
    assert chromium.complaints() == []
    assert chromium.run("$('count').textContent") == "0 of 0, 0.0 kB resident"
