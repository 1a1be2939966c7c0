"""The measurements behind docs/claims/attsolver.md: claims.py --out FILE [--protocol FILE] [--only PART ...].

Every part of the protocol becomes one JSON line with the value of every seed. A part that the file has already, under
the same protocol, is not run again.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from attsolver import AttSolver, __version__, fit, generate, solve, systems
from attsolver._evaluate import evaluate
from attsolver._targets import make_pairs, problem_of
from sail_core.report import paired_interval
from sail_core.runs import env_report
from torch import Tensor

Row = dict[str, Any]


class Multiplicative(AttSolver):
    """The ablation ``u' = u + h S (1 + Q)``: the correction is h S Q, component by component."""

    def correction(self, t: Tensor | float, u: Tensor, s: Tensor, params: Tensor | None = None) -> Tensor:
        """Give h S Q."""
        return self.dt * s * self.network(self.normalized(u, s, params))


class Claims:
    """One run of a protocol."""

    def __init__(self, protocol: dict[str, Any]) -> None:
        self.protocol, self.seeds = protocol, protocol["seeds"]
        self._tests: dict[Any, Any] = {}

    def data(self, name: str, n: int, steps: int, seed: int, noise: float = 0.0, dt: float | None = None) -> Any:
        """Reference trajectories of a system."""
        system = systems.get(name)
        return generate(system, n, steps, dt or system.dt, seed=seed, noise=noise)

    def test(self, name: str, seed: int) -> Any:
        """Unseen trajectories of a seed."""
        if (name, seed) not in self._tests:
            p = self.protocol["test"]
            self._tests[name, seed] = self.data(
                name, p["trajectories"], p["steps"], seed + self.protocol["test_seed_offset"]
            )
        return self._tests[name, seed]

    def score(self, name: str, base: str, form: str, data: Any, seed: int) -> float:
        """Test MSE of one training; inf where a trajectory is not finite."""
        solver = AttSolver(base, data.dt, hidden=self.protocol["training"]["hidden"], **self.protocol["forms"][form])
        options = {k: v for k, v in self.protocol["training"].items() if k != "hidden"}
        fit(solver, data, seed=seed, **options)
        return evaluate(systems.get(name), self.test(name, seed), solver, backend="eager").mse

    def coarse(self, name: str, base: str) -> list[float]:
        """Test MSE of the base method, seed by seed."""
        return [evaluate(systems.get(name), self.test(name, s), base, backend="eager").mse for s in self.seeds]

    def grid(self) -> Iterator[Row]:
        """Trajectories x noise x features x systems and bases."""
        p = self.protocol["grid"]
        for name, base in p["cases"]:
            coarse = self.coarse(name, base)
            for n in p["trajectories"]:
                for noise in p["noise"]:
                    data = [self.data(name, n, p["steps"], seed, noise) for seed in self.seeds]
                    mse = {
                        form: [self.score(name, base, form, d, s) for d, s in zip(data, self.seeds, strict=True)]
                        for form in self.protocol["forms"]
                    }
                    yield {"system": name, "base": base, "trajectories": n, "noise": noise, "coarse": coarse, **mse}

    def bases(self) -> Iterator[Row]:
        """Every base method on one system."""
        p = self.protocol["bases"]
        name = p["system"]
        for base in p["bases"]:
            data = [self.data(name, p["trajectories"], 50, seed) for seed in self.seeds]
            mse = {
                form: [self.score(name, base, form, d, s) for d, s in zip(data, self.seeds, strict=True)]
                for form in ("increment", "both")
            }
            yield {"system": name, "base": base, "coarse": self.coarse(name, base), **mse}

    def multiplicative(self) -> Iterator[Row]:
        """The additive against the multiplicative form, trained by the same loop."""
        p = self.protocol["multiplicative"]
        for name, base in p["cases"]:
            found: dict[str, list[float]] = {"additive": [], "multiplicative": []}
            for seed in self.seeds:
                data = self.data(name, p["trajectories"], 50, seed)
                for kind, form in (("additive", AttSolver), ("multiplicative", Multiplicative)):
                    options = {"features": p["features"], "linear": False}
                    solver = form(
                        base, data.dt, dim=data.y.shape[-1], hidden=self.protocol["training"]["hidden"], **options
                    )
                    _train(solver, data, seed, self.protocol["training"])
                    with torch.no_grad():  # step by step in torch: the engine knows the additive form only
                        test = self.test(name, seed)
                        y, left = test.clean[:, 0], []
                        for i in range(test.y.shape[1] - 1):
                            y = solver.advance(systems.get(name).rhs, float(test.t[i]), y)
                            left.append((y - test.clean[:, i + 1]).square().mean())
                        # as everywhere: over all times, the exact first one included
                        found[kind].append(float(torch.stack(left).sum() / (len(left) + 1)))
            yield {"system": name, "base": base, "coarse": self.coarse(name, base), **found}

    def high_dimension(self) -> Iterator[Row]:
        """The chain and the Lorenz ring of 40 states."""
        p = self.protocol["high_dimension"]
        for name, base in p["cases"]:
            data = [self.data(name, p["trajectories"], p["steps"], seed) for seed in self.seeds]
            mse = {
                form: [self.score(name, base, form, d, s) for d, s in zip(data, self.seeds, strict=True)]
                for form in self.protocol["forms"]
            }
            expm = {}
            if name == "spring_chain":
                system = systems.get(name)
                expm = {"expm": [evaluate(system, self.test(name, s), "expm").mse for s in self.seeds]}
            yield {
                "system": name,
                "base": base,
                "d": data[0].y.shape[-1],
                "coarse": self.coarse(name, base),
                **mse,
                **expm,
            }

    def chaos(self) -> Iterator[Row]:
        """Median valid time in Lyapunov times: until the error exceeds the threshold times the attractor's spread."""
        p = self.protocol["chaos"]
        for name, base, exponent in p["cases"]:
            system = systems.get(name)
            steps = math.ceil(p["lyapunov_times"] / exponent / system.dt)
            found: dict[str, list[float]] = {}
            for seed in self.seeds:
                data = self.data(name, p["trajectories"], p["steps"], seed)
                test = self.data(name, p["test_trajectories"], steps, seed + self.protocol["test_seed_offset"])
                spread = float(test.clean.std((0, 1)).square().sum().sqrt())
                runs: dict[str, tuple[Any, float]] = {base: (base, system.dt), f"{base}, dt / 4": (base, system.dt / 4)}
                for form, options in self.protocol["forms"].items():
                    solver = AttSolver(base, system.dt, hidden=self.protocol["training"]["hidden"], **options)
                    training = {k: v for k, v in self.protocol["training"].items() if k != "hidden"}
                    fit(solver, data, seed=seed, **training)
                    runs[form] = (solver, system.dt)
                for label, (method, dt) in runs.items():
                    with torch.no_grad():
                        y = solve(
                            system,
                            test.clean[:, 0],
                            t=test.t,
                            method=method,
                            dt=dt,
                            backend="eager",
                            out_of_domain="ignore",
                            check="mask",
                        ).y
                    wrong = ~((y - test.clean).norm(dim=-1) <= p["threshold"] * spread)
                    first = torch.where(wrong.any(1), wrong.int().argmax(1), wrong.shape[1] - 1)
                    times = first.double() * system.dt * exponent
                    found.setdefault(label, []).append(float(times.median()))
            yield {"system": name, "base": base, "lyapunov_exponent": exponent, "valid_time": found}


