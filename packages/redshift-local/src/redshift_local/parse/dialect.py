"""Changes to sqlglot's Redshift parser and PostgreSQL generator.

Function calls keep their names: functions that PostgreSQL lacks are defined once, in the database (sql/*.sql).
Only calls with a special grammar are parsed as more than a name and arguments.
"""

from typing import Any, ClassVar

from sqlglot import ErrorLevel, exp
from sqlglot.dialects.redshift import Redshift
from sqlglot.generators.postgres import PostgresGenerator
from sqlglot.parsers.redshift import RedshiftParser
from sqlglot.tokens import TokenType

from redshift_local.plan import Refused

_OWN_GRAMMAR = ("CAST", "CONVERT", "DECODE", "EXTRACT", "POSITION", "SUBSTRING", "TRIM", "TRY_CAST")


def _attribute(parser: RedshiftParser, word: str) -> exp.Expr:
    """Parse a column's storage attribute, for `catalog.storage`."""
    if word == "encode":
        encoding = parser._advance_any()
        if encoding is None:
            parser.raise_error("Expected an encoding")
        word += f" {encoding.text.lower()}"
    return parser.expression(exp.EncodeColumnConstraint(this=exp.var(word)))


def _identity(parser: RedshiftParser) -> exp.Expr:
    """IDENTITY and IDENTITY (seed, step)."""
    wrapped = parser._curr and parser._curr.token_type == TokenType.L_PAREN
    numbers = parser._parse_wrapped_csv(parser._parse_unary) if wrapped else [None, None]
    if len(numbers) != 2:
        parser.raise_error("Expected IDENTITY (seed, step)")
    start, step = numbers
    return parser.expression(exp.GeneratedAsIdentityColumnConstraint(this=True, start=start, increment=step))


def _sort_key(parser: RedshiftParser, *, word: str = "", compound: bool = True) -> exp.Expr:
    """SORTKEY (…) and SORTKEY AUTO, of which `word` is still to be read."""
    if word:
        parser._match_text_seq(word)
    keys = [] if parser._match_text_seq("AUTO") else parser._parse_wrapped_csv(parser._parse_id_var)
    return parser.expression(exp.SortKeyProperty(this=exp.Tuple(expressions=keys), compound=compound))


def _encode_auto(parser: RedshiftParser) -> exp.Expr:
    parser._match_text_seq("AUTO")
    return parser.expression(exp.BackupProperty(this=exp.var("auto")))


# Other names of the interval types. https://docs.aws.amazon.com/redshift/latest/dg/r_interval_data_types.html
_INTERVALS = {"intervaly2m": ("YEAR", "MONTH"), "intervald2s": ("DAY", "SECOND")}


class Parser(RedshiftParser):
    """Redshift's grammar, with function calls left as they are."""

    def _parse_bracket(self, this: exp.Expr | None = None) -> exp.Expr | None:
        key = this.expression if isinstance(this, exp.Dot) else this.this if isinstance(this, exp.Column) else None
        is_column = isinstance(this, exp.Column) and not this.table
        if is_column or not isinstance(key, exp.Identifier) or key.name.upper() not in self.ARRAY_CONSTRUCTORS:
            return super()._parse_bracket(this)
        name = key.name
        key.set("this", f"{name} ")  # sqlglot reads the constructor of an array in `t.doc.array[0]`
        try:
            return super()._parse_bracket(this)
        finally:
            key.set("this", name)

    def _parse_types(self, *args: Any, **options: Any) -> exp.Expr | None:
        fields = self._curr and _INTERVALS.get(self._curr.text.lower())
        if not fields or not (options.get("schema") or self._prev.token_type in (TokenType.DCOLON, TokenType.ALIAS)):
            kind = super()._parse_types(*args, **options)
            if isinstance(kind, exp.DataType) and isinstance(kind.this, exp.Interval):
                self._parse_precision(kind.this.args.get("unit"))
            return kind
        self._advance()
        span = exp.IntervalSpan(this=exp.var(fields[0]), expression=exp.var(fields[1]))
        return self.expression(exp.DataType(this=exp.Interval(unit=span)))

    def _parse_precision(self, fields: exp.Expr | None) -> None:
        """INTERVAL DAY TO SECOND (precision)."""
        if not isinstance(fields, exp.IntervalSpan) or fields.expression.name.upper() != "SECOND":
            return
        if self._match(TokenType.L_PAREN):
            digits = self._parse_number()
            if digits is None:
                self.raise_error("Expected a number")
            fields.set("expression", exp.var(f"SECOND({digits.name})"))
            self._match_r_paren()

    FUNCTIONS: ClassVar = {}
    ARRAY_CONSTRUCTORS: ClassVar = {"ARRAY": exp.Array}  # `list[0]` is the item of a column
    FUNCTION_PARSERS: ClassVar = {k: v for k, v in RedshiftParser.FUNCTION_PARSERS.items() if k in _OWN_GRAMMAR}
    NO_PAREN_FUNCTION_PARSERS: ClassVar = {
        "ANY": RedshiftParser.NO_PAREN_FUNCTION_PARSERS["ANY"],
        "CASE": RedshiftParser.NO_PAREN_FUNCTION_PARSERS["CASE"],
        "SYSDATE": lambda self: self.expression(exp.Anonymous(this="sysdate")),
        # `approximate count(distinct x)` is exact here, which is within what Redshift promises.
        "APPROXIMATE": lambda self: self._parse_function(),
    }
    PROPERTY_PARSERS: ClassVar = {
        **RedshiftParser.PROPERTY_PARSERS,
        "SORTKEY": _sort_key,
        "COMPOUND": lambda self: _sort_key(self, word="SORTKEY"),
        "INTERLEAVED": lambda self: _sort_key(self, word="SORTKEY", compound=False),
        "ENCODE": _encode_auto,
    }
    CONSTRAINT_PARSERS: ClassVar = {
        **RedshiftParser.CONSTRAINT_PARSERS,
        "ENCODE": lambda self: _attribute(self, "encode"),
        "DISTKEY": lambda self: _attribute(self, "distkey"),
        "SORTKEY": lambda self: _attribute(self, "sortkey"),
        "IDENTITY": _identity,
    }


class Generator(PostgresGenerator):
    """PostgreSQL's grammar, with names of functions as they were written."""

    TRANSFORMS: ClassVar = {
        **PostgresGenerator.TRANSFORMS,
        exp.EncodeColumnConstraint: lambda *_: "",
        exp.CurrentUserId: lambda *_: "pg_redshift.current_user_id()",
        exp.Placeholder: lambda _, node: f"${node.name.removeprefix('bound')}",
    }


class LocalRedshift(Redshift):
    """The Redshift dialect of the local warehouse."""

    INDEX_OFFSET = 0
    Parser = Parser

    class Tokenizer(Redshift.Tokenizer):
        """Redshift's keywords. Statements for which sqlglot has no tree are read word by word."""

        COMMANDS: ClassVar = set()


def generate(tree: exp.Expr) -> str:
    """Write `tree` as PostgreSQL text.

    Raises:
        sqlglot.UnsupportedError: PostgreSQL has no such construct, as far as sqlglot knows.
        Refused: a string contains a character that is not allowed in strings.
    """
    sql = Generator(
        dialect="postgres", normalize_functions=False, unsupported_level=ErrorLevel.RAISE, comments=False
    ).generate(tree)
    if "\0" in sql:
        raise Refused('invalid byte sequence for encoding "UTF8": 0x00', "22021")
    return sql
