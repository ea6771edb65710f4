"""Numbers as lists show them (ST_NumberFormat, ECMA-376 part 1, 17.18.59).

Formats of scripts that count differently from digits or letters, and are rare, are shown as decimal numbers.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

# Word counts no further in these formats; a hostile start value would make a number of megabytes.
_MOST_SPELLED = 9999
_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc")),
    *((50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen"),
    *("sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_IRREGULAR = MappingProxyType(
    {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
    | {"twelve": "twelfth"}
)


def shown(number: int, number_format: str) -> str:
    """`number` in a format, which is the value of `w:numFmt`, or `w:format` of a custom one ("001, 002, 003")."""
    if number_format == "none":
        return ""
    if number_format.startswith("0"):
        return str(number).zfill(len(number_format.partition(",")[0]))
    show = _FORMATS.get(number_format)
    return str(number) if show is None or not 0 < number <= _MOST_SPELLED else show(number)


def _roman(number: int) -> str:
    parts = []
    for worth, letters in _ROMAN:
        parts.append(letters * (number // worth))
        number %= worth
    return "".join(parts)


def _letters(alphabet: str) -> Callable[[int], str]:
    """a to z, then aa, bb and so on."""

    def show(number: int) -> str:
        times, place = divmod(number - 1, len(alphabet))
        return alphabet[place] * (times + 1)

    return show


def _digits(digits: str) -> Callable[[int], str]:
    return lambda number: "".join(digits[int(digit)] for digit in str(number))


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number // 10 % 10 == 1 else ending}"


def _words(number: int) -> str:
    if number < 20:
        return _UNITS[number]
    if number < 100:
        return _TENS[number // 10] + (f"-{_UNITS[number % 10]}" if number % 10 else "")
    worth, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    rest = f" {_words(number % worth)}" if number % worth else ""
    return f"{_words(number // worth)} {name}{rest}"


def _ordinal_words(number: int) -> str:
    before, space, last = _words(number).rpartition(" ")
    tens, hyphen, unit = last.rpartition("-")
    ordinal = _IRREGULAR.get(unit) or (f"{unit[:-1]}ieth" if unit.endswith("y") else f"{unit}th")
    return f"{before}{space}{tens}{hyphen}{ordinal}"


def _chinese(number: int) -> str:
    """As it is spoken: 12 is ten-two, 20 two-ten, 105 one-hundred-zero-five."""
    digits, gap = "零一二三四五六七八九", False
    parts: list[str] = []
    for worth, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, number = divmod(number, worth)
        if digit:
            parts.append("零" if gap and parts else "")
            parts.append(name if digit == 1 and worth == 10 and not "".join(parts) else digits[digit] + name)
        gap = not digit
    return "".join(parts)


def _japanese(number: int) -> str:
    return _chinese(number).replace("零", "").replace("一百", "百").replace("一十", "十").replace("一千", "千")


def _circled(number: int) -> str:
    return chr(0x2460 + number - 1) if number <= 20 else str(number)


_LATIN = "abcdefghijklmnopqrstuvwxyz"
_RUSSIAN = "абвгдежзиклмнопрстуфхцчшщыэюя"
_IDEOGRAPHS = "〇一二三四五六七八九"
_FORMATS: Mapping[str, Callable[[int], str]] = MappingProxyType(
    {
        "upperRoman": lambda number: _roman(number).upper(),
        "lowerRoman": _roman,
        "upperLetter": _letters(_LATIN.upper()),
        "lowerLetter": _letters(_LATIN),
        "russianUpper": _letters(_RUSSIAN.upper()),
        "russianLower": _letters(_RUSSIAN),
        "decimalZero": lambda number: f"{number:02}",
        "hex": lambda number: f"{number:X}",
        "ordinal": _ordinal,
        "cardinalText": lambda number: _words(number).capitalize(),
        "ordinalText": lambda number: _ordinal_words(number).capitalize(),
        "numberInDash": lambda number: f"- {number} -",
        "chicago": _letters("*†‡§"),
        "decimalEnclosedCircle": _circled,
        "decimalEnclosedCircleChinese": _circled,
        "decimalEnclosedParen": lambda number: f"({number})",
        "decimalEnclosedFullstop": lambda number: f"{number}.",
        "decimalFullWidth": _digits("０１２３４５６７８９"),
        "decimalFullWidth2": _digits("０１２３４５６７８９"),
        "ideographDigital": _digits(_IDEOGRAPHS),
        "japaneseDigitalTenThousand": _digits(_IDEOGRAPHS),
        "taiwaneseDigital": _digits("○一二三四五六七八九"),
        "koreanDigital2": _digits("零一二三四五六七八九"),
        "chineseCounting": _chinese,
        "chineseCountingThousand": _chinese,
        "taiwaneseCounting": _chinese,
        "taiwaneseCountingThousand": _chinese,
        "japaneseCounting": _japanese,
        "ideographTraditional": _letters("甲乙丙丁戊己庚辛壬癸"),
        "ideographZodiac": _letters("子丑寅卯辰巳午未申酉戌亥"),
        "ganada": _letters("가나다라마바사아자차카타파하"),
        "chosung": _letters("ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ"),
        "koreanDigital": _digits("영일이삼사오육칠팔구"),
        "aiueo": _letters("ｱｲｳｴｵｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾅﾆﾇﾈﾉﾊﾋﾌﾍﾎﾏﾐﾑﾒﾓﾔﾕﾖﾗﾘﾙﾚﾛﾜｦﾝ"),
        "aiueoFullWidth": _letters(
            "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン"
        ),
        "iroha": _letters("ｲﾛﾊﾆﾎﾍﾄﾁﾘﾇﾙｦﾜｶﾖﾀﾚｿﾂﾈﾅﾗﾑｳヰﾉｵｸﾔﾏｹﾌｺｴﾃｱｻｷﾕﾒﾐｼヱﾋﾓｾｽﾝ"),
        "irohaFullWidth": _letters(
            "イロハニホヘトチリヌルヲワカヨタレソツネナラムウヰノオクヤマケフコエテアサキユメミシヱヒモセスン"
        ),
        "thaiLetters": _letters("กขคงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮ"),
        "thaiNumbers": _digits("๐๑๒๓๔๕๖๗๘๙"),
        "hindiNumbers": _digits("०१२३४५६७८९"),
        "arabicAlpha": _letters("أبتثجحخدذرزسشصضطظعغفقكلمنهوي"),
        "arabicAbjad": _letters("أبجدهوزحطيكلمنسعفصقرشتثخذضظغ"),
        "hebrew2": _letters("אבגדהוזחטיכלמנסעפצקרשת"),
    }
)
