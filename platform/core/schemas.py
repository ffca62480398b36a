"""The words in which the API's shapes are described: JSON Schema 2020-12, short to write and strict by default."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from core import ids, query

Json = dict[str, Any]

_schemas: dict[str, Json] = {}


def ref(name: str) -> Json:
    """A named schema, wherever it is registered."""
    return {"$ref": f"#/components/schemas/{name}"}


def named(name: str, schema: Json) -> Json:
    """Register a schema under a name; returns the reference to it."""
    if _schemas.setdefault(name, schema) != schema:
        raise ValueError(f"two schemas are called {name}")
    return ref(name)


def record(description: str = "", /, *, optional: Mapping[str, Json] | None = None, **required: Json) -> Json:
    """An object of exactly these members."""
    found: Json = {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": sorted(required),
        "additionalProperties": False,
    }
    return {**found, "description": description} if description else found


def listed(items: Json, **more: Any) -> Json:
    return {"type": "array", "items": items, **more}


def text(description: str = "", /, **more: Any) -> Json:
    return _typed("string", description, more)


def number(description: str = "", /, **more: Any) -> Json:
    return _typed("number", description, more)


def integer(description: str = "", /, **more: Any) -> Json:
    return _typed("integer", description, more)


def boolean(description: str = "", /, **more: Any) -> Json:
    return _typed("boolean", description, more)


def choice(words: Iterable[str], description: str = "", /, **more: Any) -> Json:
    """One of a few words."""
    return _typed("string", description, {"enum": list(words), **more})


def constant(word: str) -> Json:
    return {"type": "string", "const": word}


def or_null(schema: Json) -> Json:
    """The same, or null."""
    if "$ref" in schema or "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    found = {**schema, "type": [schema["type"], "null"]}
    return {**found, "enum": [*schema["enum"], None]} if "enum" in schema else found


def pattern(*forms: re.Pattern[str]) -> str:
    """The expression of a whole value, as JSON Schema has it, for what is matched with `fullmatch` and ASCII here."""
    inner = "|".join(_plain(form.pattern) for form in forms)
    return f"^({inner})$" if "|" in inner else f"^{inner}$"


def word(prefix: str, description: str = "", /) -> Json:
    """A public id, such as `req_…`."""
    return text(description, pattern=ids.pattern(prefix))


def moment(description: str = "", /) -> Json:
    return integer(f"{description} Unix time in seconds.".strip(), minimum=0)


def dollars(description: str = "", /, **more: Any) -> Json:
    """An amount as a decimal string of dollars."""
    return text(description, pattern=r"^-?[0-9]+\.[0-9]{2,18}$", **more)


def _typed(kind: str, description: str, more: Mapping[str, Any]) -> Json:
    found = {"type": kind, **more}
    return {**found, "description": description} if description else found


def _plain(expression: str) -> str:
    """Python's expression as ECMA's, for the few that differ: all are matched as ASCII."""
    return expression.replace(r"[\w", "[A-Za-z0-9_").replace(r"\w", "[A-Za-z0-9_]").replace(r"\d", "[0-9]")


# --- what many shapes share -------------------------------------------------------------------------------------------


def page(items: Json, *, optional: Mapping[str, Json] | None = None) -> Json:
    """One page of a list, with the links that core.paging and its kin put beside it."""
    link = or_null(text("A path of this server.", pattern="^/v1/"))
    return record(
        object=constant("list"), data=listed(items), next_page_url=link, previous_page_url=link, optional=optional
    )


def deleted(kind: str, identifier: Json) -> Json:
    """What is said of something that is gone."""
    return record(id=identifier, object=constant(kind), deleted={"type": "boolean", "const": True})


LIMIT = integer("How many at most.", minimum=1, maximum=query.LIMIT_MAX, default=query.LIMIT_DEFAULT)
# As core.query.moment_ms reads them.
MOMENT = text("A Unix time in seconds or an ISO 8601 time.", pattern=pattern(query.UNIX_S, query.MOMENT))
# As core.query.day reads it, where the calendar has it.
DAY = text(pattern="^[12][0-9]{3}-[0-9]{2}-[0-9]{2}$", format="date")
FLAG = choice(("true", "false", "1", "0"))

named(
    "Error",
    {
        "type": "object",
        "description": "What went wrong. Some codes bring further members, such as `limit` with a 402 or 429.",
        "properties": {
            "message": text("For people: what is wrong, and what is allowed.", minLength=1),
            "type": text("OpenAI's family of errors."),
            "param": or_null(text("The parameter that it is about.")),
            "code": text("Stable, for programs; docs/errors.md says what each means."),
            "needed": dollars("With a 402: what the request could cost at most."),
            "available": dollars("With a 402: what there is."),
            "limit": record(
                "The limit that was reached.",
                scope=or_null(text("Whose it is: of the key, of the organization.")),
                window=or_null(text()),
                cap={"type": ["integer", "string", "null"]},
                optional={"meter": or_null(text())},
            ),
        },
        "required": ["code", "message", "param", "type"],
    },
)


def find(name: str) -> Json:
    """The schema of that name."""
    return _schemas[name]


def references(schema: Any) -> Iterator[str]:
    """The names of the schemas that one refers to."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name == "$ref":
                yield value.rpartition("/")[2]
            else:
                yield from references(value)
    elif isinstance(schema, list | tuple):
        for value in schema:
            yield from references(value)
