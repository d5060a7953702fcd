"""Vectors are of length one, in the forms that are kept and compared."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from proxy.context.vectors import packed, unpacked


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=50))
def test_a_vector_has_length_one_whatever_it_was(numbers: list[float]) -> None:
    found = np.frombuffer(unpacked(packed(numbers)), dtype="<f4")
    assert len(found) == len(numbers)
    assert len(packed(numbers)) == 2 * len(numbers)
    length = np.linalg.norm(np.asarray(numbers, dtype="<f4"))
    if length > 1e-3:
        assert abs(float(np.linalg.norm(found)) - 1) < 0.01


def test_what_is_no_number_counts_as_none() -> None:
    found = np.frombuffer(unpacked(packed([float("nan"), float("inf"), 3.0])), dtype="<f4")
    assert found.tolist() == [0.0, 0.0, 1.0]
    assert unpacked(packed([0.0, 0.0])) == bytes(8)
