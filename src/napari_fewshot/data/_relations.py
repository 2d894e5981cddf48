"""Words that tell objects apart, and the rules by which `parse` reads them.

Rules are for plain small words with single blanks between; see `spoken`. What was read
is replaced by `MASKED`, names that are kept whole by `KEPT`.
"""

from __future__ import annotations

import re

POSITIONS = {
    "left": "left",
    "right": "right",
    "upper": "upper",
    "top": "upper",
    "lower": "lower",
    "bottom": "lower",
    "central": "central",
    "centre": "central",
    "center": "central",
    "middle": "central",
}
SUPERLATIVES = {
    "largest": "largest",
    "biggest": "largest",
    "smallest": "smallest",
    "tiniest": "smallest",
    "leftmost": "leftmost",
    "rightmost": "rightmost",
    "topmost": "uppermost",
    "uppermost": "uppermost",
    "highest": "uppermost",
    "bottommost": "lowermost",
    "lowermost": "lowermost",
    "lowest": "lowermost",
    "innermost": "innermost",
    "most central": "innermost",
}
FROM = {"left": "leftmost", "right": "rightmost", "upper": "uppermost"}
FROM |= {"lower": "lowermost", "central": "innermost"}
SIZES = dict.fromkeys(("large", "big", "huge"), "large")
SIZES |= dict.fromkeys(("small", "tiny", "little"), "small")
_ONE_TO_TEN = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FIRST_TO = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
COUNTS = {word: number for number, word in enumerate((*_ONE_TO_TEN, "ten"), 1)}
COUNTS |= {"single": 1, "both": 2, "pair": 2, "couple": 2}
ORDINALS = {word: number for number, word in enumerate(_FIRST_TO, 1)}
ORDINALS |= {"eighth": 8, "ninth": 9, "tenth": 10, "1st": 1, "2nd": 2, "3rd": 3}
ORDINALS |= {f"{n}th": n for n in range(4, 21)}
# Shares of an object along an axis; poles and tips have no sharp definition.
SHARES = {"half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4, "two thirds": 2 / 3}
SHARES |= dict.fromkeys(("pole", "top", "bottom", "centre", "center", "middle"), 1 / 3)
SHARES |= dict.fromkeys(("tip", "end"), 1 / 5)
SHARES |= dict.fromkeys(("part", "portion", "side", "region"), 1 / 2)
GENERIC = ("one", "ones", "object", "objects", "thing", "things", "half", "quadrant")
# Words, and signs that are no punctuation (emoji).
TOKEN = re.compile(
    r"(?:[^\W_]|[\u0300-\u036f\u200c\u200d])+"
    r"|[^\w\s!-/:-@\[-`{-~\xab\xbb\u2010-\u205e\u3000-\u303f]+"
)
# A longer text is no phrase; nothing is looked for in it.
LONGEST = 1000
# A phrase of more words is a description; its words are left together.
MOST_WORDS = 16
# Such words turn the meaning around; a phrase with one of them is left as it is.
TURNING = re.compile(r"\b(?:not|without|except|but|nor|neither|excluding)\b")

PLACE = r"(?:left|right|upper|lower|top|bottom|central|centre|center|middle)"
_PP = rf"(?P<pos>{PLACE}(?: (?:and )?{PLACE})?)"
_IMG = (
    r"(?:the |this |an? )?(?:image|picture|photo|scan|slice|frame|plane"
    r"|field of view|view)"
)
_UNIT = r"(?:[u\u03bc]m|nm|mm|cm|px|x|kv|ghz|tesla|h|hours?|days?|min|weeks?)"
_NUMBER = rf"(?:{'|'.join(COUNTS)}|\d{{1,3}}(?! {_UNIT}\b))"
ORDINAL = rf"(?:{'|'.join(ORDINALS)})"
SUPERLATIVE = rf"(?:{'|'.join(SUPERLATIVES)}|(?:{PLACE}) most|last)"
_EDGE = rf"(?:(?:the |an? )?(?:image )?(?:edges?|borders?|margins?|rim)(?: of {_IMG})?)"
_PART = (
    rf"(?P<pos>{PLACE}(?: {PLACE})?) (?P<share>pole|half|third|quarter|two thirds|tip"
    r"|end|part|portion|side|region)"
)
_BORDER = (
    ("apart", r"(?:not (?:touching|on|at|near)|away from|far from)"),
    ("touching", r"(?:touching|cut by|crossing|meeting|cut off by)"),
    ("near", r"(?:near|close to|next to|along|beside|by|at|on)"),
)
# What may follow a position that is no adjective of a noun.
_STOP = r" ?$| [\x00]| (?:and|that|which|with|near|touching|not|away|in|on|at)\b"
_RULES = {
    "part": rf"\b(?:the )?{_PART} of (?!{_IMG}\b)",
    "whole part": r"\b(?:the )?(?P<pos>(?P<share>top|bottom|centre|center|middle)) of "
    rf"(?!{_IMG}\b)",
    "trailing part": rf"(?<=\S ){_PART}$",
    "from": rf"\b(?:counted )?from (?:the )?(?P<from>{PLACE})(?: side)?\b",
    "place": r"(?:\b(?:that|which) (?:is|are|lies?) |\b(?:located|lying|situated) )?"
    rf"\b(?:on|in|at|to|towards?|of) (?:the )?(?:far |very )?{_PP}(?: hand)?"
    r"(?: (?P<reach>side|half|part|third|quarter|corner|region|quadrant|area"
    rf"|edge|border|margin)(?: of {_IMG})?\b| of {_IMG}\b|(?={_STOP}))(?! of\b)",
    "corner": r"\b(?:in|at|near) (?:the |an? )?(?P<corner>corners?)"
    rf"(?: of {_IMG})?\b(?! of\b)",
    "order": rf"(?:\b(?P<ord>{ORDINAL}) )?(?:\b(?P<count>{_NUMBER}) )?"
    rf"\b(?P<super>{SUPERLATIVE})\b(?: (?P<after>{_NUMBER})\b)?",
    "frame": rf"\b(?:in|of|on) {_IMG}\b(?! of\b)",
    "adjective": rf"\b{_PP}(?: hand)?\b(?! of\b)(?= [^\x00 ])",
    "last": rf"(?<=[^\x00 ] ){_PP}(?=[\x00 ]*$)",
    "size": rf"\b(?P<size>{'|'.join(SIZES)})\b(?= [^\x00 ])",
}
READ = {name: re.compile(rule) for name, rule in _RULES.items()}
BORDERS = tuple(
    (kind, re.compile(rf"\b{rule} {_EDGE}\b(?! of\b)")) for kind, rule in _BORDER
)
ALL = re.compile(r"^(?:all|every|each|any)(?: of)?\b(?: the\b)?")
COUNT = re.compile(
    rf"^(?:(?:the|an?|exactly|only|just) )*(?P<count>{_NUMBER})\b(?: of)?(?: the\b)?"
)
ELSE = re.compile(
    r"\b(?:(?:left|right|top|outside|inside) of|above|below|beside|next to|between"
    r"|inside|within|behind|beneath|under|near|around)\b(?= \S)"
)
MASKED = "\x00"
KEPT = "\x01"
