"""Comparing what Redpoll gives with what other readers give, value by value."""

import datetime
import math


def short(value, limit=90):
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def difference(path, ours, theirs):
    """Where the two values differ, or None. A field that the writer did not have is null in ours."""
    if isinstance(ours, dict) and isinstance(theirs, list) and all(isinstance(pair, tuple) for pair in theirs):
        # pyarrow gives a map as pairs, polars as a dict.
        theirs = dict(theirs)
    if isinstance(theirs, dict):
        # pyarrow gives a map as pairs.
        ours = dict(ours) if isinstance(ours, list) else ours
        if not isinstance(ours, dict):
            return f"{path}: {short(ours)} against a record"
        for name in ours.keys() | theirs.keys():
            if name not in ours:
                return f"{path}.{name} is missing"
            found = difference(f"{path}.{name}", ours[name], theirs.get(name))
            if found:
                return found
        return None
    if isinstance(theirs, list):
        if not isinstance(ours, list) or len(ours) != len(theirs):
            return f"{path}: {short(ours)} against a list of {len(theirs)}"
        found = (difference(f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(ours, theirs)))
        return next(filter(None, found), None)
    if isinstance(theirs, float) and isinstance(ours, float) and math.isnan(theirs) and math.isnan(ours):
        return None
    if isinstance(theirs, datetime.datetime) and isinstance(ours, datetime.datetime):
        return None if ours.timestamp() == theirs.timestamp() else f"{path}: {ours} against {theirs}"
    number = (int, float)
    numbers = type(ours) in number and type(theirs) in number
    if (numbers or type(ours) is type(theirs)) and ours == theirs:
        return None
    return f"{path}: {short(repr(ours))} against {short(repr(theirs))}"


def match(expected, rows, key):
    """Pairs alerts with rows of the same key, each row once. Returns the first difference, or None."""
    left = {}
    for row in rows:
        left.setdefault(key(row), []).append(row)
    if len(rows) != len(expected):
        return f"{len(rows)} rows against {len(expected)} alerts"
    for alert in expected:
        candidates = left.get(key(alert), [])
        differences = [difference("", row, alert) for row in candidates]
        if None not in differences:
            return f"alert {key(alert)}: {differences[0] if differences else 'no row'}"
        candidates.pop(differences.index(None))
    return None
