# ruff: noqa: S608 - names are quoted, literals escaped; translating SQL is what this package does
"""SHOW, of settings and of the catalog."""

import itertools
from collections.abc import Callable

from sqlglot.tokens import Token, TokenType

from redshift_local.parse import longnames
from redshift_local.parse.words import Words
from redshift_local.plan import HELPERS, Plan, Refused, bare, literal, unsupported

# Settings of Redshift that PostgreSQL does not know, and their defaults. Most have no effect.
# https://docs.aws.amazon.com/redshift/latest/dg/cm_chap_ConfigurationRef.html
SETTINGS = {
    # dbt-redshift 1.11.1, test_query_group.py, which ran on clusters; the example of the manual says unset.
    "query_group": "default",
    "wlm_query_slot_count": "1",
    "analyze_threshold_percent": "10",
    "max_cursor_result_set_size": "0",
    "stored_proc_log_min_messages": "LOG",
    "default_geometry_encoding": "1",
    "spectrum_query_maxerror": "-1",
    "metadata_catalog": "default",
    **dict.fromkeys(
        [
            "enable_result_cache_for_session",
            "mv_enable_aqmv_for_session",
            "auto_analyze",
            "enable_numeric_rounding",
            "navigate_super_null_on_error",
            "cast_super_null_on_error",
            "spectrum_enable_pseudo_columns",
        ],
        "on",
    ),
    **dict.fromkeys(
        [
            "enable_case_sensitive_identifier",
            "describe_field_name_in_uppercase",
            "use_fips_ssl",
            "enable_vacuum_boost",
            "error_on_nondeterministic_update",
            "parse_super_null_on_error",
            "json_serialization_enable",
            "json_serialization_parse_nested_strings",
            "enable_case_sensitive_super_attribute",
        ],
        "off",
    ),
}


def show(words: Words) -> Plan:
    """Translate SHOW of a setting or of the catalog, after its first word. https://docs.aws.amazon.com/redshift/latest/dg/r_SHOW.html"""
    if bound := _bound_values(words):
        return _with_values(words, bound)
    for name, handle in _CATALOG.items():
        if words.take(name):
            plan = handle(words)
            if words.left:
                raise words.error()
            return plan
    if words.peek() in _NOT_HERE:
        raise unsupported(f"SHOW {words.peek().upper()}", "it works on a cluster only")
    if words.take("search_path"):
        return Plan(f"SELECT {HELPERS}.full_text(current_setting('search_path')) AS search_path", tag="SHOW")
    if words.take("use"):
        return Plan(f"SELECT coalesce(current_setting('{HELPERS}.use', true), '') AS \"Use Database\"", tag="SHOW")
    if words.take("all"):
        return _show_all()
    if (name := words.peek()) in SETTINGS:
        words.position += 1
        return Plan(
            f"SELECT coalesce(nullif(current_setting('{HELPERS}.{name}', true), ''), '{SETTINGS[name]}') AS {name}",
            tag="SHOW",
        )
    return Plan(f"SHOW {words.rest()}")


def _bound_values(words: Words) -> dict[int, int]:
    """The positions of bound values, which have been renamed to :bound1, and their numbers."""
    return {
        position: int(name.text.removeprefix("bound"))
        for position, (colon, name) in enumerate(itertools.pairwise(words.tokens))
        if colon.token_type == TokenType.COLON and name.text.startswith("bound")
    }


