"""fal's queue through the adapter: submitting, polling, cancelling at the deadline, and resuming after a crash."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from imagesapi.providers import fal
from imagesapi.providers.base import BadAnswer, Blocked, Cancelled, ProviderError, TimedOut, Unavailable
from imagesapi.values import Answer, Offer
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi import adapters


def offer(fake: ProviderFake) -> Offer:
    settings = adapters.settings_of(fake, FAL_MODE="queue")
    return adapters.offer("fal", "fal-ai/gpt-image-1/text-to-image", settings)


def run(fake: ProviderFake, **asked: Any) -> Answer:
    return fal.run(adapters.call(fal, offer(fake), **asked))


def failure(fake: ProviderFake, **asked: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        run(fake, **asked)
    return caught.value


def test_it_submits_once_without_the_queues_own_retries(fake: ProviderFake) -> None:
    remembered: list[dict[str, Any]] = []
    run(fake, remember=remembered.append, within_s=30)
    submits = [seen for seen in fake.requests if seen.route == "submit"]
    assert len(submits) == 1
    assert submits[0].headers["x-fal-no-retry"] == "1"
    assert 25 <= int(submits[0].headers["x-fal-request-timeout"]) <= 30
    assert submits[0].json["sync_mode"] is True
    (job,) = remembered
    assert set(job) == {"request_id", "status_url", "response_url", "cancel_url"}
    assert [seen.route for seen in fake.requests] == ["submit", "status", "result"]


def test_it_polls_until_the_job_is_done() -> None:
    with ProviderFake(delay_s=0.8, queue_s=0.2) as fake:
        begun = time.monotonic()
        assert len(run(fake, n=2).pictures) == 2
        assert 1.0 <= time.monotonic() - begun < 2.5
        assert 3 <= sum(seen.route == "status" for seen in fake.requests) <= 6
        assert fake.billed == 2


def test_it_remembers_the_job_before_it_asks_about_it(fake: ProviderFake) -> None:
    seen_then: list[list[str]] = []
    run(fake, remember=lambda _: seen_then.append([seen.route for seen in fake.requests]))
    assert seen_then == [["submit"]]


def test_it_cancels_a_job_it_cannot_remember() -> None:
    def fail(_: dict[str, Any]) -> None:
        raise RuntimeError("no database")

    with ProviderFake(queue_s=5) as fake:
        with pytest.raises(RuntimeError):
            run(fake, remember=fail)
        assert [seen.route for seen in fake.requests] == ["submit", "cancel"]
        assert fake.billed == 0


@pytest.mark.parametrize("name", ["status_url", "response_url", "cancel_url"])
@pytest.mark.parametrize("address", ["{other}/x", "http://127.0.0.1:1/x", "https://queue.fal.run/x", "", None, 5, "/x"])
def test_it_uses_no_address_off_the_queues_host(fake: ProviderFake, name: str, address: Any) -> None:
    with ProviderFake() as stranger:
        url = address.format(other=stranger.url) if isinstance(address, str) else address
        fake.script(misbehaviour.altered(lambda body: body.update({name: url})))
        assert isinstance(failure(fake), BadAnswer)
        assert stranger.requests == []


def test_a_job_cancelled_before_its_start_is_surely_unbilled() -> None:
    with ProviderFake(queue_s=30) as fake:
        begun = time.monotonic()
        error = failure(fake, within_s=1.0)
        assert isinstance(error, Unavailable)
        assert time.monotonic() - begun < 1.4
        assert [seen.route for seen in fake.requests][-3:] == ["cancel", "status", "result"]
        assert fake.billed == 0


def test_a_job_that_runs_on_after_the_deadline_is_unknown() -> None:
    with ProviderFake(delay_s=1.5) as fake:
        assert isinstance(failure(fake, within_s=0.8), TimedOut)
        assert "cancel" in [seen.route for seen in fake.requests]
        time.sleep(1.0)
        assert fake.billed == 1


def test_a_cancel_that_fails_leaves_the_outcome_unknown() -> None:
    with ProviderFake(queue_s=30) as fake:
        fake.behave(misbehaviour.html(502), on="cancel")
        assert isinstance(failure(fake, within_s=0.8), TimedOut)


def test_a_result_that_came_in_the_last_moment_is_taken() -> None:
    with ProviderFake(delay_s=1.3) as fake:
        fake.script(misbehaviour.delayed(0.2), on="cancel")
        assert len(run(fake, within_s=1.6).pictures) == 1
        assert "cancel" in [seen.route for seen in fake.requests]


def test_polling_survives_passing_trouble(fake: ProviderFake) -> None:
    fake.script(misbehaviour.html(502), misbehaviour.drop(), on="status")
    fake.script(misbehaviour.drop_in_body(), on="result")
    assert len(run(fake, within_s=15).pictures) == 1
    assert fake.calls == 1


def test_a_job_the_queue_lost_is_a_bad_answer(fake: ProviderFake) -> None:
    fake.behave(misbehaviour.status(404, {"detail": "Request not found"}), on="status")
    assert isinstance(failure(fake), BadAnswer)


def test_completed_with_an_error_is_no_success(fake: ProviderFake) -> None:
    done = {"status": "COMPLETED", "error": "boom", "error_type": "runner_server_error"}
    fake.script(misbehaviour.status(200, done), on="status")
    assert isinstance(failure(fake), Unavailable)
    fake.script(misbehaviour.status(200, {**done, "error_type": "content_policy_violation"}), on="status")
    assert isinstance(failure(fake), Blocked)
    fake.script(misbehaviour.status(200, {**done, "error_type": None}), on="status")
    assert isinstance(failure(fake), BadAnswer)


def test_a_runners_failure_is_not_polled_again(fake: ProviderFake) -> None:
    body = {"detail": "runner died", "error_type": "runner_disconnected"}
    fake.script(misbehaviour.status(503, body), on="result")
    assert isinstance(failure(fake), Unavailable)


# Cancelling by the caller


def after(seconds: float) -> Callable[[], bool]:
    """A caller who has had enough after a while."""
    enough_at = time.monotonic() + seconds
    return lambda: time.monotonic() >= enough_at


def test_a_waiting_job_is_cancelled_upstream_when_its_caller_cancels() -> None:
    with ProviderFake(queue_s=30) as fake:
        begun = time.monotonic()
        error = failure(fake, within_s=20, cancelled=after(0.3))
        assert isinstance(error, Cancelled)
        assert not error.possibly_billed and not error.may_fail_over
        assert time.monotonic() - begun < 1.5
        assert sum(seen.route == "cancel" for seen in fake.requests) == 1
        assert fake.billed == 0


def test_a_running_job_that_goes_on_after_the_cancel_is_delivered() -> None:
    with ProviderFake(delay_s=1.0) as fake:
        assert len(run(fake, within_s=20, cancelled=after(0.2)).pictures) == 1
        assert sum(seen.route == "cancel" for seen in fake.requests) == 1
        assert fake.billed == 1


def test_a_cancel_that_does_not_get_through_is_tried_again() -> None:
    with ProviderFake(queue_s=30) as fake:
        fake.script(misbehaviour.html(502), misbehaviour.drop(), on="cancel")
        assert isinstance(failure(fake, within_s=20, cancelled=after(0)), Cancelled)
        assert sum(seen.route == "cancel" for seen in fake.requests) == 3


def test_a_job_that_the_queue_forgot_after_the_cancel_is_cancelled(fake: ProviderFake) -> None:
    gone = misbehaviour.status(404, {"detail": "Request not found"})
    fake.script(misbehaviour.status(202, {"status": "CANCELLATION_REQUESTED"}), on="cancel")
    fake.behave(gone, on="status")
    assert isinstance(failure(fake, cancelled=after(0)), Cancelled)


def test_a_job_that_was_done_before_the_cancel_is_delivered_or_told_as_it_ended(fake: ProviderFake) -> None:
    assert len(run(fake, cancelled=after(0)).pictures) == 1
    fake.script(misbehaviour.blocked(), on="result")
    assert isinstance(failure(fake, cancelled=after(0)), Blocked)


def test_a_cancelled_job_that_never_ends_is_unknown_at_the_deadline() -> None:
    with ProviderFake(delay_s=30) as fake:
        assert isinstance(failure(fake, within_s=1.0, cancelled=after(0)), TimedOut)


# Resuming


def submitted(fake: ProviderFake) -> dict[str, Any]:
    """The reference of a job whose caller died right after storing it."""
    remembered: list[dict[str, Any]] = []

    def die(reference: dict[str, Any]) -> None:
        remembered.append(reference)
        raise SystemExit

    fake.script(misbehaviour.html(502), on="cancel")
    with pytest.raises(SystemExit):
        run(fake, remember=die)
    return remembered[0]


def test_it_resumes_a_job_after_a_crash() -> None:
    with ProviderFake(delay_s=0.6) as fake:
        reference, to = submitted(fake), offer(fake)
        while (answer := fal.resume(to, reference, time.monotonic() + 5)) is None:
            time.sleep(0.1)
        assert len(answer.pictures) == 1
        assert fake.calls == 1


def test_a_resumed_job_says_none_while_it_runs_or_cannot_be_asked() -> None:
    with ProviderFake(delay_s=30) as fake:
        reference, to = submitted(fake), offer(fake)
        assert fal.resume(to, reference, time.monotonic() + 5) is None
        fake.script(misbehaviour.drop(), on="status")
        assert fal.resume(to, reference, time.monotonic() + 5) is None


def test_a_resumed_job_that_failed_raises(fake: ProviderFake) -> None:
    reference = submitted(fake)
    fake.behave(misbehaviour.blocked(), on="result")
    with pytest.raises(Blocked):
        fal.resume(offer(fake), reference, time.monotonic() + 5)


def test_it_resumes_nothing_off_the_queues_host(fake: ProviderFake) -> None:
    reference = {**submitted(fake), "response_url": "http://127.0.0.1:1/x"}
    with pytest.raises(BadAnswer):
        fal.resume(offer(fake), reference, time.monotonic() + 5)
