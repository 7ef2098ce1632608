"""Applications: n-grams and samples of a character model, baselines of forecasts, streaming, export, agreement."""

import numpy as np
import pytest

from rnncourse.applications import (
    ahead,
    ar_forecast,
    interval_width,
    persistence,
    rolling_origins,
    seasonal_naive,
)

# ---------------------------------------------------------------- characters


# ---------------------------------------------------------------- forecasting


YEARS = np.tile(np.arange(12.0), 20)  # the same year twenty times
RISING = np.arange(240.0)


def random_series(n=240, seed=0):
    return np.random.default_rng(seed).standard_normal(n)


def test_every_origin_has_its_targets_in_the_held_out_part_and_no_origin_is_missing():
    for held_out, horizon in ((20, 1), (20, 12), (12, 12)):
        origins = rolling_origins(random_series(100), held_out, horizon)
        possible = [t for t in range(100) if all(100 - held_out <= t + h < 100 for h in range(1, horizon + 1))]
        assert origins.tolist() == possible
        came = ahead(np.arange(100.0), origins, horizon)
        assert came.shape == (held_out - horizon + 1, horizon)
        assert came.min() == 100 - held_out and came.max() == 99
        assert (came == origins[:, None] + np.arange(1, horizon + 1)).all()


@pytest.mark.parametrize("horizon", [1, 5, 12, 13, 30])
@pytest.mark.parametrize("period", [1, 7, 12])
def test_naive_forecasts_are_the_loops_that_define_them(horizon, period):
    series, origins = random_series(), np.array([50, 120, 180])
    for row, t in enumerate(origins):
        for h in range(1, horizon + 1):
            back = period
            while h - back > 0:
                back += period  # the latest value of the same season that is known at t
            drift = back // period * (series[t] - series[t - period])
            assert persistence(series, origins, horizon)[row, h - 1] == series[t]
            assert seasonal_naive(series, origins, horizon, period)[row, h - 1] == series[t + h - back]
            drifting = seasonal_naive(series, origins, horizon, period, drift=True)[row, h - 1]
            assert drifting == pytest.approx(series[t + h - back] + drift)


def test_naive_forecasts_are_right_where_they_must_be():
    origins = rolling_origins(YEARS, 60, 24)
    assert (seasonal_naive(YEARS, origins, 24) == ahead(YEARS, origins, 24)).all()
    both = YEARS + RISING
    assert np.allclose(seasonal_naive(both, origins, 24, drift=True), ahead(both, origins, 24))
    assert (persistence(np.ones(240), origins, 24) == 1).all()


def autoregressive(n=2000, seed=0, months=False):
    """x_t = 3 + 0.5 x_{t-1} - 0.4 x_{t-2} + noise, and with months a constant for each of them."""
    noise, x = np.random.default_rng(seed).standard_normal(n), np.zeros(n)
    for t in range(2, n):
        x[t] = 3 + 0.5 * x[t - 1] - 0.4 * x[t - 2] + noise[t] + (t % 12 if months else 0)
    return x


def test_ar_is_least_squares_iterated():
    x, train, horizon = autoregressive(), 1500, 12
    origins = np.arange(1499, 1980, 37)
    found, order = ar_forecast(x, origins, horizon, train, max_order=6)
    lags = np.arange(1, order + 1)
    rows = np.arange(order, train)
    design = np.column_stack([np.ones(len(rows)), x[rows[:, None] - lags]])
    weights = np.linalg.lstsq(design, x[rows], rcond=None)[0]
    assert 2 <= order <= 6
    assert weights[1:3] == pytest.approx([0.5, -0.4], abs=0.1)
    for row, t in enumerate(origins):
        path = x[: t + 1].tolist()
        for _ in range(horizon):
            path.append(weights[0] + weights[1:] @ np.array(path[-order:])[::-1])
        assert np.allclose(found[row], path[-horizon:], atol=1e-8)


def test_the_order_is_that_of_least_aic():
    x, train, most = autoregressive(seed=3), 400, 8
    rows = np.arange(most, train)  # the same for every order
    aic = []
    for p in range(most + 1):
        design = np.column_stack([np.ones(len(rows)), x[rows[:, None] - np.arange(1, p + 1)]])
        rest = x[rows] - design @ np.linalg.lstsq(design, x[rows], rcond=None)[0]
        aic.append(len(rows) * np.log((rest**2).mean()) + 2 * (p + 1))
    assert ar_forecast(x, np.array([500]), 3, train, max_order=most)[1] == int(np.argmin(aic))


def test_seasonal_terms_are_worth_it_where_there_is_a_season():
    x = autoregressive(months=True)
    origins = rolling_origins(x, 400, 3)
    errors = [ar_forecast(x, origins, 3, 1500, seasonal, max_order=4)[0] - ahead(x, origins, 3) for seasonal in (True, False)]
    with_season, without = (np.sqrt((e**2).mean()) for e in errors)
    assert with_season < 1.2 and without > 1.5 * with_season


