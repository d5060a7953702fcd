"""The command line: which commands and flags there are. Each command's file is imported when it runs."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from proxy.errors import ProxyError, SettingsError

WRONG_SETTING = 2
"""The exit status of a wrong setting, an unreadable policy, a port in use; argparse's own for a wrong flag."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Whatever goes wrong is told on stderr in lines `remora: …`."""
    args = _parser().parse_args(argv)

    def command() -> int:
        status: int = import_module(args.file).run(args)
        sys.stdout.flush()
        return status

    return reported(command)


def reported(command: Callable[[], int]) -> int:
    """What `command` returns, or the exit status of its failure, which is told."""
    try:
        return command()
    except SettingsError as error:
        return _fail(str(error), WRONG_SETTING)
    except (ProxyError, CommandError) as error:
        return _fail(str(error), 1)
    except BrokenPipeError:
        # the reader of our output has seen enough; Python would complain when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except KeyboardInterrupt:
        return 128 + 2


class CommandError(Exception):
    """A command cannot do what was asked. The message is one line that says what to do."""


def _fail(message: str, status: int) -> int:
    for line in message.splitlines():
        print(f"remora: {line}", file=sys.stderr)
    return status


class _Version(argparse.Action):
    """Looked up only when it is asked for: package metadata is slow to read."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"remora {version('remora')}")
        except PackageNotFoundError:
            print("remora, not installed")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="remora",
        description="A sidecar that gives stateless LLM APIs a memory.",
        epilog="Each flag has a variable: --upstream is REMORA_UPSTREAM. A flag beats its variable.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = _command(commands, "serve", "proxy.cli.serve", "serve clients")
    _settings(serve)

    check = _command(commands, "check", "proxy.cli.check", "check settings and policies; tells every mistake")
    check.add_argument(
        "files", metavar="FILE", nargs="*", help="policy files or folders, in place of those of --policies"
    )
    _settings(check)

    echo = _command(commands, "echo", "proxy.cli.echo", "serve the stand-in model on its own")
    echo.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8081", help="default: %(default)s")

    sessions = _command(commands, "sessions", "proxy.cli.sessions", "look after what is stored")
    actions = sessions.add_subparsers(title="actions", metavar="ACTION", required=True)
    _action(actions, "list", "one line a session")
    show = _action(actions, "show", "the turns of a session, readable")
    show.add_argument("session", metavar="SESSION")
    show.add_argument(
        "--turn", metavar="N", type=int, help="one turn only: what the model was shown of the history, and why"
    )
    _action(actions, "export", "one JSON line a message, oldest first, of one session or all").add_argument(
        "session", metavar="SESSION", nargs="?"
    )
    _action(actions, "import", "take exported lines back; what is there already is skipped").add_argument(
        "input", metavar="FILE", nargs="?", default="-", help="default: standard input"
    )
    fork = _action(actions, "fork", "copy a session under another name")
    fork.add_argument("session", metavar="SESSION")
    fork.add_argument("new", metavar="NEW", help="the name of the copy")
    fork.add_argument("--turn", metavar="N", type=int, help="only what led to the end of turn N")
    erase = _action(actions, "erase", "remove a session for good")
    erase.add_argument("session", metavar="SESSION")
    erase.add_argument("--yes", action="store_true", help="accepted; nothing is asked anyway")

    _simulate(_command(commands, "simulate", "proxy.cli.simulate", "replay transcripts: what each policy would cost"))
    return parser


if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it


def _command(commands: "_Commands", name: str, file: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=_sentence(text), allow_abbrev=False)
    parser.set_defaults(file=file)
    return parser


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _action(actions: "_Commands", name: str, text: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=_sentence(text), allow_abbrev=False)
    parser.set_defaults(action=name)
    parser.add_argument("--store", metavar="URL", help="default: sqlite:///remora.db")
    parser.add_argument(
        "--tenant",
        metavar="NAME",
        help="import: the tenant to put everything under" if name == "import" else "of this tenant only",
    )
    return parser


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--upstream", metavar="URL", help="the API to give a memory to, or echo:")
    parser.add_argument("--listen", metavar="HOST:PORT", help="for clients; default: 127.0.0.1:8080")
    parser.add_argument("--admin", metavar="HOST:PORT", help="for administration; default: 127.0.0.1:9901")
    parser.add_argument("--store", metavar="URL", help="where sessions are kept; default: sqlite:///remora.db")
    parser.add_argument("--policies", metavar="DIR", help="folder of policy files; default: policies, if there is one")
    parser.add_argument("--workers", metavar="N", help="processes that share the listener; default: 1")


def _simulate(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Replays transcripts through every policy, with no model, and prints what each would send and cost, beside "
        "re-sending everything and a plain sliding window. A transcript is an export of sessions, or a chat message in "
        "JSON on each line, a conversation a file. A summary is taken to be as long as its policy allows; embeddings "
        "are not made, keywords stand in for them."
    )
    add = parser.add_argument
    add("transcripts", metavar="TRANSCRIPT", nargs="+", help="file of JSON lines")
    add("--policies", metavar="DIR", help="folder of policy files; default: policies, if there is one")
    add("--json", action="store_true", help="print a list of objects in place of the table")
    add("--chart", metavar="FILE.svg", help="draw the input tokens of each turn")
    add("--price", metavar="PRICES", default="1,0.1,4", help="a token's: input,cached,output; default: %(default)s")
    add("--window", metavar="TOKENS", help="of the plain sliding window; default: the default policy's, else 16000")
    add("--model", metavar="NAME", default="gpt-4o", help="where a transcript names none; default: %(default)s")
    add("--cache-minimum", metavar="TOKENS", default="1024", help="shortest cached prefix; default: %(default)s")
    add("--cache-step", metavar="TOKENS", default="128", help="a cached prefix is a multiple; default: %(default)s")
    add("--cache-lifetime", metavar="TIME", default="5m", help="of an unused prefix; default: %(default)s")
    add("--pace", metavar="TIME", default="1m", help="between turns, where no times are told; default: %(default)s")


_FLAGS = ("upstream", "listen", "admin", "store", "policies", "workers")


def flags(args: argparse.Namespace) -> dict[str, str | None]:
    """The flags of `_settings`, by name."""
    return {f"--{name}": getattr(args, name) for name in _FLAGS}
