"""The page `/docs`: every address of a service with its fields, for people, made of the schema that programs read."""

from collections.abc import Iterator
from typing import Any

from deploy.report.html.markup import Markup, tag
from deploy.report.looks import look

STYLE = """
main { max-width: 60rem; }
section { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: 1rem; }
h3 code { font-size: 1.05rem; }
table { border-collapse: collapse; width: 100%; }
td { padding: 0.2rem 1rem 0.2rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }
td:first-child, td:nth-child(2) { white-space: nowrap; }
td:nth-child(2) { color: var(--soft); }
code { font-family: var(--mono); }
"""


def style_of_reference() -> str:
    """The style sheet of the page."""
    return look() + STYLE


def reference(schema: dict[str, Any]) -> str:
    """The page. schema: in the form of OpenAPI 3.1."""
    groups: dict[str, list[Markup]] = {}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            name = operation.get("tags", ["others"])[0]
            groups.setdefault(name, []).append(_operation(path, method, operation))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", "idm-deploy: interface for programs"),
        tag("link", rel="stylesheet", href="docs.css"),
    )
    words = "Refusals are application/problem+json with a sentence in detail. For programs: "
    body = tag(
        "main",
        tag("h1", "Interface for programs"),
        tag("p", words, tag("a", "openapi.json", href="openapi.json"), "."),
        *(tag("section", tag("h2", name), *operations) for name, operations in groups.items()),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', body), lang='en')}\n"


def _operation(path: str, method: str, operation: dict[str, Any]) -> Markup:
    rows = [*_parameters(operation), *_fields(operation)]
    return tag(
        "article",
        tag("h3", tag("code", f"{method.upper()} {path}")),
        tag("p", operation.get("description", "")),
        tag("table", tag("tbody", *rows)) if rows else None,
    )


def _parameters(operation: dict[str, Any]) -> Iterator[Markup]:
    for parameter in operation.get("parameters", []):
        place = "in the address" if parameter["in"] == "path" else f"in the {parameter['in']}"
        yield _row(parameter["name"], place, parameter.get("description", ""))


def _fields(operation: dict[str, Any]) -> Iterator[Markup]:
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        for name, field in schema.get("properties", {}).items():
            needed = ", needed" if name in schema.get("required", []) else ""
            what = "file" if field.get("format") == "binary" else field.get("type", "")
            choices = f" One of {', '.join(map(str, field['enum']))}." if "enum" in field else ""
            yield _row(name, f"{what}{needed}", f"{field.get('description', '')}{choices}", title=kind)


def _row(name: str, what: str, words: str, title: str | None = None) -> Markup:
    return tag("tr", tag("td", tag("code", name), title=title), tag("td", what), tag("td", words))
