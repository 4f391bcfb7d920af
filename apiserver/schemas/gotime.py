"""Times as Go's time.Parse reads them in the two layouts of the API, and what it says of texts that are none.

Source: Go's package time, "Parse" (what is optional, what is out of range, the forms of the errors).
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta

_SECONDS = "2006-01-02T15:04:05Z07:00"
_MICROS = "2006-01-02T15:04:05.000000Z07:00"
# What the layouts consist of: the text before an element, the element, what Go calls its range, and the range.
_ELEMENTS = (
    ("", "2006", "year", 0, 9999),
    ("-", "01", "month", 1, 12),
    ("-", "02", "day", 0, 99),  # how long the month is, is asked at the end
    ("T", "15", "hour", 0, 23),
    (":", "04", "minute", 0, 59),
    (":", "05", "second", 0, 59),
)
_HOUR = re.compile(r"[0-9]{1,2}")  # the only one that may have one digit
_TWO_DIGITS = re.compile(r"[0-9]{2}")
_YEAR = re.compile(r"[0-9]{4}")
_FRACTION = re.compile(r"[.,][0-9]+")
_SIX_DIGITS = re.compile(r"[.,][0-9]{6}")
_ZONE = re.compile(r"([+-])([0-9]{2}):([0-9]{2})")


def parse(text: str, *, micro: bool) -> datetime:
    """The moment, in UTC and without a zone. Raises ValueError with Go's text.

    `micro`: a fraction of six digits has to be there; otherwise it may be of any length.
    """
    rest, found = text, {}
    for literal, element, name, low, high in _ELEMENTS:
        if not rest.startswith(literal):
            raise _bad(text, micro, rest, literal)
        rest = rest.removeprefix(literal)
        match = {"2006": _YEAR, "15": _HOUR}.get(element, _TWO_DIGITS).match(rest)
        if not match:
            raise _bad(text, micro, rest, element)
        number = int(match.group())
        if not low <= number <= high:
            raise ValueError(f"parsing time {_quoted(text)}: {name} out of range")
        found[name], rest = number, rest[match.end() :]
    fraction = (_SIX_DIGITS if micro else _FRACTION).match(rest)
    if micro and not fraction:
        raise _bad(text, micro, rest, ".000000")
    digits = fraction.group()[1:] if fraction else ""
    offset, rest = _zone(text, micro, rest[len(digits) + 1 :] if fraction else rest)
    if rest:
        raise ValueError(f"parsing time {_quoted(text)}: extra text: {_quoted(rest)}")
    if not 1 <= found["day"] <= monthrange(found["year"] or 4, found["month"])[1]:
        raise ValueError(f"parsing time {_quoted(text)}: day out of range")
    try:
        year, month, day, hour, minute, second = found.values()  # in the order of the layout
        return datetime(year, month, day, hour, minute, second, int(digits[:6].ljust(6, "0"))) - offset
    except (ValueError, OverflowError) as err:
        raise ValueError(f"parsing time {_quoted(text)}: year out of range") from err


def _zone(text: str, micro: bool, rest: str) -> tuple[timedelta, str]:
    if rest.startswith("Z"):
        return timedelta(), rest[1:]
    match = _ZONE.match(rest)
    if not match:
        raise _bad(text, micro, rest, "Z07:00")
    hours, minutes = int(match.group(2)), int(match.group(3))
    for value, most, name in ((hours, 24, "hour"), (minutes, 60, "minute")):
        if value > most:
            raise ValueError(f"parsing time {_quoted(text)}: time zone offset {name} out of range")
    offset = timedelta(hours=hours, minutes=minutes)
    return (-offset if match.group(1) == "-" else offset), rest[6:]


def _bad(text: str, micro: bool, rest: str, element: str) -> ValueError:
    layout = _MICROS if micro else _SECONDS
    return ValueError(
        f"parsing time {_quoted(text)} as {_quoted(layout)}: cannot parse {_quoted(rest)} as {_quoted(element)}"
    )


def _quoted(text: str) -> str:
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if " " <= char < "\x80" else "".join(f"\\x{byte:02x}" for byte in char.encode())
