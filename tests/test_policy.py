"""Policy files are read whole or refused with every mistake, and a model finds the most specific policy."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.context.contract import Recall
from proxy.errors import SettingsError, UnknownPolicy
from proxy.policy import Policies, Policy, built_in, files_in, read_files, unsearchable

SHIPPED = Path(__file__).parents[1] / "policies"


def write(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / f"{name.replace('_', '-')}.toml").write_text(text, encoding="utf-8")
    return str(folder)


def mistakes(folder: Path, text: str) -> list[str]:
    """What is wrong with a file, without the file's name."""
    with pytest.raises(SettingsError) as caught:
        Policies.load(write(folder, x=text))
    lines = str(caught.value).splitlines()
    head = f"{folder}/x.toml: "
    assert all(line.startswith(head) and line.endswith(".") for line in lines)
    return [line.removeprefix(head) for line in lines]


def test_without_a_folder_the_built_in_default_holds(tmp_path: Path) -> None:
    for folder in (None, str(tmp_path / "none"), str(tmp_path)):
        policies = Policies.load(folder)
        assert policies.default == built_in() == policies.named("default") == policies.matching("any")
        assert policies.session_headers == {"x-session-id"}
        assert not policies.session_members
    window = built_in().window
    assert window is not None
    assert (window.max_tokens, window.trim_to, built_in().ttl_s) == ("fit", 0.5, 30 * 86400)


def test_every_key_is_optional_and_no_window_keeps_everything(tmp_path: Path) -> None:
    policy = Policies.load(write(tmp_path, a="")).named("a")
    assert policy.window is None
    assert policy == Policy(name="a", ttl_s=30 * 86400, queue_timeout_s=120.0, key=policy.key)


