"""The page in a browser, opened from the disk and cut off from any network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helpers.figure_runs import all_sections
from helpers.report_runs import MakeRun, identity, run_maker, write_status
from sslbench.cli.report_command import main

CHROMIUM = Path("/usr/bin/chromium")
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BINS = {"counts": [0, 40, 60], "confidence": [None, 0.5, 0.9], "accuracy": [None, 0.25, 0.8]}

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=SWITCHES)
        yield started
        started.close()


@dataclass
class Opened:
    page: Any
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def column(self, name: str, table: str = "summary-table") -> list[str]:
        """What the cells below a header say, from top to bottom."""
        found: list[str] = self.page.evaluate(
            """([table, name]) => {
                const heads = [...document.querySelectorAll(`#${table} th`)];
                const place = heads.findIndex((head) => head.textContent.trim() === name);
                return [...document.querySelectorAll(`#${table} tbody tr`)].map(
                    (row) => row.cells[place].textContent.trim());
            }""",
            [table, name],
        )
        return found

    def header(self, name: str, table: str = "summary-table") -> Any:
        return self.page.locator(f"#{table} th", has_text=name).first


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a page that all tests but one look at."""
    root = tmp_path_factory.mktemp("page")
    make = run_maker(root / "runs")
    for num_labels in (100, 1000):
        for seed in range(3):
            for loss, acc in (("kl", 0.9), ("mse", 0.91)):
                make("vat", seed, acc, loss=loss, num_labels=num_labels, test_calibration=BINS)
            make("supervised", seed, 0.7, num_labels=num_labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_status("dead", "failed", identity("<b>ict</b>", 0), error="<script>alert(1)</script>")
        main(["runs", "--html", "page.html"])
    return (root / "page.html").as_uri()


@pytest.fixture
def opened(address: str, browser: Any, request: pytest.FixtureRequest) -> Iterator[Opened]:
    options = {"viewport": {"width": 1280, "height": 900}, **getattr(request, "param", {})}
    context = browser.new_context(offline=True, **options)
    found = Opened(context.new_page())
    found.page.on("request", lambda sent: found.requests.append(sent.url))
    found.page.on("console", lambda message: found.messages.append(message.text))
    found.page.on("pageerror", lambda error: found.messages.append(str(error)))
    found.page.goto(address)
    yield found
    context.close()


def test_it_opens_without_errors_and_asks_for_nothing_else(opened: Opened, address: str) -> None:
    assert [url for url in opened.requests if not url.startswith("data:image/svg+xml;base64,")] == [address]
    assert opened.messages == []
    assert opened.page.title() == "Results"
    assert "<b>ict</b>" in opened.column("algorithm")


def test_figures_are_seen(opened: Opened) -> None:
    figures = opened.page.locator("figure img")
    assert figures.count() == 11
    for place in range(figures.count()):
        assert figures.nth(place).is_visible()
        box = figures.nth(place).bounding_box()
        assert box["width"] > 250
        assert box["height"] > 100
    # Each was read as an image of the size that it was drawn in.
    sizes = opened.page.evaluate(
        "[...document.querySelectorAll('figure img')].map((img) => [img.complete, img.naturalWidth])"
    )
    assert all(complete and width > 250 for complete, width in sizes)
    assert all(figures.nth(place).get_attribute("alt") for place in range(figures.count()))


def test_a_click_sorts_by_numbers_and_a_second_one_turns_it_round(opened: Opened) -> None:
    head = opened.header("test error %")
    assert head.get_attribute("aria-sort") is None
    head.locator("button").click()
    means = [cell.split(" ")[0] for cell in opened.column("test error %")]
    # As text, 10.00 would come before 9.00; a row without a number is last.
    assert means == ["9.00", "9.00", "10.00", "10.00", "30.00", "30.00", "-"]
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    means = [cell.split(" ")[0] for cell in opened.column("test error %")]
    assert means == ["30.00", "30.00", "10.00", "10.00", "9.00", "9.00", "-"]
    assert head.get_attribute("aria-sort") == "descending"
    assert opened.messages == []


def test_the_keyboard_sorts_too(opened: Opened) -> None:
    button = opened.header("algorithm").locator("button")
    button.focus()
    opened.page.keyboard.press("Enter")
    names = opened.column("algorithm")
    assert names == sorted(names)
    opened.page.keyboard.press("Space")
    assert opened.column("algorithm") == names[::-1]
    assert opened.page.locator("#summary-table th[aria-sort]").count() == 1
    opened.page.keyboard.press("Tab")
    opened.page.keyboard.press("Enter")
    assert opened.header("loss").get_attribute("aria-sort") == "ascending"
    assert opened.header("algorithm").get_attribute("aria-sort") is None


def test_other_tables_sort_for_themselves(opened: Opened) -> None:
    before = opened.column("test error %")
    opened.header("seed", "run-table").locator("button").click()
    seeds = opened.column("seed", "run-table")
    assert seeds == sorted(seeds)
    assert opened.column("test error %") == before


@pytest.mark.parametrize("opened", [{"viewport": {"width": 360, "height": 740}}], indirect=True)
def test_on_a_telephone_tables_scroll_and_the_page_does_not(opened: Opened) -> None:
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
    inner, outer = opened.page.evaluate(
        "(() => { const t = document.querySelector('.scroll'); return [t.scrollWidth, t.clientWidth]; })()"
    )
    assert inner > outer
    widths = opened.page.evaluate(
        "[...document.querySelectorAll('figure img')].map((svg) => svg.getBoundingClientRect().width)"
    )
    assert min(widths) > 250
    assert max(widths) <= 360


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_stay_in_their_places(make_run: MakeRun, browser: Any, width: int) -> None:
    name = "interpolation_consistency_" + "x" * 60
    for place, algorithm in enumerate((name, "vat", "supervised")):
        for loss in ("kl", "a_distance_" + "y" * 60) if algorithm != "supervised" else (None,):
            for seed in range(2):
                make_run(algorithm, seed, 0.9 - seed / 100, loss=loss, model="m" * 70, device="d" * 90,
                         group=f"{place}{loss}"[:9], test_calibration=BINS)  # fmt: skip
    write_status("dead" * 30, "failed", identity(name, 7, group="g"), error="/" + "e" * 300)
    main(["runs", "--html", "page.html"])
    context = browser.new_context(offline=True, viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(Path("page.html").resolve().as_uri())
    wider = "[...document.querySelectorAll('td')].filter((cell) => cell.scrollWidth > cell.clientWidth + 1)"
    assert page.evaluate(f"{wider}.map((cell) => cell.textContent)") == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.set_content("".join(panel.svg for section in all_sections().values() for panel in section.panels))
    outside = """[...document.querySelectorAll('svg')].flatMap((svg) => {
        const outer = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter((text) => {
            const inner = text.getBoundingClientRect();
            return inner.left < outer.left - 1 || inner.right > outer.right + 1
                || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
        }).map((text) => text.textContent);
    })"""
    assert page.evaluate(outside) == []
    context.close()


@pytest.mark.parametrize("opened", [{"color_scheme": "dark"}], indirect=True)
def test_in_the_dark_text_is_light_and_figures_keep_a_light_card(opened: Opened) -> None:
    def colour(selector: str, name: str) -> int:
        shown = opened.page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{name}")
        return sum(map(int, shown.removeprefix("rgb(").removesuffix(")").split(",")))

    assert colour("body", "backgroundColor") < 200 < 600 < colour("body", "color")
    assert colour("figure", "backgroundColor") == 3 * 255
    assert colour("figure", "color") < 200


def test_no_script_but_the_pages_own_runs(opened: Opened) -> None:
    # Were a name ever put into the page as it is, the policy would still stop it.
    opened.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.evil = 1';"
        " document.body.append(s); const i = new Image(); i.src = 'https://example.org/x.png'; }"
    )
    assert opened.page.evaluate("fetch('https://example.org').catch((error) => error.name)") == "TypeError"
    assert opened.page.evaluate("window.evil") is None
    refused = [message for message in opened.messages if "Content Security Policy" in message]
    assert len(refused) >= 3
    assert any("connect-src" in message for message in refused)
