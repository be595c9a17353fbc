"""A policy that allows `*` as an action, or all resources of an account, says why in a comment.

Resources whose names begin with fixed characters, such as arn:aws:s3:::bucket/*, need no comment.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mwaa_local.settings import REPOSITORY

_COMMENT = re.compile(r"(^|\s)# \S")
_REFERENCE = re.compile(r"\$\{[^}]*\}")
# In the name of a resource, only its type is fixed; or the resource can belong to any account.
_BROAD = re.compile(r"\*|arn:[^:]*:[^:]*:[^:]*:(\*:.*|[^:]*:([a-z-]+[:/])?\*)")


def _texts(node: yaml.Node) -> Iterator[str]:
    """Yield each text below a node, also those in intrinsic functions."""
    if isinstance(node, yaml.ScalarNode):
        yield node.value
    for child in _children(node):
        yield from _texts(child)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [value for _, value in node.value]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _allowing(node: yaml.Node) -> Iterator[dict[str, yaml.Node]]:
    """Yield the keys and values of each statement that allows something, with the statement under the key ""."""
    if isinstance(node, yaml.MappingNode):
        statement = {key.value: value for key, value in node.value}
        if "Effect" in statement and statement["Effect"].value == "Allow":
            yield {**statement, "": node}
    for child in _children(node):
        yield from _allowing(child)


def _wildcards(statement: dict[str, yaml.Node]) -> list[str]:
    actions = [text for key in ("Action", "NotAction") if key in statement for text in _texts(statement[key])]
    resources = [text for key in ("Resource", "NotResource") if key in statement for text in _texts(statement[key])]
    broad = [text for text in resources if _BROAD.fullmatch(_REFERENCE.sub("X", text))]
    return [*(text for text in actions if "*" in text), *broad]


def _last_line(node: yaml.Node) -> int:
    children = _children(node)
    # The end of a block is the beginning of what follows, after its comments.
    return max(map(_last_line, children)) if children else node.end_mark.line


def _has_comment(lines: list[str], node: yaml.Node) -> bool:
    first, last = node.start_mark.line, _last_line(node)
    return lines[first - 1].lstrip().startswith("# ") or any(map(_COMMENT.search, lines[first : last + 1]))


def unexplained(text: str) -> list[str]:
    """Return the wildcards of YAML or JSON that have no comment in or above their statement, with the lines."""
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    return [
        f"{statement[''].start_mark.line + 1}: {', '.join(wildcards)}"
        for statement in (_allowing(document) if document else ())
        if (wildcards := _wildcards(statement)) and not _has_comment(text.splitlines(), statement[""])
    ]


FILES = sorted(
    path
    for folder in (REPOSITORY / "infra", *REPOSITORY.glob("packages/*/src"))
    for path in folder.rglob("*")
    if path.suffix in (".yml", ".yaml", ".json")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_wildcards_of_policies_are_explained(path: Path) -> None:
    assert unexplained(path.read_text()) == []


def test_the_stacks_of_ecs_and_serverless_are_among_the_files() -> None:
    assert {"network.yml", "deployer.yml", "ecs.yml", "ecs-deployer.yml", "workflow.yml"} <= {
        path.name for path in FILES
    }


@pytest.mark.parametrize(
    ("statement", "wildcards"),
    [
        ('{Effect: Allow, Action: "s3:*", Resource: !GetAtt Bucket.Arn}', "s3:*"),
        ('{Effect: Allow, Action: s3:GetObject, Resource: "*"}', "*"),
        ('{Effect: Allow, NotAction: [iam:*], Resource: [!If [Has, "*", !Ref Arn]]}', "iam:*, *"),
        ('{Effect: Allow, Action: a:B, Resource: !Sub "arn:${P}:kms:${R}:${A}:key/*"}', "arn:${P}:kms:${R}:${A}:key/*"),
        ('{Effect: Allow, Action: a:B, Resource: "arn:aws:sqs:x:*:queue"}', "arn:aws:sqs:x:*:queue"),
        ('{Effect: Allow, Action: a:B, Resource: !Sub "arn:aws:s3:::${Bucket}/*"}', ""),
        ('{Effect: Deny, Action: "*", Resource: "*"}', ""),
        ('{Effect: Allow, Action: "a:*", Resource: x} # a reason', ""),
        ('{Effect: Allow, Action: "a:*", Resource: x} #', "a:*"),
    ],
)
def test_unexplained_wildcard_is_found(statement: str, wildcards: str) -> None:
    # The comment belongs to the next statement.
    text = f"Policy:\n  - {statement}\n  # a reason\n  - Effect: Allow\n    Action: '*'\n    Resource: '*'\n"
    assert unexplained(text) == ([f"2: {wildcards}"] if wildcards else [])


def test_json_has_no_comments_so_its_wildcards_are_found() -> None:
    assert unexplained('{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "x"}]}') == ["1: *"]
