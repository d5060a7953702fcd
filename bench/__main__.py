"""`python -m bench`: the tables of bench/RESULTS.md, or one part of them: `house` (beside a bare proxy), `recall` (and
summaries), `chain` (of responses), `stores`, `workers`; and `peers` (other proxies), which is only measured by name."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from bench import report
from bench.house import FULL, QUICK, House, Scale
from bench.machine import Machine, machine_line, versions_line
from bench.measure import say
from bench.procs import BenchError
from bench.sample import Samples
from bench.workplace import HERE, workplace

RESULTS = HERE / "RESULTS.md"
ALL = ("house", "recall", "chain", "stores", "workers")
TITLE = """\
# Results

Written by `make bench` and `make bench-peers`. All servers run on one machine, beside the load generator and the stub
that plays the upstream; each table is one run. CPU is the server process's own clock (all threads), for each request.
Figures are medians of interleaved rounds; a ratio is the median of the rounds' own ratios.
"""
SETTING = """\
Window 4,000 tokens, `trim_to` 0.5; the database holds {seeded} ({others:,} of the sessions belong to no case). {rounds}
rounds. A request on a session is one new message of about 31 tokens, a reply has about 66. Each connection talks in a
session of its own. Token counting is on, `synchronous` is the default."""


def measure(scale: Scale) -> tuple[str, Samples]:
    """Runs everything; returns the Markdown and the samples."""
    machine = Machine()
    with workplace() as (folder, processes):
        where = machine_line(folder)
        house = House(processes, folder, scale)
        bench, first = house.bench, house.case("s100")
        rounds = bench.load_runs(house.cases, scale.requests, scale.rounds, scale.most_s)
        relays = [house.case("bare"), house.case("pass"), first]
        bench.chunk_runs(relays, scale.extra_rounds)
        say("chunks measured")
        bench.first_runs([c for c in house.cases if c.name != "s1000"], scale.first_requests, scale.extra_rounds)
        say("first chunks measured")
        bench.slow_runs(relays, house.other_sessions)
        say("slow streams measured")
        samples = Samples(bench.samples)
        text = render(samples, house, rounds, f"{where}; during the run: {machine.line()}")
    return text, samples


def render(samples: Samples, house: House, rounds: int, where: str) -> str:
    scale = house.scale
    names = [case.name for case in house.cases]
    relays = ["bare", "pass", "s100"]
    faults = samples.faults()
    parts = [
        "## Remora beside a bare proxy",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {versions_line()}.  \n{where}.",
        SETTING.format(seeded=house.seeded, others=scale.others, rounds=rounds),
        report.target_table(report.targets(samples, scale.depths)),
        "### Plain replies",
        report.load_table(samples, "plain", names, list(scale.requests)),
        "### Streamed replies (22 events, written by the upstream at once)",
        report.load_table(samples, "stream", names, list(scale.requests)),
        f"### A relayed chunk ({report.SSE_CONNECTIONS} streams of {report.LONG} events, less those of {report.SHORT})",
        report.chunk_table(samples, relays),
        "### Time to the first chunk (streams that leave the machine mostly idle)",
        report.first_table(samples, [n for n in names if n != "s1000"], list(scale.first_requests)),
        f"### {report.SLOW:,} slow streams at once (an event each 250 ms, a reader that pauses)",
        report.slow_table(samples),
        report.memory_line(samples, names, house.idle_mb),
        report.context_line(samples, names),
        "Runs with errors:\n\n" + "\n".join(f"- {line}" for line in faults) if faults else "No run had an error.",
    ]
    return "\n\n".join(part for part in parts if part)


def measure_house(*, quick: bool) -> str:
    return measure(QUICK if quick else FULL)[0]


def part(name: str) -> Callable[..., str]:
    """What measures a part: asked with `quick`, it returns the part's section of RESULTS.md."""
    # none needs what only another one imports
    if name == "recall":
        from bench.recalling import measure_recall as found
    elif name == "chain":
        from bench.chain import measure_chain as found
    elif name == "stores":
        from bench.stores import measure_stores as found
    elif name == "workers":
        from bench.workers import measure_workers as found
    elif name == "peers":
        from bench.peers import measure_peers as found
    else:
        found = measure_house
    return found


def chosen(what: str) -> list[str]:
    """The parts to be measured. Those that need servers which are not here are left out of "all", and that is said."""
    if what != "all":
        return [what]
    from bench.servers import missing

    lacks = missing()
    if lacks:
        say(f"`stores` is left out, not installed: {lacks}")
    return [name for name in ALL if name != "stores" or not lacks]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("all", *ALL, "peers"), default="all")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and depths, about four minutes for all; only prints"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        for name in chosen(options.what):
            text = part(name)(quick=options.quick)
            print(text, end="\n\n", flush=True)
            if not options.quick:
                page = RESULTS.read_text() if RESULTS.exists() else TITLE
                RESULTS.write_text(report.merge(page, name, text))
                say(f"`{name}` written to {RESULTS.relative_to(HERE.parent)}")
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench: stopped")
        return 130
    say(f"{time.monotonic() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
