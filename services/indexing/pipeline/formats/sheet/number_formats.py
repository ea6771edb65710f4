"""Numbers as a cell's format shows them, as far as it changes what they mean: dates, times, durations, percentages.

Dates are written as ISO 8601 has them, whatever the format's order: they read the same in every language.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType

# What is quoted, escaped, padding or a colour or condition in brackets; durations are in brackets, too.
_LITERAL = re.compile(r'"[^"]*"|\\.|[_*].|\[(?![hms]+\])[^\]]*\]', re.IGNORECASE)
_DURATION = re.compile(r"\[[hms]+\]", re.IGNORECASE)
_EPOCH = datetime(1899, 12, 30)  # a sheet knows no time zone
_LEAP_DAY_THAT_NEVER_WAS = 60
_DAYS_TO_1904 = 1462
_LAST_DAY = 2_958_466


class Shown(Enum):
    NUMBER = "number"
    PERCENTAGE = "percentage"
    DATE = "date"
    TIME = "time"
    MOMENT = "moment"
    DURATION = "duration"


# The formats that need no definition (ECMA-376 part 1, 18.8.30), those of East Asian programs among them.
_KNOWN: Mapping[int, Shown] = MappingProxyType(
    {
        **dict.fromkeys((9, 10), Shown.PERCENTAGE),
        **dict.fromkeys((14, 15, 16, 17, *range(27, 32), 36, *range(50, 55), 57, 58), Shown.DATE),
        **dict.fromkeys((18, 19, 20, 21, *range(32, 36), 45, 47, 55, 56), Shown.TIME),
        22: Shown.MOMENT,
        46: Shown.DURATION,
    }
)


def known(number: int) -> Shown:
    """What the format with that number shows, unless the workbook defines it."""
    return _KNOWN.get(number, Shown.NUMBER)


def of_code(code: str) -> Shown:
    """What a format shows; its first section is for positive numbers."""
    signs = _LITERAL.sub("", code[:255].partition(";")[0]).lower()
    if _DURATION.search(signs):
        return Shown.DURATION
    if "general" in signs or not any(sign in signs for sign in "ymdhs"):
        return Shown.PERCENTAGE if "%" in signs else Shown.NUMBER
    has_time = "h" in signs or "s" in signs
    has_date = "y" in signs or "d" in signs or not has_time
    return Shown.MOMENT if has_date and has_time else Shown.TIME if has_time else Shown.DATE


def written(value: str, shown: Shown, *, from_1904: bool) -> str:
    """A stored number as it is shown; what is none stays as it is."""
    try:
        number = float(value)
    except ValueError:
        return value
    match shown:
        case Shown.NUMBER:
            return _plain(value, number)
        case Shown.PERCENTAGE:
            return f"{number * 100:.10g}%"
        case Shown.DURATION if 0 <= number < _LAST_DAY:
            minutes, seconds = divmod(round(number * 86_400), 60)
            return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        case _:
            days = number + _DAYS_TO_1904 if from_1904 and number >= 1 else number
            return _moment(days, shown) if 0 <= days < _LAST_DAY else _plain(value, number)


def _plain(value: str, number: float) -> str:
    """Programs store the digits of their arithmetic, of which they show fifteen."""
    return value if value.lstrip("-").isdecimal() else f"{number:.15g}"


def _moment(days: float, shown: Shown) -> str:
    if 1 <= days < _LEAP_DAY_THAT_NEVER_WAS:
        days += 1
    moment = _EPOCH + timedelta(seconds=round(days * 86_400))
    time = f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
    if shown is Shown.TIME or days < 1:
        return time
    date = moment.date().isoformat()
    return date if shown is Shown.DATE else f"{date} {time}"