def test_every_key_reaches_its_field(tmp_path: Path) -> None:
    text = """
        description = "d"
        match.models = ["m-*"]
        session = { headers = ["X-A", "x-b"], members = ["metadata.s", "user"], ttl = "never", concurrency = "reject",
            queue_timeout = "1m", on_disconnect = "discard", on_store_failure = "stateless", history = "full" }
        upstream = { alternate = true, one_system = true, developer = "system", context_tokens = 9 }
        window = { max_tokens = 7, trim_to = 1, max_turns = 3 }
        """.replace("ttl", "ignore = [{ member = 'metadata.task', equals = true }, { starts_with = 's' }], ttl")
    policies = Policies.load(write(tmp_path, a=" ".join(text.split("\n            ")).replace("            ", "")))
    policy = policies.named("a")
    session = policy.session
    assert policies.session_headers == {"x-session-id", "x-a", "x-b"}
    assert policies.session_members
    assert (policy.description, policy.match.models, session.members) == ("d", ("m-*",), ("metadata.s", "user"))
    assert (policy.ttl_s, policy.queue_timeout_s, session.concurrency) == (None, 60.0, "reject")
    assert (session.on_disconnect, session.on_store_failure, session.history) == ("discard", "stateless", "full")
    assert [(i.member, i.equals, i.starts_with) for i in session.ignore] == [
        ("metadata.task", True, ""),
        ("", None, "s"),
    ]
    assert policy.upstream.alternate
    assert policy.upstream.one_system
    assert (policy.upstream.developer, policy.upstream.context_tokens) == ("system", 9)
    assert policy.window is not None
    assert (policy.window.max_tokens, policy.window.trim_to, policy.window.max_turns) == (7, 1, 3)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("descripton = ''", "descripton: there is no such key; did you mean description"),
        ("session.tll = '1d'", "session.tll: there is no such key; did you mean ttl"),
        ("window.zzz = 1", "window.zzz: there is no such key; there are max_tokens, max_turns, trim_to"),
        (
            "[[session.ignore]]\n[[session.ignore]]\nstart = ''",
            "session.ignore[2].start: there is no such key; did you",
        ),
        ("window.max_tokens = 'fitt'", "window.max_tokens: 'fitt' is neither"),
        ("window.max_tokens = -1", "window.max_tokens: -1 is neither"),
        ("window.max_tokens = 1.5", "window.max_tokens: expected `int | str`, got `float`"),
        ("window.max_tokens = true", "window.max_tokens: expected `int | str`, got `bool`"),
        ("window.trim_to = 0", "window.trim_to: 0.0 is out of range"),
        ("window.trim_to = 1.1", "window.trim_to: 1.1 is out of range"),
        ("window.trim_to = nan", "window.trim_to: nan is out of range"),
        ("window.max_turns = -1", "window.max_turns: must be"),
        ("window = 1", "window: must be a table, [window]"),
        ("session.ttl = '0s'", "session.ttl: '0s' is out of range"),
        ("session.ttl = 'soon'", "session.ttl: 'soon' is no duration"),
        ("session.ttl = 30", "session.ttl: expected `str`, got `int`"),
        ("session.queue_timeout = 'never'", "session.queue_timeout: 'never' is no duration"),
        ("session.concurrency = 'wait'", "session.concurrency: 'wait' is none of queue, reject, parallel"),
        ("session.headers = ['a b']", "session.headers: 'a b' is no header name"),
        ("session.headers = ['X-A', 'Authorization']", "session.headers: 'Authorization' means something else"),
        ("session.headers = []", "session.headers: is empty"),
        ("session.headers = 'X'", "session.headers: expected `array`, got `str`"),
        ("session.headers = ['a', 1]", "session.headers[1]: expected `str`, got `int`"),
        ("session.members = ['a..b']", "session.members: 'a..b' is no path"),
        ("session.ignore = [{}]", "session.ignore[1]: would match nothing"),
        ("session.ignore = [{ equals = 'x', starts_with = 'y' }]", "session.ignore[1].equals: needs member"),
        ("session.ignore = [{ member = '.x' }]", "session.ignore[1].member: '.x' is no path"),
        ("session.ignore = {}", "session.ignore: must be a list of tables, [[session.ignore]]"),
        ("session.ignore = [1]", "session.ignore[1]: must be a table"),
        ("upstream.developer = 'assistant'", "upstream.developer: 'assistant' is none of"),
        ("upstream.context_tokens = -1", "upstream.context_tokens: must be"),
        ("match.models = ['']", "match.models: an empty glob"),
        ("name = 'y'", "name: there is no such key"),
        ("ttl_s = 1", "ttl_s: there is no such key"),
        ("queue_timeout_s = 1.0", "queue_timeout_s: there is no such key"),
        ("key = 'y'", "key: there is no such key"),
        ("a =", "is not TOML: "),
    ],
)
def test_a_mistake_is_told_with_its_key_path(tmp_path: Path, text: str, line: str) -> None:
    (found,) = mistakes(tmp_path, text)
    assert found.startswith(line)


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    write(
        tmp_path, a="foo = 1\nsession.ttl = 3\nwindow.bar = 1", b="a =", c="window.trim_to = 2\nsession.ttl = 'x'", d=""
    )
    (tmp_path / "e.toml").write_bytes(b"description = '\xff'")
    (tmp_path / "f.toml").mkdir()
    (tmp_path / "g h.toml").touch()
    (tmp_path / "notes.txt").write_text("no policy")
    with pytest.raises(SettingsError) as caught:
        Policies.load(str(tmp_path))
    found = [line.removeprefix(f"{tmp_path}/").split(": ")[:2] for line in str(caught.value).splitlines()]
    assert [file for file, _ in found] == ["a.toml"] * 3 + ["b.toml"] + ["c.toml"] * 2 + [
        "e.toml",
        "f.toml",
        "g h.toml",
    ]
    assert [path for _, path in found[:3]] == ["foo", "session.ttl", "window.bar"]
    assert [path for _, path in found[4:6]] == ["session.ttl", "window.trim_to"]


