"""Characters of symbol fonts in Unicode: a document stores the places of their glyphs, in U+F020 to U+F0FF.

The tables follow Adobe's and Unicode's for Symbol, and Unicode's names for the glyphs of Wingdings.
"""

import re
from types import MappingProxyType

PLACES = re.compile("[\uf020-\uf0ff]")

_SYMBOL = (
    " !∀#∃%&∍()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼\0"
    + 32 * "\0"
    + "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪\0〉∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭\0"
)
_WINGDINGS = (
    " 🖉✂✁👓🕭🕮🕯🕿✆🖂🖃📪📫📬📭🗀🗁🗎🗏🗐🗄⏳🖮🖰🖲🖳🖴🖫🖬✇✍🖎✌👌👍👎☜☞☝☟🖐☺😐☹💣🕱🏳🏱✈☼🌢❄🕆✞🕈✠✡☪☯🕉☸♈♉"
    "♊♋♌♍♎♏♐♑♒♓🙰🙵⚫🔾◼□🞐❑❒🞟⧫◆❖🞙⌧⮹⌘🏵🏶🙶🙷\0⓪①②③④⑤⑥⑦⑧⑨⑩⓿❶❷❸❹❺❻❼❽❾❿🙢🙠🙡🙣🙦🙤🙥🙧∙•"
    "⬝⭘🞆🞈🞊🞋🔿▪◻🟀🟁★🟋🟏🟓🟑⯐⌖⯎⯏⯑✪✰🕐🕑🕒🕓🕔🕕🕖🕗🕘🕙🕚🕛⮰⮱⮲⮳⮴⮵⮶⮷🙪🙫🙕🙔🙗🙖🙐🙑🙒🙓⌫⌦⮘➢⮙⮛⮈⮊⮉⮋🡨"
    "→↑↓↖↗↙↘🡸🡺🡹🡻🡼🡽🡿🡾⇦⇨⇧⇩⬄⇳⬁⬀⬃⬂🢬🢭✗✓☒☑\0"
)
_TABLES = MappingProxyType({"symbol": _SYMBOL, "wingdings": _WINGDINGS})


def of(font: str, code: int) -> str:
    """The character at a place of a font; empty where there is none, or nothing is known about the font."""
    table = _TABLES.get(font.lower())
    place = code - 0xF000 if code >= 0xF000 else code
    if table is not None and 0x20 <= place <= 0xFF:
        return table[place - 0x20].strip("\0")
    return "" if 0xE000 <= code <= 0xF8FF or not 0x20 <= code < 0x110000 else chr(code)


def in_unicode(text: str, font: str) -> str:
    """Text in which places of the font stand between other characters. Those of unknown fonts are left alone."""
    if font.lower() not in _TABLES:
        return text
    return PLACES.sub(lambda found: of(font, ord(found[0])), text)
