"""The tokens of a statement that sqlglot has no tree for, read word by word."""

from sqlglot.tokens import Token, TokenType

from redshift_local.parse import longnames, reserved
from redshift_local.plan import Refused, identifier, literal

# Quoted, and dollar-quoted as dbt writes comments.
_STRINGS = (TokenType.STRING, TokenType.HEREDOC_STRING)


class Words:
    """The tokens of one statement, read from left to right.

    Args:
        text: the whole message, into which the tokens' positions point.
        tokens: one statement's tokens.
    """

    def __init__(self, text: str, tokens: list[Token]) -> None:
        """Stand before the first token."""
        self.text, self.tokens, self.position = text, tokens, 0

    def peek(self, ahead: int = 0) -> str:
        """The next word in lower case, or nothing at the end. Quoted names and strings are never words."""
        where = self.position + ahead
        if where >= len(self.tokens) or self.tokens[where].token_type in (TokenType.IDENTIFIER, *_STRINGS):
            return ""
        return self.tokens[where].text.lower()

    def take(self, *words: str) -> bool:
        """Step over `words` if they come next."""
        if all(self.peek(i) == word for i, word in enumerate(words)):
            self.position += len(words)
            return True
        return False

    @property
    def left(self) -> bool:
        """Whether anything is left to read."""
        return self.position < len(self.tokens)

    def source(self) -> str:
        """Step over one token; returns it as PostgreSQL text."""
        if not self.left:
            raise Refused("syntax error at end of input", "42601")
        token = self.tokens[self.position]
        self.position += 1
        if token.token_type in _STRINGS:
            return literal(token.text)
        if token.token_type == TokenType.IDENTIFIER:
            return identifier(longnames.fold(token.text))
        return token.text

    def name(self, *, after_dot: bool = False) -> str:
        """Step over a name; returns it quoted. Redshift folds quoted names to lower case too."""
        if not self.left or self.tokens[self.position].token_type in _STRINGS:
            raise self.error()
        token = self.tokens[self.position]
        if not after_dot and token.token_type != TokenType.IDENTIFIER:
            reserved.check(token.text)
        self.position += 1
        return identifier(longnames.fold(token.text))

    def dotted(self) -> list[str]:
        """Step over a name that may be qualified; returns its quoted parts."""
        parts = [self.name()]
        while self.take("."):
            parts.append(self.name(after_dot=True))
        return parts

    def at_string(self) -> bool:
        """Whether a string literal comes next."""
        return self.left and self.tokens[self.position].token_type in _STRINGS

    def string(self) -> str:
        """Step over a string literal; returns its value."""
        if not self.left or self.tokens[self.position].token_type not in _STRINGS:
            raise self.error()
        self.position += 1
        return self.tokens[self.position - 1].text

    def rest(self) -> str:
        """Step over everything that is left; returns it as PostgreSQL text, spaced as it was."""
        out, end = [], None
        while self.left:
            token = self.tokens[self.position]
            if end is not None and token.start > end + 1:
                out.append(" ")
            end = token.end
            out.append(self.source())
        return "".join(out)

    def error(self) -> Refused:
        """A syntax error at the next word."""
        if not self.left:
            return Refused("syntax error at end of input", "42601")
        return Refused(f'syntax error at or near "{self.tokens[self.position].text}"', "42601")
