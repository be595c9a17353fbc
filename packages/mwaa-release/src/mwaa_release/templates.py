"""Reads the CloudFormation templates of `infra/`, and evaluates the functions in them."""

import re
from pathlib import Path
from typing import Any

import yaml

from mwaa_release.repository import REPOSITORY

INFRA = REPOSITORY / "infra"
# Stacks that a repository gets only on demand.
_ON_DEMAND = tuple(Path(__file__).with_name(name) for name in ("ecs", "serverless"))


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms, such as `!Sub`, as their long forms."""


def _long_form(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> dict[str, Any]:
    function = tag if tag in {"Ref", "Condition"} else f"Fn::{tag}"
    if isinstance(node, yaml.ScalarNode):
        text = loader.construct_scalar(node)
        return {function: text.split(".", 1) if tag == "GetAtt" else text}
    if isinstance(node, yaml.SequenceNode):
        return {function: loader.construct_sequence(node, deep=True)}
    return {function: loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _long_form)


def load(file: str) -> dict[str, Any]:
    """Return a template of `infra/`, or of this package, with the long form of every function."""
    path = next(path for folder in (INFRA, *_ON_DEMAND) if (path := folder / file).exists())
    return yaml.load(path.read_text(), _Loader)  # noqa: S506 - a SafeLoader


class Template:
    """A template whose functions are evaluated with given values.

    Args:
        file: a file of `infra/`.
        values: of the template's parameters, of pseudo parameters such as `AWS::Region`, and of the resources and
            attributes that it names, such as `Topic` or `Queue.Arn`.
    """

    def __init__(self, file: str, values: dict[str, Any]) -> None:
        self.content = load(file)
        defaults = {name: parameter.get("Default") for name, parameter in self.content["Parameters"].items()}
        self._values: dict[str, Any] = {"AWS::NoValue": None, **defaults, **values}

    def holds(self, condition: str | None) -> bool:
        """Whether a condition of the template is true. No condition is always true."""
        return condition is None or bool(self.evaluate(self.content["Conditions"][condition]))

    def evaluate(self, part: Any) -> Any:
        """Return a part of the template with its functions evaluated, and without entries that have no value."""
        if isinstance(part, list):
            return [item for item in map(self.evaluate, part) if item is not None]
        if not isinstance(part, dict):
            return part
        if len(part) == 1:
            ((name, argument),) = part.items()
            if function := self._function(name):
                return function(argument)
        items = {name: self.evaluate(item) for name, item in part.items()}
        return {name: item for name, item in items.items() if item is not None}

    def _function(self, name: str) -> Any:
        if name.startswith("Fn::") or name in {"Ref", "Condition"}:
            return getattr(self, f"_{name.removeprefix('Fn::').lower()}", None)
        return None

    def _ref(self, name: str) -> Any:
        return self._values[name]

    def _getatt(self, path: list[str]) -> Any:
        return self._values[".".join(path)]

    def _condition(self, name: Any) -> Any:
        # A policy statement has a member of the same name, which is not a function.
        return self.holds(name) if isinstance(name, str) else {"Condition": self.evaluate(name)}

    def _sub(self, argument: Any) -> str:
        text, more = argument if isinstance(argument, list) else (argument, {})
        values = self._values | {name: self.evaluate(value) for name, value in more.items()}
        return re.sub(r"\$\{([^}]+)\}", lambda match: str(values[match[1]]), text)

    def _if(self, argument: list[Any]) -> Any:
        condition, then, other = argument
        return self.evaluate(then if self.holds(condition) else other)

    def _equals(self, argument: list[Any]) -> bool:
        left, right = map(self.evaluate, argument)
        return bool(left == right)

    def _not(self, argument: list[Any]) -> bool:
        return not self.evaluate(argument[0])

    def _and(self, argument: list[Any]) -> bool:
        return all(map(self.evaluate, argument))

    def _join(self, argument: list[Any]) -> str:
        separator, parts = self.evaluate(argument)
        return str(separator).join(parts if isinstance(parts, list) else parts.split(","))

    def _split(self, argument: list[Any]) -> list[str]:
        separator, text = self.evaluate(argument)
        return str(text).split(separator)

    def _select(self, argument: list[Any]) -> Any:
        index, parts = self.evaluate(argument)
        return parts[int(index)]
