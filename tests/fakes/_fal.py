"""fal's rules: authentication, the input of each model, its two families of errors, run, and the queue's jobs."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import _fal_edits, _pictures
from tests.fakes._exchange import Reply, Seen

_PRESETS = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
_OLD_SIZES = ("1024x1024", "1536x1024", "1024x1536")
_THREE = ("low", "medium", "high")
_BACKGROUNDS = ("auto", "transparent", "opaque")


@dataclass(frozen=True, slots=True)
class Model:
    """What one endpoint takes: words for image_size or free pixels, and the first of each list is the default."""

    sizes: tuple[str, ...] = ()  # empty: a preset or {width, height}
    auto_size: bool = False
    qualities: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("jpeg", "png")
    most: int = 4
    flux: bool = False
    edits: _fal_edits.Rules | None = None


_NEWEST = Model(
    auto_size=True,
    qualities=("high", "auto", "low", "medium", "xhigh", "max"),
    backgrounds=_BACKGROUNDS,
    formats=("png", "jpeg", "webp"),
)
_OLD = Model(
    sizes=("auto", *_OLD_SIZES), qualities=("auto", *_THREE), backgrounds=_BACKGROUNDS, formats=("png", "jpeg", "webp")
)
_OLD_EDIT = _fal_edits.Rules(fidelities=("high", "low"))
_NEW_EDIT = _fal_edits.Rules(mask_field="mask_url")
GENERATING = {
    "fal-ai/gpt-image-1/text-to-image": _OLD,
    "fal-ai/gpt-image-1-mini": _OLD,
    "fal-ai/gpt-image-1.5": Model(
        sizes=_OLD_SIZES,
        qualities=("high", "low", "medium"),
        backgrounds=_BACKGROUNDS,
        formats=("png", "jpeg", "webp"),
    ),
    "openai/gpt-image-2": Model(auto_size=True, qualities=("high", "low", "medium"), formats=("png", "jpeg", "webp")),
    "openai/gpt-image-2.5/flare/text-to-image": _NEWEST,
    "openai/gpt-image-2.5/sunburst/text-to-image": _NEWEST,
    "fal-ai/flux/schnell": Model(flux=True),
    "fal-ai/flux/dev": Model(flux=True),
    "fal-ai/flux-pro/v1.1": Model(flux=True),
    "fal-ai/flux-2-pro": Model(flux=True, most=1),
}
EDITING = {
    "fal-ai/gpt-image-1/edit-image": dataclasses.replace(_OLD, edits=_OLD_EDIT),
    "fal-ai/gpt-image-1-mini/edit": dataclasses.replace(_OLD, edits=_fal_edits.Rules()),
    "fal-ai/gpt-image-1.5/edit": dataclasses.replace(
        GENERATING["fal-ai/gpt-image-1.5"],
        sizes=("auto", *_OLD_SIZES),
        edits=dataclasses.replace(_OLD_EDIT, mask_field="mask_image_url"),
    ),
    "openai/gpt-image-2/edit": dataclasses.replace(GENERATING["openai/gpt-image-2"], edits=_NEW_EDIT),
    "openai/gpt-image-2.5/flare/edit": dataclasses.replace(_NEWEST, edits=_NEW_EDIT),
    "openai/gpt-image-2.5/sunburst/edit": dataclasses.replace(_NEWEST, edits=_NEW_EDIT),
    "fal-ai/flux-pro/kontext": Model(flux=True, edits=_fal_edits.Rules(field="image_url")),
}
MODELS = GENERATING | EDITING


class Refused(Exception):
    """An answer that is an error, in one of fal's two shapes."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def platform_error(status: int, text: str, kind: str) -> Refused:
    return Refused(Reply(status, {"detail": text, "error_type": kind}, {"x-fal-error-type": kind}))


def field_error(name: str, message: str, kind: str, value: Any) -> Refused:
    entry = {"loc": ["body", name], "msg": message, "type": kind, "input": value}
    return Refused(Reply(422, {"detail": [entry]}, {"x-fal-retryable": "false"}))


def authenticate(seen: Seen, *, key: str) -> None:
    scheme, _, given = seen.headers.get("authorization", "").partition(" ")
    if scheme != "Key" or not given:
        raise Refused(Reply(401, {"detail": "Authentication is required to access this application."}))
    if given != key:
        raise Refused(Reply(401, {"detail": f"Cannot access application with key {given}."}))


@dataclass(slots=True)
class Job:
    """One queued run; its state follows from the clock."""

    model: str
    input: Any
    starts_at: float
    ends_at: float
    refused_at: float  # when it gives up waiting for its start
    cancelled: bool = False
    result: Reply | None = None

    def state(self, now: float) -> str:
        if self.cancelled or (self.starts_at > self.refused_at and now >= self.refused_at):
            return "COMPLETED"
        return "IN_QUEUE" if now < self.starts_at else "IN_PROGRESS" if now < self.ends_at else "COMPLETED"


