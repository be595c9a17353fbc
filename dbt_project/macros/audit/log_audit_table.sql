{#
  The on-run-end hook: one row in audit_table for each result of this invocation.

  It costs three statements: the columns that the table has, one INSERT, a commit. Nothing is lost silently: an INSERT
  inside a transaction that somebody left open would be rolled back when dbt closes the connection, hence the commit, which
  outside a transaction does nothing. Values are bound, so no text in them can become SQL.
#}
{% macro log_audit_table(results) %}
    {#- Outside `execute`, because dbt notes while parsing what a hook refers to. -#}
    {%- set table = ref('audit_table') -%}
    {#- `compile`, `docs generate` and their like run this hook as well, and have nothing to record. -#}
    {%- set recorded = ['build', 'run', 'test', 'seed', 'snapshot', 'freshness', 'clone', 'retry'] -%}
    {%- if execute and results and flags.WHICH in recorded and var('audit_enabled') -%}
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
    {%- endif -%}
{% endmacro %}


{# {name: width in bytes, or none} of the columns that a table really has; empty if it does not exist or may not be seen. #}
{% macro audit_table_columns(table) %}
    {%- set query -%}
        select column_name, character_maximum_length
        from information_schema.columns
        where lower(table_schema) = lower({{ string_literal(escape_single_quotes(table.schema)) }})
            and lower(table_name) = lower({{ string_literal(escape_single_quotes(table.identifier)) }})
    {%- endset -%}
    {%- set columns = {} -%}
    {%- for row in run_query(query) -%}
        {%- do columns.update({row[0]: row[1] | int if row[1] is not none else none}) -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}
