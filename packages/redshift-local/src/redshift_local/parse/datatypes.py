"""Data types: Redshift's default sizes, and types that only one of the two databases has.

https://docs.aws.amazon.com/redshift/latest/dg/c_Supported_data_types.html
"""

from sqlglot import exp

from redshift_local.plan import HELPERS, Refused, unsupported

_T = exp.DType
_NOT_HERE = {_T.GEOMETRY: "GEOMETRY", _T.GEOGRAPHY: "GEOGRAPHY", _T.HLLSKETCH: "HLLSKETCH"}
_ONLY_POSTGRES = (
    {_T.JSON: "json", _T.JSONB: "jsonb", _T.UUID: "uuid", _T.XML: "xml", _T.INET: "inet", _T.MONEY: "money"}
    | {_T.SERIAL: "serial", _T.BIGSERIAL: "bigserial", _T.SMALLSERIAL: "smallserial", _T.BIT: "bit"}
    | {_T.TINYINT: "tinyint", _T.INT4RANGE: "int4range", _T.TSRANGE: "tsrange", _T.DATERANGE: "daterange"}
)
_MAX_VARCHAR, _MAX_CHAR, _MAX_PRECISION = 65535, 4096, 38
_TEXT = (_T.TEXT, _T.VARCHAR, _T.NVARCHAR)
_CHAR = (_T.CHAR, _T.NCHAR, _T.BPCHAR)


def adapt(kind: exp.DataType) -> None:
    """Replace a type by PostgreSQL's."""
    if name := _NOT_HERE.get(kind.this):
        raise unsupported(f"type {name}", "it works on a cluster only")
    column = kind.parent if isinstance(kind.parent, exp.ColumnDef) else None
    if kind.this == _T.NAME and (column is None or isinstance(column.parent, exp.TableAlias)):
        kind.set("this", _T.TEXT)  # PostgreSQL's has 63 bytes
    if kind.this == _T.ARRAY:
        raise _unsupported(kind, "; a SUPER column holds arrays")
    if name := _ONLY_POSTGRES.get(kind.this):
        raise Refused(f'type "{name}" does not exist', "42704", "PostgreSQL has it, Redshift does not")
    if kind.this in (_T.DECIMAL, _T.UDECIMAL):
        # https://docs.aws.amazon.com/redshift/latest/dg/r_Numeric_types201.html
        if not kind.expressions:
            _size(kind, 18, 0)
        elif [size.name for size in kind.expressions] == ["38", "37"]:
            # The catalog shows computed numbers like this (sql/7_history.sql): any precision, any scale.
            kind.set("expressions", None)
        elif (digits := kind.expressions[0].name).isdecimal() and int(digits) > _MAX_PRECISION:
            raise Refused(f"DECIMAL precision {digits} must be between 1 and 38", "22023")
    elif kind.this in (_T.VARBINARY, _T.BINARY):
        kind.set("expressions", None)
    elif kind.this in _TEXT + _CHAR and kind.expressions:
        limit = _MAX_VARCHAR if kind.this in _TEXT else _MAX_CHAR
        size = kind.expressions[0].name.lower()
        if size == "max":
            _size(kind, limit)
        elif size.isdecimal() and not 0 < int(size) <= limit:
            name = "varchar" if kind.this in _TEXT else "char"
            raise Refused(f"length for type {name} cannot exceed {limit}", "22023")
        if kind.this in (_T.NVARCHAR, _T.NCHAR):
            kind.set("this", _T.VARCHAR if kind.this == _T.NVARCHAR else _T.CHAR)


def to_super(node: exp.Cast) -> exp.Expr | None:
    """Cast a string literal to SUPER as a string; PostgreSQL would parse it as JSON."""
    if node.to.this == _T.SUPER and isinstance(node.this, exp.Literal) and node.this.is_string:
        text = exp.cast(node.this.copy(), _T.TEXT)
        return exp.Anonymous(this=f"{HELPERS}.to_super", expressions=[text])
    return None


_STORED = (
    _TEXT
    + _CHAR
    + (
        *(_T.SMALLINT, _T.INT, _T.BIGINT, _T.DECIMAL, _T.FLOAT, _T.DOUBLE, _T.BOOLEAN, _T.DATE, _T.TIME, _T.TIMETZ),
        *(_T.TIMESTAMP, _T.TIMESTAMPTZ, _T.SUPER, _T.VARBINARY, _T.BINARY),
        _T.DATETIME,
    )
)


def store(kind: exp.DataType) -> None:
    """Give a column's type the length that Redshift gives it where none is written.

    In an expression, VARCHAR alone is as long as its value; in a table it is VARCHAR(256), and so is TEXT.
    https://docs.aws.amazon.com/redshift/latest/dg/r_Character_types.html
    """
    if not isinstance(kind.this, exp.Interval) and kind.this not in _STORED:
        raise _unsupported(kind)
    if kind.this == _T.TEXT or (kind.this in _TEXT and not kind.expressions):
        kind.set("this", _T.VARCHAR)
        _size(kind, 256)
    elif kind.this in _CHAR and not kind.expressions:
        size = 256 if kind.this == _T.BPCHAR else 1
        kind.set("this", _T.CHAR)
        _size(kind, size)


def _unsupported(kind: exp.DataType, hint: str = "") -> Refused:
    column, statement = kind.find_ancestor(exp.ColumnDef), kind.find_ancestor(exp.Create, exp.Alter)
    what = f'Column "{statement.find(exp.Table).name}.{column.name}" has' if column and statement else "This is an"
    known = "https://docs.aws.amazon.com/redshift/latest/dg/c_Supported_data_types.html lists the types"
    return Refused(f'{what} unsupported type "{kind.sql("postgres").lower()}".', "0A000", known + hint)


def _size(kind: exp.DataType, *numbers: int) -> None:
    kind.set("expressions", [exp.DataTypeParam(this=exp.Literal.number(number)) for number in numbers])
