"""`python -m bench.recall`: a table of how much evidence is recalled, for each category of question.

Keywords need nothing. For `--method embeddings` or `both` name a server that speaks OpenAI's `/v1/embeddings`:
`--embeddings http://localhost:11434/v1 --model nomic-embed-text` (`OPENAI_API_KEY` is sent if it is set). None ships
with this project, so figures of `both` depend on the model that you name. `--write` puts the table into RESULTS.md.
"""

import argparse
import json
import os
import statistics
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench import report as markdown
from bench.__main__ import RESULTS
from bench.recall import dialogue, public
from bench.recall.measure import Embedder, Outcome, measure
from proxy.context.contract import Recall

SEEDS = {"tuning": range(12), "heldout": range(1_000, 1_012)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.recall", description=__doc__)
    parser.add_argument("--split", choices=[*SEEDS, "both"], default="both", help="tune on `tuning` alone")
    parser.add_argument("--public", type=Path, action="append", default=[], help="a dialogue file as LoCoMo has them")
    parser.add_argument(
        "--bare", action="store_true", help="a public dialogue's messages without their speakers' names"
    )
    parser.add_argument("--method", choices=["keywords", "embeddings", "both"], default="keywords")
    parser.add_argument("--embeddings", metavar="URL", help="of a server, up to and with /v1")
    parser.add_argument("--model", default="", help="that the server makes vectors with")
    parser.add_argument("--tokens", type=int, default=1500, help="that may be recalled for a question")
    parser.add_argument("--min-score", type=float, default=Recall().min_score)
    parser.add_argument("--write", action="store_true", help="put the last table into RESULTS.md")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--missed", action="store_true", help="tell each question whose evidence was not all found")
    args = parser.parse_args(arguments)
    if args.method != "keywords" and not args.embeddings:
        parser.error(f"--method {args.method} needs --embeddings URL --model NAME")
    embedder = server(args.embeddings, args.model) if args.method != "keywords" else None
    settings = Recall(max_tokens=args.tokens, method=args.method, min_score=args.min_score, model=args.model)
    report: list[Row] = []
    sets: list[tuple[str, list[dialogue.Dialogue]]] = [
        (name, [dialogue.make(dialogue.load(name), seed) for seed in SEEDS[name]])
        for name in SEEDS
        if args.split in (name, "both") and not args.public
    ]
    if args.public:
        sets.append(("public", [each for path in args.public for each in public.read(path, names=not args.bare)]))
    for name, dialogues in sets:
        outcomes = [outcome for each in dialogues for outcome in measure(each, settings, embedder)]
        rows = summary(name, outcomes)
        report += rows
        if not args.json:
            print(f"{name}: {len(dialogues)} dialogues, {sum(len(each.said) for each in dialogues)} messages")
            print("\n".join(table(rows)) + "\n")
            for outcome in outcomes if args.missed else []:
                if len(outcome.found) < len(outcome.question.evidence):
                    print("  missed:", outcome.question.category, "|", outcome.question.text)
    if args.write:
        name = f"recalled by {args.method}"
        RESULTS.write_text(markdown.merge(RESULTS.read_text(), name, section(sets[-1], rows, settings)))
    if args.json:
        json.dump([row._asdict() for row in report], sys.stdout, indent=1)
        print()
    return 0


class Row(NamedTuple):
    split: str
    category: str
    questions: int
    evidence: int
    found: float
    """Share of all evidence messages that stand in the recalled text."""
    whole: float
    """Share of questions with all of their evidence."""
    silent: float
    """Share of questions for which nothing was recalled; right for those of the category `nothing`."""
    tokens: float
    cpu_ms: float


def summary(split: str, outcomes: Sequence[Outcome]) -> list[Row]:
    """A row for each category, then one for all that have evidence."""
    rows = []
    for category in [*dict.fromkeys(outcome.question.category for outcome in outcomes), "all"]:
        mine = [e for e in outcomes if e.question.category == category or (category == "all" and e.question.evidence)]
        total = sum(len(each.question.evidence) for each in mine)
        rows.append(
            Row(
                split,
                category,
                len(mine),
                total,
                sum(len(each.found) for each in mine) / max(total, 1),
                sum(len(each.found) == len(each.question.evidence) for each in mine) / max(len(mine), 1),
                sum(not each.tokens for each in mine) / max(len(mine), 1),
                statistics.fmean(each.tokens for each in mine) if mine else 0.0,
                statistics.median(each.seconds for each in mine) * 1000 if mine else 0.0,
            )
        )
    return rows


def section(asked: tuple[str, Sequence[dialogue.Dialogue]], rows: Sequence[Row], settings: Recall) -> str:
    """Of RESULTS.md."""
    split, dialogues = asked
    model = f", vectors by {settings.model}" if settings.method != "keywords" else ""
    lines = [
        [
            row.category,
            str(row.questions),
            str(row.evidence),
            *[f"{share:.1%}" for share in (row.found, row.whole, row.silent)],
            f"{row.tokens:.0f}",
        ]
        for row in rows
    ]
    head = ["questions", "how many", "evidence", "found", "whole", "nothing recalled", "tokens"]
    messages = sum(len(each.said) for each in dialogues)
    text = f"""\
{len(dialogues)} made-up dialogues ({split}) of {messages:,} messages over months, nothing tuned on them; at most
{settings.max_tokens:,} tokens{model}. *Found*: of the messages that hold the answers; *whole*: questions with all of
theirs. To questions of `nothing` nobody said the answer."""
    return "\n\n".join([f"## Evidence recalled by `{settings.method}`", text, markdown.table(head, lines)])


def table(rows: Sequence[Row]) -> list[str]:
    head = (
        f"{'':12} {'questions':>9} {'evidence':>9} {'found':>7} {'whole':>7} {'silent':>7} {'tokens':>7} {'CPU ms':>7}"
    )
    return [
        head,
        *[
            f"{row.category:12} {row.questions:9} {row.evidence:9} {row.found:7.1%} {row.whole:7.1%} {row.silent:7.1%} "
            f"{row.tokens:7.0f} {row.cpu_ms:7.2f}"
            for row in rows
        ],
    ]


def server(url: str, model: str) -> Embedder:
    """Vectors from a server that speaks OpenAI's `/v1/embeddings`, 64 texts at a time."""
    import numpy as np

    def embed(texts: Sequence[str]) -> list[bytes]:
        vectors: list[bytes] = []
        for at in range(0, len(texts), 64):
            body = json.dumps({"model": model, "input": list(texts[at : at + 64])}).encode()
            headers = {
                "content-type": "application/json",
                "authorization": f"Bearer {os.environ.get('OPENAI_API_KEY')}",
            }
            request = urllib.request.Request(f"{url.rstrip('/')}/embeddings", body, headers)
            with urllib.request.urlopen(request, timeout=300) as reply:
                for each in json.load(reply)["data"]:
                    vector = np.asarray(each["embedding"], "<f4")
                    vectors.append((vector / max(float(np.linalg.norm(vector)), 1e-9)).astype("<f4").tobytes())
        return vectors

    return embed


if __name__ == "__main__":
    sys.exit(main())
