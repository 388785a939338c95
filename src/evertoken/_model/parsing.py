"""Parses numbers and instants in the many forms that servers send."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Final

from evertoken._model.errors import TransientRefreshError

__all__ = ["http_date", "instant", "is_finite", "is_token", "number", "parse_retry_after"]

# A larger number is an instant in another unit, with so many units per second: milliseconds, microseconds, nanoseconds.
_UNITS: Final = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
# A constant, because `int | float | str` creates an object at each call.
_NUMERIC: Final = (int, float, str)
# The longest text that is read as an instant, in characters.
_LONGEST: Final = 100
# The form in which .NET writes instants in JSON.
_DOTNET: Final = re.compile(r"/Date\((-?\d{1,18})(?:[+-]\d{4})?\)/", re.ASCII)


def parse_retry_after(value: str | None, now: float | None, /) -> float | None:
    """
    Return the seconds that a Retry-After field asks for (RFC 9110 section 10.2.3), or None if it cannot be read.

    Args:
        value: The value of the field: seconds or an HTTP date.

        now: The server's time (epoch seconds), from Date. Without it a date cannot be used.
    """
    if value is None:
        return None
    seconds = number(value)
    if seconds is None:
        moment = http_date(value)
        seconds = None if moment is None or now is None else moment - now
    return None if seconds is None else max(seconds, 0.0)


def number(value: object, /) -> float | None:
    """Return the finite number in *value*, which may be an int, a float or a numeric string, or None."""
    if type(value) is float:
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool) or not isinstance(value, _NUMERIC):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def is_finite(value: object, /) -> bool:
    """Tell whether *value* is a finite number. A numeric string does not count."""
    return not isinstance(value, str) and number(value) is not None


def is_token(text: str, /) -> bool:
    """Tell whether *text* contains only characters that an access token may have (RFC 6750 section 2.1)."""
    # A line break would end the header field that contains the token.
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def instant(value: object, /) -> float | None:
    """
    Return the epoch seconds of an instant, or None.

    The value may be a datetime, a number of seconds, milliseconds, microseconds or nanoseconds since the epoch, a text
    in ISO 8601, an HTTP date, or a text in a form of .NET and Azure.

    Raises:
        TransientRefreshError: The value is a datetime without time zone.
    """
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            msg = "a datetime without time zone names no instant; use datetime.now(UTC) or epoch seconds"
            raise TransientRefreshError(msg)
        return value.timestamp()
    seconds = number(value)
    if seconds is not None:
        return seconds / next((second for start, second in _UNITS if seconds >= start), 1.0)
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    text = value.strip()
    dotnet = _DOTNET.fullmatch(text)
    if dotnet is not None:
        return int(dotnet[1]) / 1000.0
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        try:
            # Older services of Azure use this form.
            moment = dt.datetime.strptime(text, "%m/%d/%Y %I:%M:%S %p %z")
        except ValueError:
            return http_date(value)
    # Endpoints that leave out the offset mean UTC.
    return (moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment).timestamp()


def http_date(value: str, /) -> float | None:
    """Return the epoch seconds of an HTTP date (RFC 9110 section 5.6.7), or None."""
    if len(value) > _LONGEST:
        return None
    # This import loads much of the email package, which is slow.
    from email.utils import parsedate_to_datetime  # noqa: PLC0415

    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment).timestamp()
