"""The house keeps its order: who imports whom, each module stands alone, each file has its test, the docs are whole."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest

from proxy import errors
from proxy.policy import DERIVED, Policy
from proxy.settings import VARIABLES

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "proxy").rglob("*.py"))
README = ROOT / "README.md"

GROUND = {"errors", "units", "globs", "tables"}
"""Files that stand on the ground: they import nothing of the house, and everything may import them."""

ANYTHING = {"app", "cli", "supervisor", "worker", "__main__"}
"""The joiners."""

CONTRACTS = "contract"
"""Stands for the `contract.py` of every folder."""

MAY_IMPORT: dict[str, set[str]] = {
    "settings": set(),
    "conversation": set(),
    "framing": set(),
    "tokens": {"conversation"},
    "context": {"conversation"},
    "policy": {"context", "conversation.quirks"},
    "dialects": {"conversation", "framing"},
    "stores": {"conversation"},
    "upstream": {"framing"},
    "exchange": {"conversation", "framing", "context", "tokens", "policy", CONTRACTS},
    "resources": {"conversation", "framing", "context", "tokens", "policy", "exchange", CONTRACTS},
    "observe": {"exchange.record"},
    # which headers travel and how bodies are unpacked are pure rules that both sides of the house obey
    "server": {"exchange", "resources", "observe", "framing", "upstream.headers", CONTRACTS},
    "echo": {"conversation", "tokens"},
}
"""The house's table: what of the house each folder or file may import beside itself and the ground."""

NEVER: dict[str, set[str]] = {
    "conversation": {"asyncio", "aiohttp"},
    "framing": {"asyncio", "aiohttp"},
    "tokens": {"asyncio", "aiohttp"},
    "context": {"asyncio", "aiohttp"},
    "policy": {"asyncio", "aiohttp"},
    "dialects": {"asyncio", "aiohttp"},
    "stores": {"aiohttp"},
    "upstream": {"aiohttp.web"},
    "exchange": {"aiohttp"},
    "resources": {"aiohttp"},
    "observe": {"aiohttp"},
}
"""What of the world outside a folder never imports."""

ALONE = {"dialects", "stores"}
"""Folders whose files (or inner folders) are variants: each imports its contract, and none another."""

SHARED = {"contract", "picking", "reading", "retention", "rows", "waiting"}
"""What such folders hold beside the variants."""


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str:
    """`proxy.stores.sqlite` -> `stores`; of the package itself, ""."""
    return [*name.split("."), ""][1]


