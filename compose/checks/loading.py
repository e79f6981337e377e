"""YAML as compose reads it, and one thing more: a key that stands twice is refused."""

import yaml


class Strict(yaml.SafeLoader):
    """Refuses duplicate keys, which YAML readers silently let win."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(text, name, problems):
    """The document, or nothing and a problem."""
    try:
        return yaml.load(text, Strict)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        problems.append(f"{name} is no YAML: {error}")
        return None
