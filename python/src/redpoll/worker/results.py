"""What is wrong with a call, as notes in rows tell it."""

MAX_REASON = 300


class ResultError(Exception):
    """What a module gave back is not one value of its declared type per row."""


def reason(error):
    """``ExceptionType: message``, on one line and not longer than a note in a row should be."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"
