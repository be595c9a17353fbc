"""CREATE and ALTER of tables and views: what is stored where falls away, keys are recorded and not enforced.

https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_TABLE_NEW.html
"""

from sqlglot import exp

from local.warehouse import datatypes
from local.warehouse.dialect import generate
from local.warehouse.plan import HELPERS, Plan, Refused, block, literal, unsupported

_STORAGE = (
    exp.DistKeyProperty,
    exp.DistStyleProperty,
    exp.SortKeyProperty,
    exp.BackupProperty,
    exp.AutoRefreshProperty,
)
_KEYS = (exp.PrimaryKey, exp.ForeignKey, exp.UniqueColumnConstraint)
_COLUMN_KEYS = (exp.PrimaryKeyColumnConstraint, exp.UniqueColumnConstraint, exp.Reference)


def create(tree: exp.Create) -> Plan:
    """Translate CREATE TABLE, VIEW, SCHEMA and the like; types in expressions are done already."""
    if properties := tree.args.get("properties"):
        if properties.find(exp.ExternalProperty, exp.LocationProperty):
            raise unsupported("external tables", "load the files with COPY instead")
        properties.set("expressions", [each for each in properties.expressions if not isinstance(each, _STORAGE)])
    name = _table_of(tree)
    if tree.kind == "TABLE" and name is not None and name.name.startswith("#"):
        # A name that begins with # makes a temporary table.
        tree.set("properties", exp.Properties(expressions=[exp.TemporaryProperty()]))
    if tree.args.get("no_schema_binding"):
        tree.set("no_schema_binding", None)
        return late_binding_view(tree)
    keys = _take_keys(tree.this) if isinstance(tree.this, exp.Schema) and tree.kind == "TABLE" else []
    sql = generate(tree)
    if not keys:
        return Plan(sql)
    record = [f"PERFORM {HELPERS}.record_key({literal(generate(name))}, {literal(key)})" for key in keys]
    return Plan(block(sql, *record), tag="CREATE TABLE")


def late_binding_view(tree: exp.Create) -> Plan:
    """A view WITH NO SCHEMA BINDING: a text that is bound to tables when it is read (sql/5_views.sql)."""
    reads = []
    for table in tables(tree.expression):
        if not table.db:
            text = "All the relation names inside should be qualified when creating VIEW WITH NO SCHEMA BINDING."
            raise Refused(text, "42601", f"write <schema>.{table.name}")
        reads.append(".".join(generate(exp.to_identifier(part.name.lower(), quoted=True)) for part in table.parts[-2:]))
    columns = ""
    if isinstance(tree.this, exp.Schema):
        columns = f"({', '.join(generate(each) for each in tree.this.expressions)})"
    name = _table_of(tree)
    arguments = [literal(generate(name)), literal(columns), literal(generate(tree.expression))]
    arguments += [f"ARRAY[{', '.join(literal(each) for each in reads)}]::text[]", str(bool(tree.args.get("replace")))]
    call = f"PERFORM {HELPERS}.create_late_binding_view({', '.join(arguments)})"
    return Plan(block(call), tag="CREATE VIEW", makes_late_view=name.name.lower())


def tables(tree: exp.Expr) -> list[exp.Table]:
    """The tables and views that a statement names, without those that it defines itself by WITH."""
    own = {each.alias.lower() for each in tree.find_all(exp.CTE)}
    found = [each for each in tree.find_all(exp.Table) if isinstance(each.this, exp.Identifier)]
    return [each for each in found if each.db or each.name.lower() not in own]


def alter(tree: exp.Alter) -> Plan:
    """Translate ALTER TABLE; what only concerns storage or keys changes nothing in PostgreSQL."""
    name, kept, changes = generate(tree.this), [], []
    for action in tree.args["actions"]:
        if isinstance(action, (exp.AlterDistStyle, exp.AlterSortKey)):
            continue
        if isinstance(action, exp.AddConstraint):
            changes += [("record_key", generate(each)) for each in action.expressions]
            continue
        if isinstance(action, exp.Drop) and action.args.get("kind") == "CONSTRAINT":
            changes.append(("forget_key", action.find(exp.Identifier).name))
            continue
        if isinstance(action, exp.ColumnDef):
            _column(action)
        kept.append(action)
    if not kept:
        steps = [f"PERFORM {HELPERS}.{change}({literal(name)}, {literal(key)})" for change, key in changes]
        return Plan(block(f"PERFORM {literal(name)}::regclass", *steps), tag="ALTER TABLE")
    tree.set("actions", kept)
    return Plan(generate(tree))


def _table_of(tree: exp.Create) -> exp.Table | None:
    found = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
    return found if isinstance(found, exp.Table) else None


def _take_keys(schema: exp.Schema) -> list[str]:
    """Take the keys out of a table's definition; columns of a primary key stay NOT NULL, which Redshift enforces."""
    keys, not_null = [], set()
    for part in list(schema.expressions):
        inner = part.expressions[0] if isinstance(part, exp.Constraint) and part.expressions else part
        if isinstance(inner, _KEYS):
            keys.append(generate(part))
            if isinstance(inner, exp.PrimaryKey):
                not_null |= {each.name.lower() for each in inner.expressions}
            part.pop()
        elif isinstance(part, exp.ColumnDef):
            keys += _column(part)
    for part in schema.find_all(exp.ColumnDef):
        if part.name.lower() in not_null:
            _require(part)
    return keys


def _column(column: exp.ColumnDef) -> list[str]:
    """Make a column's definition PostgreSQL's; returns the keys that it declared."""
    keys = []
    for constraint in list(column.args.get("constraints") or []):
        kind = constraint.kind
        if isinstance(kind, exp.CollateColumnConstraint):
            if "case_insensitive" in kind.this.name.lower():
                raise unsupported("COLLATE CASE_INSENSITIVE", "compare lower(x) instead")
            constraint.pop()
        elif isinstance(kind, exp.EncodeColumnConstraint):
            constraint.pop()
        elif isinstance(kind, _COLUMN_KEYS):
            constraint.pop()
            name = generate(exp.to_identifier(column.name, quoted=True))
            if isinstance(kind, exp.Reference):
                keys.append(f"FOREIGN KEY ({name}) {generate(kind)}")
            elif isinstance(kind, exp.PrimaryKeyColumnConstraint):
                keys.append(f"PRIMARY KEY ({name})")
                _require(column)
            else:
                keys.append(f"UNIQUE ({name})")
    if column.kind is not None:
        datatypes.store(column.kind)
    return keys


def _require(column: exp.ColumnDef) -> None:
    constraints = column.args.get("constraints") or []
    if not any(isinstance(each.kind, exp.NotNullColumnConstraint) for each in constraints):
        column.append("constraints", exp.ColumnConstraint(kind=exp.NotNullColumnConstraint()))
