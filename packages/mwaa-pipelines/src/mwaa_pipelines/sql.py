"""Names and values in SQL statements, and connections and errors of redshift_connector.

Values of queries are bound. COPY and DDL take no bound values, so their names and values are quoted here.
"""

from typing import Any


def quote_identifier(name: str) -> str:
    """Return a name, such as a schema or column, as a Redshift identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_table(table: str) -> str:
    """Return `schema.table` as two Redshift identifiers."""
    return ".".join(map(quote_identifier, table.split(".", 1)))


def quote_literal(value: str) -> str:
    """Return a value as a Redshift string. Redshift treats a backslash as an escape character."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def remove_time_limit(connection: Any) -> None:
    """Let statements take as long as they need. The `timeout` of redshift_connector.connect also ends them.

    The only way is a private attribute; checked with redshift_connector 2.1.16 and 2.1.17.
    """
    connection._usock.settimeout(None)


def error_code(error: Exception) -> str:
    """Return the SQLSTATE of an error of redshift_connector, or an empty string."""
    return _field(error, "C", "")


def error_text(error: Exception) -> str:
    """Return the database's message, and its hint if it has one."""
    return " ".join(filter(None, (_field(error, "M", str(error)), _field(error, "H", ""))))


def _field(error: Exception, name: str, default: str) -> Any:
    fields = error.args[0] if error.args else None
    return fields.get(name, default) if isinstance(fields, dict) else default
