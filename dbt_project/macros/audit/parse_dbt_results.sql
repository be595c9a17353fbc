{#
  One line of text for each result: the values of `columns`, in their order, each ended by the unit separator (character 31).
  Nothing is empty text. A text value begins with "=", so that an empty text is not nothing. A text that holds one of the
  separators has it written as escape (27) and a digit; unpack_audit_cell() undoes all of it in SQL.

  results: `results` of on-run-end.
  run: from audit_run().
  columns: {name: width in bytes, or none where the type has no width}.
#}
{% macro parse_dbt_results(results, run, columns) %}
    {#- Nearly every text is plain: ASCII without separators and NUL. Only the others need the slow way. -#}
    {%- set is_plain = modules.re.compile('[\x01-\x1a\x1c\x1d\x20-\x7f]*').fullmatch -%}
    {%- set lines = [] -%}
    {%- for result in results -%}
        {%- set line -%}
            {%- for name, _, value in audit_columns(result, run) if name in columns -%}
                {%- if value is defined and value is not none -%}
                    {%- set text = value | string -%}
                    {%- set width = columns[name] -%}
                    {%- if width is none -%}
                        {{ text }}
                    {%- elif text | length <= width and is_plain(text) -%}
                        ={{ text }}
                    {%- else -%}
                        {%- set text = cut_audit_text(text, width, name == 'load_id') -%}
                        ={{ text.replace('\x1b', '\x1b0').replace('\x1e', '\x1b1').replace('\x1f', '\x1b2') }}
                    {%- endif -%}
                {%- endif -%}
                {{ '\x1f' }}
            {%- endfor -%}
        {%- endset -%}
        {%- do lines.append(line) -%}
    {%- endfor -%}
    {%- do return(lines) -%}
{% endmacro %}


{# The SQL that reads cell number `position` of `line`, as parse_dbt_results() wrote it. #}
{% macro unpack_audit_cell(position, type) -%}
    {%- set cell = 'split_part(line, chr(31), ' ~ position ~ ')' -%}
    {%- if type.startswith('varchar') -%}
        case when {{ cell }} <> '' then replace(replace(replace(substring({{ cell }}, 2), chr(27) || '2', chr(31)), chr(27) || '1', chr(30)), chr(27) || '0', chr(27)) end
    {%- elif type == 'boolean' -%}
        case {{ cell }} when 'True' then true when 'False' then false end
    {%- else -%}
        cast(nullif({{ cell }}, '') as {{ type }})
    {%- endif -%}
{%- endmacro %}


{#
  Text as Redshift can store it in `width` bytes: without NUL, and cut between characters, never inside one.
  A key stays unique when it is cut: it ends with a hash of the whole.
#}
{% macro cut_audit_text(text, width, is_key=false) %}
    {%- set stored = text.replace('\x00', '').encode('utf-8', 'replace') -%}
    {%- if stored | length > width -%}
        {%- set ending = ('.' ~ local_md5(text)).encode() if is_key else ''.encode() -%}
        {%- set stored = stored[:width - ending | length].decode('utf-8', 'ignore').encode() + ending -%}
    {%- endif -%}
    {%- do return(stored.decode()) -%}
{% endmacro %}
