"""How services like OpenAI's answer in their dialects: pictures three ways, blocks inside a success, exact costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import orjson

from core import http
from imagesapi.providers import _openai_answers, _shared
from imagesapi.providers.base import BadAnswer, Blocked, OperatorTrouble
from imagesapi.values import Answer, Picture

MayFetch = Callable[[str], bool]

# xAI counts cost in ticks of 10^-10 dollars.
_PICOS_PER_TICK: Final = 100
_MAX_TICKS: Final = 10**15
_MAX_PROMPT_CHARS: Final = 32_000
_NO_PICTURE: Final = "The provider's answer holds no images."
_BLOCKED: Final = "The provider's safety check blocked the result."
# Services without codes say these in words. A key that is refused comes with status 400 from xAI.
_BLOCK_WORDS: Final = re.compile(r"content[ _-](?:moderation|policy|filter)|moderation[ _-]|\bnsfw\b", re.IGNORECASE)
_ACCOUNT_WORDS: Final = re.compile(r"incorrect api key|invalid api key|api key (?:is|was) ", re.IGNORECASE)


def read(reply: http.Reply, *, n: int, deadline: float, may_fetch: MayFetch) -> Answer:
    """The pictures of a success: bytes, base64 or addresses. Raises Blocked or BadAnswer."""
    facts = _facts(reply)
    if reply.headers.get("content-type", "").startswith("image/"):
        if not _shared.is_picture(reply.body):
            raise BadAnswer(_NO_PICTURE, **facts)
        return Answer(pictures=[Picture(data=reply.body)], request_id=facts["request_id"])
    found = _shared.json_object(reply, pictures_under="b64_json")
    items = found.get("data") if found is not None else None
    if found is None or found.get("error") or not isinstance(items, list):
        raise BadAnswer(_NO_PICTURE, **facts)
    told, cost_picos = found.get("usage"), _cost_picos(found.get("usage"))
    kept = [item for item in items[:n] if isinstance(item, dict) and item.get("respect_moderation") is not False]
    blocked = sum(isinstance(item, dict) and item.get("respect_moderation") is False for item in items[:n])
    if blocked and not kept:
        raise _blocked(cost_picos, facts)
    pictures = [picture for item in kept if (picture := _picture(item, deadline=deadline, may_fetch=may_fetch))]
    if not pictures:
        raise BadAnswer(_NO_PICTURE, **facts)
    evidence: dict[str, Any] = {"usage": _openai_answers.bounded(told)}
    if len(items) != n or len(pictures) != n:
        evidence.update(pictures_asked=n, pictures_received=len(items), pictures_usable=len(pictures), blocked=blocked)
    return Answer(
        pictures=pictures,
        usage=_openai_answers.usage_of(told),
        reported_cost_picos=cost_picos,
        request_id=facts["request_id"],
        evidence=evidence,
        effective=_openai_answers.effective(found),
    )


def _facts(reply: http.Reply) -> dict[str, Any]:
    return {"http_status": reply.status, "request_id": _shared.word(reply.headers.get("x-request-id"))}


def _blocked(cost_picos: int | None, facts: Mapping[str, Any]) -> Blocked:
    """Every picture was held back. One that has its price is on the provider's bill all the same."""
    error = Blocked(_BLOCKED, **facts)
    error.possibly_billed = bool(cost_picos)
    return error


def _picture(item: Mapping[str, Any], *, deadline: float, may_fetch: MayFetch) -> Picture | None:
    text = item.get("b64_json")
    if _shared.is_picture_text(text):
        picture: Picture | None = Picture(b64=text)
    else:
        picture = _shared.linked_picture(item.get("url"), deadline=deadline, may_fetch=may_fetch)
    revised = item.get("revised_prompt")
    if picture is not None and isinstance(revised, str) and 0 < len(revised) <= _MAX_PROMPT_CHARS:
        picture.revised_prompt = revised
    return picture


def _cost_picos(usage: Any) -> int | None:
    ticks = _shared.count(usage.get("cost_in_usd_ticks"), at_most=_MAX_TICKS) if isinstance(usage, dict) else None
    return ticks * _PICOS_PER_TICK if ticks else None


def fail(reply: http.Reply, *, secret: str) -> NoReturn:
    """Raise what a status other than success means, whatever form the error has."""
    error = _error(_shared.json_object(reply) or {})
    text = error.get("message")
    if 400 <= reply.status < 500 and isinstance(text, str):
        if _BLOCK_WORDS.search(text):
            fallback = "The provider refused the content."
            raise Blocked(_shared.tidy(text, fallback=fallback, secrets=(secret,)), **_facts(reply))
        if _ACCOUNT_WORDS.search(text):
            raise OperatorTrouble("The provider does not accept the operator's key or account.", **_facts(reply))
    body = orjson.dumps({"error": error}) if error else reply.body
    _openai_answers.fail(http.Reply(reply.status, reply.headers, body), secret=secret)


def _error(body: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's error object out of its own form, xAI's pair of texts, or the `detail` of many Python servers."""
    error, detail = body.get("error"), body.get("detail")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {"message": error}
    if isinstance(detail, str):
        return {"message": detail}
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        place = detail[0].get("loc")
        param = place[-1] if isinstance(place, list) and place and isinstance(place[-1], str) else None
        return {"message": detail[0].get("msg"), "param": param}
    return {}
