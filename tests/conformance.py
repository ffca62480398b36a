"""Generated requests against the real application, by everybody there is, held against the document it serves."""

from __future__ import annotations

import random
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import schemathesis
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks
from schemathesis.specs.openapi.schemas import OpenApiSchema

from accounts import organizations
from config.wsgi import application
from core import openapi
from imagesapi import jobs
from imagesapi.models import Generation
from tests.asking import Asker, build_askers
from tests.fakes._pictures import as_base64, draw
from tests.people import issue
from tests.tenants import Tenant, build_tenant

Case = schemathesis.Case[Any]
ALWAYS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# Which kind of word stands in a path, by what is before it.
_KINDS = {
    "requests": "request",
    "images": "image",
    "keys": "key",
    "webhooks": "webhook",
    "deliveries": "delivery",
    "provider-keys": "provider_key",
    "models": "model",
}
_PREFIXES = {"req": "request", "img": "image", "whk": "webhook", "whd": "delivery", "pky": "provider_key"}
_WORD = re.compile(rb'"((?:req|img|whk|whd|pky)_[0-9a-z]{26})"')
_KEPT_WORDS = 12
# What the schema of a text in an address may say and still allow every text there can be.
_ANY_TEXT = {"type", "minLength", "description"}
_MODELS = ("mock-image", "mock/mock-image", "gpt-image-1", "openai/gpt-image-2", "mock-upscale", "fal/*", "no-such")
_SIZES = ("16x16", "64x48", "32x32", "9999x1")
_FAILURES = ("refuse", "invalid", "account", "rate_limit", "model_gone", "unavailable", "bad_answer", "no-such")
_DATA_URI = f"data:image/png;base64,{as_base64(16, 16, 'png')}"
# Keys that soon meet their ends.
BOUNDED: dict[str, dict[str, Any]] = {
    "a slow key": {"limits": {"requests_per_minute": 2, "concurrent": 1}},
    "a poor key": {"limits": {"spend_total_usd": "0.000001"}},
    "a narrow key": {"rules": {"models": ["mock-image"], "sizes": ["16x16"], "qualities": ["low"]}},
}


@dataclass
class World:
    """Everybody who may ask, what they have, and what became of what was asked."""

    askers: list[Asker]
    words: dict[tuple[str, str], deque[str]]
    schema: OpenApiSchema
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    cases: int = 0
    failures: list[str] = field(default_factory=list)

    def word(self, tenant: Tenant, kind: str, dice: random.Random) -> str:
        """One thing that the tenant has, or had."""
        return dice.choice(self.words[tenant.organization.slug, kind])

    def by_status(self) -> dict[int, int]:
        """How often each status was answered."""
        found: Counter[int] = Counter()
        for (_, status), count in self.statuses.items():
            found[status] += count
        return dict(sorted(found.items()))

    def learn(self, asker: Asker, response: schemathesis.Response) -> None:
        """What an answer tells of is asked for later."""
        if asker.tenant is None or response.status_code >= 300:
            return
        slug = asker.tenant.organization.slug
        for match in _WORD.findall(response.content[:50_000]):
            word = match.decode()
            self.words[slug, _PREFIXES[word[:3]]].append(word)
        if response.status_code == 201 and b'"object":"key"' in response.content:
            self.words[slug, "key"].append(orjson.loads(response.content)["id"])


