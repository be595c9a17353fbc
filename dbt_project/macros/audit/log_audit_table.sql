{#
  The on-run-end hook: one row in audit_table for each result of this invocation, or an error that fails the invocation.
#}
{% macro log_audit_table(results) %}
    {#- Outside `execute`, because dbt notes while parsing what a hook refers to. -#}
    {%- set table = ref('audit_table') -%}
    {#- `compile`, `docs generate` and their like run this hook as well, and have nothing to record. -#}
    {%- set recorded = ['build', 'run', 'test', 'seed', 'snapshot', 'freshness', 'clone', 'retry'] -%}
    {%- if execute and results and flags.WHICH in recorded and var('audit_enabled') -%}
        {%- do insert_audit_rows(table, results) -%}
    {%- endif -%}
{% endmacro %}


{#
  Appends one row to `table` for each of `results`, with three statements: which columns the table has, one INSERT, a commit.

  Nothing is lost silently: an INSERT inside a transaction that an earlier statement left open would be rolled back when dbt
  closes the connection, hence the commit, which outside a transaction does nothing. Values are bound: no text becomes SQL.
#}
{% macro insert_audit_rows(table, results) %}
    {%- set found = audit_table_columns(table) -%}
    {%- if not found -%}
        {{ exceptions.raise_compiler_error(
            "The audit table " ~ table ~ " does not exist, or user " ~ target.user ~ " may not see it, so " ~ (results | length)
            ~ " results were not recorded. Create it with: dbt run --select tag:audit. "
            ~ "To run without an audit trail: --vars 'audit_enabled: false'."
        ) }}
    {%- endif -%}

    {%- set columns = {} -%}
    {%- set missing = [] -%}
    {%- for name, _, _ in audit_columns() -%}
        {%- if name in found -%}
            {%- do columns.update({name: found[name]}) -%}
        {%- else -%}
            {%- do missing.append(name) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if missing -%}
        {%- do exceptions.warn(
            table ~ " is older than this project: " ~ missing | join(', ') ~ " not recorded. Add the columns with: dbt run --select tag:audit"
        ) -%}
    {%- endif -%}

    {%- set insert = 'insert into ' ~ table ~ ' (' ~ columns | join(',') ~ ') values ' -%}
    {%- set placeholders = '(' ~ (['%s'] * columns | length) | join(',') ~ ')' -%}
    {#- A statement binds at most 32,767 values; with the widths above that stays below Redshift's 16 MB. -#}
    {%- for rows in parse_dbt_results(results, columns) | batch(32767 // columns | length) -%}
        {%- do adapter.add_query(
            insert ~ ([placeholders] * rows | length) | join(','), auto_begin=false, bindings=rows | sum(start=[]), abridge_sql_log=true
        ) -%}
    {%- endfor -%}
    {%- do adapter.add_query('commit', auto_begin=false) -%}
{% endmacro %}


{# {name: width in bytes, or none} of the columns that a table really has; empty if it does not exist or may not be seen. #}
{% macro audit_table_columns(table) %}
    {%- set _, cursor = adapter.add_query(
        'select column_name, character_maximum_length from information_schema.columns'
        ~ ' where lower(table_schema) = %s and lower(table_name) = %s',
        auto_begin=false, bindings=[table.schema | lower, table.identifier | lower]
    ) -%}
    {%- set columns = {} -%}
    {%- for name, width in cursor.fetchall() -%}
        {%- do columns.update({name: width}) -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}
