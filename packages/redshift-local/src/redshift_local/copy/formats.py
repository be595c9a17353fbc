"""Date and time formats of COPY. https://docs.aws.amazon.com/redshift/latest/dg/r_DATEFORMAT_and_TIMEFORMAT_strings.html"""

import functools
import re
from datetime import UTC, datetime

_PARTS = {
    "YYYY": "%Y",
    "YY": "%y",
    "MONTH": "%B",
    "MON": "%b",
    "MM": "%m",
    "DD": "%d",
    "HH24": "%H",
    "HH12": "%I",
    "HH": "%H",
    "MI": "%M",
    "SS": "%S",
    "US": "%f",
    "AM": "%p",
    "PM": "%p",
    "DAY": "%A",
    "DY": "%a",
    "OF": "%z",
    "TZ": "%Z",
}
_PART = re.compile("|".join(_PARTS), re.IGNORECASE)
# Formats that 'auto' recognizes. https://docs.aws.amazon.com/redshift/latest/dg/automatic-recognition.html
DATE_GUESSES = ("YYYY-MM-DD", "YYYYMMDD", "MM/DD/YYYY", "DD.MM.YYYY", "YYYY/MM/DD", "DD MON YYYY", "MON DD YYYY")
TIME_GUESSES = (
    *(
        f"{date}{between}{time}"
        for date in ("YYYY-MM-DD", "MM/DD/YYYY", "DD.MM.YYYY", "YYYY/MM/DD")
        for between in (" ", "T")
        for time in ("HH:MI:SS.US", "HH:MI:SS", "HH:MI", "HH12:MI:SS AM", "HH12:MI AM")
    ),
    *("YYYYMMDD HHMISS", "YYYYMMDD", "YYYY-MM-DD", "MM/DD/YYYY"),
)
DEFAULTS = ("YYYY-MM-DD", "YYYY-MM-DD HH:MI:SS")
_EPOCHS = {"epochsecs": 1, "epochmillisecs": 1000}


@functools.lru_cache(maxsize=256)
def strptime_format(text: str) -> str:
    """Return Redshift's format string in Python's notation."""
    return _PART.sub(lambda match: _PARTS[match[0].upper()], text.replace("%", "%%"))


def parse(value: str, format_text: str, guesses: tuple[str, ...], *, with_zone: bool = False) -> datetime | None:
    """Read a date or time; returns None if it does not have the format.

    Args:
        format_text: a format, `auto`, `epochsecs` or `epochmillisecs`.
        guesses: formats for `auto`.
        with_zone: keep the offset; otherwise it is read over, as Redshift does for TIMESTAMP.
    """
    if format_text.lower() in _EPOCHS:
        try:
            return datetime.fromtimestamp(float(value) / _EPOCHS[format_text.lower()], UTC).replace(tzinfo=None)
        except (ValueError, OverflowError, OSError):
            return None
    if format_text.lower() == "auto" or format_text in DEFAULTS:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return moment if with_zone else moment.replace(tzinfo=None)
    if format_text.lower() != "auto":
        return None if format_text in DEFAULTS else _tried(value, format_text)
    return next((moment for guess in guesses if (moment := _tried(value, guess))), None)


def _tried(value: str, format_text: str) -> datetime | None:
    try:
        return datetime.strptime(value, strptime_format(format_text))
    except ValueError:
        return None