def _with_values(words: Words, bound: dict[int, int]) -> Plan:
    """Drivers bind names: `SHOW TABLES FROM SCHEMA $1.$2 LIKE $3` (redshift_connector 2.1.15, metadataAPIHelper.py).

    PostgreSQL binds values only, so the statement is translated again when the values are known.
    """
    start = words.position

    def plan_for(values: list[str | None]) -> Plan:
        tokens: list[Token] = []
        for position, token in enumerate(words.tokens):
            if position in bound and bound[position] <= len(values):
                tokens.append(_token(words.tokens[position - 1], token, values[bound[position] - 1]))
            elif position - 1 not in bound:
                tokens.append(token)
        longnames.shorten(tokens)
        with_values = Words(words.text, tokens)
        with_values.position = start
        return show(with_values)

    plan = plan_for(["1"] * max(bound.values()))
    used = " || ".join(f"${number}::text" for number in sorted(set(bound.values())))
    return Plan(f"SELECT * FROM ({plan.sql}) AS shown WHERE {used} IS NOT NULL", tag="SHOW", bind=plan_for)


def _token(before: Token, token: Token, value: str | None) -> Token:
    """A bound value as the token that is allowed after the word before it."""
    if value is None:
        raise Refused("a bound value of SHOW is null", "22004", "bind a name, a pattern or a number")
    kinds = {"like": TokenType.STRING, "limit": TokenType.NUMBER}
    kind = kinds.get(before.text.lower(), TokenType.IDENTIFIER)
    value = value.replace("\0", "\ufffd")  # PostgreSQL has no zero byte in text, so nothing has it in its name
    return Token(kind, value, token.line, token.col, token.start, token.end)


def _databases(words: Words) -> Plan:
    if words.peek() == "from":
        raise unsupported("SHOW DATABASES FROM DATA CATALOG", "it works on a cluster only")
    return _rows(words, "database_name", "pg_catalog.svv_redshift_databases", [], "database_name")


def _schemas(words: Words) -> Plan:
    database = ""
    if words.take("from"):
        words.take("database")
        database = bare(words.name())
    return _rows(words, "*", "pg_catalog.svv_redshift_schemas", [], "schema_name", database=database)


def _tables(words: Words) -> Plan:
    words.take("from")
    if words.take("database"):
        raise unsupported("SHOW TABLES FROM DATABASE", "name a schema: SHOW TABLES FROM SCHEMA")
    words.take("schema")
    (schema,), database = _qualified(words, 1)
    columns = "database_name, schema_name, table_name, table_type, NULL::varchar AS table_acl, remarks, owner,"
    columns += " NULL::timestamp AS last_altered_time, NULL::timestamp AS last_modified_time,"
    columns += " NULL::varchar AS dist_style, table_subtype"
    where = [f"schema_name = {schema}"]
    return _rows(words, columns, f"{HELPERS}.all_tables", where, "table_name", database=database)


def _columns(words: Words) -> Plan:
    words.take("from")
    if words.peek() in ("database", "schema"):
        raise unsupported(f"SHOW COLUMNS FROM {words.peek().upper()}", "name a table: SHOW COLUMNS FROM TABLE")
    words.take("table")
    (schema, table), database = _qualified(words, 2)
    columns = "database_name, schema_name, table_name, column_name, ordinal_position, column_default, is_nullable,"
    columns += " data_type, character_maximum_length, numeric_precision, numeric_scale, remarks,"
    columns += " sort_key_type, sort_key, dist_key, encoding, NULL::varchar AS collation"
    where = [f"schema_name = {schema}", f"table_name = {table}"]
    return _rows(words, columns, f"{HELPERS}.all_columns", where, "column_name", "ordinal_position", database)


def _table(words: Words) -> Plan:
    name, database = _relation(words)
    sql = f'SELECT {HELPERS}.show_table({name}) AS "Show Table DDL statement"'
    return Plan(sql, tag="SHOW", database=database)


def _view(words: Words) -> Plan:
    name, database = _relation(words)
    sql = f'SELECT {HELPERS}.view_definition({name}::text::regclass) AS "Show View DDL statement"'
    return Plan(sql, tag="SHOW", database=database)


def _relation(words: Words) -> tuple[str, str]:
    """Read a name; returns it as a literal, and the database in front of it, if any."""
    names = words.dotted()
    return literal(".".join(names[-2:])), bare(names[0]) if len(names) > 2 else ""


