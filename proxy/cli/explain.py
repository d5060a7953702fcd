"""One turn explained: what the model was shown of the history, what not, and why; then the summary that it saw."""

from typing import TextIO

import msgspec

from proxy.cli.lines import stamp
from proxy.cli.show import clean
from proxy.context.contract import Excerpt, Plan
from proxy.stores.contract import Record, RefInfo, Store

_plan = msgspec.json.Decoder(Plan).decode


async def explain(store: Store, info: RefInfo, turn: int, out: TextIO) -> bool:
    """Every exchange of the turn, in the order in which they were recorded: those of a tool loop, of other branches,
    failed ones. False if there is none. `turn` is the number in `X-Session-Turn`."""
    summaries = {summary.id: summary for summary in await store.summaries(info.ref)}
    found = False
    async for record in store.records(info.ref):
        if max(record.entry.turn, 1) != turn:
            continue
        if found:
            print(file=out)
        found = True
        if not record.plan:
            print(f"turn {turn}  entry {record.entry.id}\nno plan was recorded (the session was imported)", file=out)
            continue
        plan = _plan(record.plan)
        for name, text in _lines(record, plan):
            print(f"{name:<11}{text}", file=out)
        if summary := summaries.get(plan.summary):
            made = f"made by {clean(summary.model) or 'no model'} at {stamp(summary.at_ms)}"
            print(f"\nsummary {summary.generation}, {made}, of the first {summary.upto} messages:", file=out)
            for line in clean(summary.text).splitlines():
                print(f"  {line}", file=out)
    return found


def _lines(record: Record, plan: Plan) -> list[tuple[str, str]]:
    entry, facts = record.entry, record.entry.facts
    how = (
        f"policy {plan.policy}, {clean(facts.model) or 'no model'}, {facts.state}{', a branch' if plan.branch else ''}"
    )
    lines = [(f"turn {max(entry.turn, 1)}", f"entry {entry.id}, {stamp(facts.at_ms)}, {how}")]
    sent = f"about {facts.estimated} tokens" + (f"; the upstream counted {facts.reported}" if facts.reported else "")
    lines.append(("sent", sent))
    limit = "" if plan.limit is None else f" of at most {plan.limit}"
    lines.append(("kept", f"{plan.kept} messages, {plan.tokens} tokens{limit}; {plan.why}"))
    shown = min(plan.summarised, plan.dropped)
    lines.append(("dropped", f"{plan.dropped} messages, {plan.dropped - shown} of them in no summary"))
    told = f"{plan.summarised} messages, by summary {plan.generation} of {plan.summary_tokens} tokens"
    lines.append(("summarised", told if plan.summary else "0 messages"))
    excerpts = ", ".join(map(_excerpt, plan.recalled))
    recalled = f"{len(plan.recalled)} excerpts, {plan.recalled_tokens} tokens: {excerpts}"
    lines.append(("recalled", recalled if plan.recalled else "0 excerpts"))
    if plan.overflow:
        lines.append(("sent twice", f"the upstream refused the first: {plan.overflow}"))
    if plan.repaired:
        lines.append(("repaired", "calls without results were answered by a stand-in, or results moved to their calls"))
    return lines


def _excerpt(each: Excerpt) -> str:
    return f"turn {each.turn} (score {each.score:.2f}, {each.tokens} tokens)"
