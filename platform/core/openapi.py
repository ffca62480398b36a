"""The API's description: what rooms say of their operations beside their views, put together by drf-spectacular."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

import orjson
from django.conf import settings
from django.utils.module_loading import autodiscover_modules
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema as SpectacularSchema
from drf_spectacular.plumbing import ComponentIdentity, ComponentRegistry, ResolvedComponent
from rest_framework.views import APIView

from core import errors, ids, schemas
from core.schemas import Json, record, ref

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
JSON = "application/json"
# Where rooms describe their operations, and what is read when the document is first asked for.
MODULE = "api_schemas"
KEY = "ApiKey"

# drf-spectacular's, which have no types.
_RESOLVED: Any = ResolvedComponent
_IDENTITY: Any = ComponentIdentity

_PATH_WORD = re.compile(r"{(\w+)}")


# --- operations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """An error that an operation can answer with: its class in the tree, and its code."""

    kind: type[errors.PixelparError]
    code: str

    @classmethod
    def of(cls, kind: type[errors.PixelparError], *codes: str) -> tuple[Fault, ...]:
        """The class with its own code, or with those given where it is raised."""
        return tuple(cls(kind, code) for code in codes or (kind.code,))


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter in the address or a header."""

    name: str
    schema: Json
    description: str = ""
    where: Literal["query", "header"] = "query"
    required: bool = False
    example: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One way an operation succeeds: its body by media type, and what its headers say."""

    description: str
    content: Mapping[str, Json] = field(default_factory=dict)
    headers: Mapping[str, Json] = field(default_factory=dict)
    example: Any = None


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: schemas by media type, and for each some examples by name that work as they are."""

    content: Mapping[str, Json]
    examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one view. `path` gives the words in its address their names outside, and their schemas."""

    name: str
    summary: str
    tag: str
    answers: Mapping[int, Answer]
    faults: tuple[Fault, ...] = ()
    description: str = ""
    path: Mapping[str, Parameter] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    needs_key: bool = True


def answer(description: str, schema: Json, *, example: Any = None, headers: Mapping[str, Json] | None = None) -> Answer:
    """A JSON answer."""
    return Answer(description, content={JSON: schema}, headers=headers or {}, example=example)


def page_parameters(cursor: Json, noun: str) -> tuple[Parameter, ...]:
    """What core.query reads of every list: how many, and next to which one."""
    return (
        Parameter("limit", schemas.LIMIT),
        Parameter("starting_after", cursor, f"Older than this {noun}."),
        Parameter("ending_before", cursor, f"Newer than this {noun}; not together with `starting_after`."),
    )


def json_body(schema: Json, **examples: Any) -> Body:
    return Body(content={JSON: schema}, examples={JSON: examples})


def credential(scheme: Json) -> None:
    """Say what API keys are, once."""
    _credentials[KEY] = scheme


def describe(view: type[APIView], **operations: Operation) -> None:
    """Say what a view's methods do; `operations` go by the method's name in lower case."""
    for method, operation in operations.items():
        _operations[view, method.upper()] = operation


def described(view: type[APIView], method: str) -> Operation | None:
    """What was said of a view's method, by its room's `api_schemas`."""
    _discover()
    return _operations.get((view, method.upper()))


_credentials: dict[str, Json] = {}
_operations: dict[tuple[type[APIView], str], Operation] = {}

# Whatever is asked, this can be answered: a wrong Host header, a fault of ours, a database that does not answer.
ANYWHERE = (
    *Fault.of(errors.InvalidRequest),
    *Fault.of(errors.InternalError),
    *Fault.of(errors.Overloaded),
)
QUERY = (*Fault.of(errors.InvalidRequest), *Fault.of(errors.UnknownParameter))
JSON_BODY = (
    *Fault.of(errors.InvalidRequest, "invalid_value", "invalid_type"),
    *Fault.of(errors.MalformedBody),
    *Fault.of(errors.UnknownParameter),
    *Fault.of(errors.BodyTooLarge),
)
MISSING = Fault.of(errors.NotFound)


@functools.cache
def _discover() -> None:
    autodiscover_modules(MODULE)


# --- the document -----------------------------------------------------------------------------------------------------


class Undescribed(Exception):
    """An operation of the API that no room describes."""


class AutoSchema(SpectacularSchema):
    """Takes an operation from what its room says, instead of guessing it from serializers, which there are none of."""

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: ComponentRegistry
    ) -> Json | None:
        operation = described(type(self.view), method)
        if operation is None:
            raise Undescribed(complaint(path, method, type(self.view)))
        found = _Writer(registry).operation(operation, self.view, method, path)
        return {name: value for name, value in found.items() if value not in (None, [], "")}


def complaint(path: str, method: str, view: type[APIView]) -> str:
    """What is missing, and what to do about it."""
    room = view.__module__.partition(".")[0]
    return (
        f"{method} {path} ({view.__module__}.{view.__name__}) is not in the OpenAPI document: describe it in "
        f"{room}/{MODULE}.py with openapi.describe({view.__name__}, {method.lower()}=openapi.Operation(...))"
    )


class Generator(SchemaGenerator):
    """All of the API's routes and nothing else, with the names that its paths have outside."""

    def coerce_path(self, path: str, method: str, view: APIView) -> str:
        operation = described(type(view), method)
        if operation is None:
            return path
        return _PATH_WORD.sub(lambda found: f"{{{_outside(operation, found[1])}}}", path)


