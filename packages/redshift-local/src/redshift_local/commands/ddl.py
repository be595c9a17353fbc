"""CREATE and ALTER of tables and views: storage attributes and keys are recorded, not enforced.

https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_TABLE_NEW.html
"""

from sqlglot import exp

from redshift_local.catalog.storage import WITHOUT_EFFECT, Storage
from redshift_local.parse import datatypes, scopes
from redshift_local.parse.dialect import generate
from redshift_local.plan import HELPERS, Plan, Refused, block, literal, unsupported

_KEYS = (exp.PrimaryKey, exp.ForeignKey, exp.UniqueColumnConstraint)
_COLUMN_KEYS = (exp.PrimaryKeyColumnConstraint, exp.UniqueColumnConstraint, exp.Reference)


def create(tree: exp.Create) -> Plan:
    """Translate CREATE TABLE, VIEW, SCHEMA and the like; types in expressions are already translated."""
    storage = Storage()
    if properties := tree.args.get("properties"):
        if properties.find(exp.ExternalProperty, exp.LocationProperty):
            raise unsupported("external tables", "load the files with COPY instead")
        for node in properties.expressions:
            storage.of_property(node)
        effective = [node for node in properties.expressions if not isinstance(node, WITHOUT_EFFECT)]
        properties.set("expressions", effective)
    name = _table_of(tree)
    if tree.kind == "TABLE" and name is not None and name.name.startswith("#"):
        # A table whose name begins with # is temporary.
        tree.set("properties", exp.Properties(expressions=[exp.TemporaryProperty()]))
    if tree.args.get("no_schema_binding"):
        tree.set("no_schema_binding", None)
        return late_binding_view(tree)
    keys = _take_keys(tree.this, storage) if isinstance(tree.this, exp.Schema) and tree.kind == "TABLE" else []
    query = generate(tree.expression) if tree.kind == "TABLE" and tree.expression else ""
    if query:
        has_parameters = tree.find(exp.Placeholder) is not None
        tree.set("expression", None)
    sql = f"{generate(tree)} AS {query}" if query else generate(tree)
    steps = [f"PERFORM {HELPERS}.record_key({literal(generate(name))}, {literal(key)})" for key in keys]
    steps += [
        f"PERFORM {HELPERS}.copy_storage({literal(generate(name))}, {literal(generate(like.this))})"
        for like in tree.this.find_all(exp.LikeProperty)
    ]
    steps += storage.steps(generate(name)) if name is not None else []
    if query and not has_parameters:
        columns = f"({', '.join(generate(node) for node in tree.this.expressions)})" if tree.this is not name else ""
        twin = f"CREATE TEMPORARY TABLE pg_lengths {columns} AS {query} WITH NO DATA"
        steps.append(f"PERFORM {HELPERS}.set_lengths({literal(generate(name))}, {literal(twin)})")
    before = _check_materialized(tree) if tree.kind == "VIEW" and tree.find(exp.MaterializedProperty) else []
    if not steps and not before:
        return Plan(sql)
    if tree.args.get("exists"):
        # Nothing is recorded for a table that already exists.
        exists = f"to_regclass({literal(generate(name))}) IS NOT NULL"
        steps = [f"IF {exists} THEN {sql}; ELSE {'; '.join([sql, *steps])}; END IF"]
    else:
        steps = [*before, sql, *steps]
    return Plan(block(*steps), tag="SELECT" if query or tree.expression else "CREATE TABLE")


def _check_materialized(tree: exp.Create) -> list[str]:
    """A materialized view can only read tables, and which names are views is known when it is created."""
    names = [".".join(generate(part) for part in table.parts) for table in scopes.relations(tree.expression)]
    array = f"ARRAY[{', '.join(literal(name) for name in names)}]::text[]"
    return [f"PERFORM {HELPERS}.allow_materialized({array})"]


