"""Counters of a server in the text format that Prometheus reads."""

from bisect import bisect_left
from collections import Counter

BUCKETS_MS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 100.0)


class Counters:
    """Requests, decisions and their latency.

    Example:
        >>> counters = Counters()
        >>> counters.decision("score", 0.2)
        >>> print(counters.text(sessions=3, evicted=0).splitlines()[2])
        cem_mhch_handoffs_total{reason="score"} 1
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.handoffs: Counter[str] = Counter()
        self._buckets = [0] * (len(BUCKETS_MS) + 1)
        self._milliseconds = 0.0

    def request(self, path: str, status: int) -> None:
        """Count an answer."""
        self.requests[path, status] += 1

    def decision(self, reason: str | None, milliseconds: float) -> None:
        """Count a decision; `reason` is that of a handoff, None without one."""
        if reason is not None:
            self.handoffs[reason] += 1
        self._buckets[bisect_left(BUCKETS_MS, milliseconds)] += 1
        self._milliseconds += milliseconds

    def text(self, *, sessions: int, evicted: int) -> str:
        """All of them, with the number of sessions held and dropped."""
        lines = ["# TYPE cem_mhch_requests_total counter"]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'cem_mhch_requests_total{{path="{path}",status="{status}"}} {count}')
        lines.append("# TYPE cem_mhch_handoffs_total counter")
        lines += [f'cem_mhch_handoffs_total{{reason="{reason}"}} {n}' for reason, n in sorted(self.handoffs.items())]
        lines.append("# TYPE cem_mhch_decision_seconds histogram")
        total = 0
        for bound, count in zip((*BUCKETS_MS, None), self._buckets, strict=True):
            total += count
            edge = "+Inf" if bound is None else f"{bound / 1000:g}"
            lines.append(f'cem_mhch_decision_seconds_bucket{{le="{edge}"}} {total}')
        lines += [
            f"cem_mhch_decision_seconds_sum {self._milliseconds / 1000:.9g}",
            f"cem_mhch_decision_seconds_count {total}",
        ]
        lines += ["# TYPE cem_mhch_sessions gauge", f"cem_mhch_sessions {sessions}"]
        lines += ["# TYPE cem_mhch_sessions_evicted_total counter", f"cem_mhch_sessions_evicted_total {evicted}"]
        return "\n".join(lines) + "\n"