def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(SettingsError, match="cannot be read"):
        Policies.load(str(tmp_path / "f"))


def test_a_tie_is_a_mistake_and_names_both(tmp_path: Path) -> None:
    for globs in (("gpt-*", "gpt-*"), ("*ab", "ab*"), ("gpt-?", "gpt-*")):
        write(tmp_path, a=f"match.models = ['{globs[0]}']", b=f"match.models = ['{globs[1]}']")
        with pytest.raises(SettingsError, match=r"b\.toml: match\.models: .* tie; make one more specific"):
            Policies.load(str(tmp_path))
    for globs in (("gpt-*", "gpt-4*"), ("abc-*", "xyz-*"), ("*", "a")):
        write(tmp_path, a=f"match.models = ['{globs[0]}']", b=f"match.models = ['{globs[1]}']")
        Policies.load(str(tmp_path))


def test_one_name_in_two_folders_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "q").mkdir()
    files = [tmp_path / "p" / "a.toml", tmp_path / "q" / "a.toml"]
    for file in files:
        file.touch()
    policies, lines = read_files(files)
    assert len(policies) == 1
    assert "a policy of that name" in lines[0]


def test_the_most_specific_glob_wins(tmp_path: Path) -> None:
    policies = Policies.load(
        write(
            tmp_path,
            any="match.models = ['*']",
            gpt="match.models = ['gpt-*', 'o[0-9]*']",
            mini="match.models = ['*-mini*']",
            exact="match.models = ['gpt-4o-mini']",
        )
    )
    for model, name in {
        "gpt-4o": "gpt",
        "gpt-5-mini": "mini",
        "gpt-4o-mini": "exact",
        "o3": "gpt",
        "claude": "any",
        "": "any",
        "GPT-4o": "any",
    }.items():
        for _ in range(2):  # the second time out of memory
            assert policies.matching(model).name == name


def test_a_model_that_nothing_matches_gets_default_toml(tmp_path: Path) -> None:
    policies = Policies.load(write(tmp_path, a="match.models = ['a']", default="description = 'mine'"))
    assert policies.matching("b").description == "mine"
    assert policies.default is policies.named("default")


def test_what_clients_ask_for_does_not_fill_the_memory(tmp_path: Path) -> None:
    policies = Policies.load(write(tmp_path, a="match.models = ['*']"))
    for number in range(5000):
        policies.matching(f"m{number}")
    policies.matching("x" * 100_000)
    assert len(policies._matched) <= 1024
    assert max(map(len, policies._matched)) < 1000


def test_a_hostile_model_name_is_matched_at_once(tmp_path: Path) -> None:
    policies = Policies.load(write(tmp_path, a="match.models = ['*a*a*a*a*a*a*a*b']"))
    start = time.perf_counter()
    policies.matching("a" * 100_000)
    assert time.perf_counter() - start < 2


def test_an_unknown_policy_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    policies = Policies.load(write(tmp_path, b="", a=""))
    with pytest.raises(UnknownPolicy, match=r"a, b, default"):
        policies.named("c")
    assert policies.names == ("default", "a", "b")


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.floats(0.01, 1), st.integers(0, 99), st.sampled_from(["1d", "never", "5m"]))
def test_the_key_says_the_window_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, tokens: int, share: float, turns: int, ttl: str
) -> None:
    folder = tmp_path_factory.mktemp("key")

    def key(name: str, text: str) -> str:
        (folder / f"{name}.toml").write_text(text)
        (policy,), lines = read_files([folder / f"{name}.toml"])
        assert not lines
        assert len(policy.key) == 8
        int(policy.key, 16)
        return policy.key

    window = f"[window]\nmax_tokens = {tokens}\nmax_turns = {turns}\ntrim_to = {share!r}\n"
    same = key("a", window)
    assert key("b", f"description = 'd'\nsession.ttl = '{ttl}'\nupstream.alternate = true\n{window}") == same
    assert key("a", window.replace(f"max_tokens = {tokens}", f"max_tokens = {tokens + 1}")) != same
    assert key("a", window.replace(f"max_turns = {turns}", f"max_turns = {turns + 1}")) != same
    assert key("a", "") != same