def late_binding_view(tree: exp.Create) -> Plan:
    """CREATE VIEW … WITH NO SCHEMA BINDING: bound to tables when it is read (sql/5_views.sql)."""
    reads = []
    for table in scopes.relations(tree.expression):
        if not table.db:
            text = "All the relation names inside should be qualified when creating VIEW WITH NO SCHEMA BINDING."
            raise Refused(text, "42601", f"write <schema>.{table.name}")
        reads.append(".".join(generate(exp.to_identifier(part.name.lower(), quoted=True)) for part in table.parts))
    columns = ""
    if isinstance(tree.this, exp.Schema):
        columns = f"({', '.join(generate(node) for node in tree.this.expressions)})"
    name = _table_of(tree)
    arguments = [literal(generate(name)), literal(columns), literal(generate(tree.expression))]
    arguments += [
        f"ARRAY[{', '.join(literal(relation) for relation in reads)}]::text[]",
        str(bool(tree.args.get("replace"))),
    ]
    call = f"PERFORM {HELPERS}.create_late_binding_view({', '.join(arguments)})"
    return Plan(block(call), tag="CREATE VIEW", makes_late_view=name.name.lower())


def read_by(tree: exp.Expr) -> list[exp.Table]:
    """Return the relations whose rows a statement reads or changes, without those it creates, alters or drops."""
    if isinstance(tree, exp.Create):
        return scopes.relations(tree.expression) if tree.expression else []
    return [] if isinstance(tree, (exp.Alter, exp.Drop)) else scopes.relations(tree)


def full_name(table: exp.Table) -> tuple[str, str, str]:
    """Return a table's database, schema and name, as far as they are written."""
    return table.catalog.lower(), table.db.lower(), table.name.lower()


def is_target(table: exp.Table, tree: exp.Expr) -> bool:
    """Whether a statement changes this table, or stores its name in a view."""
    target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
    names = tree.args.get("tables") or []  # DELETE without FROM
    return (
        table is target
        or any(table is name for name in names)
        or (isinstance(tree, exp.Create) and tree.kind == "VIEW")
    )


def database_of(tree: exp.Expr) -> str:
    """Return the database of the relations that a statement changes, if it is named."""
    if not isinstance(tree, (exp.Create, exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Drop, exp.Alter)):
        return ""
    target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
    targets = tree.args.get("tables") or [target]  # DROP, and DELETE without FROM
    databases = {table.catalog.lower() for table in targets if isinstance(table, exp.Table)}
    return databases.pop() if len(databases) == 1 else ""


def written_by(tree: exp.Expr) -> str:
    """Return the relation that a statement inserts into, as PostgreSQL text; empty if there is none."""
    fills = isinstance(tree, exp.Create) and tree.kind == "TABLE" and tree.expression
    if not fills and not isinstance(tree, (exp.Insert, exp.Merge)):
        return ""
    target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
    return ".".join(generate(part) for part in target.parts[-2:]) if isinstance(target, exp.Table) else ""


def alter(tree: exp.Alter) -> Plan:
    """Translate ALTER TABLE; changes of storage attributes and keys are only recorded."""
    name, actions, changes, renames, storage = generate(tree.this), [], [], None, Storage()
    for action in tree.args["actions"]:
        if isinstance(action, (exp.AlterDistStyle, exp.AlterSortKey)):
            storage.of_action(action)
            continue
        if isinstance(action, exp.AddConstraint):
            changes += [("record_key", generate(key)) for key in action.expressions]
            continue
        if isinstance(action, exp.Drop) and action.args.get("kind") == "CONSTRAINT":
            changes.append(("forget_key", action.find(exp.Identifier).name))
            continue
        if isinstance(action, exp.ColumnDef):
            _column(action, storage)
        if isinstance(action, exp.AlterRename):
            if not isinstance(action.this.this, exp.Identifier):
                raise Refused(f'syntax error at or near "{generate(action.this.this)}"', "42601")
            renames = tree.this.name.lower(), action.this.name.lower()
        actions.append(action)
    if not actions:
        steps = [f"PERFORM {HELPERS}.{change}({literal(name)}, {literal(key)})" for change, key in changes]
        steps += storage.steps(name)
        return Plan(block(f"PERFORM {literal(name)}::regclass", *steps), tag="ALTER TABLE")
    tree.set("actions", actions)
    resized = [action for action in actions if isinstance(action, exp.AlterColumn)]
    if resized:
        allow = f"PERFORM {HELPERS}.allow_resize({literal(name)}, {literal(resized[0].name.lower())})"
        return Plan(block(allow, generate(tree)), tag="ALTER TABLE")
    return Plan(generate(tree), renames=renames)


