"""Translates a client's Redshift SQL into PostgreSQL statements."""

import functools
import itertools
import logging
import re
from collections.abc import Callable

from sqlglot import ParseError, TokenError, UnsupportedError, exp
from sqlglot.tokens import Token, TokenType

from redshift_local.catalog import system_catalog
from redshift_local.commands import administration, ddl
from redshift_local.commands.udf import function
from redshift_local.commands.utility import utility
from redshift_local.copy import load
from redshift_local.copy.unload import unload
from redshift_local.parse import datatypes, longnames, scopes
from redshift_local.parse.dialect import LocalRedshift, generate
from redshift_local.parse.words import Words
from redshift_local.plan import Plan, Refused, raising, unsupported
from redshift_local.translate import (
    aliases,
    dml,
    functions,
    longtext,
    narrow,
    outer_joins,
    paths,
    pivot,
    qualify,
    refusals,
    set_operations,
    stars,
    subqueries,
    untyped,
)

# sqlglot warns about statements that it cannot parse; they are refused here.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

_DIALECT = LocalRedshift()
# Strings, quoted names, comments and dollar-quoted text.
_QUOTED = r"""'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'|"[^"]*"|--[^\n]*|/\*.*?\*/|\$([A-Za-z_]\w*|)\$.*?\$\1\$"""
_PARAMETER = re.compile(rf"{_QUOTED}|(?<!\w)\$(\d+)", re.DOTALL)  # a name can contain a dollar sign
# The manual, "Names and identifiers" (r_names): "Subsequent characters can be … UTF-8 multibyte characters two to four
# bytes long". So a no-break space belongs to a name; sqlglot takes it for a blank.
_OTHER_BLANK = re.compile(rf"{_QUOTED}|(\w*[^\S\x00-\x7f]\w*)", re.DOTALL)
# Rewrites by node type; children are rewritten before their parents.
_REWRITES: dict[type[exp.Expr], Callable] = {
    exp.Anonymous: functions.call,
    exp.WithinGroup: functions.within_group,
    exp.Window: functions.window,
    exp.Extract: functions.extract,
    exp.Delete: dml.delete,
    exp.Insert: dml.stored,
    exp.Update: dml.stored,
    exp.When: dml.merge_insert,
    exp.Identifier: dml.identifier,
    exp.DataType: datatypes.adapt,
    exp.Cast: datatypes.to_super,
    exp.Select: qualify.with_star,
    exp.Table: system_catalog.table,
    exp.Column: system_catalog.column,
    exp.Dot: system_catalog.function,
}


def translate_long(text: str) -> tuple[Plan, ...]:
    """Translate a long statement, without the cache."""
    if rows := longtext.rows_of(text):
        [plan] = translate.__wrapped__(rows[0])
        if not plan.refused and plan.sql.endswith(" VALUES (NULL)"):
            plan.sql, plan.text = plan.sql.removesuffix(" (NULL)") + rows[1], text
            return (plan,)
    short, values = longtext.extract_literals(text)
    return tuple(_restored(plan, values) for plan in translate.__wrapped__(short))


def _restored(plan: Plan, values: list[str]) -> Plan:
    """Put the literals back that `translate_long` has taken out."""
    plan.alias_checks = tuple(longtext.restore_literals(check, values) for check in plan.alias_checks)
    plan.set_operations = longtext.restore_literals(plan.set_operations, values)
    for variant in (plan, plan.alias_fallback) if plan.alias_fallback else (plan,):
        variant.sql = longtext.restore_literals(variant.sql, values)
        variant.text = longtext.restore_literals(variant.text, values)
    localized, with_super = plan.localized, plan.with_super
    if localized:
        plan.localized = lambda copies: _restored(localized(copies), values)
    if with_super:
        plan.with_super = lambda: _restored(with_super(), values)
    return plan


@functools.lru_cache(maxsize=4096)
def translate(text: str) -> tuple[Plan, ...]:
    """Translate every statement of `text`. A refused statement becomes one that raises the error."""
    # sqlglot parses `$1,$` as the start of a dollar-quoted string, so bound values become `:name`.
    text = _PARAMETER.sub(lambda match: f" :bound{match[2]} " if match[2] else match[0], text) if "$1" in text else text
    try:
        tokens = _tokenize(text)
    except Refused as refusal:
        plan = raising(refusal)
        plan.text = text
        return (plan,)
    plans, start = [], 0
    for index in range(len(tokens) + 1):
        if index == len(tokens) or tokens[index].token_type == TokenType.SEMICOLON:
            if part := tokens[start:index]:
                # A leading comment belongs to the statement: dbt puts the node's name there.
                begin = tokens[start - 1].end + 1 if start else 0
                plans.append(_one(text[begin : part[-1].end + 1].strip(), text, part))
            start = index + 1
    return tuple(plans)