def test_the_shipped_policies_are_right_and_tell_what_they_are() -> None:
    policies = Policies.load(str(SHIPPED))
    memories = {"buffer", "window", "summary", "summary-buffer", "recall"}
    assert set(policies.names) == {"default", *memories, "open-webui", "librechat"}
    for name in policies.names:
        assert policies.named(name).description
    assert policies.named("buffer").window is None
    assert policies.named("window").summary is None
    assert policies.named("window").recall is None
    assert policies.named("summary").summary is not None
    assert policies.named("summary-buffer").summary is not None
    assert policies.named("recall").recall is not None
    # default.toml is written out in full and says what holds anyway
    shipped, inside = policies.default, built_in()
    assert (shipped.session, shipped.upstream, shipped.window, shipped.match) == (
        inside.session,
        inside.upstream,
        inside.window,
        inside.match,
    )
    assert policies.matching("gpt-4o") is shipped


def test_each_key_of_a_shipped_file_has_a_comment() -> None:
    for file in SHIPPED.glob("*.toml"):
        last = ""
        for line in file.read_text().splitlines():
            if " = " in line and not line.startswith(("#", "description")):
                assert "#" in line or "#" in last, f"{file.name}: {line}"
            last = line


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[summary]\n", "summary"),
        ("[recall]\n", "recall"),
        ("[window]\nmax_tokens = 0\n[summary]\n", "summary"),
        ("[window]\nmax_tokens = 9\n[summary]\nmax_tokens = 1\n", "summary.max_tokens"),
        ("[window]\nmax_tokens = 9\n[summary]\ntimeout = 'soon'\n", "summary.timeout"),
        ("[window]\nmax_tokens = 9\n[summary]\nrole = 'tool'\n", "summary.role"),
        ("[window]\nmax_tokens = 9\n[recall]\nmax_tokens = 1\n", "recall.max_tokens"),
        ("[window]\nmax_tokens = 9\n[recall]\ntop_k = 0\n", "recall.top_k"),
        ("[window]\nmax_tokens = 9\n[recall]\nmin_score = 1.5\n", "recall.min_score"),
        ("[window]\nmax_tokens = 9\n[recall]\nmethod = 'both'\n", "recall.model"),
        ("[window]\nmax_tokens = 9\n[recall]\ntimeout_ms = 0\n", "recall.timeout_ms"),
        ("[window]\nmax_tokens = 9\n[recall]\nmethod = 'magic'\n", "recall.method"),
    ],
)
def test_what_makes_no_sense_in_summary_and_recall_is_told_with_its_key(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    _, lines = read_files(files_in(str(tmp_path)))
    assert [line.split(": ")[1] for line in lines] == [where]


@pytest.mark.parametrize(
    ("method", "searches", "lacking"),
    [
        ("keywords", {"keywords"}, ""),
        ("keywords", set(), "keywords"),
        ("embeddings", {"keywords"}, "embeddings"),
        ("both", {"keywords"}, "embeddings"),
        ("both", set(), "embeddings and keywords"),
        ("both", {"keywords", "embeddings"}, ""),
    ],
)
def test_a_store_that_cannot_search_refuses_policies_that_recall(method: str, searches: set[str], lacking: str) -> None:
    recalling = Policy(name="a", recall=Recall(method=method, model="m"))  # type: ignore[arg-type]
    lines = unsearchable([Policy(name="b"), recalling], frozenset(searches))
    assert [f"by {lacking};" in line and line.startswith("a: recall.method") for line in lines] == [True] * bool(
        lacking
    )