def _rows(
    words: Words, columns: str, view: str, where: list[str], name: str, order: str = "", database: str = ""
) -> Plan:
    """Rows of a catalog view, with the LIKE and the LIMIT that end the statement."""
    if name and words.take("like"):
        where = [*where, f"{name} LIKE {_value(words)}"]
    limit = f" LIMIT {_value(words)}" if words.take("limit") else ""
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    sql = f"SELECT {columns} FROM {view}{condition} ORDER BY {order or name}{limit}"
    return Plan(sql, tag="SHOW", database=database)


def _value(words: Words) -> str:
    """A string or a number."""
    if words.at_string():
        return literal(words.string())
    if words.peek().isdecimal():
        return words.source()
    raise words.error()


def _show_all() -> Plan:
    """Show Redshift's settings only: PostgreSQL's have other names and show paths."""
    both = (
        "datestyle",
        "extra_float_digits",
        "search_path",
        "statement_timeout",
        "timezone",
        "client_encoding",
        "application_name",
    )
    rows = [f"({literal(name)}, current_setting({literal(name)}))" for name in both]
    rows += [
        f"({literal(name)}, coalesce(nullif(current_setting('{HELPERS}.{name}', true), ''), {literal(value)}))"
        for name, value in SETTINGS.items()
    ]
    return Plan(f"SELECT name, setting FROM (VALUES {', '.join(rows)}) AS s (name, setting) ORDER BY name", tag="SHOW")