def _tokenize(text: str) -> list[Token]:
    if not text.isascii() and (names := [match[2] for match in _OTHER_BLANK.finditer(text) if match[2]]):
        hint = "Redshift reads the blank in it as a part of the name; write an ordinary space"
        raise Refused(f'syntax error at or near "{names[0]}"', "42601", hint)
    try:
        tokens = _DIALECT.tokenize(text)
    except TokenError as problem:
        raise Refused(f"syntax error: {problem}", "42601") from problem
    longnames.shorten(tokens)
    return tokens


def _one(own: str, text: str, tokens: list[Token]) -> Plan:
    try:
        plan = _plan(text, tokens)
    except Refused as refusal:
        plan = raising(refusal)
    except UnsupportedError as problem:
        plan = raising(unsupported(str(problem), "write it in another way"))
    except Exception as problem:
        # A translation error fails only its own statement.
        logging.getLogger(__name__).exception("a statement could not be translated")
        text = f"internal error of the local warehouse: {type(problem).__name__}: {problem}"
        plan = raising(Refused(text, "XX000"))
    plan.text = own
    if plan.alias_fallback:
        plan.alias_fallback.text = own
    if plan.reads:
        plan.localized = lambda copies: _localized(own, copies)
    if plan.set_operations:
        plan.with_super = lambda: _with_super(own)
    return plan


def _localized(text: str, copies: dict[tuple[str, str, str], str]) -> Plan:
    """Translate a statement that reads temporary tables instead of tables of another database."""
    tree = _parse(_tokenize(text), text)
    if isinstance(tree, exp.Create) and tree.kind == "VIEW":
        raise unsupported("a view over a late-binding view on a table of another database", "create a table")
    named = [(node, ddl.full_name(node)) for node in scopes.relations(tree)]
    for node, name in [*named, *system_catalog.of_named_databases(tree)]:
        if copy := copies.get(name):
            node.set("alias", node.args.get("alias") or exp.TableAlias(this=node.this.copy()))
            node.set("this", exp.to_identifier(copy))
            node.set("db", exp.to_identifier("pg_temp"))
            node.set("catalog", None)
    return _planned(tree)


def _with_super(text: str) -> Plan:
    """Translate a statement whose set operations can have SUPER and VARCHAR in the same column."""
    tree = _parse(_tokenize(text), text)
    set_operations.rewrite(tree)
    return _planned(tree)


def _plan(text: str, tokens: list[Token]) -> Plan:
    if not tokens:
        raise Refused("syntax error at end of input", "42601")
    if any(token.token_type == TokenType.CONNECT_BY for token in tokens):
        raise unsupported("CONNECT BY", "write WITH RECURSIVE")
    if any(token.token_type == TokenType.VARBINARY and token.text.lower() == "bytea" for token in tokens):
        raise Refused('type "bytea" does not exist', "42704", "Redshift's is VARBYTE")
    words = Words(text, tokens)
    if plan := administration.command(words):
        return plan
    if plan := function(words, translate):
        return plan
    if words.take("copy"):
        return load.copy(words)
    if words.take("unload"):
        return unload(words, translate)
    if words.take("merge") and [token.text.lower() for token in tokens[-2:]] == ["remove", "duplicates"]:
        # sqlglot does not know REMOVE DUPLICATES, but every MERGE has a WHEN.
        merge = f"{text[tokens[0].start : tokens[-2].start]} when matched then delete"
        return dml.remove_duplicates(_parse(_tokenize(merge), merge))
    words.position = 0
    if plan := utility(words, lambda left: _plan(text, left.tokens[left.position :])):
        return plan
    try:
        tree = _parse(tokens, text)
    except Refused:
        own = text[tokens[0].start : tokens[-1].end + 1]
        if "pg_catalog." in own:  # psql sends such queries for \d
            return Plan(system_catalog.raw(own))
        raise
    if isinstance(tree, exp.Command):
        raise unsupported(f"the statement {words.peek().upper()}", "run it on a cluster")
    return _planned(tree)