def _table_of(tree: exp.Create) -> exp.Table | None:
    target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
    return target if isinstance(target, exp.Table) else None


def _take_keys(schema: exp.Schema, storage: Storage) -> list[str]:
    """Remove the keys from a table's definition; columns of a primary key stay NOT NULL, which Redshift enforces."""
    keys, not_null = [], set()
    for part in list(schema.expressions):
        inner = part.expressions[0] if isinstance(part, exp.Constraint) and part.expressions else part
        if isinstance(inner, _KEYS):
            keys.append(generate(part))
            if isinstance(inner, exp.PrimaryKey):
                not_null |= {column.name.lower() for column in inner.expressions}
            part.pop()
        elif isinstance(part, exp.ColumnDef):
            keys += _column(part, storage)
    for part in schema.find_all(exp.ColumnDef):
        if part.name.lower() in not_null:
            _require(part)
    return keys


def _column(column: exp.ColumnDef, storage: Storage) -> list[str]:
    """Translate a column's definition; returns its keys."""
    keys = []
    for constraint in list(column.args.get("constraints") or []):
        if not isinstance(constraint, exp.ColumnConstraint):
            raise Refused(f'syntax error at or near "{generate(constraint)}"', "42601")
        kind = constraint.kind
        if isinstance(kind, exp.CollateColumnConstraint):
            if "case_insensitive" in kind.this.name.lower():
                raise unsupported("COLLATE CASE_INSENSITIVE", "compare lower(x) instead")
            constraint.pop()
        elif isinstance(kind, (exp.GeneratedAsIdentityColumnConstraint, exp.DefaultColumnConstraint)):
            constraint.set("kind", _identity(kind))
        elif isinstance(kind, exp.EncodeColumnConstraint):
            storage.of_column(column.name, kind.name)
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
    if column.find(exp.GeneratedAsIdentityColumnConstraint):
        # The name says that NOT NULL was not written (sql/6_catalog.sql); PostgreSQL requires it of an identity.
        _require(column, f"pg_nullable_{column.name[:40]}")
    if column.kind is not None:
        datatypes.store(column.kind)
    return keys


def _identity(kind: exp.Expr) -> exp.Expr:
    """Allow an identity to start at 0 or to descend. DEFAULT IDENTITY (…) also accepts explicit values."""
    if isinstance(kind, exp.DefaultColumnConstraint):
        if not isinstance(kind.this, exp.Anonymous) or kind.this.name.lower() != "identity":
            return kind
        if len(kind.this.expressions) != 2:
            raise Refused('syntax error at or near "identity"', "42601", "write DEFAULT IDENTITY (seed, step)")
        start, step = kind.this.expressions
        kind = exp.GeneratedAsIdentityColumnConstraint(this=False, start=start, increment=step)
    if start := kind.args.get("start"):
        kind.set("maxvalue" if isinstance(kind.args.get("increment"), exp.Neg) else "minvalue", start.copy())
    return kind


def _require(column: exp.ColumnDef, name: str = "") -> None:
    constraints = column.args.get("constraints") or []
    if not any(isinstance(node.kind, exp.NotNullColumnConstraint) for node in constraints):
        identifier = exp.to_identifier(name, quoted=True) if name else None
        column.append("constraints", exp.ColumnConstraint(this=identifier, kind=exp.NotNullColumnConstraint()))