def _grants(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_SHOW_GRANTS.html"""
    if not words.take("on"):
        raise unsupported("SHOW GRANTS FOR", "name an object: SHOW GRANTS ON TABLE")
    if words.peek() in ("database", "function", "template"):
        raise unsupported(f"SHOW GRANTS ON {words.peek().upper()}", "it works for schemas and tables only")
    if words.take("schema"):
        (name,), database = _qualified(words, 1)
        view, where = "schema_privileges", [f"namespace_name = {name}"]
        columns = "namespace_name AS schema_name, namespace_name AS object_name, 'SCHEMA'::varchar AS object_type"
    else:
        words.take("table")
        if words.peek(1) == ".":
            names, database = _qualified(words, 2)
            relation = f"({', '.join(names)})"
        else:
            named = f"WHERE relation = {literal(words.name())}::text::regclass"
            relation, database = f"(SELECT schema_name, table_name FROM {HELPERS}.all_tables {named})", ""
        view, where = "relation_privileges", [f"(namespace_name, relation_name) = {relation}"]
        columns = "namespace_name AS schema_name, relation_name AS object_name, 'TABLE'::varchar AS object_type"
    rest = f"privilege_type, identity_id, {_WHO}, admin_option, 'TABLE'::varchar AS privilege_scope, grantor_name"
    where += [_VISIBLE, "NOT is_owner"]
    columns = f"current_database() AS database_name, {columns}, {rest}"
    return _rows(words, columns, f"{HELPERS}.{view}", where, "identity_name", _GRANTEES, database)


def _column_grants(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_SHOW_COLUMN_GRANTS.html, LIKE from redshift_connector 2.1.15"""
    for word in ("grants", "on", "table"):
        if not words.take(word):
            raise words.error()
    (schema, table), database = _qualified(words, 2)
    columns = "current_database() AS database_name, namespace_name AS schema_name, relation_name AS table_name,"
    columns += f" column_name, 'COLUMN'::varchar AS object_type, privilege_type, identity_id, {_WHO}, admin_option,"
    columns += " 'COLUMN'::varchar AS privilege_scope, grantor_name"
    where = [f"namespace_name = {schema}", f"relation_name = {table}", _VISIBLE]
    order = f"column_name, {_GRANTEES}"
    return _rows(words, columns, f"{HELPERS}.column_privileges", where, "column_name", order, database)


def _constraints(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_SHOW_CONSTRAINTS.html"""
    if words.take("primary", "keys"):
        view, side, order = "primary_keys", "", "pk_name, key_seq"
    elif words.take("foreign", "keys"):
        view, side = "foreign_keys", "pk_" if words.take("exported") else "fk_"
        order = "fk_schema_name, fk_table_name, fk_name, key_seq"
    else:
        raise words.error()
    if not words.take("from", "table"):
        raise words.error()
    (schema, table), database = _qualified(words, 2)
    where = [f"{side}schema_name = {schema}", f"{side}table_name = {table}"]
    return _rows(words, "*", f"{HELPERS}.{view}", where, "", order, database)


def _functions(words: Words, kind: str = "function") -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_SHOW_FUNCTIONS.html"""
    if not words.take("from", "schema"):
        raise words.error()
    (schema,), database = _qualified(words, 1)
    columns = f"database_name, schema_name, function_name AS {kind}_name, number_of_arguments, argument_list,"
    columns += " return_type, remarks"
    where = [f"schema_name = {schema}", f"{kind == 'function'}"]
    order = "function_name, argument_list"
    return _rows(words, columns, f"{HELPERS}.functions", where, "function_name", order, database)


def _procedures(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_SHOW_PROCEDURES.html; there are none here."""
    return _functions(words, "procedure")


def _parameters(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_SHOW_PARAMETERS.html"""
    if not words.take("of"):
        raise words.error()
    if not (kind := next((kind for kind in ("function", "procedure") if words.take(kind)), "")):
        raise words.error()
    names = words.dotted()
    if not 2 <= len(names) <= 3 or not words.take("("):
        raise words.error()
    types = ""
    while not words.take(")"):
        part = words.source()
        types += " " + (bare(part) if part.startswith('"') else part)
    columns = f"database_name, schema_name, function_name AS {kind}_name, parameter_name, ordinal_position,"
    columns += " parameter_type, data_type, character_maximum_length, numeric_precision, numeric_scale"
    signature = literal(f"{'.'.join(names[-2:])}({types})")
    where = [f"function = to_regprocedure({signature}::text)", f"{kind == 'function'}"]
    database = bare(names[0]) if len(names) == 3 else ""
    return _rows(words, columns, f"{HELPERS}.parameters", where, "parameter_name", "ordinal_position", database)


def _qualified(words: Words, parts: int) -> tuple[list[str], str]:
    """Read a dotted name; returns its last `parts` parts as literals, and the database in front of them, if any."""
    names = words.dotted()
    if not parts <= len(names) <= parts + 1:
        raise words.error()
    database = bare(names[0]) if len(names) > parts else ""
    return [literal(longnames.restore(bare(part))) for part in names[-parts:]], database


# Groups appear as roles whose names begin with a slash.
_WHO = (
    "CASE identity_type WHEN 'group' THEN '/' || identity_name ELSE identity_name END AS identity_name,"
    " CASE identity_type WHEN 'group' THEN 'role' ELSE identity_type END AS identity_type"
)
# "A grant is visible to the current user if": a superuser, the grantee, or in a granted role.
_VISIBLE = f"({HELPERS}.is_admin() OR identity_id = 0 OR pg_has_role(identity_id, 'MEMBER'))"
# Rows, without the owner's, and their order: redshift_connector 2.1.15, test_metadataAPI_privileges.py.
_GRANTEES = "identity_type <> 'user', identity_id, privilege_type"
_CATALOG: dict[str, Callable[[Words], Plan]] = {
    "databases": _databases,
    "schemas": _schemas,
    "tables": _tables,
    "columns": _columns,
    "column": _column_grants,
    "constraints": _constraints,
    "functions": _functions,
    "procedures": _procedures,
    "parameters": _parameters,
    "grants": _grants,
    "table": _table,
    "view": _view,
}
_NOT_HERE = ("datashares", "external", "model", "policies", "procedure", "template", "templates")
