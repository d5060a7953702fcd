"""The vocabularies: the published ones, never fetched, and the right one for each model."""

import lzma
import subprocess
import sys
from hashlib import sha256

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.tokens import vocabulary
from tests.tokens import reference

MODELS = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}

AWKWARD = st.text(
    st.one_of(
        st.sampled_from(" \t\n\r\x0b\x85\xa0\u2003\u2028\u3000'’/.,;-_!<|>"),
        st.sampled_from("aAzZéÉßǅʰ中あ한ा\u0301\u200d😀०1²Ⅷ"),
        st.sampled_from("sStTmMdDlLrRvVeE'"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
)


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("o200k_base", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
        ("cl100k_base", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
    ],
)
def test_the_files_are_the_published_ones_byte_for_byte(name: str, digest: str) -> None:
    assert sha256(lzma.decompress(reference.PACKED[name].read_bytes())).hexdigest() == digest


EDGES = st.lists(
    st.sampled_from(["\n", "\r\n", " ", "  ", "\t", "/", "//", " ();", " )", "'s", "'LL", "a", "B", "中", "12", "345"]),
    max_size=12,
).map("".join)


@pytest.mark.parametrize("name", reference.NAMES)
@settings(max_examples=600, deadline=None)
@given(text=AWKWARD | EDGES)
@example(" ();\n//")
@example("a\n  ")
def test_text_is_encoded_as_tiktoken_itself_encodes_it(name: str, text: str) -> None:
    """The patterns are written in another way than tiktoken's, and have to match the same."""
    assert vocabulary.encoding(MODELS[name]).encode_ordinary(text) == reference.encoding(name).encode_ordinary(text)


@pytest.mark.parametrize("name", reference.NAMES)
def test_special_tokens_are_tiktokens(name: str) -> None:
    ours, theirs = vocabulary.encoding(MODELS[name]), reference.encoding(name)
    assert ours.special_tokens_set == theirs.special_tokens_set
    assert ours.n_vocab == theirs.n_vocab


def test_nothing_is_fetched_and_no_socket_is_made() -> None:
    program = """
import socket, sys
def forbidden(*_args, **_kwargs):
    raise AssertionError("a socket was made")
socket.socket = socket.create_connection = socket.getaddrinfo = forbidden
from proxy.tokens import counter, vocabulary
vocabulary.preload()
print(counter.count_text("tiktoken is great!", "gpt-4"), counter.count_text("tiktoken is great!", "gpt-4o"))
assert not any(name.split(".")[0] in ("requests", "aiohttp", "urllib3") for name in sys.modules), "an HTTP client"
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout, run.stderr) == ("6 6\n", "")


def test_threads_that_ask_at_once_get_one_and_the_same_vocabulary() -> None:
    """In a process of its own, where nothing is loaded yet."""
    program = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from proxy.tokens import vocabulary
together = Barrier(4)
def ask(_):
    together.wait()
    return id(vocabulary.encoding("gpt-4"))
with ThreadPoolExecutor(4) as pool:
    print(len(set(pool.map(ask, range(4)))))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout, run.stderr) == ("1\n", "")


def test_preload_makes_both_ready() -> None:
    vocabulary.preload()
    assert vocabulary.encoding("gpt-4").name == "cl100k_base"
    assert vocabulary.encoding("gpt-4o").name == "o200k_base"


@pytest.mark.parametrize(
    ("model", "name", "known"),
    [
        ("gpt-4o", "o200k_base", True),
        ("gpt-4o-mini-2024-07-18", "o200k_base", True),
        ("gpt-4.1-nano", "o200k_base", True),
        ("gpt-5.1", "o200k_base", True),
        ("o3-mini", "o200k_base", True),
        ("GPT-4o", "o200k_base", True),
        ("openai/gpt-4o", "o200k_base", True),
        ("openrouter/openai/gpt-4", "cl100k_base", True),
        ("gpt-oss-20b", "o200k_base", True),
        ("gpt-4", "cl100k_base", True),
        ("gpt-4-turbo-2024-04-09", "cl100k_base", True),
        ("gpt-3.5-turbo", "cl100k_base", True),
        ("gpt-35-turbo", "cl100k_base", True),
        ("ft:gpt-4o-mini-2024-07-18:org::abc", "o200k_base", True),
        ("ft:gpt-4.1-mini-2025-04-14:org::abc", "o200k_base", True),
        ("ft:gpt-3.5-turbo-0125:org:name:abc", "cl100k_base", True),
        ("someone/gpt-4-distilled", "o200k_base", False),
        ("llama3.1:8b", "o200k_base", False),
        ("our-azure-deployment", "o200k_base", False),
        ("text-davinci-003", "o200k_base", False),
        ("gpt2", "o200k_base", False),
        ("", "o200k_base", False),
        ("gpt-4-" + "x" * 1_000_000, "o200k_base", False),
    ],
)
def test_each_model_has_its_vocabulary(model: str, name: str, known: bool) -> None:
    assert vocabulary.encoding_name(model) == name
    assert vocabulary.encoding(model).name == name
    assert vocabulary.known(model) is known
