"""The errors that a user can mend; imports nothing, so that help and completion stay fast."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: shown as one line, without a traceback, with exit code 1.

    The message names the key or file and says what to do.
    """


class DivergedError(UserError):
    """A loss became NaN or infinite; the message names the step and the term."""


class SweepError(UserError):
    """A sweep that is not complete; what there is to say has been said."""


def in_one_line(error: BaseException) -> str:
    """What happened, with the type of an error that is no `UserError`."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint such as ``; did you mean 'vat'?``, or an empty string when nothing is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""
