"""Text from people and files, for terminals and tables."""

import sys
from contextlib import suppress

_LONGEST = 2000  # characters of a message; what was typed may have more


def escape_control(text: str) -> str:
    r"""`text` on one line: control characters and unpaired surrogates as escapes such as ``\x1b``.

    An escape sequence in a name must neither move the cursor of a terminal nor break a row of a table.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def ellipsize(text: str, length: int) -> str:
    """`text`, cut in the middle to at most `length` characters (at least 3) if it is longer."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def complain(message: str) -> None:
    """Print an error of the command ``sslbench`` in one line."""
    with suppress(OSError):  # the terminal may be gone
        print(f"sslbench: {ellipsize(escape_control(message), _LONGEST)}", file=sys.stderr, flush=True)
