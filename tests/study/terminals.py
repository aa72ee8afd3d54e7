"""What a person sees of text that was written to a terminal."""

from __future__ import annotations

import re

_PIECE = re.compile(r"\033\[(\d*)([A-Za-z])|([\r\n])|([^\033\r\n]+)")


def screen(text: str) -> list[str]:
    """The lines on the screen afterwards, without the empty end. Knows line ends, the cursor up, and erasing to the end
    of the screen; anything else that steers is an error."""
    lines, row, column = [""], 0, 0
    for number, order, end, words in (found.groups() for found in _PIECE.finditer(text)):
        if end == "\r":
            column = 0
        elif end == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif words:
            lines[row] = lines[row][:column].ljust(column) + words + lines[row][column + len(words) :]
            column += len(words)
        elif order == "A":
            row -= int(number or 1)
            assert row >= 0, "above the first line"
        elif order == "J":
            lines = [*lines[:row], lines[row][:column]]
        else:
            raise AssertionError(f"steers: {number}{order}")
    while lines and not lines[-1]:
        lines.pop()
    return lines
