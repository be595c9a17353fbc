{#
  Turns a clock time written as one number (517 for 5:17, 2400 or 0 for midnight) into minutes after midnight, 0 to 1439.
  Null stays null. 2400 ends the day at which it is written, so as a time of day it is the same as 0.
#}
{% macro minutes_after_midnight(column) -%}
    (mod({{ column }}, 2400) / 100 * 60 + mod({{ column }}, 100))
{%- endmacro %}
