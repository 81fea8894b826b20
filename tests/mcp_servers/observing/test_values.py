from __future__ import annotations

import math
from typing import Any

import pytest

from mcp_servers.observing.values import Result, cores, number, parsed, percent, share, size
from opswarm.errors import Unavailable


def result(kind: str, found: Any) -> Result:
    return parsed({"resultType": kind, "result": found}, "Store")


def test_each_kind_of_result_is_read() -> None:
    assert result("scalar", [1.5, "NaN"]).series[0].last.text == "NaN"
    assert result("string", [1, "hello"]).text == "hello"
    assert result("vector", []).series == ()
    vector = result("vector", [{"metric": {"__name__": "up"}, "value": [1, "+Inf"]}])
    assert vector.series[0].last.value == math.inf
    matrix = result("matrix", [{"metric": {}, "values": [[1, "1"], [2, "-Inf"]]}])
    assert [str(p) for p in matrix.series[0].points] == ["1", "-Inf"]


def test_a_native_histogram_is_told_by_its_quantiles() -> None:
    found = {"count": "10", "sum": "30", "buckets": [[0, "0", "2", "4"], [0, "2", "4", "6"]]}
    one = result("vector", [{"metric": {}, "histogram": [5, found]}]).series[0].last
    assert str(one) == "histogram count=10 mean=3 p50≈2.33333 p90≈3.66667 p99≈3.96667"
    assert math.isnan(one.value)


def test_histograms_and_samples_of_one_series_come_in_the_order_of_time() -> None:
    found = {"count": "1", "sum": "1"}
    series = result("matrix", [{"metric": {}, "values": [[3, "1"]], "histograms": [[2, found]]}]).series[0]
    assert [p.time for p in series.points] == [2, 3]


@pytest.mark.parametrize(
    "data",
    [
        None, [], "x", {}, {"resultType": "vector"}, {"resultType": "streams", "result": []},
        {"resultType": "vector", "result": None}, {"resultType": "vector", "result": [{}]},
        {"resultType": "vector", "result": [{"metric": {}, "value": [1]}]},
        {"resultType": "vector", "result": [{"metric": {}, "value": [1, "one"]}]},
        {"resultType": "vector", "result": [{"metric": {}}]},
        {"resultType": "matrix", "result": [{"metric": {}, "values": []}]},
        {"resultType": "scalar", "result": []}, {"resultType": "string", "result": {}},
    ],
)  # fmt: skip
def test_what_is_no_result_is_never_an_empty_one(data: Any) -> None:
    with pytest.raises(Unavailable):
        parsed(data, "Store")


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0"), (12.0, "12"), (1e-9, "1e-09"), (1 / 3, "0.333333"), (1e20, "1e+20"), (-5, "-5"), (math.nan, "NaN"),
     (math.inf, "+Inf"), (-math.inf, "-Inf")],
)  # fmt: skip
def test_a_number_takes_few_characters(value: float, told: str) -> None:
    assert number(value) == told


def test_units_are_those_of_kubernetes_and_odd_values_stay_what_they_are() -> None:
    assert [size(v) for v in (0, 512, 1_023, 1_536, 2**30, 2**61)] == ["0", "512", "1023", "1.5Ki", "1Gi", "2048Pi"]
    assert [cores(v) for v in (0.25, 1.5, 16)] == ["250m", "1.5", "16"]
    assert percent(0.999) == "100%" and percent(math.nan) == size(math.nan) == cores(math.nan) == "NaN"
    assert math.isnan(share(1, 0))
