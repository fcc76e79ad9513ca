"""The page as a file: what is in it, and that nothing in it is anybody else's code."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from helpers.report_runs import CONFIG, MakeRun, identity, write_plan, write_status
from sslbench.cli.report_command import main
from sslbench.report.page.render import _address

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Tags, identifiers, links and cells; refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def page_of(*argv: str, path: str = "page.html") -> tuple[Page, str]:
    main(["runs", "--html", path, *argv])
    text = Path(path).read_text(encoding="utf-8")
    return Page(text), text


@pytest.fixture
def runs(make_run: MakeRun) -> MakeRun:
    for seed, (vat, supervised) in enumerate([(0.95, 0.9), (0.96, 0.9), (0.97, 0.91)]):
        for algorithm, acc in (("vat", vat), ("supervised", supervised)):
            (make_run(algorithm, seed, acc) / "config.yaml").write_text(CONFIG)
    return make_run


def test_the_page_has_all_its_parts(runs: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    write_status("dead", "failed", identity(seed=3), error="loss is nan at step 3")
    (runs("ict", 9) / "result.json").write_text("{")
    page, text = page_of("--title", "First & look")
    assert capsys.readouterr().out.endswith("wrote page.html\n")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {"summary", "missing", "curves", "labels", "seconds", "map", "differences", "runs"} <= set(ids)
    words = {word.strip() for word in page.words}
    assert {"First & look", "4.00 ± 1.00", "3 of 4 (failed)", "-5.67 [-6.00, -5.00] n=3"} <= words
    assert {"failed", "loss is nan at step 3", "damaged"} <= words
    assert "sslbench -m algorithm=vat loss=kl split_seed=0 seed=0,1,2" in words
    assert "sslbench-report runs --html page.html --title 'First & look'" in words
    assert "is not valid JSON" in text
    inner = {
        str(link["href"]).removeprefix("#") for link in page.all("a") if str(link["href"]).startswith("#")
    }
    assert inner <= set(ids)


def test_nothing_can_be_fetched_and_only_the_own_script_runs(runs: MakeRun) -> None:
    page, text = page_of()
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert text.count("<script") == 1
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:|//)""", text)
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


@pytest.mark.parametrize("place", ["page.html", "runs/page.html", "deep/er/page.html"])
def test_links_lead_to_the_configurations(runs: MakeRun, place: str) -> None:
    odd = runs("vat", 7, group="50% #a?b & c:d")
    (odd / "config.yaml").write_text(CONFIG)
    runs("vat", 8, group="no configuration")
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    page, _ = page_of(path=place)
    links = [str(link["href"]) for link in page.all("a") if not str(link["href"]).startswith("#")]
    assert len(links) == 7
    assert all((Path(place).parent / unquote(link)).is_file() for link in links)
    assert all(re.fullmatch(r"[\w.~/%-]+", link) for link in links)


def test_a_folder_that_is_closed_or_whose_name_is_too_long_has_no_link(runs: MakeRun) -> None:
    write_plan("first", ("x" * 300, identity(seed=5)))
    page, _ = page_of()
    assert "x" * 39 in "".join(page.words)
    closed = Path("runs/closed")
    closed.mkdir()
    closed.chmod(0)
    try:
        assert _address(closed, Path("page.html")) == ""
    finally:
        closed.chmod(0o700)


def test_the_count_of_missing_runs_is_that_of_the_table(make_run: MakeRun) -> None:
    make_run("vat", 0)
    write_status("one", "failed")  # of which nothing is known
    write_status("two", "failed", identity(seed=1))
    write_status("again", "failed", identity(seed=0))  # it finished in another folder
    _, text = page_of()
    assert '<li class="warn"><b>2</b> missing</li>' in text
    assert text.count("which counts") == 1


def test_a_row_that_is_alone_or_incomplete_is_not_highlighted(make_run: MakeRun) -> None:
    for seed, acc in enumerate((0.9, 0.91, 0.92)):
        make_run("vat", seed, acc)
    _, text = page_of()
    assert '<tr class="best' not in text
    for seed, acc in enumerate((0.7, 0.72, 0.71)):
        make_run("supervised", seed, acc)
    _, text = page_of()
    assert '<tr class="best better">' in text
    assert text.count("<small>better</small>") == 2  # in the summary and among the differences
    write_status("dead", "failed", identity(seed=7))
    _, text = page_of()
    assert '<tr class="incomplete">' in text
    assert "<small>better</small>" not in text


def test_an_error_is_told_in_full(runs: MakeRun) -> None:
    write_status("dead", "failed", identity(seed=3), error="y" * 200 + " the end")
    page, _ = page_of()
    assert "y" * 200 + " the end" in page.words


def test_what_sets_tasks_apart_is_among_the_first_columns(make_run: MakeRun) -> None:
    make_run("vat", 0)
    make_run("vat", 0, steps=10, num_valid=7, group="short")
    page, text = page_of()
    names = [word for word in page.words if word in ("validation images", "steps", "test error %")]
    assert names[:3] == ["validation images", "steps", "test error %"]
    assert "excludes zero at 95 %" in text
    assert "one draw of the labels" not in text
    make_run("vat", 1)
    assert "All rows with several seeds: one draw of the labels, which all seeds share." in page_of()[1]


EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title><b>",
    "{{ 7 * 7 }}{% raw %}",
    "a\x00b\x1b[31m\u202ec",
    "y" * 4000,
]


def test_names_are_text(make_run: MakeRun) -> None:
    for place, name in enumerate(EVIL):
        for seed, device in enumerate(("cpu", name)):
            make_run(name, seed, group=f"{place}", model=name, overrides=[name], device=device)
        make_run("supervised", 0, dataset=name, loss=name, group=f"supervised {place}")
        write_status(f"dead {place}", "failed", identity(seed=3, algorithm=name, group=name), error=name)
    page, text = page_of("--title", "".join(EVIL)[:200])
    assert len(page.all("script")) == 1
    assert all(str(image["src"]).startswith("data:image/svg+xml;base64,") for image in page.all("img"))
    assert len(page.all("b")) == 4  # the counts at the top
    assert "7 * 7" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", text)
    assert len(re.sub('base64,[^"]*', "", text)) < 400_000


def test_cells_sort_by_numbers_and_not_by_text(runs: MakeRun) -> None:
    page, _ = page_of()
    values = {float(str(cell["data-value"])) for cell in page.all("td") if cell.get("data-value")}
    assert any(abs(value - 0.04) < 1e-9 for value in values)
    heads = page.all("th")
    assert {head.get("data-kind") for head in heads} == {"number", "text", None}


def test_a_page_of_cells_that_all_failed(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_run  # for its working directory
    write_status("dead", "failed", identity(seed=3), error="loss is nan at step 3")
    page, _ = page_of("--csv", "a.csv", "--table", "b.csv", "--latex", "c.tex", "--out", "d.md")
    assert "0 of 1 (failed)" in {word.strip() for word in page.words}
    assert not page.all("img")
    assert capsys.readouterr().err == ""


def test_a_figure_without_curves_is_not_written(runs: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path("runs").glob("*/metrics.jsonl"):
        path.unlink()
    main(["runs", "--figure", "figure.png", "--csv", "runs.csv"])
    assert not Path("figure.png").exists()
    assert Path("runs.csv").exists()
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 7
    assert err[-1] == "sslbench-report: warning: figure.png is not written: no run has curves to draw"