def _outside(operation: Operation, word: str) -> str:
    return operation.path[word].name if word in operation.path else word


def only_api(endpoints: Iterable[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """drf-spectacular's hook: routes under the API's roots."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith(settings.API_ROOTS)]


def _generator() -> Any:
    made: Any = Generator
    return made()


def endpoints() -> Iterator[tuple[str, str, type[APIView]]]:
    """Path, method and view of every operation there is, described or not."""
    generator = _generator()
    generator._initialise_endpoints()
    for path, _, method, callback in generator.endpoints:
        yield path, method, callback.cls


def undescribed() -> list[str]:
    """What the document lacks."""
    return [complaint(*found) for found in endpoints() if described(found[2], found[1]) is None]


@functools.cache
def document() -> Json:
    """The OpenAPI document. Raises Undescribed."""
    found: Json = _generator().get_schema(request=None, public=True)
    return found


@functools.cache
def compact() -> bytes:
    """As it is served."""
    return orjson.dumps(document(), option=orjson.OPT_SORT_KEYS)


def pretty() -> bytes:
    """As it is committed, so that changes show in reviews."""
    return orjson.dumps(document(), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


_ANY_ANSWER: Json = {
    "x-request-id": {
        "description": "Names the request in our log; of a created image its id.",
        "required": True,
        "schema": {"type": "string", "pattern": ids.pattern("req")},
    }
}
_RETRY_AFTER: Json = {
    "description": "Seconds to wait before the next try.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 59},
}
_SHOULD_RETRY: Json = {
    "description": "false where a retry could cost a second time, or would change nothing. SDKs obey it.",
    "schema": {"type": "string", "enum": ["true", "false"]},
}


class _Writer:
    """Puts operations into OpenAPI's words, and what they name into the components."""

    def __init__(self, registry: ComponentRegistry) -> None:
        self._registry = registry
        self._known: set[str] = set()

    def operation(self, operation: Operation, view: APIView, method: str, path: str) -> Json:
        prefix = "openai_" if path.startswith("/openai/") else ""
        faults = operation.faults + ANYWHERE
        scope = getattr(view, "scope", None)
        if operation.needs_key:
            faults += Fault.of(errors.InvalidApiKey) + Fault.of(errors.PermissionDenied, "organization_suspended")
        if scope is not None:
            faults += Fault.of(errors.PermissionDenied, "insufficient_scope")
        if view.refuses_query(method):  # type: ignore[attr-defined]
            faults += Fault.of(errors.UnknownParameter)
        self._put(KEY, "securitySchemes", _credentials[KEY])
        key: list[Json] = [{KEY: [scope] if scope else []}]
        return {
            "operationId": f"{prefix}{operation.name}",
            "summary": operation.summary,
            "description": operation.description,
            "tags": [operation.tag],
            "security": key if operation.needs_key else [{}, *key],
            "parameters": [*self._path(operation, path), *map(self._parameter, operation.parameters)],
            "requestBody": self._body(operation.body) if operation.body else None,
            "responses": {
                **{str(status): self._answer(found) for status, found in operation.answers.items()},
                **self._errors(operation, faults),
            },
        }

    def _path(self, operation: Operation, path: str) -> list[Json]:
        by_name = {parameter.name: parameter for parameter in operation.path.values()}
        return [{**self._parameter(by_name[name]), "in": "path", "required": True} for name in _PATH_WORD.findall(path)]

    def _parameter(self, parameter: Parameter) -> Json:
        found: Json = {
            "name": parameter.name,
            "in": parameter.where,
            "schema": self._noted(parameter.schema),
            "required": parameter.required,
        }
        if parameter.description:
            found["description"] = parameter.description
        return {**found, "example": parameter.example} if parameter.example is not None else found

    def _body(self, body: Body) -> Json:
        return {
            "required": body.required,
            "content": {
                kind: {
                    "schema": self._noted(schema),
                    **({"examples": {name: {"value": value} for name, value in shown.items()}} if shown else {}),
                }
                for kind, schema in body.content.items()
                for shown in [body.examples.get(kind)]
            },
        }

    def _answer(self, found: Answer) -> Json:
        content = {kind: {"schema": self._noted(schema)} for kind, schema in found.content.items()}
        if found.example is not None:
            content[JSON]["example"] = found.example
        return {
            "description": found.description,
            "headers": {**self._headers(_ANY_ANSWER), **self._headers(found.headers)},
            "content": content,
        }

    def _errors(self, operation: Operation, faults: Iterable[Fault]) -> Json:
        by_status: dict[int, set[Fault]] = {}
        for fault in faults:
            by_status.setdefault(fault.kind.status, set()).add(fault)
        return {str(status): self._refusal(status, by_status[status], operation) for status in sorted(by_status)}

    def _refusal(self, status: int, faults: set[Fault], operation: Operation) -> Json:
        """One response for all operations that can answer the same; named for its code, or for who has it first."""
        codes = sorted({fault.code for fault in faults})
        name = "Or".join(_camel(code) for code in codes)
        if len(codes) > 2:
            name = f"{_camel(HTTPStatus(status).phrase)}Of{_camel(operation.name)}"
        headers = {**_ANY_ANSWER, "Retry-After": _RETRY_AFTER, "x-should-retry": _SHOULD_RETRY}
        if status not in (409, 429, 503):
            del headers["Retry-After"]
        elif status != 409:
            headers["Retry-After"] = {**_RETRY_AFTER, "required": True}
        return self._component("responses", name, {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes)}.",
            "headers": self._headers(headers),
            "content": {JSON: {"schema": self._noted(refusal(faults))}},
        })  # fmt: skip

    def _headers(self, headers: Mapping[str, Json]) -> Json:
        return {
            name: self._component("headers", _header_name(name, header), header) for name, header in headers.items()
        }

    def _component(self, kind: str, name: str, content: Json) -> Json:
        """A reference to a component of this content, under the name that it has already where there is one."""
        same = [key[0] for key, one in self._registry._components.items() if key[1] == kind and one.schema == content]
        if not same and self._put(name, kind, content) != content:
            raise ValueError(f"two {kind} are called {name}")
        return {"$ref": f"#/components/{kind}/{same[0] if same else name}"}

    def _put(self, name: str, kind: str, content: Json) -> Json:
        """Register a component unless it is; returns what is registered."""
        component = _RESOLVED(name=name, type=kind, schema=content, object=_IDENTITY(name))
        self._registry.register_on_missing(component)
        found: Json = self._registry[component].schema
        return found

    def _noted(self, schema: Json) -> Json:
        """The schema, after what it names was put into the components."""
        for name in set(schemas.references(schema)) - self._known:
            self._known.add(name)
            self._put(name, "schemas", self._noted(schemas.find(name)))
        return schema


def refusal(faults: Iterable[Fault]) -> Json:
    """The envelope of an error that is one of these."""
    kinds = sorted({fault.kind.type for fault in faults})
    codes = sorted({fault.code for fault in faults})
    code: Json = {"enum": codes}
    if OF_A_PROVIDER in codes:
        codes.remove(OF_A_PROVIDER)
        code = {"type": "string", "examples": codes}
    return record(error={"allOf": [ref("Error"), {"properties": {"type": {"enum": kinds}, "code": code}}]})


# Stands for the codes of providers, of which nobody has a list: their refusals keep them.
OF_A_PROVIDER = "of_a_provider"


def _camel(words: str) -> str:
    return "".join(part[:1].upper() + part[1:].lower() for part in re.split(r"[\W_]+", words) if part)


def _header_name(name: str, header: Json) -> str:
    found = _camel(name)
    return f"{found}Always" if header.get("required") and name == "Retry-After" else found
