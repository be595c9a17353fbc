"""Reserved words, which must be quoted as names."""

from sqlglot import exp

from redshift_local.plan import Refused

# The manual, "Reserved words" (r_pg_keywords), read in November 2026. OID is left out: catalog queries select it.
# So are BACKUP and TIMESTAMP: dbt-labs/redshift 0.9.0 (models/base/stv_tbl_perm.sql) and fivetran/hubspot 1.7.2, which
# Fivetran tests on Redshift (models/staging/stg_hubspot__contact_form_submission.sql), select columns of these names.
_WORDS = frozenset(
    """aes128 aes256 all allowoverwrite analyse analyze and any array as asc authorization az64 between binary
    blanksasnull both bytedict bzip2 case cast check collate column constraint create credentials cross current_date
    current_time current_timestamp current_user current_user_id default deferrable deflate defrag delta delta32k desc
    disable distinct do else emptyasnull enable encode encrypt encryption end except explicit false for foreign freeze
    from full globaldict256 globaldict64k grant group gzip having identity ignore ilike in initially inner intersect
    interval into is isnull join leading left like limit localtime localtimestamp lun luns lzo lzop minus mostly16
    mostly32 mostly8 natural new not notnull null nulls off offline offset old on only open or order outer overlaps
    parallel partition percent permissions pivot placing primary raw readratio recover references rejectlog resort
    respect restore right select session_user similar snapshot some sysdate system table tag tdes text255 text32k then
    to top trailing true truncatecolumns union unique unnest unpivot user using verbose wallet when where with
    without""".split()  # noqa: SIM905 - a list of single words would be 120 lines
)
_NAMES = (exp.Column, exp.ColumnDef, exp.Schema, exp.Table, exp.TableAlias)


def check(name: str) -> None:
    """Refuse a reserved word as an unquoted name."""
    if name.lower() in _WORDS:
        hint = f'{name} is a reserved word; write "{name.lower()}", or use another name'
        raise Refused(f'syntax error at or near "{name}"', "42601", hint)


def check_node(node: exp.Identifier) -> None:
    """Refuse a reserved word in a tree; after a dot, and as a column's alias after AS, every word is accepted.

    Unverified: these two places. They are PostgreSQL 8.0's, from which Redshift's grammar comes.
    """
    parent = node.parent
    if node.quoted or not isinstance(parent, _NAMES):
        return
    if isinstance(parent, (exp.Column, exp.Table)) and parent.parts[0] is not node:
        return
    if isinstance(parent, exp.Column) and node.name.lower() == "default":
        return  # UPDATE … SET a = DEFAULT
    check(node.name)
