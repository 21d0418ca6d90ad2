"""A YAML file that somebody else wrote: of bounded size, without aliases, each key once."""

from __future__ import annotations

from pathlib import Path

from hansa.errors import ConfigError

MOST_BYTES = 1 << 20


def read_yaml(file: Path) -> object:
    """Read a YAML file as plain values.

    Raises:
        ConfigError: It cannot be read, is too large, or is no YAML; the line names the place.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("is not there; for a sample: hansa provision --generate", file=str(file)) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(file)) from None
    if len(content) > MOST_BYTES:
        raise ConfigError(f"is larger than {MOST_BYTES >> 20} MB: is it a project file?", file=str(file))
    try:
        return _parse(content.decode("utf-8-sig"), str(file))
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 at byte {error.start}", file=str(file)) from None


def _parse(text: str, file: str) -> object:
    import yaml

    class Loader(yaml.SafeLoader):
        """Aliases would let a few lines stand for more values than fit into memory."""

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call] # the stubs have no types for it
                raise yaml.MarkedYAMLError(problem="aliases (*name) are not taken: write it out", problem_mark=mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
            seen = set()
            for key, _ in node.value:
                if key.value in seen and isinstance(key, yaml.ScalarNode):
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value[:80]!r} is there twice", problem_mark=key.start_mark
                    )
                if isinstance(key, yaml.ScalarNode):
                    seen.add(key.value)
            return super().construct_mapping(node, deep=deep)

    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else None
        raise ConfigError(f"no YAML: {error.problem or error.context}", file=file, key=place) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"no YAML: {' '.join(str(error).split())[:200]}", file=file) from None
    except RecursionError:
        raise ConfigError("no project file: it is nested too deeply", file=file) from None
    except ValueError as error:  # a date that is none, a number with thousands of digits
        raise ConfigError(f"has a value that is none: {str(error)[:200]}", file=file) from None
