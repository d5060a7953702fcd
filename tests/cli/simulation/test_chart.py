"""The chart is a well-formed picture that shows each policy's line where its figures are."""

from itertools import pairwise
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.simulation.chart import POINTS, svg

SVG = "{http://www.w3.org/2000/svg}"


def points(picture: str) -> list[list[tuple[float, float]]]:
    found = []
    for line in ET.fromstring(picture).iter(f"{SVG}polyline"):
        pairs = [point.split(",") for point in (line.get("points") or "").split()]
        found.append([(float(x), float(y)) for x, y in pairs])
    return found


LINES = st.lists(st.tuples(st.sampled_from(["a", 'b<&">', "c"]), st.lists(st.floats(0, 1e7), max_size=30)), max_size=12)


@given(LINES)
def test_each_line_is_drawn_inside_the_picture_and_higher_where_there_are_more_tokens(
    lines: list[tuple[str, list[float]]],
) -> None:
    picture = svg(lines)
    drawn = points(picture)
    assert [len(line) for line in drawn] == [len(line) for _, line in lines]
    names = [element.text for element in ET.fromstring(picture).iter(f"{SVG}text")]
    assert names[len(names) - len(lines) :] == [name for name, _ in lines]
    all_points = [point for line in drawn for point in line]
    assert all(80 <= x <= 770.1 and 29.9 <= y <= 430.1 for x, y in all_points)
    figures = sorted(zip([tokens for _, line in lines for tokens in line], all_points, strict=True))
    for (_, (_, higher)), (_, (_, lower)) in pairwise(figures):
        assert lower <= higher + 0.1


def test_a_long_conversation_stays_a_small_picture() -> None:
    (line,) = points(svg([("a", [1.0] * 100_000)]))
    assert POINTS / 2 < len(line) <= POINTS
    assert len({y for _, y in line}) == 1
