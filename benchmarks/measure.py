"""The measurements: each starts load, watches the target meanwhile, and returns plain figures."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import processes
from benchmarks.targets import LARGE_BYTES, ROOT, SMALL_BYTES, Pixelpar, Target

Say = Callable[[str], None]
Figures = dict[str, Any]
# Enough callers to keep two cores busy, few enough that nobody waits in an accept queue.
CALLERS_SMALL = 32
CALLERS_LARGE = 16
_WARM_UP_S = 5.0
_LOAD = [sys.executable, "-m", "benchmarks.load"]


def generate(plan: Figures, *, timeout_s: float = 600.0) -> Figures:
    """Run one load plan in a process of its own."""
    done = subprocess.run(  # noqa: S603 - our own generator
        _LOAD, input=json.dumps(plan), cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    if done.returncode:
        raise processes.NotReady(f"the load generator failed: {done.stderr[-1_500:]}")
    found: Figures = json.loads(done.stdout)
    return found


def throughput(targets: Sequence[Target], *, size_bytes: int, seconds: float, rounds: int, say: Say) -> Figures:
    """Requests/s of callers that never pause, and the CPU they cost; rounds interleaved, medians."""
    callers = CALLERS_LARGE if size_bytes >= LARGE_BYTES else CALLERS_SMALL
    seen: dict[str, list[Figures]] = {target.name: [] for target in targets}
    for target in targets:  # what a server sets up once, threads and connections and caches, is no part of its speed
        generate(_closed(target, size_bytes, callers, seconds=_WARM_UP_S))
    for number in range(rounds):
        for target in targets:
            before = processes.look(target.roots(), memory=False)
            found = generate(_closed(target, size_bytes, callers, seconds=seconds))
            after = processes.look(target.roots(), memory=False)
            thousands = found["completed"] / 1_000 or 1e-9
            found["cpu_s_per_1000"] = (after.cpu_s - before.cpu_s) / thousands
            found["database_cpu_s_per_1000"] = (after.database_cpu_s - before.database_cpu_s) / thousands
            seen[target.name].append(found)
            say(f"round {number + 1}/{rounds} {target.name}: {found['rate_per_s']:.0f}/s{_trouble(found)}")
    return {name: _medians(runs) for name, runs in seen.items()}


def _closed(target: Target, size_bytes: int, callers: int, *, seconds: float) -> Figures:
    """A plan of callers that never pause; their first second is not counted."""
    return {
        "mode": "closed",
        "targets": [target.plan(size_bytes)],
        "connections": callers,
        "seconds": seconds,
        "warm_s": 1.0,
        "timeout_s": 60.0,
    }


def _medians(runs: list[Figures]) -> Figures:
    names = ("rate_per_s", "cpu_s_per_1000", "database_cpu_s_per_1000")
    return {
        **{name: round(statistics.median(run[name] for run in runs), 3) for name in names},
        "p50_s": statistics.median(run["latency_s"].get("p50", 0.0) for run in runs),
        "p99_s": statistics.median(run["latency_s"].get("p99", 0.0) for run in runs),
        "error_count": sum(run["error_count"] + run["refused"] for run in runs),
        "runs": runs,
    }


def _trouble(found: Figures) -> str:
    wrong = {**found["errors"], **({"refused": found["refused"]} if found["refused"] else {})}
    return f", errors {wrong}" if wrong else ""


def added_latency(targets: Sequence[Target], *, seconds: float) -> Figures:
    """Latency of one caller, going round all targets; `added_p50_s` is over the upstream itself, the first target."""
    plans = [target.plan(SMALL_BYTES) for target in targets]
    found = generate({"mode": "pairs", "targets": plans, "seconds": seconds})["targets"]
    direct_s = found[0]["latency_s"]["p50"]
    return {
        target.name: {**seen, "added_p50_s": round(seen["latency_s"].get("p50", 0.0) - direct_s, 6)}
        for target, seen in zip(targets, found, strict=True)
    }


def in_flight(target: Target, *, count: int, over_s: float, delay_s: float, size_bytes: int) -> Figures:
    """`count` slow requests on a fresh process tree: how long they take, and what they cost in mid-flight."""
    target.restart()
    warm = {"mode": "closed", "targets": [target.plan(SMALL_BYTES)], "connections": 8, "seconds": 1.0, "warm_s": 0.0}
    generate(warm)
    time.sleep(1.0)
    idle = processes.look(target.roots())
    watch = processes.Watch(target.roots, middle_s=over_s + (delay_s - over_s) / 2)
    with watch.watching():
        found = generate(
            {
                "mode": "open",
                "targets": [target.plan(size_bytes, round(delay_s * 1_000))],
                "count": count,
                "over_s": over_s,
                "timeout_s": delay_s + 50.0,
            }
        )
    middle = watch.middle or idle
    return {
        **found,
        "delay_s": delay_s,
        "idle": dataclasses.asdict(idle),
        "middle": dataclasses.asdict(middle),
        "each_bytes": (middle.pss_bytes - idle.pss_bytes) // count,
        "peak_pss_bytes": max(watch.peak_pss_bytes, idle.pss_bytes),
    }


def overload(target: Target, *, slots: int, delay_s: float, seconds: float, patient: bool) -> Figures:
    """Ten times the requests that `slots` places can serve, arriving evenly; then as many callers who wait as told."""
    rate_per_s = 10 * slots / delay_s
    plan = {"mode": "open", "targets": [target.plan(SMALL_BYTES, round(delay_s * 1_000))], "timeout_s": 60.0}
    found: Figures = {"slots": slots, "offered_per_s": rate_per_s}
    found["impatient"] = generate({**plan, "count": round(rate_per_s * seconds), "over_s": seconds})
    if patient:
        waiting = {"count": 10 * slots, "over_s": 2.0, "timeout_s": 180.0, "honour_retry_after": True}
        found["patient"] = generate({**plan, **waiting})
    return found


def ledger(target: Pixelpar, *, timeout_s: float) -> Figures:
    """Ask `ledger verify` until no hold is open, or the time is up."""
    started_at = time.monotonic()
    while True:
        exact, holds, said = target.verify()
        waited_s = time.monotonic() - started_at
        if not exact or not holds or waited_s > timeout_s:
            return {"exact": exact, "open_holds": holds, "waited_s": round(waited_s, 1), "said": said}
        time.sleep(2.0)


def kill_in_mid_flight(target: Pixelpar, *, count: int, delay_s: float, timeout_s: float) -> Figures:
    """kill -9 of one web process while it works on slow requests; then the ledger, once recovery has passed."""
    plan = {
        "mode": "open",
        "targets": [target.plan(SMALL_BYTES, round(delay_s * 1_000))],
        "count": count,
        "over_s": 1.0,
        "timeout_s": delay_s + 30.0,
    }
    with subprocess.Popen(  # noqa: S603 - our own generator
        _LOAD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as load:
        assert load.stdin is not None  # noqa: S101 - asked for above
        load.stdin.write(json.dumps(plan))
        load.stdin.close()
        load.stdin = None
        time.sleep(1.0 + delay_s / 2)
        _, holds, _ = target.verify()
        victim = target.web_processes()[0]
        os.kill(victim, signal.SIGKILL)
        seen = json.loads(load.communicate()[0])
    return {"killed": victim, "holds_in_flight": holds, "load": seen, **ledger(target, timeout_s=timeout_s)}
