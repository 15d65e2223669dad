"""nginx's configuration as a tree of directives: words, quotes, comments and blocks, each directive with its line.

Nothing is looked up: `include` and variables stay what they are written as. Depth, size and count are bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPTH_MAX: Final = 16
"""Blocks in blocks; nginx's own go five deep."""
DIRECTIVES_MAX: Final = 20_000
WORD_MAX: Final = 4096
"""Characters of one word, as in nginx."""

_SPACE: Final = " \t\r\n"
_ESCAPES: Final = {"t": "\t", "r": "\r", "n": "\n"}


class SyntaxFault(Exception):
    """The text is not a configuration of nginx."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text


@dataclass(slots=True)
class Directive:
    """One directive: `server 10.0.0.1:80 weight=3;`, or a block with its own inside."""

    name: str
    args: tuple[str, ...]
    line: int
    block: list[Directive] | None = None
    """None: it ends with a semicolon."""

    def all(self, name: str) -> list[Directive]:
        """Return the directives of this name right inside the block."""
        return [each for each in self.block or () if each.name == name]

    def __str__(self) -> str:
        return " ".join((self.name, *self.args))


class _Word(NamedTuple):
    line: int
    text: str
    is_sign: bool = False
    """One of `;`, `{` and `}`, not quoted."""


def parse(text: str) -> list[Directive]:
    """Read a configuration.

    Raises:
        SyntaxFault: It is none, or beyond the bounds.
    """
    reader = _Reader(text)
    top: list[Directive] = []
    blocks, opened, words, count = [top], [0], list[_Word](), 0
    for word in reader.words():
        if not word.is_sign:
            words.append(word)
            continue
        if word.text == "}":
            if words or len(blocks) == 1:
                raise SyntaxFault(word.line, "a closing brace where none belongs")
            blocks.pop()
            opened.pop()
            continue
        if not words:
            raise SyntaxFault(word.line, f"{word.text!r} where a directive is expected")
        name, *args = (each.text for each in words)
        directive = Directive(name, tuple(args), words[0].line, None if word.text == ";" else [])
        blocks[-1].append(directive)
        words, count = [], count + 1
        if count > DIRECTIVES_MAX:
            raise SyntaxFault(word.line, f"more than {DIRECTIVES_MAX} directives")
        if directive.block is None:
            continue
        if name.endswith("_by_lua_block"):
            reader.skip_block(word.line)
            continue
        if len(blocks) > DEPTH_MAX:
            raise SyntaxFault(word.line, f"blocks in blocks deeper than {DEPTH_MAX}")
        blocks.append(directive.block)
        opened.append(directive.line)
    if words:
        raise SyntaxFault(words[0].line, "a directive that does not end")
    if len(blocks) > 1:
        raise SyntaxFault(opened[-1], "a block that does not end")
    return top


@dataclass(slots=True)
class _Reader:
    """Characters in, words out."""

    text: str
    at: int = 0
    line: int = 1

    def words(self) -> Iterator[_Word]:
        """Yield words and signs; what the reader skips meanwhile is not among them."""
        while self._skip_space():
            line, sign = self.line, self.text[self.at]
            if sign in ";{}":
                self.at += 1
                yield _Word(line, sign, is_sign=True)
            elif sign in "'\"":
                yield _Word(line, self._quoted(sign))
            else:
                yield _Word(line, self._plain())

    def skip_block(self, line: int) -> None:
        """Skip code in another language up to the brace that closes its block."""
        depth = 1
        while depth:
            if self.at >= len(self.text):
                raise SyntaxFault(line, "a block that does not end")
            depth += {"{": 1, "}": -1}.get(self.text[self.at], 0)
            self._advance()

    def _advance(self) -> str:
        sign = self.text[self.at]
        self.at += 1
        self.line += sign == "\n"
        return sign

    def _skip_space(self) -> bool:
        """Skip space and comments; False at the end of the text."""
        while self.at < len(self.text):
            if self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif self.text[self.at] in _SPACE:
                self._advance()
            else:
                return True
        return False

    def _quoted(self, quote: str) -> str:
        line = self.line
        self._advance()
        signs: list[str] = []
        while self.at < len(self.text):
            sign = self._advance()
            if sign == quote:
                if self.at < len(self.text) and self.text[self.at] not in _SPACE + ";{)":
                    raise SyntaxFault(self.line, "after a closing quote stands a space or a semicolon")
                return "".join(signs)
            signs.append(self._escaped() if sign == "\\" else sign)
            if len(signs) > WORD_MAX:
                break
        raise SyntaxFault(line, "a quote that does not end")

    def _plain(self) -> str:
        signs: list[str] = []
        while self.at < len(self.text):
            sign = self.text[self.at]
            if sign in _SPACE + ";" or (sign == "{" and signs[-1:] != ["$"]):
                break
            if sign == "{":  # a variable: ${name}
                end = self.text.find("}", self.at)
                if end < 0 or end - self.at > WORD_MAX:
                    raise SyntaxFault(self.line, "a variable that does not end")
                signs += self.text[self.at : end + 1]
                self.line += self.text.count("\n", self.at, end)
                self.at = end + 1
                continue
            self._advance()
            signs.append(self._escaped() if sign == "\\" else sign)
            if len(signs) > WORD_MAX:
                raise SyntaxFault(self.line, f"a word longer than {WORD_MAX} characters")
        return "".join(signs)

    def _escaped(self) -> str:
        """Return what a backslash and the next sign mean: of quotes and itself the sign, else both, as in nginx."""
        if self.at >= len(self.text):
            return "\\"
        sign = self._advance()
        return sign if sign in "'\"\\" else _ESCAPES.get(sign, "\\" + sign)
