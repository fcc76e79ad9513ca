"""Names for people who mean harm, or type in haste."""

from __future__ import annotations

import re

NAMES = [
    *("..", ".", "../x", "../../../../tmp/x", "/etc/passwd", "a/../../b", "a//b", "\\..\\x", "C:\\x"),
    *("~", "~root", "-rf", "--help", "-", ".hidden", "+x", "@x", "#x", "a#b", "a%2e%2e", "a:b"),
    *("a;b", "a?b", "a*b", "a b", " ", "  x  ", "<b>x", "<script>alert(1)</script>"),
    *("</td></tr></table>", "</svg><script>x</script>", "<!--", "]]>", "&lt;b&gt;", "&", "&amp;"),
    *('"', "'", '" onmouseover="x', "javascript:alert(1)", "<img src=x onerror=x>", "{{ 7 * 7 }}"),
    *("{% x %}", "|", "a|b|c", "\\|", "a\\", "`", "``x``", "```", "*x*", "_x_", "__x", "[x](y)"),
    *("![x](y)", "# x", "- x", "~~x~~", "$", "$x$", "$\\frac{1}{0}$", "$x", "\\input{x}", "%", "50%"),
    *("x_y^z", "{", "}", "\\\\", "~x^2", "\\end{tabular}", "[bold]x", "[/x]"),
    *("[link=file:///x]y[/link]", "[red]", "\\[x]", "$(touch x)", "`touch x`", "${HOME}", "!x"),
    *("a&&b", "a\nb", "a\r\nb", "\n", "a\tb", "\x1b[31mred", "\x1b]0;title\x07", "\x9b2J", "\x00"),
    *("a\x7fb", "\x08\x08\x08", "\x85", "\u2028", "\u2029", "a\u202eb", "\u2066x", "\ufeffx"),
    *("\u200bx", "\u00a0", "e\u0301", "é", "数据", "ภาษา", "🙂", "👩‍🔬", "x" * 300, "é" * 300, "数" * 300),
    *("🙂" * 300, "x/" * 200, "<b>" * 200, "a" * 5000, "=1+1", "=cmd|' /C calc'!A0", "CON", "nul"),
    *("aux.txt", "x.", "x ", "null", "None", "true", "1", "0x1", "1e9", "inf", "nan", "", "a,b"),
    *("a=b", "'a'"),
]
#: What no terminal and no file that is made of names may get, but for a newline.
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
