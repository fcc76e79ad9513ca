"""What is said of a command line that Hydra does not take."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from sslbench.config.hydra_errors import in_quotes

Sslbench = Callable[..., int]
Capture = pytest.CaptureFixture[str]


def composed(sslbench: Sslbench, capfd: Capture, *words: str) -> dict[str, Any]:
    assert sslbench("--cfg", "job", *words) == 0
    found: dict[str, Any] = yaml.safe_load(capfd.readouterr().out)
    return found


@pytest.mark.parametrize(
    "value", ["it's", "ü", "a;b", "#1", "a(b)", 'say "hi" to it\'s \\', "a\\b'c", 'x"', "ü\\"]
)
def test_text_that_needs_quotes_is_shown_in_them(value: str, sslbench: Sslbench, capfd: Capture) -> None:
    assert sslbench(f"output_root={value}") == 1
    said = capfd.readouterr().err
    assert said.startswith(f"sslbench: cannot read 'output_root={value}': ")
    if value == "a(b)":
        assert "Unknown function 'a'" in said
        return
    [example] = shlex.split(said.partition("quotes for Hydra, too: ")[2])
    assert composed(sslbench, capfd, example)["output_root"] == value


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("seed=range(0,3", "a bracket in it is not closed"),
        ("output_root=a,ü", "must be in quotes for Hydra, too\n"),
        ("logger.tags=[a,b,ü x]", "must be in quotes for Hydra, too\n"),
        ("logger.tags=[a,[b,ü]]", "must be in quotes for Hydra, too\n"),
        ("model={hidden:ü}", "must be in quotes for Hydra, too\n"),
        ("seed=rnage(0,3)", "Unknown function 'rnage'"),
        ("seed", "an override looks like key=value or group=choice"),
        ("=3", "an override looks like key=value or group=choice"),
        ("ü=1", "an override looks like key=value or group=choice"),
    ],
)
def test_what_has_no_example(typed: str, said: str, sslbench: Sslbench, capfd: Capture) -> None:
    assert sslbench(typed) == 1
    err = capfd.readouterr().err
    assert err.startswith(f"sslbench: cannot read '{typed}': ")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("typed", ["seed=0,1", "seed=range(0,3)", "loss=glob(m*)"])
def test_several_values_need_a_flag(typed: str, sslbench: Sslbench, capfd: Capture) -> None:
    assert sslbench(typed) == 1
    assert capfd.readouterr().err == (
        f"sslbench: Ambiguous value for argument '{typed}': "
        "add -m to sweep over it, or write key=[a,b] for a list\n"
    )


@pytest.mark.parametrize(
    "text", ["/a b", "/a\\b", "/a'b", '/a"b', "/a\\", "/a\\\\", "/a\\'b", '/a\\"b', "/a=b,c{}[", "ü"]
)
def test_any_text_can_be_put_in_quotes(text: str) -> None:
    assert OverridesParser.create().parse_override(f"key={in_quotes(text)}").value() == text
