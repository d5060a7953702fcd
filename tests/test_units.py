"""Durations and sizes mean what they say, and everything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.units import LONGEST_S, duration_s, size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("2m", 120), ("1h", 3600), ("30d", 2592000), ("250ms", 0.25), ("7", 7), ("0.5", 0.5), (" 3 s ", 3)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "0", "0s", "1w", "1 0", "1e3", "inf", "nan", "٣s", "99999999999d", "1S"]
)
def test_what_is_no_duration_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        duration_s(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("32MiB", 32 << 20), ("32mib", 32 << 20), ("1GiB", 1 << 30), ("5KB", 5000), ("7", 7), ("7B", 7), ("2 KiB", 2048)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "0", "0MiB", "1.5MiB", "1TiB", "1ib", "1 0", "1e9"])
def test_what_is_no_size_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        size_bytes(text)


@given(st.text(max_size=12))
def test_any_text_gives_a_sane_number_or_a_value_error(text: str) -> None:
    for read, top in ((duration_s, LONGEST_S), (size_bytes, 10**25)):
        try:
            assert 0 < read(text) <= top
        except ValueError:
            pass
