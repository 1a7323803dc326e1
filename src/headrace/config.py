"""From a TOML file to typed, frozen settings, or to an error that names file, line and key.

A component's settings are the fields of its nested ``Config`` and nothing else. ``kind = "din"``
under ``[ranking]`` names the file ``ranking/din.py``; a dotted kind such as ``"shop.models.mine"``
names a module of your own. The file is checked by pydantic, strictly: no coercion, no unknown key.
Ranges are checked by the same models, so a config built in Python passes the same checks.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pkgutil
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from .errors import ConfigError, suggest

Keys = tuple[str, ...]


class Config(BaseModel):
    """Base of all settings: frozen, strict, and closed to unknown keys."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )


M = TypeVar("M", bound=Config)


@dataclass(frozen=True)
class Kinds:
    """Marks a field whose ``kind`` picks one file of a package of components."""

    package: str

    def names(self) -> list[str]:
        """The built-in kinds: the public files of the package."""
        path = importlib.import_module(self.package).__path__
        return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))

    def find(self, kind: str) -> Any:
        """Return the one class with a nested ``Config`` in the file that ``kind`` names."""
        return _component(kind if "." in kind else f"{self.package}.{kind}")

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        kinds = [*self.names(), *_OWN_KINDS]
        return core_schema.tagged_union_schema(
            {k: handler.generate_schema(self.find(k).Config) for k in kinds}, discriminator="kind"
        )


_OWN_KINDS: dict[str, None] = {}  # dotted kinds named by the file being read


@functools.cache
def _component(module: str) -> Any:
    try:
        members = vars(importlib.import_module(module)).values()
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{module}: no such module ({error}); is it on the Python path?"
        ) from None
    found = [
        value
        for value in members
        if inspect.isclass(value) and value.__module__ == module and "Config" in vars(value)
    ]
    if len(found) != 1:
        raise ConfigError(f"{module}: want exactly one class with a Config, found {len(found)}")
    return found[0]


def load(path: Path, model: type[M]) -> M:
    """Read a whole TOML file as one ``model``."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(text, model, path.name)


def parse(text: str, model: type[M], name: str = "config.toml") -> M:
    """Check TOML text against ``model``; ``name`` is what errors call the file."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not TOML: {error}") from None
    own = dict.fromkeys(_dotted_kinds(raw))
    if own.keys() - _OWN_KINDS.keys():
        for kind in own:
            _component(kind)  # a name that leads nowhere must not stay
        _OWN_KINDS.update(own)
        model.model_rebuild(force=True)
    try:  # as JSON, so that strict mode takes an array where a tuple is wanted
        return model.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        raise _explain(error, raw, text, name, model) from None


def _dotted_kinds(raw: Any) -> list[str]:
    if isinstance(raw, dict):
        own = [raw["kind"]] if isinstance(raw.get("kind"), str) and "." in raw["kind"] else []
        return own + [k for v in raw.values() for k in _dotted_kinds(v)]
    return [k for v in raw for k in _dotted_kinds(v)] if isinstance(raw, list) else []


def _explain(
    error: ValidationError, raw: Any, text: str, name: str, model: type[BaseModel]
) -> ConfigError:
    """Say the first mistake in the user's terms."""
    first = error.errors(include_url=False)[0]
    keys = _user_keys(first["loc"], raw)
    kind, given, context = first["type"], first.get("input"), first.get("ctx", {})
    if kind == "extra_forbidden":
        message = f"no such setting; {suggest(keys[-1], _siblings(model, first['loc'][:-1]))}"
    elif kind == "missing":
        message = "required, but missing"
    elif kind == "union_tag_invalid":
        known = re.findall(r"'([^']+)'", context["expected_tags"])
        keys = (*keys, "kind")
        message = f"no such kind {context['tag']!r}; {suggest(context['tag'], known)}"
    elif kind == "union_tag_not_found":
        message = 'needs a kind, as in kind = "..."'
    elif kind == "value_error":
        message = str(context["error"])
    elif kind == "literal_error":
        known = re.findall(r"'([^']+)'", context["expected"])
        message = f"no such choice {given!r}; {suggest(str(given), known)}"
    else:
        got = "" if isinstance(given, dict) else f", got {given!r}"
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}{got}"
    return ConfigError(f"{name}:{_line(text, keys)}: {'.'.join(keys) or 'file'}: {message}")


def _user_keys(loc: tuple[int | str, ...], raw: Any) -> Keys:
    """The error's place without the tags that pydantic adds for a component's kind."""
    keys: list[str] = []
    tagged = False
    for part in loc:
        if isinstance(raw, dict):
            if not tagged and raw.get("kind") == part:
                tagged = True  # what follows is inside; a setting may be called like its kind
                continue
            raw = raw.get(part)
        elif isinstance(raw, list) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
        tagged = False
        keys.append(str(part))
    return tuple(keys)


def _siblings(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """The settings that exist at a place, found by following the place through the models."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        return definitions[node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node

    node = schema
    for part in loc:
        node = resolve(node)
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"][part]}
        elif "anyOf" in node:
            node = next((n for n in map(resolve, node["anyOf"]) if "properties" in n), {})
            node = node.get("properties", {}).get(part, {})
        else:
            properties = node.get("properties", {})
            node = (
                properties.get(part) or node.get("additionalProperties") or node.get("items") or {}
            )
            node = node if isinstance(node, dict) else {}
    node = resolve(node)
    if "discriminator" in node:
        return []
    for option in node.get("anyOf", ()):
        node = resolve(option) if "properties" in resolve(option) else node
    return [k for k in node.get("properties", {})]


def _line(text: str, keys: Keys) -> int:
    """The line of the longest known part of ``keys``: a key, a table header, or an inline key."""
    for size in range(len(keys), 0, -1):
        found = _find_line(text, keys[:size])
        if found:
            return found
    return 1


def _find_line(text: str, keys: Keys) -> int | None:
    table: Keys = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)
        if header and not re.match(r"\s*[\w\"'.-]+\s*=", line):
            table = _split(header[1])
            if table == keys:
                return number
            continue
        entry = re.match(r"\s*([\w\"'.-]+)\s*=(.*)", line)
        if entry is None:
            continue
        here = (*table, *_split(entry[1]))
        if here == keys:
            return number
        inside = len(here) < len(keys) and keys[: len(here)] == here
        if inside and re.search(rf"[{{,]\s*\"?{re.escape(keys[len(here)])}\"?\s*=", entry[2]):
            return number
    return None


def _split(dotted: str) -> Keys:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