def _planned(tree: exp.Expr) -> Plan:
    outer_joins.rewrite(tree)
    for select in tree.find_all(exp.Select):
        stars.group_by_all(select)
    if wants := pivot.tables(tree) + stars.tables(tree):
        plan = raising(unsupported("PIVOT or EXCLUDE of a whole table in this statement", "name its columns"))
        plan.needs_columns, plan.complete = wants, lambda columns: _with_columns(tree.copy(), columns)
        return plan
    return _with_columns(tree, {})


def _parse(tokens: list[Token], text: str) -> exp.Expr:
    """Return the tree of one statement.

    Raises:
        Refused: it is not valid SQL.
    """
    try:
        [tree] = _DIALECT.parser().parse(tokens, text)
    except ParseError as problem:
        if refusal := _unknown_type(tokens):
            raise refusal from problem
        details = problem.errors[0] if problem.errors else {}
        near = f'syntax error at or near "{details.get("highlight", "")}"'
        raise Refused(near, "42601", details.get("description", "")) from problem
    if tree is None:
        raise Refused(f'syntax error at or near "{tokens[0].text}"', "42601")
    return tree


def _unknown_type(tokens: list[Token]) -> Refused | None:
    """Return the refusal of a type that Redshift has and sqlglot cannot parse, if there is one."""
    words = [token.text.lower() for token in tokens]
    for name in ("abstime", "reltime"):
        if name in words:
            return unsupported(f"type {name.upper()}", "it works on a cluster only")
    if ("bit", "varying") in itertools.pairwise(words):
        return Refused('type "bit varying" does not exist', "42704", "PostgreSQL has it, Redshift does not")
    return None


def _with_columns(tree: exp.Expr, columns: stars.Columns) -> Plan:
    pivot.rewrite(tree, columns)
    stars.rewrite(tree, columns)
    return _with_aliases(tree)


def _with_aliases(tree: exp.Expr) -> Plan:
    other, uses = aliases.inlined(tree)
    if not uses:
        return _rewritten(tree)
    query = (tree.expression if isinstance(tree, exp.Create) else tree).copy()
    checks = [query.copy(), *(aliases.inlined(query, use)[0] for use in aliases.inlined(query)[1])]
    plan = _rewritten(tree)
    plan.alias_fallback, plan.alias_checks = _rewritten(other), tuple(_rewritten(check).sql for check in checks)
    return plan


def _rewritten(tree: exp.Expr) -> Plan:
    read = ddl.read_by(tree)
    reads = frozenset((node.db.lower(), node.name.lower()) for node in read)
    named = (node for node in read if node.catalog and not ddl.is_target(node, tree) and not paths.is_path(node))
    remote = frozenset(ddl.full_name(node) for node in named)
    if any(name in system_catalog.OF_ALL_DATABASES for _, name in reads):
        remote |= {name for _, name in system_catalog.of_named_databases(tree)}
    within, has_bare_reads = ddl.database_of(tree), any(not node.catalog for node in read)
    nodes = list(tree.walk())
    refusals.check(nodes, reads)
    untyped.rewrite(nodes)
    narrow.rewrite(tree)
    if any(isinstance(node, (exp.Bracket, exp.Dot, exp.Unnest, exp.Column, exp.AtIndex)) for node in nodes):
        paths.rewrite(tree)
        nodes = list(tree.walk())
    for select in [node for node in nodes if isinstance(node, exp.Select)]:
        named = [(node, functions.name_of(node)) for node in select.expressions]
        select.set("expressions", [exp.alias_(node, name) if name else node for node, name in named])
    for node in reversed(list(tree.walk())):
        rewrite = _REWRITES.get(type(node))
        if rewrite and (other := rewrite(node)) is not None:
            node.replace(other)
            tree = other if node is tree else tree
    writes, query = ddl.written_by(tree), ""
    if set_operations.listed(nodes):
        query = generate(tree.expression if isinstance(tree, exp.Create) else tree)
    if isinstance(tree, exp.Create):
        recursive_view = tree.kind == "VIEW" and bool(subqueries.recursive_ctes(tree))
        plan = ddl.create(tree)
        plan.makes_recursive_view = tree.find(exp.Table).name.lower() if recursive_view else ""
    elif isinstance(tree, exp.Alter):
        plan = ddl.alter(tree)
    else:
        plan = Plan(query or generate(tree))
    plan.set_operations = query
    plan.reads, plan.writes, plan.remote = reads, writes, remote
    plan.within, plan.has_bare_reads = within, has_bare_reads
    return plan
