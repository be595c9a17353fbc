# ruff: noqa: S608 - names are quoted, literals escaped; translating SQL is what this package does
"""SHOW, of settings and of the catalog."""

from redshift_local.parse import longnames
from redshift_local.parse.words import Words
from redshift_local.plan import HELPERS, Plan, bare, literal, unsupported

# Settings of Redshift that PostgreSQL does not know, and their defaults. Most have no effect.
# https://docs.aws.amazon.com/redshift/latest/dg/cm_chap_ConfigurationRef.html
SETTINGS = {
    "query_group": "unset",
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
    if words.take("databases"):
        return Plan(
            f"SELECT database_name FROM pg_catalog.svv_redshift_databases{_like(words, 'database_name')}", tag="SHOW"
        )
    if words.take("schemas"):
        if words.take("from"):
            words.take("database")
            _this_database(words.dotted()[0])
        return Plan(f"SELECT * FROM pg_catalog.svv_redshift_schemas{_like(words, 'schema_name')}", tag="SHOW")
    if words.take("tables"):
        words.take("from")
        words.take("schema")
        schema = _qualified(words, 1)[0]
        columns = "database_name, schema_name, table_name, table_type, NULL::varchar AS table_acl, remarks, owner,"
        columns += " NULL::timestamp AS last_altered_time, NULL::timestamp AS last_modified_time,"
        columns += " NULL::varchar AS dist_style, table_subtype"
        where = f" WHERE schema_name = {schema}{_like(words, 'table_name', 'AND')} ORDER BY table_name"
        return Plan(f"SELECT {columns} FROM {HELPERS}.all_tables{where}", tag="SHOW")
    if words.take("columns"):
        words.take("from")
        words.take("table")
        schema, table = _qualified(words, 2)
        columns = "database_name, schema_name, table_name, column_name, ordinal_position, column_default, is_nullable,"
        columns += " data_type, character_maximum_length, numeric_precision, numeric_scale, remarks,"
        columns += " NULL::varchar AS sort_key_type, 0 AS sort_key, 0 AS dist_key, 'none'::varchar AS encoding,"
        columns += " NULL::varchar AS collation"
        where = f" WHERE schema_name = {schema} AND table_name = {table}{_like(words, 'column_name', 'AND')}"
        return Plan(f"SELECT {columns} FROM {HELPERS}.all_columns{where} ORDER BY ordinal_position", tag="SHOW")
    if words.take("grants", "on"):
        return _grants(words)
    if words.take("table"):
        name = ".".join(words.dotted()[-2:])
        return Plan(f'SELECT {HELPERS}.show_table({literal(name)}) AS "Show Table DDL statement"', tag="SHOW")
    if words.take("view"):
        name = ".".join(words.dotted()[-2:])
        return Plan(
            f'SELECT {HELPERS}.view_definition({literal(name)}::regclass) AS "Show View DDL statement"', tag="SHOW"
        )
    if words.peek() in (
        "procedure",
        "external",
        "model",
        "datashares",
        "functions",
        "procedures",
        "parameters",
        "column",
        "constraints",
    ):
        raise unsupported(f"SHOW {words.peek().upper()}", "it works on a cluster only")
    if words.take("search_path"):
        return Plan(f"SELECT {HELPERS}.full_text(current_setting('search_path')) AS search_path", tag="SHOW")
    if words.take("all"):
        return _show_all()
    if (name := words.peek()) in SETTINGS:
        words.position += 1
        return Plan(
            f"SELECT coalesce(nullif(current_setting('{HELPERS}.{name}', true), ''), '{SETTINGS[name]}') AS {name}",
            tag="SHOW",
        )
    return Plan(f"SHOW {words.rest()}")


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
    if words.take("schema"):
        name = _qualified(words, 1)[0]
        view, where = "svv_schema_privileges", f"namespace_name = {name}"
        columns = "namespace_name AS schema_name, namespace_name AS object_name, 'SCHEMA'::varchar AS object_type"
    else:
        words.take("table")
        schema, table = _qualified(words, 2)
        view, where = "svv_relation_privileges", f"namespace_name = {schema} AND relation_name = {table}"
        columns = "namespace_name AS schema_name, relation_name AS object_name, 'TABLE'::varchar AS object_type"
    # Groups appear as roles whose names begin with a slash.
    who = "CASE identity_type WHEN 'group' THEN '/' || identity_name ELSE identity_name END AS identity_name,"
    who += " CASE identity_type WHEN 'group' THEN 'role' ELSE identity_type END AS identity_type"
    rest = "privilege_type, identity_id, admin_option, 'TABLE'::varchar AS privilege_scope"
    sql = f"SELECT current_database() AS database_name, {columns}, {rest}, {who} FROM pg_catalog.{view}"
    return Plan(f"{sql} WHERE {where} AND identity_name <> current_user", tag="SHOW")


def _qualified(words: Words, parts: int) -> list[str]:
    """The last `parts` parts of a dotted name, as literals; a database in front must be the current one."""
    parts_of_name = words.dotted()
    if len(parts_of_name) > parts:
        _this_database(parts_of_name[0])
    if len(parts_of_name) < parts:
        raise words.error()
    return [literal(longnames.restore(bare(part))) for part in parts_of_name[-parts:]]


def _this_database(_: str) -> None:
    # SHOW finds nothing in other databases: PostgreSQL cannot read them from this one.
    return None


def _like(words: Words, column: str, word: str = "WHERE") -> str:
    if not words.take("like"):
        return ""
    return f" {word} {column} LIKE {literal(words.string())}"
