"""Services like OpenAI's against their fakes: three dialects of one adapter, each provider with its own settings."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable
from typing import Any

import pytest

from core import http
from imagesapi import catalogue_files
from imagesapi.providers import _shared, openai_compatible
from imagesapi.providers.base import (
    BadAnswer,
    Blocked,
    InvalidInput,
    ModelGone,
    OperatorTrouble,
    ProviderError,
    RateLimited,
    TimedOut,
    Unavailable,
)
from imagesapi.values import Answer, Connection, EditCapabilities, Offer
from tests.fakes import _local, _pictures, _xai, misbehaviour
from tests.fakes.providers import TOGETHER_KEY, XAI_KEY, ProviderFake
from tests.imagesapi import adapters
from tests.imagesapi.offers import catalogue

Make = Callable[..., Offer]
SCHNELL = "black-forest-labs/FLUX.1-schnell"
PLAIN: dict[str, Any] = {
    "sizes": (),
    "size_style": "pixels",
    "qualities": (),
    "backgrounds": (),
    "output_formats": ("png",),
    "extras": ("seed",),
    "edits": EditCapabilities(max_images=4, mask="alpha"),
}
SQUARE: dict[str, Any] = {"quality": None, "aspect_ratio": "1:1", "resolution": "1K"}
BARE: dict[str, Any] = {"quality": None, "size": "512x512"}


def reached(slug: str, address: str, *, key: str = "", **options: Any) -> Connection:
    name = slug.upper()
    settings = {f"{name}_API_KEY": key, f"{name}_BASE_URL": address}
    return Connection(settings=settings, configured=True, custom_endpoint=True, options=options)


@pytest.fixture
def xai(fake: ProviderFake) -> Offer:
    """The shipped offer, reaching the fake."""
    offer = catalogue()["xai/grok-imagine-image"]
    options = catalogue_files.read().providers["xai"]["options"]
    return dataclasses.replace(offer, connection=reached("xai", fake.xai_url, key=XAI_KEY, **options))


@pytest.fixture
def together(fake: ProviderFake) -> Offer:
    able = {**PLAIN, "extras": ("seed", "steps", "response_format"), "output_formats": ("jpeg", "png")}
    offer = adapters.offer("together", SCHNELL, {}, **able)
    return dataclasses.replace(
        offer, connection=reached("together", fake.together_url, key=TOGETHER_KEY, dialect="together")
    )


@pytest.fixture
def local(fake: ProviderFake) -> Offer:
    offer = adapters.offer("local", _local.MODEL, {}, **PLAIN)
    return dataclasses.replace(offer, connection=reached("local", fake.local_url))


def run(to: Offer, **changes: Any) -> Answer:
    return openai_compatible.run(adapters.call(openai_compatible, to, **changes))


def edit(to: Offer, *images: Any, **changes: Any) -> Answer:
    return run(to, operation="edit", images=images, **changes)


# xAI


def test_it_asks_xai_by_ratio_and_tier_and_reads_its_exact_cost(fake: ProviderFake, xai: Offer) -> None:
    answer = run(xai, n=2, **{**SQUARE, "aspect_ratio": "16:9", "resolution": "2K", "user": "u-1"})
    assert len(answer.pictures) == 2
    assert answer.reported_cost_picos == 2 * 20_000_000_000
    assert answer.evidence["usage"] == {"cost_in_usd_ticks": 400_000_000}
    assert (answer.usage, answer.pictures[0].revised_prompt) == (None, None)
    (seen,) = fake.requests
    assert seen.json == {
        "model": "grok-imagine-image",
        "prompt": "a fox in the snow",
        "n": 2,
        "aspect_ratio": "16:9",
        "resolution": "2k",
        "response_format": "b64_json",
        "user": "u-1",
    }


def test_it_sends_xai_pictures_as_json(fake: ProviderFake, xai: Offer) -> None:
    one = edit(xai, adapters.picture(), **SQUARE)
    assert one.reported_cost_picos == 20_000_000_000 + _xai.INPUT_TICKS * 100
    edit(xai, adapters.picture(), adapters.picture(kind="jpeg"), **SQUARE)
    single, several = (seen.json for seen in fake.requests)
    assert single["image"]["type"] == "image_url"
    assert single["image"]["url"].startswith("data:image/png;base64,iVBOR")
    assert [image["url"][:15] for image in several["images"]] == ["data:image/png;", "data:image/jpeg"]


def test_it_delivers_what_xai_did_not_hold_back(fake: ProviderFake, xai: Offer) -> None:
    fake.xai.hold_back = 1
    answer = run(xai, n=3, **SQUARE)
    assert len(answer.pictures) == 2
    assert answer.evidence["blocked"] == 1
    assert answer.evidence["pictures_received"] == 3


def test_it_reports_a_block_when_xai_held_everything_back(fake: ProviderFake, xai: Offer) -> None:
    fake.xai.hold_back = 2
    with pytest.raises(Blocked) as blocked:
        run(xai, n=2, **SQUARE)
    assert blocked.value.refused
    assert not blocked.value.may_fail_over
    assert blocked.value.possibly_billed  # it has its price


def test_it_reports_a_block_that_xai_tells_in_words(xai: Offer) -> None:
    with pytest.raises(Blocked, match="content moderation") as blocked:
        run(xai, prompt="forbidden", **SQUARE)
    assert not blocked.value.possibly_billed


@pytest.mark.parametrize(
    ("told", "expected"),
    [({"cost_in_usd_ticks": 1}, 100), ({"cost_in_usd_ticks": True}, None), ({"cost_in_usd_ticks": "5"}, None)]
    + [(value, None) for value in ({"cost_in_usd_ticks": -1}, {"cost_in_usd_ticks": 10**16}, {}, None, "200", [1])],
)
def test_it_takes_only_a_cost_that_is_one(fake: ProviderFake, xai: Offer, told: Any, expected: int | None) -> None:
    item = {"b64_json": _pictures.as_base64(16, 16, "jpeg")}
    fake.script(misbehaviour.status(200, {"data": [item], "usage": told}), on="xai")
    assert run(xai, **SQUARE).reported_cost_picos == expected


# Together


def test_it_asks_together_by_edges_and_for_base64_by_its_name(fake: ProviderFake, together: Offer) -> None:
    extras = {"steps": 4, "seed": 7, "response_format": "url", "guidance": 3}
    answer = run(together, n=2, quality=None, size="1024x768", output_format="jpeg", extras=extras)
    assert len(answer.pictures) == 2
    assert fake.requests[0].json == {
        "model": SCHNELL,
        "prompt": "a fox in the snow",
        "n": 2,
        "width": 1024,
        "height": 768,
        "steps": 4,
        "seed": 7,
        "response_format": "base64",
        "output_format": "jpeg",
    }


def test_it_gives_together_one_picture_or_several(fake: ProviderFake, together: Offer) -> None:
    edit(together, adapters.picture(), **BARE)
    edit(together, adapters.picture(), adapters.picture(), **BARE)
    one, several = (seen.json for seen in fake.requests)
    assert one["image_url"].startswith("data:image/png;base64,")
    assert len(several["reference_images"]) == 2
    takes = EditCapabilities(max_images=4, image_field="reference_images")
    named = dataclasses.replace(together, capabilities=dataclasses.replace(together.capabilities, edits=takes))
    edit(named, adapters.picture(), **BARE)
    assert len(fake.requests[-1].json["reference_images"]) == 1


# A server of one's own


def test_it_asks_a_local_server_as_openai_without_a_key(fake: ProviderFake, local: Offer) -> None:
    answer = run(local, n=2, extras={"seed": 3, "other": 1}, **BARE)
    assert len(answer.pictures) == 2
    (seen,) = fake.requests
    assert "authorization" not in seen.headers
    assert seen.json == {
        "model": _local.MODEL,
        "prompt": "a fox in the snow",
        "n": 2,
        "size": "512x512",
        "seed": 3,
        "response_format": "b64_json",
    }


def test_it_sends_a_local_server_a_form(fake: ProviderFake, local: Offer) -> None:
    mask = adapters.picture(colour=(0, 0, 0, 0))
    edit(local, adapters.picture(), mask=mask, **BARE)
    edit(local, adapters.picture(), adapters.picture(kind="webp"), **BARE)
    one, several = fake.requests
    assert [(part.name, part.content_type) for part in one.files] == [("image", "image/png"), ("mask", "image/png")]
    assert [part.filename for part in several.files] == ["image-1.png", "image-2.webp"]
    assert one.form["response_format"] == "b64_json"


@pytest.mark.parametrize("way", ["b64_json", "url", "bytes"])
def test_it_takes_pictures_in_any_of_three_ways(fake: ProviderFake, local: Offer, way: str) -> None:
    fake.local.answers = way
    (picture,) = run(local, **BARE).pictures
    assert picture.data == _pictures.draw(512, 512, "png") if picture.data else picture.b64
    assert all("authorization" not in seen.headers for seen in fake.requests)


def test_it_fetches_without_a_key(fake: ProviderFake, xai: Offer) -> None:
    address = f"{fake.url}/xai/files/a.jpg"
    fake.xai.files["a.jpg"] = _pictures.draw(16, 16, "jpeg")
    fake.script(misbehaviour.status(200, {"data": [{"url": address}]}), on="xai")
    assert run(xai, **SQUARE).pictures[0].data == fake.xai.files["a.jpg"]  # the fake refuses it with one


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://imgen.x.ai/a.jpg", True),
        ("https://api.x.ai:443/a.jpg", True),
        ("http://imgen.x.ai/a.jpg", False),
        ("https://imgen.x.ai:8443/a.jpg", False),
        ("https://x.ai/a.jpg", False),
        ("https://evilx.ai/a.jpg", False),
        ("https://imgen.x.ai.evil.example/a.jpg", False),
        ("https://imgen.x.ai@evil.example/a.jpg", False),
        ("https://evil.example\\.x.ai/a.jpg", False),
        ("http://169.254.169.254/latest/meta-data", False),
        ("http://127.0.0.1:1/a.jpg", False),
        ("http://[::1]/a.jpg", False),
        ("file:///etc/passwd", False),
    ],
)
def test_it_fetches_only_where_the_catalogue_allows(
    fake: ProviderFake, xai: Offer, monkeypatch: pytest.MonkeyPatch, address: str, allowed: bool
) -> None:
    asked: list[str] = []

    def download(address: str, *, deadline: float) -> bytes:
        asked.append(address)
        return _pictures.draw(16, 16, "jpeg")

    monkeypatch.setattr(_shared, "download", download)
    fake.script(misbehaviour.status(200, {"data": [{"url": address}]}), on="xai")
    if allowed:
        assert run(xai, **SQUARE).pictures
    else:
        with pytest.raises(BadAnswer):
            run(xai, **SQUARE)
    assert asked == ([address] if allowed else [])


# Garbage and errors


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": []},
        {"data": [None, 7, "x"]},
        {"data": [{"b64_json": "aGVsbG8="}]},
        {"data": [{"b64_json": None, "url": None}]},
        {"data": [{"url": "data:text/html;base64,aGVsbG8="}]},
        {"error": {"message": "no"}, "data": [{"b64_json": "iVBORw0KGgo="}]},
        [1],
        b"not json",
    ],
)
def test_it_takes_no_garbage_for_pictures(fake: ProviderFake, local: Offer, body: Any) -> None:
    fake.script(misbehaviour.status(200, body), on="local")
    with pytest.raises(BadAnswer) as bad:
        run(local, **BARE)
    assert bad.value.possibly_billed


def test_it_takes_no_page_for_a_picture(fake: ProviderFake, local: Offer) -> None:
    def page(exchange: Any) -> None:
        exchange.send(dataclasses.replace(exchange.answer(), body=b"<html>", headers={"Content-Type": "image/png"}))

    fake.script(page, on="local")
    with pytest.raises(BadAnswer):
        run(local, **BARE)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"code": "x", "error": "Incorrect API key provided: xa***."}, OperatorTrouble),
        (400, {"code": "x", "error": "n must be between 1 and 10"}, InvalidInput),
        (400, {"error": {"message": "Prompt rejected by content policy.", "type": "x"}}, Blocked),
        (422, {"detail": [{"loc": ["body", "size"], "msg": "Input should be a size"}]}, InvalidInput),
        (422, {"detail": "NSFW content detected"}, Blocked),
        (401, {"detail": "no"}, OperatorTrouble),
        (403, {"error": "Your team has no credits left"}, OperatorTrouble),
        (404, {"detail": "Not Found"}, ModelGone),
        (429, {"error": "slow down"}, RateLimited),
        (500, {"detail": "Internal Server Error"}, Unavailable),
        (503, b"", Unavailable),
        (504, b"", TimedOut),
        (301, b"", Unavailable),
        (400, b"", Unavailable),
        (400, {"detail": []}, Unavailable),
        (400, {"detail": [{"loc": "x", "msg": 7}]}, InvalidInput),
    ],
)
def test_it_understands_each_kind_of_error(
    fake: ProviderFake, local: Offer, status: int, body: Any, kind: type[ProviderError]
) -> None:
    fake.script(misbehaviour.status(status, body), on="local")
    with pytest.raises(ProviderError) as raised:
        run(local, **BARE)
    assert type(raised.value) is kind
    assert raised.value.http_status == status


def test_it_names_the_parameter_that_a_python_server_refused(local: Offer) -> None:
    with pytest.raises(InvalidInput, match="WIDTHxHEIGHT") as refused:
        run(local, quality=None, size="7x7")
    assert refused.value.param == "size"


@pytest.mark.parametrize("name", ["xai", "together"])
def test_it_never_shows_a_key(request: pytest.FixtureRequest, fake: ProviderFake, name: str) -> None:
    offer: Offer = request.getfixturevalue(name)
    key = offer.connection.settings[f"{name.upper()}_API_KEY"]
    told = {"error": {"message": f"The key {key} may not do this.", "type": "x"}}
    fake.script(misbehaviour.status(400, told), on=name)
    with pytest.raises(InvalidInput) as refused:
        run(offer, quality=None, size="512x512", aspect_ratio="1:1", resolution="1K")
    assert key not in refused.value.message


def test_it_knows_a_wrong_key_of_xai_by_its_words(fake: ProviderFake, xai: Offer) -> None:
    wrong = dataclasses.replace(xai, connection=reached("xai", fake.xai_url, key="xai-wrong", dialect="xai"))
    with pytest.raises(OperatorTrouble):
        run(wrong, **SQUARE)


def test_it_says_whether_a_call_was_sent(local: Offer, fake: ProviderFake) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    away = dataclasses.replace(local, connection=reached("local", nobody))
    with pytest.raises(Unavailable):
        run(away, **BARE)
    fake.script(misbehaviour.hang(), on="local")
    with pytest.raises(TimedOut) as late:
        run(local, within_s=0.3, **BARE)
    assert late.value.possibly_billed


def test_it_writes_the_same_body_each_time(xai: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "call", None)
    fitted = adapters.fitted(**SQUARE)
    assert openai_compatible.build(fitted, xai) == openai_compatible.build(fitted, xai)
