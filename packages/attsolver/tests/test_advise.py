import math

import pytest
import torch
from attsolver import Advice, AttSolver, StiffProblemError, advise, systems
from attsolver._measure import classical_methods, is_linear, least_time, make_task
from attsolver._work_precision import work_precision


def test_a_linear_chain_gets_expm_or_something_cheaper_that_is_exact_enough():
    advice = advise(systems.get("spring_chain", size=3), rtol=1e-9, batch=1, widths=())
    expm = next(c for c in advice.candidates if c.method == "expm")
    assert expm.error < 1e-11
    assert advice.best.error <= 1e-9
    assert advice.solver is None
    assert {c.method for c in advice.candidates} >= {"rk4", "dopri5", "dop853", "expm", "dop853 adaptive"}


def test_advice_is_the_cheapest_that_is_accurate_enough():
    advice = advise(systems.get("lotka_volterra"), rtol=1e-3, batch=50, widths=(4,), steps=(2.5,), iterations=150)
    assert isinstance(advice, Advice)
    usable = [c for c in advice.candidates if c.microseconds is not None]
    assert advice.best is usable[0]
    assert all(c.error <= 1e-3 for c in usable)
    assert [c.microseconds for c in usable] == sorted(c.microseconds for c in usable)
    corrected = next(c for c in advice.candidates if c.method == "rk4 + h4")
    assert corrected.note or corrected.error <= 1e-3
    assert (advice.solver is not None) == (advice.best is corrected)
    lines = advice.table().splitlines()
    assert len(lines) == len(advice.candidates) + 1
    assert advice.best.method in lines[1]
    assert ("No corrector" in advice.reason) == (advice.solver is None)


def test_advice_refuses():
    system = systems.get("lotka_volterra")
    for options in ({"rtol": 0.0}, {"rtol": 1.0}, {"batch": 0}, {"base": "rk5"}, {"steps": (2.0,)}, {"steps": (-1.0,)}):
        with pytest.raises(ValueError):
            advise(system, **options)


def test_a_stiff_system_is_sent_to_radau():
    import dataclasses

    system = systems.get("van_der_pol")
    stiff = dataclasses.replace(system, rhs=type(system.rhs)(system.rhs.function, params={"mu": 1000.0}), dt=1e-3)
    with pytest.raises(StiffProblemError, match="Radau"):
        advise(dataclasses.replace(stiff, dt=0.05, law=lambda n, g: torch.tensor([[2.0, 0.0]]).double().repeat(n, 1)))


def test_tasks_measure_errors_against_the_exact_states():
    task = make_task(systems.get("lotka_volterra"), n=4, outputs=5, spacing=0.1, seed=0)
    assert task.error(task.exact) == 0
    assert task.error(task.exact + task.scale) == pytest.approx(1.0)
    assert task.mse(task.exact + 2) == pytest.approx(4.0)
    assert task.error(task.exact * math.nan) == math.inf
    assert task.mse(task.exact * math.inf) == math.inf


def test_methods_of_a_system():
    assert classical_methods(systems.get("elastic_pendulum")) == ["rk4", "dopri5", "dop853"]
    assert classical_methods(systems.get("henon_heiles"))[-2:] == ["leapfrog", "pefrl"]
    assert is_linear(systems.get("spring_chain", size=3))
    assert not is_linear(systems.get("henon_heiles"))


def test_least_time_counts_calls():
    calls = []
    assert least_time(lambda: calls.append(1), 2) >= 0
    assert len(calls) > 4


def test_work_precision_errors_fall_with_the_order():
    system = systems.get("lotka_volterra")
    solver = AttSolver("rk4", system.dt, dim=2, hidden=4)
    points = work_precision(
        system, [solver], batches=(1, 3), substeps=(1, 2), rtols=(1e-6,), peers=(), outputs=10, rounds=1
    )
    at = {(p.method, p.batch, p.dt): p for p in points}
    coarse, fine = at["rk4", 3, system.dt], at["rk4", 3, system.dt / 2]
    assert 12 < coarse.rmse / fine.rmse < 20
    assert fine.nfev == 2 * coarse.nfev == 80
    assert at["rk4 + h4", 3, system.dt].rmse == pytest.approx(coarse.rmse)  # it was not trained
    assert {p.batch for p in points} == {1, 3}
    assert all(p.microseconds > 0 for p in points)


@pytest.mark.parametrize("name", ["torchdiffeq:rk4", "torchdiffeq:dopri5", "scipy:DOP853", "diffrax:Tsit5"])
def test_peers_solve_the_same_task(name):
    pytest.importorskip(name.partition(":")[0])
    system = systems.get("lotka_volterra")
    points = work_precision(system, batches=(2,), substeps=(1,), rtols=(1e-8,), peers=(name,), outputs=5, rounds=1)
    own = next(p for p in points if p.method == "rk4")
    found = next(p for p in points if p.method == name)
    if name.endswith("rk4"):
        assert found.rmse == pytest.approx(own.rmse, rel=1e-6)
    else:
        assert found.rmse < 1e-6


def test_an_unknown_peer():
    with pytest.raises(ValueError, match="no peer"):
        work_precision(systems.get("lotka_volterra"), batches=(1,), substeps=(), rtols=(), peers=("ode45",), outputs=2)
