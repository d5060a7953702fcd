"""`python -m bench`: the tables of bench/RESULTS.md, `recall` those of recall and summaries alone, `chain` those of
chains of responses alone, or with `peers` the part beside other proxies."""

import argparse
import signal
import sys
import time
from datetime import UTC, datetime

from bench import report
from bench.house import FULL, QUICK, House, Scale
from bench.machine import Machine, machine_line, versions_line
from bench.measure import say
from bench.procs import BenchError
from bench.sample import Samples
from bench.workplace import HERE, workplace

RESULTS = HERE / "RESULTS.md"
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("house", "recall", "chain", "peers"), default="house")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and depths, about three minutes; only prints"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        if options.what == "peers":
            from bench.peers import measure_peers

            sections = {"peers": measure_peers(quick=options.quick)}
        else:
            from bench.chain import measure_chain
            from bench.recalling import measure_recall

            sections = {}
            if options.what == "house":
                sections["house"], _ = measure(QUICK if options.quick else FULL)
            if options.what != "chain":
                sections["recall"] = measure_recall(quick=options.quick)
            if options.what != "recall":
                sections["chain"] = measure_chain(quick=options.quick)
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench: stopped")
        return 130
    print("\n\n".join(sections.values()))
    if not options.quick:
        page = RESULTS.read_text() if RESULTS.exists() else TITLE
        for section, text in sections.items():
            page = report.merge(page, section, text)
        RESULTS.write_text(page)
        say(f"written to {RESULTS.relative_to(HERE.parent)}")
    say(f"{time.monotonic() - began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
