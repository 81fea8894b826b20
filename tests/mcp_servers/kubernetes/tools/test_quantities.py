from __future__ import annotations

import pytest

from mcp_servers.kubernetes import quantities


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2087869Ki", 2087869 * 1024), ("512Mi", 512 * 2**20), ("1Gi", 2**30), ("1.5Gi", 1.5 * 2**30),
        ("128974848", 128974848), ("129e6", 129e6), ("129M", 129e6), ("1k", 1000), ("2E", 2e18), ("1E3", 1000),
        ("100m", 0.1), ("331024000n", 0.331024), ("250u", 0.00025), ("0", 0),
    ],
)  # fmt: skip
def test_a_quantity_is_read_with_every_suffix_that_kubernetes_writes(written: str, value: float) -> None:
    assert quantities.parse(written) == pytest.approx(value)


@pytest.mark.parametrize("written", ["", "lots", "5Qi", "Ki"])
def test_what_is_no_quantity_counts_as_nothing(written: str) -> None:
    assert quantities.parse(written) == 0.0
