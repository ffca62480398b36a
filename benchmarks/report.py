"""The table of targets: what was measured beside what must and should be, in words a reader can check."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import lists

Figures = dict[str, Any]
_MB = 1_000_000
_OWN = "pixelpar"
_PEER = "litellm"


@dataclass(frozen=True, slots=True)
class Line:
    """One row: a figure of ours with its targets. A verdict is None when there is nothing to compare with."""

    figure: str
    value: str
    ratio: str
    must: str
    met: bool | None
    aim: str
    aim_met: bool | None

    def cells(self) -> tuple[str, ...]:
        return self.figure, self.value, self.ratio, self.must, _word(self.met), self.aim, _word(self.aim_met)


def _word(met: bool | None) -> str:
    return "-" if met is None else "met" if met else "NOT MET"


def _both(*parts: bool | None) -> bool | None:
    return None if any(part is None for part in parts) else all(parts)


def machine() -> Figures:
    """The facts without which no rate means anything."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1_024
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_gb": round(total / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _ratio(figures: Figures, key: str, other: str) -> float | None:
    own, theirs = (figures.get(name, {}).get(key) for name in (_OWN, other))
    return own / theirs if own is not None and theirs else None


def _at_least(ratio: float | None, wanted: float) -> bool | None:
    return None if ratio is None else ratio >= wanted


def _at_most(ratio: float | None, wanted: float) -> bool | None:
    return None if ratio is None else ratio <= wanted


def _times(ratio: float | None, name: str = "LiteLLM") -> str:
    return "-" if ratio is None else f"{ratio:.2f} x {name}"


def _rates(results: Figures) -> Iterator[Line]:
    for key, label, must, aim in (("small", "2 KB", 2.5, 3.0), ("large", "1.5 MB", 2.8, 3.5)):
        found = results.get(f"throughput_{key}", {})
        if _OWN not in found:
            continue
        ratio, of_nginx = (_ratio(found, "rate_per_s", name) for name in (_PEER, "nginx"))
        aim_met, aim_words = _at_least(ratio, aim), f">= {aim:g} x"
        if key == "large":
            aim_met, aim_words = _both(aim_met, _at_least(of_nginx, 0.4)), f">= {aim:g} x, >= 0.4 of nginx"
        words = f"{_times(ratio)}, {_times(of_nginx, 'nginx')}"
        value = f"{found[_OWN]['rate_per_s']:.0f}"
        yield Line(f"requests/s, {label}", value, words, f">= {must:g} x", _at_least(ratio, must), aim_words, aim_met)


def _latency(results: Figures) -> Iterator[Line]:
    found = results.get("added_latency", {})
    if _OWN in found:
        ratio = _ratio(found, "added_p50_s", _PEER)
        value = f"{found[_OWN]['added_p50_s'] * 1_000:.2f} ms"
        must, aim = _at_most(ratio, 0.6), _at_most(ratio, 0.5)
        yield Line("added p50, 2 KB", value, _times(ratio), "<= 0.6 x", must, "<= 0.5 x", aim)


def _cpu(results: Figures) -> Iterator[Line]:
    found = results.get("throughput_large", {})
    if _OWN in found:
        ratio = _ratio(found, "cpu_s_per_1000", _PEER)
        own = found[_OWN]
        value = f"{own['cpu_s_per_1000']:.1f} s (database {own['database_cpu_s_per_1000']:.1f})"
        must, aim = _at_most(ratio, 0.3), _at_most(ratio, 0.25)
        yield Line("CPU per 1 000 x 1.5 MB", value, _times(ratio), "<= 0.3 x", must, "<= 0.25 x", aim)


def _in_flight(results: Figures) -> Iterator[Line]:
    small = results.get("in_flight_small", {}).get(_OWN)
    if small:
        wrong, slowest_s = small["error_count"] + small["refused"], small["latency_s"].get("max", 999.0)
        over_s = slowest_s - small["delay_s"]
        each_kb = small["each_bytes"] / 1_000
        connections = small["middle"]["database_connections"]
        label = f"{small['offered']} x {small['delay_s']:g} s in flight"
        value = f"{wrong} errors, max {slowest_s:.1f} s"
        yield Line(label, value, "", "0, +2 s", not wrong and over_s <= 2, "+1.5 s", not wrong and over_s <= 1.5)
        yield Line("  memory each", f"{each_kb:.0f} KB", "", "<= 120 KB", each_kb <= 120, "<= 80 KB", each_kb <= 80)
        yield Line("  database connections", f"{connections}", "", "<= 16", connections <= 16, "", None)
        yield Line("  threads", f"{small['middle']['threads']}", "", "", None, "", None)
    large = results.get("in_flight_large", {}).get(_OWN)
    if large:
        wrong, slowest_s = large["error_count"] + large["refused"], large["latency_s"].get("max", 999.0)
        over_s, peak_mb = slowest_s - large["delay_s"], large["peak_pss_bytes"] / _MB
        label = f"{large['offered']} x {large['delay_s']:g} s x 1.5 MB"
        value = f"{wrong} errors, max {slowest_s:.1f} s"
        yield Line(label, value, "", "0, +3 s", not wrong and over_s <= 3, "+2 s", not wrong and over_s <= 2)
        yield Line("  peak memory", f"{peak_mb:.0f} MB", "", "<= 800 MB", peak_mb <= 800, "<= 600 MB", peak_mb <= 600)


