"""A formula changed in one place, in every place where that is easy to do by accident."""

import re

_SWAPS = (
    (r"\+", "-"),
    (r"-", "+"),
    (r"\(", "["),
    (r"\)", "]"),
    (r"\[", "("),
    (r"\]", ")"),
    (r"\\\{", "("),
    (r"\\pi(?![a-z])", "e"),
    (r"\\sqrt(?![a-z])", ""),
    (r"\\infty", "9"),
    (r"\\cup", r"\\cap"),
    (r"\\cot", r"\\tan"),
    (r"\\pm", "+"),
    (r"\\circ", "2"),
    (r"\\in(?![a-z])", r"\\notin "),
    (r"cm(?=\})", "m"),
    (r"inches", "feet"),
    (r"cents", "dollars"),
    (r"degrees", "radians"),
    (r"=", "<"),
    (r" & ", r" \\\\ "),
    (r" \\\\ ", " & "),
)
"""What is written, and what is put in its place."""


def changes(latex: str) -> list[str]:
    """Every change of one place of ``latex``, in the order of the places."""
    changed = []

    def put(start: int, end: int, text: str) -> None:
        changed.append(latex[:start] + text + latex[end:])

    for digit in re.finditer(r"\d", latex):
        put(*digit.span(), str((int(digit[0]) + 1) % 10))
        put(*digit.span(), str((int(digit[0]) + 7) % 10))
        put(*digit.span(), "")
        put(digit.end(), digit.end(), digit[0])
    for letter in re.finditer(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])", latex):
        put(*letter.span(), "z" if letter[0] != "z" else "y")
        put(*letter.span(), letter[0].swapcase())
    for text in re.finditer(r"\\(?:text|mbox)\{([^{}]*)\}", latex):
        put(text.end() - 2, text.end(), "q}")
    for fraction in re.finditer(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}", latex):
        put(*fraction.span(), rf"\frac{{{fraction[2]}}}{{{fraction[1]}}}")
    for written, instead in _SWAPS:
        for place in re.finditer(written, latex):
            put(*place.span(), re.sub(written, instead, place[0]))
    changed += [front + latex for front in ("-", "2", "not ")]
    changed += [latex + behind for behind in ("x", "^2", ", 5", r" \text{ or } 5")]
    return [each for each in dict.fromkeys(changed) if each != latex]