@cache
def imports(path: Path) -> tuple[tuple[int, str], ...]:
    """(line, full name) of everything a file imports, wherever it does so."""
    found: list[tuple[int, str]] = []
    package = module(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (
                [*package[: len(package) + 1 - node.level], *filter(None, [node.module])]
                if node.level
                else [node.module]
            )
            found += [(node.lineno, ".".join([*map(str, base), alias.name])) for alias in node.names]
    return tuple(found)


def breaches(path: Path) -> Iterator[str]:
    name = module(path)
    here = room(name)
    for line, target in imports(path):
        if target == "proxy" or target.startswith("proxy."):
            if not may(here, name, target):
                yield f"{path.relative_to(ROOT)}:{line} imports {target}"
        elif any(target == never or target.startswith(never + ".") for never in NEVER.get(here, ())):
            yield f"{path.relative_to(ROOT)}:{line} imports {target}"


def may(here: str, name: str, target: str) -> bool:
    there = room(target)
    if here in ANYTHING or (there in GROUND and here):
        return True
    if here == there and here:
        if here not in ALONE or name == f"proxy.{here}":
            return True
        mine, other = name.split(".")[2], target.split(".")[2]
        return mine == other or mine in SHARED or other in SHARED
    allowed = MAY_IMPORT.get(here, set())
    if CONTRACTS in allowed and re.fullmatch(rf"proxy\.\w+\.{CONTRACTS}(\.\w+)?", target):
        return True
    return any(target == f"proxy.{each}" or target.startswith(f"proxy.{each}.") for each in allowed)


def test_every_folder_is_in_the_table() -> None:
    rooms = {room(module(path)) for path in SOURCES} - {""}
    assert rooms <= {*MAY_IMPORT, *GROUND, *ANYTHING}


def test_nobody_imports_whom_the_table_does_not_name() -> None:
    assert not [breach for path in SOURCES for breach in breaches(path)]


@pytest.mark.parametrize(
    ("importer", "target", "right"),
    [
        ("proxy.context.window", "proxy.conversation.entry.Entry", True),
        ("proxy.context.window", "proxy.tokens.counter", False),
        ("proxy.conversation.turn", "proxy.errors.ProxyError", True),
        ("proxy.errors", "proxy.conversation", False),
        ("proxy.exchange.run", "proxy.stores.contract.Store", True),
        ("proxy.exchange.run", "proxy.stores.sqlite", False),
        ("proxy.exchange.run", "proxy.stores", False),
        ("proxy.dialects.chat.read", "proxy.dialects.chat.write", True),
        ("proxy.dialects.chat.read", "proxy.dialects.contract.Call", True),
        ("proxy.dialects.chat.read", "proxy.dialects.gemini", False),
        ("proxy.dialects", "proxy.dialects.gemini.GEMINI", True),
        ("proxy.observe.log", "proxy.exchange.record.ExchangeRecord", True),
        ("proxy.observe.log", "proxy.exchange.run", False),
        ("proxy.server.handler", "proxy.dialects.chat", False),
        ("proxy.app", "proxy.dialects.chat", True),
        ("proxy.policy", "proxy.conversation.entry", False),
    ],
)
def test_the_rules_see_what_they_should(importer: str, target: str, right: bool) -> None:
    assert may(room(importer), importer, target) is right


def test_only_two_places_speak_http() -> None:
    web = {
        room(module(p)) for p in SOURCES for _, t in imports(p) if t == "aiohttp.web" or t.startswith("aiohttp.web.")
    }
    http = {room(module(p)) for p in SOURCES for _, t in imports(p) if t == "aiohttp" or t.startswith("aiohttp.")}
    assert web <= {"server", "echo", "app"}
    assert http <= {"server", "echo", "app", "upstream"}


_IMPORT_EACH = """
import importlib, os, sys, traceback
outside, modules = (text.split() for text in sys.argv[1:])
for name in outside:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:  # a name inside a module
        importlib.import_module(name.rpartition(".")[0])
failed = []
for name in modules:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
sys.exit(", ".join(failed) or 0)
"""


def test_every_module_can_be_imported_first() -> None:
    """Each in a process that has imported nothing of the house yet, where a circle or a missing import shows."""
    modules = [module(path) for path in SOURCES if path.name != "__main__.py"]
    # what is not of the house is imported once for all, which saves most of the time
    outside = sorted({name for path in SOURCES for _, name in imports(path) if not name.startswith("proxy")})
    command = [sys.executable, "-W", "error", "-c", _IMPORT_EACH, " ".join(outside), " ".join(modules)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


TESTED_ELSEWHERE: dict[str, str] = {
    "proxy/__main__.py": "tests/cli/test_main.py",
    # one end of the supervisor's link to it
    "proxy/worker.py": "tests/test_supervisor.py",
    "proxy/cli/__init__.py": "tests/cli/test_main.py",
    "proxy/cli/echo.py": "tests/cli/test_serve.py",
    "proxy/cli/lines.py": "tests/cli/test_export.py",
    "proxy/cli/loop.py": "tests/cli/test_serve.py",
    "proxy/conversation/quirks.py": "tests/test_policy.py",
    # the frame of both readers
    "proxy/dialects/reading.py": "tests/dialects/chat/test_reader.py",
    # a handful of references: what is made of them is what the tests of the exchange work with
    "proxy/exchange/house.py": "tests/exchange/making.py",
    # what is done after and before a call shows in what the model is sent
    "proxy/exchange/aside.py": "tests/e2e/test_summary.py",
    "proxy/exchange/embeddings.py": "tests/e2e/test_recall.py",
    "proxy/exchange/index.py": "tests/e2e/test_recall.py",
    "proxy/exchange/recollect.py": "tests/e2e/test_recall.py",
    "proxy/exchange/reflect.py": "tests/e2e/test_summary.py",
    "proxy/exchange/lookup.py": "tests/exchange/test_assemble.py",
    # two values
    "proxy/conversation/summary.py": "tests/context/test_summary.py",
    "proxy/conversation/words.py": "tests/context/test_words.py",
    # its laws are those of whole exchanges: tools, disconnects, retries and errors are beside it
    "proxy/exchange/converse.py": "tests/e2e/test_disconnect.py",
    # a value without behaviour: the log line that is drawn from it shows each field
    "proxy/exchange/record.py": "tests/observe/test_log.py",
    # time that a client is given: only a real connection that takes nothing shows it
    "proxy/server/patience.py": "tests/server/test_client.py",
    # two tables: requests to each listener show that every path has its handler, and no other
    "proxy/server/routes.py": "tests/e2e/test_errors.py",
    "proxy/stores/sqlite/listing.py": "tests/stores/sqlite/test_read.py",
    # the laws of every store say all that there is to say
    "proxy/stores/sqlite/notes.py": "tests/stores/laws/noting.py",
    "proxy/stores/postgres/sql_read.py": "tests/stores/postgres/test_store.py",
    "proxy/stores/postgres/sql_search.py": "tests/stores/postgres/test_store.py",
    "proxy/stores/picking.py": "tests/stores/laws/keeping.py",
    "proxy/stores/postgres/sql_redact.py": "tests/stores/laws/redacting.py",
    "proxy/stores/postgres/sql_lines.py": "tests/stores/postgres/test_lining.py",
    "proxy/stores/redis/lines.py": "tests/stores/redis/test_lining.py",
    "proxy/stores/rows.py": "tests/stores/laws/keeping.py",
    "proxy/resources/alone.py": "tests/e2e/test_responses_hard_cases.py",
    "proxy/resources/live.py": "tests/resources/test_runs.py",
    "proxy/stores/postgres/sql_runs.py": "tests/stores/laws/running.py",
    "proxy/stores/redis/calls.py": "tests/stores/redis/test_store.py",
    "proxy/stores/redis/pruning.py": "tests/stores/laws/pruning.py",
    "proxy/stores/redis/running.py": "tests/stores/laws/running.py",
    "proxy/stores/postgres/sql_tables.py": "tests/stores/postgres/test_store.py",
    "proxy/stores/postgres/sql_write.py": "tests/stores/postgres/test_store.py",
    # the API as its own SDK sees it
    "proxy/dialects/responses/api.py": "tests/e2e/test_responses.py",
    "proxy/resources/responses.py": "tests/e2e/test_responses.py",
    "proxy/resources/places.py": "tests/e2e/test_response_trees.py",
    "proxy/resources/speaker.py": "tests/e2e/test_background.py",
    "proxy/resources/repeats.py": "tests/e2e/test_background.py",
    "proxy/resources/conversations.py": "tests/e2e/test_conversations.py",
    "proxy/resources/asides.py": "tests/e2e/test_conversations.py",
    "proxy/server/stored.py": "tests/e2e/test_conversations.py",
    "proxy/tables.py": "tests/test_policy.py",
    # how aiohttp is kept from adding and from using dead connections shows in what the client sends
    "proxy/upstream/connection.py": "tests/upstream/test_client.py",
    # messages are relayed between two real sockets there, closes, breaks and refusals included
    "proxy/upstream/websocket.py": "tests/server/test_passthrough_websocket.py",
}
"""Files whose test is not at the mirrored place, and why where the name does not say it."""


def test_every_file_has_its_test() -> None:
    missing = []
    for path in SOURCES:
        source = path.relative_to(ROOT)
        if path.name in {"__init__.py", "contract.py"} and str(source) not in TESTED_ELSEWHERE:
            continue  # lists and promises; a folder's tests/…/contract.py proves the latter
        mirror = Path("tests", *source.parts[1:-1], f"test_{source.name}")
        places = [Path(TESTED_ELSEWHERE.get(str(source), mirror))]
        if len(source.parts) > 3:
            # a folder where one file would not do is tested as the one file that it stands for
            places.append(mirror.parent.with_name(f"test_{source.parts[-2]}.py"))
        if not any((ROOT / place).is_file() for place in places):
            missing.append(f"{source}: no {' or '.join(map(str, places))}")
    assert missing == []


def test_the_exceptions_are_still_needed() -> None:
    assert [source for source in TESTED_ELSEWHERE if not (ROOT / source).is_file()] == []


def test_every_file_says_its_one_job_first() -> None:
    silent = []
    for path in [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        if text.strip() and not re.match(r'r?"""\S', text):
            silent.append(str(path.relative_to(ROOT)))
    assert silent == []


def test_files_stay_small_enough_to_read_in_one_go() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: size for name, size in sizes.items() if size > 400} == {}


def keys(kind: type[msgspec.Struct], path: str = "") -> Iterator[str]:
    """Every key of a policy file: `session.ttl`, `session.ignore.member`."""
    for field in msgspec.structs.fields(kind):
        if not path and field.name in DERIVED:
            continue
        here = f"{path}{field.name}"
        inner = [t for t in (field.type, *getattr(field.type, "__args__", ())) if isinstance(t, type)]
        struct = next((t for t in inner if issubclass(t, msgspec.Struct)), None)
        if struct is None:
            yield here
        else:
            yield from keys(struct, here + ".")


def test_the_keys_of_a_policy_are_found() -> None:
    found = set(keys(Policy))
    assert {"description", "session.ttl", "session.ignore.member", "window.trim_to", "upstream.alternate"} <= found
    assert not found & {"name", "key", "window", "session"}


def test_every_policy_key_is_documented() -> None:
    text = README.read_text(encoding="utf-8")
    missing = [key for key in keys(Policy) if not documented(key, text)]
    assert missing == []


def documented(key: str, text: str) -> bool:
    """As `session.ttl` in prose or a table, or as a line `ttl = …` of an example."""
    return bool(re.search(rf"\b{re.escape(key)}\b|^\s*{re.escape(key.rpartition('.')[2])} = ", text, re.MULTILINE))


def test_every_variable_is_documented_and_every_documented_one_exists() -> None:
    named = set(re.findall(r"\bREMORA_[A-Z_]+[A-Z]\b", README.read_text(encoding="utf-8")))
    assert named == set(VARIABLES)


def test_every_error_code_is_documented() -> None:
    text = README.read_text(encoding="utf-8")

    def codes(kind: type[errors.ProxyError]) -> Iterator[str]:
        children = kind.__subclasses__()
        if not children or "code" in vars(kind):
            yield kind.code
        for child in children:
            yield from codes(child)

    bare = {"internal_error", "bad_request"}
    assert [code for code in set(codes(errors.ProxyError)) - bare if f"`{code}`" not in text] == []
