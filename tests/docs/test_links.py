"""Links between the documents: each leads to a file that exists, and each anchor to a heading."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Folders of what is built or trained; hidden folders are left out too.
NO_DOCUMENTS = {"outputs", "build", "dist", "wandb", "__pycache__"}


def files(*endings: str) -> list[Path]:
    """The repository's own files with one of these endings."""
    found = []
    for folder, inside, names in os.walk(ROOT):
        inside[:] = [name for name in inside if not name.startswith(".") and name not in NO_DOCUMENTS]
        found += [Path(folder, name) for name in names if name.endswith(endings)]
    return sorted(found)


def without_code(text: str) -> str:
    """Markdown without fenced blocks and code spans, which hold no links."""
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1[`~]*\s*$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "code", text, flags=re.DOTALL)


def links(text: str) -> list[str]:
    """Targets of ``[text](target)``, ``![image](target)`` and ``[name]: target``."""
    text = without_code(text)
    inline = re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", text)
    return [*inline, *re.findall(r"^\s{0,3}\[[^\]]+\]:\s*(\S+)", text, flags=re.MULTILINE)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings.

    Lower case, only letters, digits, underscores, hyphens and spaces, spaces as hyphens; a heading that
    occurs again has its number behind it.
    """
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1[`~]*\s*$", "", text, flags=re.DOTALL | re.MULTILINE)
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$", text, flags=re.MULTILINE):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link shows its text
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def broken(document: Path, root: Path) -> Iterator[str]:
    """Each link of `document` that leads nowhere, with the reason.

    A target that begins with ``/`` counts from `root`, as on GitHub.
    """
    for link in links(document.read_text(encoding="utf-8")):
        if re.match(r"[a-z][a-z0-9+.-]*:", link, flags=re.IGNORECASE):
            continue  # of the web
        path, _, anchor = unquote(link).partition("#")
        target = (root / path[1:] if path.startswith("/") else document.parent / path).resolve()
        target = target if path else document
        if not target.is_relative_to(root):
            yield f"{link}: outside the repository"
        elif not target.exists():
            yield f"{link}: no such file"
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            yield f"{link}: no such heading"


DOCUMENTS = files(".md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_links_lead_somewhere(document: Path) -> None:
    assert list(broken(document, ROOT)) == []


def test_the_documents_are_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in DOCUMENTS}
    assert {"README.md", "CONTRIBUTING.md", "docs/README.md", "docs/results/notes/seeds.md"} <= names
    assert sum(len(links(path.read_text(encoding="utf-8"))) for path in DOCUMENTS) > 100


def test_documents_that_code_and_settings_name_exist() -> None:
    for path in files(".py", ".yaml", ".toml"):
        for name in re.findall(r"\bdocs/[\w./-]*\w\.(?:md|yaml|png)\b", path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{path.relative_to(ROOT)} names {name}, which does not exist"


def test_every_document_is_in_the_index() -> None:
    docs = ROOT / "docs"
    listed = {
        (index.parent / link.partition("#")[0]).resolve()
        for index in (docs / "README.md", docs / "results" / "README.md")
        for link in links(index.read_text(encoding="utf-8"))
    }
    pages = {path for path in docs.rglob("*.md") if path.parent.name != "notes"}
    assert sorted(pages - listed - {docs / "README.md"}) == []


def test_notes_stand_in_their_pages_as_written() -> None:
    notes = sorted((ROOT / "docs" / "results" / "notes").glob("*.md"))
    assert len(notes) >= 4
    for note in notes:
        page = note.parents[1] / note.name
        assert note.read_text(encoding="utf-8").strip() in page.read_text(encoding="utf-8"), page.name


def test_readme_is_short_and_says_what_it_is() -> None:
    readme = (ROOT / "README.md").read_bytes()
    assert len(readme) <= 10 * 1024
    first_sentence = readme.decode().split("\n\n")[1].split(". ")[0]
    assert "semi-supervised" in first_sentence


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("[a](absent.md)", "absent.md: no such file"),
        ("![a](images/absent.png)", "images/absent.png: no such file"),
        ("[a](/absent.md)", "/absent.md: no such file"),
        ('[a](absent.md "title")', "absent.md: no such file"),
        ("[a]: absent.md", "absent.md: no such file"),
        ("[a](../../outside.md)", "../../outside.md: outside the repository"),
        ("[a](other.md#absent)", "other.md#absent: no such heading"),
        ("[a](#absent)", "#absent: no such heading"),
        ("[a](#not-a-heading)", "#not-a-heading: no such heading"),
        ("`code` and [a](absent.md) and `more`", "absent.md: no such file"),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, link: str, reason: str) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "other.md").write_text("# Other\n")
    document = tmp_path / "pages" / "page.md"
    document.write_text(f"# Page\n\n```text\n# Not a heading\n```\n\n{link}\n")
    assert list(broken(document, tmp_path.resolve())) == [reason]


@pytest.mark.parametrize(
    "link",
    [
        "[a](other.md)",
        "[a](/pages/other.md)",
        "[a](..)",
        "[a](other.md#results-on-8x8-digits-20-labels)",
        "[a](other.md#what-sslbench-eval-does)",
        "[a](other.md#the-same_thing-again)",
        "[a](other.md#twice) and [b](other.md#twice-1)",
        "[a](#page)",
        "[a](https://arxiv.org/abs/1704.03976)",
        "`[a](absent.md)`",
        "```md\n[a](absent.md)\n```",
    ],
)
def test_a_good_link_is_no_error(tmp_path: Path, link: str) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "other.md").write_text(
        "# Results on 8x8 digits, 20 labels\n\n## What `sslbench-eval` does\n\n"
        "## The [same_thing](x.md) again\n\n## Twice\n\n## Twice\n"
    )
    document = tmp_path / "pages" / "page.md"
    document.write_text(f"# Page\n\n{link}\n")
    assert list(broken(document, tmp_path.resolve())) == []
