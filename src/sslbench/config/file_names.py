"""Names of runs and folders, whatever a configuration holds."""

from unicodedata import category

from sslbench.errors import UserError

#: Bytes. With seed, hash and what W&B is sent, a name stays below 128, the most of W&B, and 255, of a folder.
_LONGEST = 90


def file_name(text: str) -> str:
    """`text` as the front of a folder's name, an id and a group at W&B, and a word of a command line.

    Letters and digits of any script and ``-_.+@`` stay; everything else becomes an underscore. So does a dot
    or a dash in front, which would hide the folder or be read as an option.
    """
    plain = "".join(letter if letter.isalnum() or letter in "-_.+@" else "_" for letter in text)
    visible = f"_{plain[1:]}" if plain.startswith((".", "-")) else plain
    return visible.encode()[:_LONGEST].decode(errors="ignore")


def check_folder(path: str, key: str) -> None:
    """Refuse a path that no folder can have, or that would break a line on a terminal or in a file."""
    if any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in path):
        raise UserError(f"{key}={path!r} holds a control character or half of one: choose another folder")
