"""Typesetting: numbers with their intervals as text, and tables of text in Markdown and LaTeX.

Text is written once, in Unicode; `latex` turns it into plain ASCII that LaTeX reads as mathematics where it is
mathematics.
"""

import math
import re
from typing import NamedTuple

import pandas as pd

MISSING = "—"
# Columns of words stand to the left, columns of numbers to the right.
WORDS = ("point", "part", "estimator", "verdict", "notes", "status", "problems", "reason", "problem")

_DIGITS = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"
_RAISED = str.maketrans("-0123456789", _DIGITS)
_LOWERED = str.maketrans(_DIGITS, "-0123456789")
_LATEX = {"†": r"$^\dagger$", "‡": r"$^\ddagger$", "−": "$-$", "–": "--", "—": "---", "µ": r"$\mu$", "×": r"$\times$"}
_LATEX |= {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": "$|$",
    "<": "$<$",
    ">": "$>$",
}
_LATEX |= {character: "\\" + character for character in "&%$#_{}"}


class Table(NamedTuple):
    """A table of text; `bold` holds the (row, column) pairs to be set in bold."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    bold: frozenset[tuple[int, int]] = frozenset()

    def to_markdown(self) -> str:
        """A pipe table with its caption below."""
        cells = [[text.replace("|", r"\|") for text in row] for row in self.rows]
        for row, column in self.bold:
            cells[row][column] = f"**{cells[row][column]}**"
        rule = ["---" if name in WORDS else "---:" for name in self.columns]
        lines = ["| " + " | ".join(row) + " |" for row in [self.columns, rule, *cells]]
        return "\n".join(lines) + f"\n\n{self.caption}\n"

    def to_latex(self) -> str:
        """A `table` environment with the rules of `booktabs`, in ASCII, scaled down where it is wider than the text."""
        cells = [[latex(text) for text in row] for row in self.rows]
        for row, column in self.bold:
            cells[row][column] = rf"\textbf{{\boldmath {cells[row][column]}}}"
        head = [r"% needs \usepackage{booktabs, graphicx}", r"\begin{table}", r"\centering\footnotesize"]
        head += [rf"\caption{{{latex(self.caption)}}}", rf"\label{{tab:{self.name}}}"]
        head += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
        form = "".join("l" if name in WORDS else "r" for name in self.columns)
        head += [
            rf"\begin{{tabular}}{{{form}}}",
            r"\toprule",
            " & ".join(map(latex, self.columns)) + r" \\",
            r"\midrule",
        ]
        body = [" & ".join(row) + r" \\" for row in cells]
        if self.columns[0] == "point":
            body = _once_per_point(cells)
        return "\n".join([*head, *body, r"\bottomrule", r"\end{tabular}}", r"\end{table}"]) + "\n"


def _once_per_point(cells: list[list[str]]) -> list[str]:
    """Rows in LaTeX with the first column printed where it changes, and a rule before."""
    body, before = [], None
    for first, *rest in cells:
        if before is not None and first != before:
            body.append(r"\midrule")
        body.append(" & ".join(["" if first == before else first, *rest]) + r" \\")
        before = first
    return body


def latex(text: str) -> str:
    """`text` with what LaTeX would misread escaped, and its Unicode as mathematics.

    >>> print(latex("1.6 [1.5, 1.7] ×10⁻⁵ & 50 %"))
    1.6 [1.5, 1.7] $\\times 10^{-5}$ \\& 50 \\%
    """
    pieces = re.split(rf"×10([{_DIGITS}]+)", text)
    pieces[::2] = ["".join(_latex_character(character) for character in piece) for piece in pieces[::2]]
    pieces[1::2] = [rf"$\times 10^{{{power.translate(_LOWERED)}}}$" for power in pieces[1::2]]
    return "".join(pieces)


def _latex_character(character: str) -> str:
    return _LATEX.get(character, character if character.isascii() else "?")


def with_interval(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """`value [low, high]` with the digits that the interval can carry, and one power of ten where plain digits would be
    long.

    >>> with_interval(0.015931, 0.015622, 0.016251), with_interval(1.593e-7, 1.562e-7, 1.625e-7)
    ('0.0159 [0.0156, 0.0163]', '1.59 [1.56, 1.63] ×10⁻⁷')
    """
    if pd.isna(value):
        return MISSING
    numbers = [value] if pd.isna(low) or pd.isna(high) else [value, low, high]
    largest = max(map(abs, numbers))
    if largest == 0:
        return "0"
    exponent = math.floor(math.log10(largest))
    digits = _digits(exponent, high - low) if len(numbers) == 3 and high > low else 3
    power = 0 if -2 <= exponent < 4 else exponent
    decimals = max(power - exponent + digits - 1, 0)
    text = [_signed(number / 10.0**power, decimals) for number in numbers]
    brackets = f" [{text[1]}, {text[2]}]" if len(text) == 3 else ""
    return text[0] + brackets + (f" ×10{str(power).translate(_RAISED)}" if power else "")


def _digits(exponent: int, width: float) -> int:
    """Significant digits for a number of the order `10**exponent` whose interval is so wide: two or three, or four if
    the ends of the interval would otherwise be equal."""
    wanted, needed = (exponent - math.floor(math.log10(width / units)) + 1 for units in (4, 1))
    return max(min(wanted, max(needed, 3), 4), 2)


def _signed(number: float, decimals: int) -> str:
    text = f"{number:.{decimals}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them.

    >>> duration(1.3e-6), duration(0.25), duration(12.04)
    ('1.3 µs', '250 ms', '12 s')
    """
    if pd.isna(seconds):
        return MISSING
    unit, size = next(
        ((unit, size) for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)) if seconds >= size), ("ns", 1e-9)
    )
    return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f}".removesuffix(".0") + f" {unit}"


def extent(values: pd.Series) -> str:
    """The one value of a column, or its range: `1,000 to 2,000`; text is listed."""
    known = list(values.dropna().unique())
    if not known:
        return "unknown"
    if isinstance(known[0], str):
        return ", ".join(known)
    known.sort()
    return " to ".join(f"{value:,}" for value in dict.fromkeys((known[0], known[-1])))
