"""Distribution, sort keys and encodings: recorded for the catalog, without effect on storage.

https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_TABLE_NEW.html
"""

from dataclasses import dataclass, field

from sqlglot import exp

from redshift_local.plan import HELPERS, literal

WITHOUT_EFFECT = (
    exp.DistKeyProperty,
    exp.DistStyleProperty,
    exp.SortKeyProperty,
    exp.BackupProperty,
    exp.AutoRefreshProperty,
)


@dataclass
class Storage:
    """Storage attributes in one statement; column names are in lower case."""

    style: str = ""
    dist_key: str = ""
    sort_keys: list[str] | None = None
    interleaved: bool = False
    encodings: dict[str, str] = field(default_factory=dict)
    auto_refresh: bool = False

    def of_property(self, node: exp.Expr) -> None:
        """Read an attribute of a whole table."""
        if isinstance(node, exp.DistStyleProperty):
            self.style = node.name.upper()
        elif isinstance(node, exp.DistKeyProperty):
            self.style, self.dist_key = "KEY", node.name.lower()
        elif isinstance(node, exp.SortKeyProperty):
            self.sort_keys = [column.name.lower() for column in node.this.expressions]
            self.interleaved = node.args.get("compound") is False
        elif isinstance(node, exp.AutoRefreshProperty):
            self.auto_refresh = node.name.lower() == "yes"

    def of_column(self, column: str, attribute: str) -> None:
        """Read an attribute of a column: `distkey`, `sortkey`, or `encode` and its value."""
        word, _, value = attribute.partition(" ")
        if word == "distkey":
            self.style, self.dist_key = "KEY", column.lower()
        elif word == "sortkey":
            self.sort_keys = [column.lower()]
        else:
            self.encodings[column.lower()] = value

    def of_action(self, node: exp.Expr) -> None:
        """Read an action of ALTER TABLE."""
        if isinstance(node, exp.AlterSortKey):
            self.sort_keys = [column.name.lower() for column in node.expressions]
        elif isinstance(node.this, exp.Column):
            self.style, self.dist_key = "KEY", node.this.name.lower()
        else:
            self.style = node.name.upper()

    def steps(self, relation: str) -> list[str]:
        """Return the steps of a block that record the attributes; an empty list if there are none.

        Args:
            relation: its name, as PostgreSQL text.
        """
        refresh = [f"PERFORM {HELPERS}.set_auto_refresh({literal(relation)}, true)"] if self.auto_refresh else []
        if self == Storage(auto_refresh=self.auto_refresh):
            return refresh
        keys = "NULL" if self.sort_keys is None else f"ARRAY[{', '.join(map(literal, self.sort_keys))}]::text[]"
        pairs = ", ".join(literal(part) for pair in self.encodings.items() for part in pair)
        arguments = [literal(relation), literal(self.style), literal(self.dist_key), keys, str(self.interleaved)]
        return [f"PERFORM {HELPERS}.record_storage({', '.join(arguments)}, ARRAY[{pairs}]::text[])", *refresh]
