"""The bodies of edits and variations: every spelling that clients send, to plain fields and pictures in their order."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
import pybase64
from django.conf import settings
from django.http import HttpRequest

from core import api, errors, http, memory, multipart, outside
from imagesapi import parameters, pictures
from imagesapi.values import ImageRequest, InputImage

IMAGES_MAX: Final = 16
IMAGE_MAX_BYTES: Final = 50 * 1024 * 1024
_FETCH_TIMEOUT_S: Final = 20.0
URL_MAX_CHARS: Final = 8_000
_LEVELS_MAX: Final = 4
_FORM, _JSON = "multipart/form-data", "application/json"

# image, images, image_url, each also with [] or a number in brackets.
_IMAGE_NAME = re.compile(r"(?:image|images|image_url)(?:\[\d{0,3}\])?", re.ASCII)
_NESTED_NAME = re.compile(r"([^\[\]]{1,80})((?:\[[^\[\]]{0,80}\])*)")
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_DATA_URI = re.compile(rb"data:[\w.+/-]{0,60}(?:;[\w=.+-]{1,60})*;base64,", re.ASCII)
_REFERENCE = (b"http://", b"https://", b"data:")
_REFERENCE_KEYS = ("image_url", "url")
_INTEGERS = frozenset({"n", "output_compression", "partial_images", "scale_factor"})
_BOOLEANS = frozenset({"stream", "strict", "dryRun"})
# Kept as the text they are, however much they look like a number.
_TEXTS = frozenset({"prompt", "model", "user", "safety_identifier", "size", "max_cost", "style", "quality", "metadata"})


@dataclass(frozen=True, slots=True)
class Source:
    """One picture as it was sent: its bytes, or where to find it."""

    param: str
    data: bytes = field(default=b"", repr=False)
    address: str = ""


@dataclass(slots=True)
class Upload:
    """A body taken apart: the fields beside the pictures, and the pictures."""

    fields: dict[str, Any]
    images: list[Source] = field(default_factory=list)
    mask: Source | None = None
    markup: Source | None = None
    size_bytes: int = 0


def read(request: HttpRequest, route: str) -> Upload:
    """Take a multipart or JSON body apart. Raises UnsupportedMediaType, MalformedBody, BodyTooLarge, InvalidRequest."""
    kind = request.content_type or ""
    if kind == _FORM:
        return _from_form(request)
    if kind == _JSON:
        return _from_json(request)
    raise errors.UnsupportedMediaType(f"{route} takes multipart/form-data, or JSON with 'images'; not {kind[:60]!r}.")


@contextlib.contextmanager
def guarded(request: HttpRequest) -> Iterator[None]:
    """The memory guard while a body is taken apart and its pictures are made ready; left before a provider works."""
    with memory.scope():
        memory.enter(_declared_bytes(request))
        yield


def complete(request: ImageRequest, upload: Upload) -> ImageRequest:
    """The request with its pictures, fetched where they are addresses, and made ready.

    Raises errors.InvalidRequest for whatever is not a picture that can be used, naming the parameter.
    """
    if not upload.images:
        raise errors.MissingParameter("'image' is required: the picture to change.", param="image")
    if len(upload.images) > IMAGES_MAX:
        raise errors.InvalidRequest(
            f"At most {IMAGES_MAX} images can be sent, and there are {len(upload.images)}.",
            param="image",
            code="too_many_images",
        )
    if upload.mask and upload.markup:
        raise errors.InvalidRequest("Send 'mask' or 'markup', not both.", param="markup")
    deadline = time.monotonic() + _FETCH_TIMEOUT_S
    images = tuple(_prepared(source, deadline) for source in upload.images)
    mask = _prepared(upload.mask, deadline) if upload.mask else None
    markup = _prepared(upload.markup, deadline) if upload.markup else None
    if mask is not None:
        pictures.check_mask(mask, images[0])
    if markup is not None:
        pictures.check_markup(markup, images[0])
    return with_pictures(request, images, mask, markup)


def with_pictures(
    request: ImageRequest, images: tuple[InputImage, ...], mask: InputImage | None, markup: InputImage | None
) -> ImageRequest:
    """The request with these pictures, and their facts among what was asked."""
    facts: dict[str, Any] = {"image": [image.as_dict() for image in images]}
    if mask is not None:
        facts["mask"] = mask.as_dict()
    if markup is not None:
        facts["markup"] = markup.as_dict()
    return replace(request, images=images, mask=mask, markup=markup, asked={**request.asked, **facts})


def _prepared(source: Source, deadline: float) -> InputImage:
    data = source.data if not source.address else _fetched(source, deadline)
    return pictures.prepare(data, param=source.param)


def _fetched(source: Source, deadline: float) -> bytes:
    try:
        reply = outside.fetch(source.address, deadline=deadline, max_bytes=IMAGE_MAX_BYTES)
    except outside.Refused as error:
        raise errors.InvalidRequest(f"The address of {source.param} is not taken: {error}", param=source.param,
                                    code="invalid_image_url") from error  # fmt: skip
    except http.TooLarge as error:
        raise errors.InvalidRequest(
            f"What is behind the address of {source.param} is larger than {IMAGE_MAX_BYTES} bytes.",
            param=source.param,
            code="invalid_image_url",
        ) from error
    except http.CallError as error:
        raise errors.InvalidRequest(
            f"Nothing could be fetched from the address of {source.param}.",
            param=source.param,
            code="invalid_image_url",
        ) from error
    if reply.status != 200:
        raise errors.InvalidRequest(
            f"The address of {source.param} answered with status {reply.status}.",
            param=source.param,
            code="invalid_image_url",
        )
    return reply.body


def _declared_bytes(request: HttpRequest) -> int:
    text = request.META.get("CONTENT_LENGTH") or ""
    return int(text) if text.isascii() and text.isdigit() else 0


# JSON


def _from_json(request: HttpRequest) -> Upload:
    body = api.read_body(request, max_bytes=settings.EDIT_BODY_MAX_BYTES)
    document = api.parse_object(body)
    upload = Upload(fields={}, size_bytes=len(body))
    for name, value in document.items():
        if value is None:
            continue
        if name in ("image", "images", "image_url"):
            entries = value if isinstance(value, list) else [value]
            upload.images += [_reference(entry, "image") for entry in entries]
        elif name in ("mask", "markup"):
            setattr(upload, name, _reference(value, name))
        else:
            upload.fields[name] = value
    return upload


def _reference(value: Any, param: str) -> Source:
    """A text, or an object with exactly one way to a picture."""
    if isinstance(value, dict):
        if "file_id" in value:
            raise errors.InvalidRequest(
                f"'{param}' names a file_id, and there is no Files API here. Send image_url: an https address or a "
                "data URI.",
                param=param,
                code="unsupported_value",
            )
        found = [value[key] for key in _REFERENCE_KEYS if isinstance(value.get(key), str)]
        extra = value.keys() - {*_REFERENCE_KEYS, "type"}
        if len(found) != 1 or extra:
            raise errors.InvalidRequest(f"'{param}' must be an object with image_url and nothing else.", param=param)
        value = found[0]
    if not isinstance(value, str):
        raise parameters.wrong_type(param, value, "an https address or a data URI")
    try:
        data = value.encode()
    except UnicodeEncodeError:
        data = b""
    found_source = _pointed_at(data, param)
    if found_source is None:
        raise errors.InvalidRequest(f"'{param}' is neither an https address nor a data URI.", param=param)
    return found_source


def _pointed_at(data: bytes, param: str) -> Source | None:
    """What a data URI or an address stands for; None when the bytes are neither."""
    start = data[:64].lstrip().lower()
    if not start.startswith(_REFERENCE):
        return None
    data = data.strip()
    if start.startswith(b"data:"):
        return Source(param, data=_decoded(data, param))
    if len(data) > URL_MAX_CHARS:
        raise errors.InvalidRequest(f"The address of {param} is longer than {URL_MAX_CHARS} characters.", param=param)
    return Source(param, address=data.decode("utf-8", "replace"))


def _decoded(data: bytes, param: str) -> bytes:
    head = _DATA_URI.match(data[:400])
    try:
        if head is None:
            raise ValueError
        found = pybase64.b64decode(memoryview(data)[head.end() :], validate=True)
    except ValueError as error:
        raise errors.InvalidRequest(
            f"'{param}' is a data URI that cannot be read: it must be data:image/…;base64, and base64 text.",
            param=param,
            code="invalid_image_file",
        ) from error
    if len(found) > IMAGE_MAX_BYTES:
        raise errors.InvalidRequest(f"'{param}' is larger than {IMAGE_MAX_BYTES} bytes.", param=param)
    return found


# Forms


def _from_form(request: HttpRequest) -> Upload:
    parts = multipart.read(request, part_max_bytes=IMAGE_MAX_BYTES, body_max_bytes=settings.EDIT_BODY_MAX_BYTES)
    upload = Upload(fields={}, size_bytes=_declared_bytes(request))
    for part in parts:
        if _IMAGE_NAME.fullmatch(part.name):
            upload.images.append(_part_source(part, "image"))
        elif part.name in ("mask", "markup"):
            if getattr(upload, part.name) is not None:
                raise errors.InvalidRequest(f"'{part.name}' was sent twice.", param=part.name)
            setattr(upload, part.name, _part_source(part, part.name))
        else:
            _put(upload.fields, part)
    return upload


def _part_source(part: multipart.Part, param: str) -> Source:
    if not part.data.strip():
        raise errors.InvalidRequest(f"'{param}' is empty.", param=param, code="invalid_image_file")
    # Some clients write an address or a data URI into the part of a file.
    return _pointed_at(part.data, param) or Source(param, data=part.data)


def _put(fields: dict[str, Any], part: multipart.Part) -> None:
    """One text field, where its name says: `a`, `a[b]`, `a[]`. An empty one counts as absent, the prompt excepted."""
    match = _NESTED_NAME.fullmatch(part.name)
    if match is None:
        raise errors.InvalidRequest(f"There is no parameter {part.name[:80]!r}.", param=part.name[:80])
    if part.is_file and match[1] in ("mask", "markup"):
        raise errors.InvalidRequest(
            f"'{match[1]}' is one file: send it as {match[1]!r}, not as {part.name[:80]!r}.", param=match[1]
        )
    if part.is_file:
        raise errors.InvalidRequest(
            f"'{match[1]}' is a text, and a file was sent. Files are image, mask and markup.", param=match[1]
        )
    text = part.text()
    if not text and match[1] != "prompt":
        return
    path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
    if len(path) > _LEVELS_MAX:
        raise errors.InvalidRequest(f"'{match[1]}' is nested deeper than {_LEVELS_MAX} levels.", param=match[1])
    _place(fields, path, _typed(match[1], text), param=match[1])


def _place(into: dict[str, Any], path: list[str], value: Any, *, param: str) -> None:
    name, rest = path[0], path[1:]
    twice = errors.InvalidRequest(f"'{param}' was sent in two ways that do not go together.", param=param)
    if not rest:
        if name in into:
            raise errors.InvalidRequest(f"'{param}' was sent twice.", param=param)
        into[name] = value
    elif rest == [""]:
        found = into.setdefault(name, [])
        if not isinstance(found, list):
            raise twice
        found.append(value)
    else:
        inner = into.setdefault(name, {})
        if not isinstance(inner, dict) or rest[0] == "":
            raise twice
        _place(inner, rest, value, param=param)


def _typed(name: str, text: str) -> Any:
    """A form knows only texts: those of numbers and booleans become what they stand for."""
    if name in _TEXTS:
        return text
    if text in ("true", "false") and name not in _INTEGERS:
        return text == "true"
    if name in _BOOLEANS or not _NUMBER.fullmatch(text):
        return text
    return orjson.loads(text) if not re.match(r"-?0\d", text) else text
