{#
  One list of values for each result, in the order of `columns`. Values are text or none, ready to be bound.

  results: `results` of on-run-end.
  columns: the columns to fill, {name: width in bytes, or none where the type has no width}. A name that audit_columns()
      does not have is left out of the rows and must be left out of the INSERT.
#}
{% macro parse_dbt_results(results, columns) %}
    {%- set run = audit_run() -%}
    {%- set rows = [] -%}
    {%- for result in results -%}
        {%- set row = [] -%}
        {%- for name, _, value in audit_columns(result, run) if name in columns -%}
            {%- if value is undefined or value is none -%}
                {%- do row.append(none) -%}
            {%- else -%}
                {#- Redshift counts bytes and stores no NUL. A cut falls between characters: what is left of one is dropped. -#}
                {%- set text = (value | string).replace('\x00', '').encode('utf-8', 'replace') -%}
                {%- set width = columns[name] -%}
                {%- if width is not none and text | length > width -%}
                    {#- A key stays unique when it is cut. -#}
                    {%- set ending = ('.' ~ local_md5(value | string)).encode() if name == 'load_id' else ''.encode() -%}
                    {%- set text = text[:width - ending | length].decode('utf-8', 'ignore').encode() + ending -%}
                {%- endif -%}
                {%- do row.append(text.decode('utf-8')) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- do rows.append(row) -%}
    {%- endfor -%}
    {%- do return(rows) -%}
{% endmacro %}