def _promises(results: Figures) -> Iterator[Line]:
    for key, label in (("overload", "10 x capacity"), ("overload_full", "10 x the default house")):
        found = results.get(key)
        if not found:
            continue
        seen = found["impatient"]
        p99_ms = seen["refusal_latency_s"].get("p99", 0.0) * 1_000
        told = seen["refused_with_retry_after"] == seen["refused"]
        value = f"{seen['completed']} accepted, {seen['refused']} refused, p99 {p99_ms:.0f} ms"
        value += f", {seen['error_count']} errors" if seen["error_count"] else ""
        met = bool(seen["refused"]) and told and p99_ms <= 100 and not seen["error_count"]
        judged = key == "overload"
        yield Line(label, value, "", "<= 100 ms p99, told when" if judged else "", met if judged else None, "", None)
        patient = found.get("patient")
        if patient:
            value = f"{patient['completed']} of {patient['offered']} in {patient['wall_s']:.0f} s"
            whole = not patient["error_count"] and patient["completed"] >= 10 * found["slots"]
            yield Line("  callers who wait as told", value, "", "all succeed", whole, "", None)
    for key, label in (("ledger", "ledger after the load"), ("recovery", "ledger after kill -9")):
        found = results.get(key)
        if found:
            exact = found["exact"] and found["open_holds"] == 0
            value = f"{'exact' if found['exact'] else 'DIFFERS'}, {found['open_holds']} holds open"
            value += f" after {found['waited_s']:.0f} s" if key == "recovery" else ""
            must, aim = (exact, None) if key == "ledger" else (None, exact)
            yield Line(label, value, "", "exact, 0 holds" if must is not None else "", must, "the same", aim)


def _lists(results: Figures) -> Iterator[Line]:
    found = results.get("lists")
    if found:
        worst, met, aim_met = lists.verdict(found)
        label = f"lists at {found['rows']:,} requests".replace(",", " ")
        yield Line(label, f"{worst:.2f} x the time at 10 000", "", "<= 1.5 x", met, "<= 1.3 x", aim_met)


def lines(results: Figures) -> list[Line]:
    return [line for part in (_rates, _latency, _cpu, _in_flight, _promises, _lists) for line in part(results)]


def grid(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A plain table with columns as wide as they need to be."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rendered = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                for row in (head, tuple("-" * width for width in widths), *rows)]  # fmt: skip
    return "\n".join(rendered)


def measured(results: Figures) -> str:
    """Every target beside every figure, as measured."""
    names = results["targets"]
    flights = {key: results.get(f"in_flight_{key}", {}) for key in ("small", "large")}
    columns: list[tuple[str, Callable[[str], str]]] = [
        ("req/s 2 KB", lambda name: _show(results, "throughput_small", name, "rate_per_s", 1, "{:.0f}")),
        ("added p50", lambda name: _show(results, "added_latency", name, "added_p50_s", 1_000, "{:.2f} ms")),
        ("req/s 1.5 MB", lambda name: _show(results, "throughput_large", name, "rate_per_s", 1, "{:.0f}")),
        ("CPU-s/1000", lambda name: _show(results, "throughput_large", name, "cpu_s_per_1000", 1, "{:.1f}")),
        ("+ database", lambda name: _show(results, "throughput_large", name, "database_cpu_s_per_1000", 1, "{:.1f}")),
        ("idle", lambda name: _flight(flights["small"].get(name), "idle")),
        ("slow small: p50 / max / errors", lambda name: _flight(flights["small"].get(name), "times")),
        ("each", lambda name: _flight(flights["small"].get(name), "each")),
        ("slow 1.5 MB: p50 / max / errors", lambda name: _flight(flights["large"].get(name), "times")),
        ("peak", lambda name: _flight(flights["large"].get(name), "peak")),
    ]
    rows = [(name, *(render(name) for _, render in columns)) for name in names]
    return grid(("target", *(label for label, _ in columns)), rows)


def _show(results: Figures, group: str, name: str, key: str, factor: float, form: str) -> str:
    value = results.get(group, {}).get(name, {}).get(key)
    return "-" if value is None else form.format(value * factor)


def _flight(found: Figures | None, what: str) -> str:
    if not found:
        return "-"
    if what == "times":
        seen = found["latency_s"]
        wrong = found["error_count"] + found["refused"]
        return f"{seen['p50']:.1f} / {seen['max']:.1f} / {wrong}" if seen else f"- / - / {wrong}"
    if what == "each":
        return f"{found['each_bytes'] / 1_000:.0f} KB"
    size_bytes = found["idle"]["pss_bytes"] if what == "idle" else found["peak_pss_bytes"]
    return f"{size_bytes / _MB:.0f} MB"


def render(results: Figures) -> str:
    facts = results["machine"]
    parts = [
        f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gb']} GB, kernel {facts['kernel']}",
        f"Python {facts['python']}, load before {facts['load_before']}, {facts['at']}",
        "versions: " + ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        *(f"left out: {name}: {why}" for name, why in results["missing"].items()),
        *(f"went wrong: {name}: {why}" for name, why in results["failed"].items()),
    ]
    if results["targets"]:
        parts += ["\nAs measured (the upstream, the load and the database share the same cores):\n", measured(results)]
    if "lists" in results:
        columns = ("list", "10 000 on record", f"{results['lists']['rows']} on record", "ratio")
        parts += ["\nLists, medians over HTTP:\n", grid(columns, lists.table(results["lists"]))]
    judged = lines(results)
    if judged:
        head = ("figure", "Pixelpar", "ratio", "must", "", "aim", "")
        parts += ["\nAgainst the targets:\n", grid(head, [line.cells() for line in judged])]
    return "\n".join(parts)


def save(results: Figures, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{results['machine']['at'].replace(':', '')}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path
