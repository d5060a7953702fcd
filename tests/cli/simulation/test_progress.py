"""A bar on a terminal, nothing elsewhere."""

import io

from proxy.cli.simulation.progress import WIDTH, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_grows_and_goes() -> None:
    out = Terminal()
    progress = Progress(out, 200)
    for done in range(0, 201, 50):
        progress.at(done)
        progress.at(done)
    frames = out.getvalue().split("\r")[1:]
    assert [frame.count("#") for frame in frames] == [0, WIDTH // 4, WIDTH // 2, WIDTH * 3 // 4, WIDTH]
    assert frames[-1].endswith("100 %")
    progress.close()
    assert out.getvalue().split("\r")[-2].isspace()
    assert out.getvalue().endswith("\r")


def test_nothing_is_drawn_where_nobody_looks() -> None:
    out = io.StringIO()
    progress = Progress(out, 10)
    progress.at(5)
    progress.close()
    assert out.getvalue() == ""
    empty = Terminal()
    Progress(empty, 0).at(0)
    assert empty.getvalue() == ""