def _train(solver: AttSolver, data: Any, seed: int, options: dict[str, Any]) -> None:
    """One and the same loop for both forms of the ablation."""
    pairs = make_pairs(solver, data, problem_of(data, None, 0), 0.0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        z = solver.normalized(pairs.u, pairs.s)
        solver.mu.copy_(z.mean(0))
        solver.sigma.copy_(z.std(0))
        scale = pairs.error.std(0)
        additive = type(solver) is AttSolver
        solver.out_scale.copy_(scale if additive else torch.ones_like(scale))
    solver.reset_parameters(generator)
    optimizer = torch.optim.Adam([p for p in solver.parameters() if p.requires_grad], lr=options["lr"])
    for i in range(options["iterations"]):
        for group in optimizer.param_groups:
            group["lr"] = options["lr"] * 0.5 * (1 + math.cos(math.pi * i / options["iterations"]))
        at = torch.randint(len(pairs.u), (options["batch"],), generator=generator)
        optimizer.zero_grad(set_to_none=True)
        left = (pairs.error[at] - solver.correction(0.0, pairs.u[at], pairs.s[at])) / scale
        left.square().mean().backward()
        optimizer.step()


def log_ratio(worse: Sequence[float | None], better: Sequence[float | None]) -> list[float] | None:
    """log10 of a ratio of MSE, seed by seed; None where one is not finite."""
    if any(x is None or not math.isfinite(x) for x in (*worse, *better)):  # None where it was read from a file
        return None
    return [math.log10(a / b) for a, b in zip(worse, better, strict=True) if a and b]


def summary(rows: dict[str, list[Row]]) -> list[Row]:
    """Every claim with the differences of the seeds and their paired interval."""
    found: list[Row] = []

    def add(claim: str, unit: str, differences: list[float] | None) -> None:
        row: Row = {"claim": claim, "unit": unit, "differences": differences, "interval": None, "holds": None}
        if differences is not None:
            interval = paired_interval(differences)
            row |= {"mean": interval.mean, "interval": [interval.low, interval.high]}
            row["holds"] = True if interval.low > 0 else False if interval.high < 0 else None
        found.append(row)

    def mean(lists: list[list[float] | None]) -> list[float] | None:
        whole = [one for one in lists if one is not None]
        return [sum(x) / len(whole) for x in zip(*whole, strict=True)] if whole and len(whole) == len(lists) else None

    for n, noise in [(5, 0.0), (25, 0.0), (100, 0.0), (5, 0.1), (5, 0.3), (100, 0.1), (100, 0.3)]:
        cells = [r for r in rows.get("grid", ()) if (r["trajectories"], r["noise"]) == (n, noise)]
        for better in ("increment", "both"):
            lists = [log_ratio(r["state"], r[better]) for r in cells]
            add(f"{better} against state, {n} trajectories, noise {noise}", "log10 MSE ratio", mean(lists))
        lists = [log_ratio(r["coarse"], r["both"]) for r in cells]
        add(f"both against the base, {n} trajectories, noise {noise}", "log10 MSE ratio", mean(lists))
    for r in rows.get("grid", ()):  # the joined rows above say nothing where one system blows up
        cell = f"{r['system']}, {r['base']}, {r['trajectories']} trajectories, noise {r['noise']}"
        for better in ("increment", "both"):
            add(f"{better} against state, {cell}", "log10 MSE ratio", log_ratio(r["state"], r[better]))
        add(f"both against the base, {cell}", "log10 MSE ratio", log_ratio(r["coarse"], r["both"]))
    for r in rows.get("bases", ()):
        for form in ("increment", "both"):
            add(f"{form} against {r['base']}, {r['system']}", "log10 MSE ratio", log_ratio(r["coarse"], r[form]))
    for r in rows.get("multiplicative", ()):
        name = f"{r['system']}, {r['base']}"
        add(
            f"additive against multiplicative, {name}", "log10 MSE ratio", log_ratio(r["multiplicative"], r["additive"])
        )
        add(f"multiplicative against the base, {name}", "log10 MSE ratio", log_ratio(r["coarse"], r["multiplicative"]))
    for r in rows.get("high_dimension", ()):
        for form in ("state", "increment", "both"):
            name = f"{r['system']}, {r['base']}, d = {r['d']}"
            add(f"{form} against the base, {name}", "log10 MSE ratio", log_ratio(r["coarse"], r[form]))
    for r in rows.get("chaos", ()):
        times = r["valid_time"]
        for form in ("state", "increment", "both", f"{r['base']}, dt / 4"):
            longer = [a - b for a, b in zip(times[form], times[r["base"]], strict=True)]
            add(f"{form} against {r['base']}, {r['system']}", "Lyapunov times", longer)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts that are missing and append them."""
    parser = argparse.ArgumentParser(description="The measurements behind the claims page.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--protocol", type=Path, default=Path(__file__).with_name("claims_protocol.json"))
    parts = ("grid", "bases", "multiplicative", "high_dimension", "chaos")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    text = arguments.protocol.read_bytes()
    sha = hashlib.sha256(text).hexdigest()
    claims = Claims(json.loads(text))
    done: dict[str, list[Row]] = {}
    if arguments.out.exists():
        for line in arguments.out.read_text().splitlines():
            row = json.loads(line)
            if row["protocol_sha256"] == sha and row["part"] != "summary":
                done[row["part"]] = row["rows"]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)

    def write(part: str, rows: list[Row], seconds: float) -> None:
        environment = env_report()
        head = {
            name: environment[name] for name in ("commit", "dirty", "torch", "python", "cpu") if name in environment
        }
        record = {"part": part, "version": __version__, "protocol_sha256": sha, "seeds": claims.seeds, **head}
        record |= {"cpu_seconds": round(seconds, 1), "rows": _json(rows)}
        with arguments.out.open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    for part in arguments.only:
        if part in done:
            continue
        begin = time.process_time()
        run: Callable[[], Iterator[Row]] = getattr(claims, part)
        done[part] = list(run())
        write(part, done[part], time.process_time() - begin)
        print(f"{part}: {time.process_time() - begin:.0f} s", flush=True)
    found = summary(done)
    write("summary", found, 0.0)
    for row in found:
        interval = row["interval"] and "[{:.3g}, {:.3g}]".format(*row["interval"])
        print(f"{row['claim']:80} {row.get('mean', float('nan')):9.3g} {interval} {row['holds']}")
    return 0


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