def closing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The application, whose answers are read and closed as a server does it; the client that asks here does not."""
    body = application(environ, start_response)
    try:
        return [b"".join(body)]
    finally:
        body.close()  # type: ignore[attr-defined]


def build() -> World:
    """Two tenants with things of every kind; keys of every scope, and people of every role, who are to be refused."""
    tenants = [
        build_tenant("Alicorn", dollars="7.654321"),
        build_tenant("Charlatan", dollars="0.000001"),
    ]
    suspended = organizations.create("Frozen", owner=tenants[1].people["owner"])
    suspended.memberships.all().delete()
    words = {
        (tenant.organization.slug, kind): deque([word], maxlen=_KEPT_WORDS)
        for tenant in tenants
        for kind, word in tenant.words.items()
    }
    askers = build_askers(tenants, suspended)
    for name, more in BOUNDED.items():
        key = issue(tenants[0].organization, scopes=["images", "requests"], **more)
        may = frozenset(key.row.scopes)
        askers.append(Asker(name, "key", Client(), tenants[0], headers=key.headers, scopes=may))
    return World(askers, words, _schema())


def _schema() -> OpenApiSchema:
    """What is served, without what keys may do: who asks is our part, and so is what each may."""
    document = Client().get("/openapi.json").json()
    for operations in document["paths"].values():
        for operation in operations.values():
            del operation["security"]
    return schemathesis.openapi.from_dict(document)


def run(world: World, *, examples: int) -> None:
    """So many requests of each operation, fitting ones and others; what is wrong is put down, not raised."""
    schemathesis.openapi.format("binary", st.sampled_from([draw(16, 16, "png"), draw(24, 16, "jpeg"), b"no picture"]))
    found: Any = world.schema.get_all_operations()
    operations = [result.ok() for result in found]
    for operation in sorted(operations, key=lambda one: one.method == "delete"):  # or little would be left to look at
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if mode == GenerationMode.NEGATIVE and not _can_be_wrong(operation):
                continue
            _explore(world, operation, mode, examples)
        _work()


def _can_be_wrong(operation: Any) -> bool:
    """Of an address that may be any text there is no wrong one: it would be looked for hundreds of times."""
    return any((*operation.query, *operation.headers, *operation.cookies, *operation.body)) or any(
        not parameter.definition["schema"].keys() <= _ANY_TEXT for parameter in operation.path_parameters
    )


def _explore(world: World, operation: Any, mode: GenerationMode, examples: int) -> None:
    strategy = operation.as_strategy(generation_mode=mode)
    # Hypothesis would choose the first ones too often; this is as repeatable.
    chance = random.Random(f"{operation.label} {mode.value}")
    full = next(asker for asker in world.askers if asker.name.startswith("full key"))

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, _=st.integers())  # or what takes no parameters would be asked once
    def explore(case: Case, _: int) -> None:
        asker = full if chance.random() < 0.5 else chance.choice(world.askers)
        if mode == GenerationMode.POSITIVE:
            _make_likely(world, asker, case, chance)
        try:
            _ask(world, asker, case, mode)
        except (Exception, FailureGroup) as error:  # noqa: BLE001 - each is told, with what was asked
            told = str(error) or repr(error)
            world.failures.append(f"{operation.label} by {asker.name} ({mode.value}): {told}"[:3000])

    explore()


def _make_likely(world: World, asker: Asker, case: Case, dice: random.Random) -> None:
    """Ids of things that there are, models that are served, and pictures that take no time."""
    tenants = [asker.tenant for asker in world.askers if asker.tenant is not None]
    owner = asker.tenant if asker.tenant is not None and dice.random() < 0.8 else dice.choice(tenants)
    for name in case.path_parameters or {}:
        before = case.path.partition("{" + name)[0].strip("/").rpartition("/")[2]
        if dice.random() < 0.9:
            case.path_parameters[name] = world.word(owner, _KINDS[before], dice)
    cursors = [name for name in ("starting_after", "ending_before") if name in (case.query or {})]
    if len(cursors) == 2 and dice.random() < 0.7:
        del case.query[cursors.pop()]
    for name in cursors:
        case.query[name] = world.word(owner, _listed(case.path), dice)
    if "/images/" in case.path and isinstance(case.body, dict):
        _make_quick(case, dice)


def _listed(path: str) -> str:
    last = path.rpartition("/")[2]
    return {"transactions": "transaction"}.get(last) or _KINDS[last]


def _make_quick(case: Case, dice: random.Random) -> None:
    """Most of what is generated is refused for one of many parameters: with few of them pictures come about."""
    body: Any = case.body
    needed = {"prompt", "image", "images", "image_url", "mask"}
    for name in [name for name in body if name not in needed and dice.random() < 0.6]:
        del body[name]
    body["model"] = "mock-image" if dice.random() < 0.6 else dice.choice(_MODELS)
    body["size"] = dice.choice(_SIZES)
    if isinstance(body.get("n"), int):
        body["n"] = 1 + body["n"] % 2
    if dice.random() < 0.2:
        body["mock_fail"] = dice.choice(_FAILURES)
    for name in ("aspect_ratio", "resolution", "scale_factor", "image", "images", "image_url"):
        if not name.startswith("image"):
            body.pop(name, None)
        elif name in body and case.media_type == openapi.JSON and dice.random() < 0.8:
            body[name] = {"image_url": _DATA_URI}
    if case.media_type == openapi.JSON and dice.random() < 0.3:
        body["stream"] = True


def _ask(world: World, asker: Asker, case: Case, mode: GenerationMode) -> None:
    headers = dict(asker.headers)
    cookies = {name: morsel.value for name, morsel in asker.client.cookies.items()}
    world.cases += 1
    response = case.call(headers=headers, cookies=cookies, app=closing)
    world.statuses[case.operation.label, response.status_code] += 1
    wanted = list(ALWAYS)
    if mode == GenerationMode.NEGATIVE:
        wanted.append(checks.negative_data_rejection)
    if isinstance(case.body, dict) and "mock_fail" in case.body:
        wanted.remove(not_a_server_error)  # a failing provider was asked for
        assert response.status_code != 500
    case.validate_response(response, checks=wanted, headers=headers)
    if asker.kind != "key" and {} not in _described(case)["security"]:
        assert response.status_code in (401, asker.refused_with), f"{asker.name} got {response.status_code}"
    if response.headers.get("content-type", [""])[0] == "text/event-stream":
        _check_events(case, response)
    world.learn(asker, response)


def _described(case: Case) -> Any:
    return openapi.document()["paths"][case.path][case.method.lower()]


def events(text: str) -> Iterator[Any]:
    """The data of each event of a stream."""
    for block in text.split("\n\n"):
        for line in block.split("\n"):
            if line.startswith("data: "):
                yield orjson.loads(line.removeprefix("data: "))


def _check_events(case: Case, response: schemathesis.Response) -> None:
    """Each event has one of the shapes that the document names, and the last one ends the stream."""
    document = openapi.document()
    media = _described(case)["responses"]["200"]["content"]["text/event-stream"]
    data = media["schema"]["properties"]["data"]["contentSchema"]
    shape = {**data, "components": document["components"]}
    found = list(events(response.content.decode()))
    for event in found:
        Draft202012Validator(shape).validate(event)
    assert found[-1]["type"].endswith((".completed", "error")), found[-1]["type"]


def _work() -> None:
    """What a worker would do meanwhile: some of the requests that wait; others stay, to be cancelled."""
    for number in Generation.objects.filter(status="pending").values_list("pk", flat=True)[:2]:
        jobs.run(str(number))