@pytest.mark.parametrize("seasonal", [False, True])
def test_no_forecast_sees_what_comes_after_its_origin(seasonal):
    series, origin = random_series(300), np.array([219])
    other = series.copy()
    other[220:] += 100 * random_series(80, seed=1)

    def forecasts(series):
        ar = ar_forecast(series, origin, 12, 200, seasonal, max_order=8)[0]
        return [persistence(series, origin, 12), seasonal_naive(series, origin, 12, drift=True), ar]

    for one, two in zip(forecasts(series), forecasts(other)):
        assert np.isfinite(one).all() and (one == two).all()
    other[:220] = series[:220] + 1e-3 * random_series(220, seed=2)
    assert all((one != two).all() for one, two in zip(forecasts(series), forecasts(other)))


def test_the_interval_is_the_quantile_that_covers():
    errors = np.array([[1.0, -4], [-3, 0], [2, 2], [0, -1]])
    assert interval_width(errors, 0.8).tolist() == [3, 4]  # rank ⌈5 · 0.8⌉ = 4, the largest
    assert interval_width(errors, 0.6).tolist() == [2, 2]
    assert interval_width(errors, 0.5).tolist() == [2, 2]
    assert interval_width(np.stack([errors, 2 * errors]), 0.8).tolist() == [[3, 4], [6, 8]]


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_the_interval_covers_exchangeable_errors_as_promised(coverage):
    random = np.random.default_rng(0)
    old, new = random.standard_normal((5000, 19, 2)), random.standard_normal((5000, 1, 2))
    covered = (np.abs(new) <= interval_width(old, coverage)[:, None]).mean()
    assert coverage - 0.01 < covered < coverage + 1 / 20 + 0.01


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: rolling_origins(random_series(100), 100, 12), "held_out: expected fewer than the 100 values .* got 100"),
        (lambda: rolling_origins(random_series(100), 11, 12), "held_out: expected a whole number of at least 12, got 11"),
        (lambda: rolling_origins(random_series(100), 20, 0), "horizon: expected a whole number of at least 1, got 0"),
        (lambda: rolling_origins([[1.0, 2.0]], 1, 1), r"series: expected two or more real numbers, .* got shape \(1, 2\)"),
        (lambda: rolling_origins(["a", "b", "c"], 1, 1), "series: expected two or more real numbers"),
        (lambda: rolling_origins([1.0, np.nan, 3.0], 1, 1), "series: expected finite numbers, got NaN or infinity in 1 places"),
        (lambda: persistence([1.0, np.inf, 3.0], np.array([0]), 1), "series: expected finite numbers"),
        (lambda: persistence(random_series(9), np.array([3.0]), 1), r"origins: expected whole numbers, .* of float64"),
        (lambda: persistence(random_series(9), np.array([], int), 1), r"origins: expected whole numbers, .* shape \(0,\)"),
        (lambda: ahead(random_series(9), np.array([3, 8]), 1), "origins: expected 0 to 7, .* 1 after it .* got 3 to 8"),
        (lambda: ahead(random_series(9), np.array([-1, 3]), 1), "origins: expected 0 to 7, .* got -1 to 3"),
        (lambda: ahead(random_series(9), np.array([3]), 1.5), "horizon: expected a whole number of at least 1, got 1.5"),
        (lambda: seasonal_naive(random_series(30), np.array([11]), 1), "origins: expected 12 to 28, with 13 values up to"),
        (lambda: seasonal_naive(random_series(30), np.array([15]), 1, 0), "period: expected a whole number .* got 0"),
        (lambda: ar_forecast(random_series(300), np.array([150]), 12, 200), "origins: expected 199 to 287, with 200 values"),
        (lambda: ar_forecast(random_series(100), np.array([80]), 1, 60), "train: expected .* at least 88, got 60"),
        (lambda: ar_forecast(random_series(100), np.array([90]), 1, 120), "origins: expected 119 to 98"),
        (lambda: ar_forecast(random_series(300), np.array([250]), 1, 200, max_order=0), "max_order: expected .* got 0"),
        (lambda: interval_width(np.ones(5)), r"errors: expected finite numbers .* got shape \(5,\)"),
        (lambda: interval_width([[1.0], [np.nan]]), "errors: expected finite numbers"),
        (lambda: interval_width(np.ones((8, 2)), 0.9), "errors: expected more than 8 origins for a coverage of 0.9"),
        (lambda: interval_width(np.ones((8, 2)), 1.0), "coverage: expected a share between 0 and 1, got 1.0"),
    ],
)
def test_a_bad_forecast_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- streaming, and devices at the edge


# ---------------------------------------------------------------- agreement over a distance