@dataclass(slots=True)
class Service:
    """The run and queue endpoints over one set of jobs and files. `base` is the address of this server."""

    key: str
    base: str = ""
    queue_s: float = 0.0
    delay_s: float = 0.0
    jobs: dict[str, Job] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, seen: Seen) -> Reply:
        """POST fal.run/{id}."""
        try:
            authenticate(seen, key=self.key)
            reply = self._work(seen.path.partition("/fal/run/")[2], seen.json)
        except Refused as refused:
            reply = refused.reply
        return _headed(reply)

    def submit(self, seen: Seen) -> Reply:
        """POST queue.fal.run/{id}: takes any input; what is wrong with it shows in the result."""
        try:
            authenticate(seen, key=self.key)
        except Refused as refused:
            return _headed(refused.reply)
        model = seen.path.partition("/fal/queue/")[2]
        if model not in MODELS:
            return _headed(_unknown(model))
        now, request_id = time.monotonic(), str(uuid.uuid4())
        patience_s = float(seen.headers.get("x-fal-request-timeout", "3600"))
        starts_at = now + self.queue_s
        self.jobs[request_id] = Job(model, seen.json, starts_at, starts_at + self.delay_s, now + patience_s)
        app = "/".join(model.split("/")[:2])
        address = f"{self.base}/fal/queue/{app}/requests/{request_id}"
        body = {
            "status": "IN_QUEUE",
            "request_id": request_id,
            "response_url": address,
            "status_url": f"{address}/status",
            "cancel_url": f"{address}/cancel",
            "queue_position": 0,
        }
        return _headed(Reply(200, body), request_id)

    def status(self, seen: Seen) -> Reply:
        """GET status_url: 202 until done, then 200 with an error where there is one."""
        try:
            request_id, job = self._job(seen)
        except Refused as refused:
            return _headed(refused.reply)
        state = job.state(time.monotonic())
        body: dict[str, Any] = {"status": state, "request_id": request_id}
        if state == "IN_QUEUE":
            body["queue_position"] = 0
        if state != "COMPLETED":
            return _headed(Reply(202, body), request_id)
        result = self._finish(job)
        body["metrics"] = {"inference_time": self.delay_s}
        if result.status >= 400:
            body["error"] = f"Invalid status code: {result.status}"
            if "error_type" in result.body:
                body["error_type"] = result.body["error_type"]
        return _headed(Reply(200, body), request_id)

    def result(self, seen: Seen) -> Reply:
        """GET response_url: the output, or the error of the run."""
        try:
            request_id, job = self._job(seen)
        except Refused as refused:
            return _headed(refused.reply)
        if job.state(time.monotonic()) != "COMPLETED":
            return _headed(Reply(400, {"detail": "Request is still in progress"}), request_id)
        result = self._finish(job)
        return _headed(Reply(result.status, result.body, dict(result.headers)), request_id)

    def cancel(self, seen: Seen) -> Reply:
        """PUT cancel_url: a waiting job ends at once, a running one goes on."""
        try:
            request_id, job = self._job(seen)
        except Refused as refused:
            return _headed(refused.reply)
        state = job.state(time.monotonic())
        if state == "COMPLETED":
            return _headed(Reply(400, {"status": "ALREADY_COMPLETED"}), request_id)
        job.cancelled = state == "IN_QUEUE"
        return _headed(Reply(202, {"status": "CANCELLATION_REQUESTED"}), request_id)

    def file(self, seen: Seen) -> Reply:
        """A result file; knows no key and wants none."""
        found = self.files.get(seen.path.rpartition("/")[2])
        if "authorization" in seen.headers:
            return Reply(400, {"detail": "A file host must never see a key."})
        return Reply(200, found[1], {"Content-Type": found[0]}) if found else Reply(404, {"detail": "Not Found"})

    def billed(self) -> int:
        """Pictures of queued jobs that ran to their end, asked for or not."""
        now = time.monotonic()
        done = [job for job in list(self.jobs.values()) if job.state(now) == "COMPLETED"]
        return sum(self._finish(job).pictures for job in done)

    def _job(self, seen: Seen) -> tuple[str, Job]:
        authenticate(seen, key=self.key)
        request_id = seen.path.partition("/requests/")[2].partition("/")[0]
        job = self.jobs.get(request_id)
        if job is None:
            raise Refused(Reply(404, {"detail": "Request not found"}))
        return request_id, job

    def _finish(self, job: Job) -> Reply:
        with self._lock:
            if job.result is None:
                try:
                    if job.cancelled:
                        raise platform_error(499, "The request was cancelled.", "request_cancelled")
                    if job.starts_at > job.refused_at:
                        error = platform_error(504, "No runner in time.", "startup_timeout")
                        error.reply.headers["x-fal-request-timeout-type"] = "user"
                        raise error
                    job.result = self._work(job.model, job.input)
                except Refused as refused:
                    job.result = refused.reply
            return job.result

    def _work(self, name: str, asked: Any) -> Reply:
        model = MODELS.get(name)
        if model is None:
            raise Refused(_unknown(name))
        if not isinstance(asked, dict):
            raise Refused(
                Reply(422, {"detail": [{"loc": ["body"], "msg": "Expected an object", "type": "model_type"}]})
            )
        return self._draw(model, _check(model, asked))

    def _draw(self, model: Model, asked: Mapping[str, Any]) -> Reply:
        (width, height), n = asked["pixels"], asked["num_images"]
        kind, transparent = asked["output_format"], asked.get("background") == "transparent"
        images = [
            {
                "url": self._place(width, height, kind, number, transparent, asked.get("sync_mode") is True),
                "content_type": f"image/{kind}",
                "width": width,
                "height": height,
            }
            for number in range(n)
        ]
        body: dict[str, Any] = {"images": images}
        units = f"{n}"
        if model.flux:
            body.update(seed=42, prompt=asked["prompt"], has_nsfw_concepts=[False] * n, timings={"inference": 0.1})
            units = f"{n * math.ceil(width * height / 1_000_000)}.0"
        return Reply(200, body, {"x-fal-billable-units": units}, pictures=n)

    def _place(self, width: int, height: int, kind: str, number: int, transparent: bool, inline: bool) -> str:
        if inline:
            return f"data:image/{kind};base64,{_pictures.as_base64(width, height, kind, number, transparent)}"
        name = f"{uuid.uuid4().hex}.{kind}"
        self.files[name] = (f"image/{kind}", _pictures.draw(width, height, kind, number, transparent))
        return f"{self.base}/fal/files/{name}"


