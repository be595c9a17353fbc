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
# What 'auto' recognizes. https://docs.aws.amazon.com/redshift/latest/dg/automatic-recognition.html
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
    """Redshift's format string in Python's words."""
    return _PART.sub(lambda found: _PARTS[found[0].upper()], text.replace("%", "%%"))


def parse(value: str, wanted: str, guesses: tuple[str, ...], *, with_zone: bool = False) -> datetime | None:
    """Read a date or time; returns nothing when it does not have the wanted format.

    Args:
        wanted: a format, `auto`, `epochsecs` or `epochmillisecs`.
        guesses: what `auto` tries.
        with_zone: keep the offset; otherwise it is read over, as Redshift does for TIMESTAMP.
    """
    if wanted.lower() in _EPOCHS:
        try:
            return datetime.fromtimestamp(float(value) / _EPOCHS[wanted.lower()], UTC).replace(tzinfo=None)
        except (ValueError, OverflowError, OSError):
            return None
    if wanted.lower() == "auto" or wanted in DEFAULTS:
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return found if with_zone else found.replace(tzinfo=None)
    if wanted.lower() != "auto":
        return None if wanted in DEFAULTS else _tried(value, wanted)
    return next((found for guess in guesses if (found := _tried(value, guess))), None)


def _tried(value: str, wanted: str) -> datetime | None:
    try:
        return datetime.strptime(value, strptime_format(wanted))
    except ValueError:
        return None
