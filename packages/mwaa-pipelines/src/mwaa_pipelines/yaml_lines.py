"""The lines of settings in YAML files, for error messages. Validators know only the names of the settings."""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml

# The setting that a message begins with: threads, load.0.table or env.KEY.
_SETTING = re.compile(r"[\w.-]+")


class Lines:
    """The lines of a pipelines file that has problems.

    Args:
        path: the file, which is valid YAML with a list of pipelines.
        environment: the environment whose settings apply.
        overlay: name of the key with the settings by environment.
    """

    def __init__(self, path: Path, environment: str | None, overlay: str) -> None:
        self._root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        self._overlays = [[overlay, environment]] if environment else []

    def line(self, number: int, problem: str) -> int:
        """Return the line of the setting that a problem is about; that of the entry if it lacks the setting.

        Args:
            number: of the entry, from 1.
            problem: a message that begins with the setting.
        """
        entry, defaults = ["pipelines", str(number - 1)], ["defaults"]
        match = _SETTING.match(problem)
        setting = match[0].rstrip(".").split(".") if match else []
        # The last of them applies in an environment.
        for overlay in (*self._overlays, []):
            for part in (entry, defaults):
                if setting and find(self._root, [*part, *overlay, setting[0]])[0] == len([*part, *overlay]) + 1:
                    return find(self._root, [*part, *overlay, *setting])[1].line + 1
        return find(self._root, entry)[1].line + 1


def find(root: yaml.Node, keys: Iterable[str]) -> tuple[int, yaml.Mark]:
    """Follow nested keys, and return how many of them exist and the place of the last one that does.

    Args:
        root: of the file, from yaml.compose.
        keys: keys of mappings and indices of lists.
    """
    node, mark, depth = root, root.start_mark, 0
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == key), None)
        elif isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            pair = (node.value[int(key)], node.value[int(key)])
        else:
            pair = None
        if not pair:
            break
        mark, node, depth = pair[0].start_mark, pair[1], depth + 1
    return depth, mark
