"""Whether JSON has the form that a schema of deploy/cli/schemas says: as much of JSON Schema as those use.

Stricter in one point: a field that the schema does not mention is a problem, so that the schemas stay complete.
"""

import json
from collections.abc import Iterator
from typing import Any

from deploy.cli.options import SCHEMAS

Schema = dict[str, Any]

KEYWORDS = {"$schema", "$defs", "$ref", "title", "description", "type", "anyOf", "enum"}
KEYWORDS |= {"properties", "required", "additionalProperties", "items", "minItems", "maxItems"}
TYPES: dict[str, type | tuple[type, ...]] = {
    "null": type(None), "boolean": bool, "integer": int, "number": (int, float), "string": str, "array": list,
    "object": dict,
}  # fmt: skip


def read_schema(command: str) -> Schema:
    """The published one."""
    schema: Schema = json.loads((SCHEMAS / f"{command}.json").read_text())
    return schema


def checked(command: str, text: str) -> Any:
    """What a command printed with --json, which is of the form that it promises."""
    value, schema = json.loads(text), read_schema(command)
    problems = list(problems_of(value, schema, schema))
    assert problems == [], problems
    return value


def problems_of(value: Any, schema: Schema, whole: Schema, path: str = "$") -> Iterator[str]:
    """What is otherwise than the schema says; `whole` is the schema with the definitions."""
    assert schema.keys() <= KEYWORDS, f"{path}: {schema.keys() - KEYWORDS} would not be checked"
    if "$ref" in schema:
        yield from problems_of(value, whole["$defs"][schema["$ref"].removeprefix("#/$defs/")], whole, path)
    if "anyOf" in schema:
        each = [list(problems_of(value, choice, whole, path)) for choice in schema["anyOf"]]
        if all(each):
            yield f"{path}: none of {len(each)} forms fits; the nearest: {min(each, key=len)}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if "type" in schema and not any(_is(value, name) for name in _names(schema["type"])):
        yield f"{path}: {type(value).__name__} is not {schema['type']}"
    elif isinstance(value, dict):
        yield from _problems_of_object(value, schema, whole, path)
    elif isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{path}: {len(value)} items"
        for number, item in enumerate(value):
            yield from problems_of(item, schema.get("items", {}), whole, f"{path}[{number}]")


def _problems_of_object(value: dict[str, Any], schema: Schema, whole: Schema, path: str) -> Iterator[str]:
    yield from (f"{path}.{name} is missing" for name in schema.get("required", []) if name not in value)
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, inner in value.items():
        if name in known or others is not None:
            yield from problems_of(inner, known.get(name, others), whole, f"{path}.{name}")
        elif known:
            yield f"{path}.{name} is not described"


def _names(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):  # which is an int to Python
        return name == "boolean"
    return isinstance(value, TYPES[name])