def _headed(reply: Reply, request_id: str | None = None) -> Reply:
    reply.headers["x-fal-request-id"] = request_id or str(uuid.uuid4())
    return reply


def _unknown(name: str) -> Reply:
    app = name.split("/")[1] if "/" in name else name
    return Reply(404, {"detail": f"Application '{app}' not found"})


def _check(model: Model, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The input with defaults; fields a model does not have are ignored, as there."""
    prompt = asked.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise field_error("prompt", "Field required", "missing", prompt)
    found: dict[str, Any] = {"prompt": prompt, "sync_mode": asked.get("sync_mode", False), "num_images": 1}
    if not isinstance(found["sync_mode"], bool):
        raise field_error("sync_mode", "Input should be a valid boolean", "bool_type", found["sync_mode"])
    if model.most > 1:
        n = found["num_images"] = asked.get("num_images", 1)
        if type(n) is not int or n < 1:
            raise field_error("num_images", "Input should be greater than or equal to 1", "greater_than_equal", n)
        if n > model.most:
            message = f"Input should be less than or equal to {model.most}"
            raise field_error("num_images", message, "less_than_equal", n)
    choices = {"quality": model.qualities, "background": model.backgrounds, "output_format": model.formats}
    for name, allowed in choices.items():
        value = asked.get(name, allowed[0] if allowed else None)
        if allowed and value not in allowed:
            raise field_error(name, f"Input should be {', '.join(allowed)}", "literal_error", value)
        found[name] = value
    found["pixels"] = _pixels(model, asked.get("image_size"))
    if model.edits is not None:
        try:
            _fal_edits.check(model.edits, asked)
        except _fal_edits.Wrong as wrong:
            raise field_error(wrong.field, wrong.message, wrong.kind, None) from wrong
    return found


def _pixels(model: Model, size: Any) -> tuple[int, int]:
    if model.sizes:
        size = model.sizes[0] if size is None else size
        if size not in model.sizes:
            raise field_error("image_size", f"Input should be {', '.join(model.sizes)}", "literal_error", size)
        return (1024, 1024) if size == "auto" else tuple(int(part) for part in size.split("x"))  # type: ignore[return-value]
    if size is None:
        return _PRESETS["landscape_4_3"]
    if size == "auto" and model.auto_size:
        return 1024, 1024
    if isinstance(size, str) and size in _PRESETS:
        return _PRESETS[size]
    edges = list(size.values()) if isinstance(size, dict) and set(size) == {"width", "height"} else []
    if edges and all(type(edge) is int and 16 <= edge <= 14_142 for edge in edges):
        return size["width"], size["height"]
    raise field_error("image_size", "Input should be a preset or an object of width and height", "value_error", size)
