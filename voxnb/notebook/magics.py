"""``%%vox``: one turn of a conversation, written as a cell.

Rule 1: the magic only reads options and fills in ``{{name}}``; what it does is `ask` of a client and `show` of a turn.
Rule 2: the text is the user's: a brace that is not part of ``{{name}}`` stays, and what is filled in is not looked at again.
"""

from __future__ import annotations

import argparse
import keyword
import re
import shlex
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.error import UsageError

from voxnb.clients.chat import chat
from voxnb.clients.text import TextClient
from voxnb.errors import VoxnbError
from voxnb.params import did_you_mean

MAGIC: Final = "vox"
USUAL_NAME: Final = "chat"
"""The variable that is looked at where no client is named."""

_MATCHER: Final = "voxnb.vox"
_PLACEHOLDER: Final = re.compile(r"\{\{([^\W\d]\w*)\}\}")
_MAKES: Final = ("model", "base_url", "conversation", "instructions")
"""Options that make a client."""

_ASKS: Final = ("max_tokens", "temperature")
"""Options that go with the request."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"unrecognized arguments: (--\S+)", message)
        known = [option for action in self._actions for option in action.option_strings]
        raise UsageError(f"%%vox: {message}{did_you_mean(wrong[1], known) if wrong else ''}; see %%vox?")


def _parser() -> _Parser:
    p = _Parser(prog="%%vox", add_help=False, allow_abbrev=False, usage="%%%%vox [CLIENT] [options]")
    p.add_argument("client", nargs="?", metavar="CLIENT", help=f"variable that holds a client (default: {USUAL_NAME})")
    p.add_argument("--model", metavar="NAME", help="make a client with this model")
    p.add_argument("--base-url", metavar="URL", help='another server, "local" or "ollama"')
    p.add_argument("--conversation", metavar="NAME", help="name of its conversation, resumed if it exists")
    p.add_argument("--instructions", metavar="TEXT", help="its instructions, in quotes")
    p.add_argument("--attach", action="append", default=[], metavar="NAME", help="variable or path; may be repeated")
    p.add_argument("--as", dest="reply", metavar="NAME", help="put the Reply into this variable")
    p.add_argument("--max-tokens", type=int, metavar="N", help="longest reply")
    p.add_argument("--temperature", type=float, metavar="T", help="of the sampling")
    p.add_argument("--raw", action="store_true", help="fill in nothing: {{name}} stays as well")
    return p


def fill(text: str, names: Mapping[str, Any]) -> str:
    """The text with each ``{{name}}`` replaced by a variable, in one pass; every other brace stays.

    Args:
        text: what the cell says.
        names: the variables.

    Raises:
        UsageError: there is no such variable, or it is a table.

    >>> fill('{"a": {{n}}} { {x} {{ n }} {{{n}}}', {"n": 7})
    '{"a": 7} { {x} {{ n }} {7}'
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in names:
            close = did_you_mean(name, [n for n in names if not n.startswith("_")])
            raise UsageError(
                f"%%vox: there is no variable {name!r} for {match[0]}{close}; --raw leaves braces as they are"
            )
        found = names[name]
        if hasattr(found, "to_csv") and hasattr(found, "columns"):
            raise UsageError(
                f"%%vox: {name!r} is a table; say --attach {name}, which sends it as CSV, cut to what fits"
            )
        return str(found)

    return _PLACEHOLDER.sub(value, text)


class Vox:
    """The magic of one shell.

    Args:
        shell: IPython's.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._made: dict[tuple[Any, ...], TextClient] = {}
        self._last: TextClient | None = None

    def cell(self, line: str, cell: str) -> None:
        """Run a cell; the reply streams below it, as for ``chat.ask(…)`` on a last line."""
        options = self._options(line)
        if not cell.strip():
            raise UsageError("%%vox: the cell says nothing; write the message below the first line")
        names = self._shell.user_ns
        text = cell.removesuffix("\n")
        text = text if options.raw else fill(text, names)
        attach = [names.get(name, name) for name in options.attach]
        asked = {name: value for name in _ASKS if (value := getattr(options, name)) is not None}
        try:
            client = self._client(options)
            if "max_tokens" in asked and client.DIALECT.api == "responses":
                asked["max_output_tokens"] = asked.pop("max_tokens")
            turn = client.ask(text, attach=attach, **asked)  # type: ignore[attr-defined]  # every client that speaks has it
            turn.show(wait=True)
        except VoxnbError as error:
            _shorten(error)
            raise
        self._last = client
        if options.reply:
            names[options.reply] = turn.result()

    def _options(self, line: str) -> argparse.Namespace:
        try:
            options = _parser().parse_args(shlex.split(line))
        except ValueError as error:
            raise UsageError(f"%%vox: {error} in {line.strip()!r}") from None
        if options.reply and (not options.reply.isidentifier() or keyword.iskeyword(options.reply)):
            raise UsageError(f"%%vox: --as {options.reply!r} is no name of a variable")
        return options

    def _client(self, options: argparse.Namespace) -> TextClient:
        """The client that is named, made, was used last, or is in `chat`."""
        makes = {name: value for name in _MAKES if (value := getattr(options, name)) is not None}
        if options.client:
            if makes:
                raise UsageError(
                    f"%%vox: {options.client!r} is a client already; leave out --{next(iter(makes)).replace('_', '-')}, or the name"
                )
            return self._named(options.client)
        if not makes:
            usual = self._shell.user_ns.get(USUAL_NAME)
            for client in (self._last, usual):
                if isinstance(client, TextClient) and not client.closing:
                    return client
            raise UsageError(
                "%%vox: there is no client; make one (chat = voxnb.chat(…)), name one (%%vox NAME), or say --base-url local"
            )
        key = tuple(makes.items())
        client = self._made.get(key)
        if client is None or client.closing:
            model = makes.pop("model", None)
            client = self._made[key] = chat(model, **makes)
        return client

    def _named(self, name: str) -> TextClient:
        client = self._shell.user_ns.get(name)
        if not isinstance(client, TextClient):
            what = f"is {type(client).__name__}" if name in self._shell.user_ns else "does not exist"
            close = did_you_mean(name, self._clients())
            raise UsageError(f"%%vox: the variable {name!r} {what}, expected a client{close}")
        return client

    def _clients(self) -> list[str]:
        return [
            name
            for name, value in self._shell.user_ns.items()
            if isinstance(value, TextClient) and not name.startswith("_")
        ]

    # -- completion ---------------------------------------------------------------------------

    def complete(self, context: CompletionContext) -> SimpleMatcherResult:
        """What may stand where the cursor is: options in the first line, variables after ``{{``; Python's names are not asked."""
        before, found = context.text_until_cursor, list[str]()
        if context.full_text.split(maxsplit=1)[:1] == [f"%%{MAGIC}"]:
            if context.cursor_line == 0 and before.endswith(context.token):
                found = self._options_after(before.removesuffix(context.token).split()[-1:], symbol=context.token)
            elif re.search(r"\{\{\w*\Z", before):
                found = self._variables()
        hits = [SimpleCompletion(name) for name in found if name.startswith(context.token)]
        return {"completions": hits, "suppress": bool(hits), "ordered": True}

    def _options_after(self, previous: list[str], *, symbol: str) -> list[str]:
        if not previous:  # the name of the magic itself
            return []
        if previous[0] in ("--attach", "--as"):
            return self._variables()
        if previous[0] == "--base-url":
            return ["local", "ollama"]
        if previous[0] == "--conversation":
            return self._conversations()
        options = [option for action in _parser()._actions for option in action.option_strings]  # noqa: SLF001 - argparse has no other way to ask
        return options if symbol.startswith("-") else [*self._clients(), *options]

    def _variables(self) -> list[str]:
        hidden = getattr(self._shell, "user_ns_hidden", {})
        return [name for name in self._shell.user_ns if not name.startswith("_") and name not in hidden]

    def _conversations(self) -> list[str]:
        client = self._last or self._shell.user_ns.get(USUAL_NAME)
        if not isinstance(client, TextClient):
            return []
        try:
            return [str(name) for name in client.store.conversations(columns=["name"])["name"]]
        except VoxnbError:  # no store, or none that can be read: nothing to complete
            return []


def _shorten(error: VoxnbError) -> None:
    """Let IPython show an error as its one line; `%tb` has no more of it, `error.__cause__` has."""
    error._render_traceback_ = lambda: [f"{type(error).__name__}: {error}"]  # type: ignore[attr-defined]  # IPython looks for it


def _magic(vox: Vox) -> Callable[[str, str], None]:
    def run(line: str, cell: str) -> None:
        vox.cell(line, cell)

    run.__doc__ = f"""Say the cell to a model; the reply streams below it.

    Without a client named, the one of the last %%vox goes on, else the variable `{USUAL_NAME}`. With --model, --base-url,
    --conversation or --instructions a client is made, and used again for the same options. {{{{name}}}} is replaced by the
    variable of that name; every other brace stays as it is.

    {textwrap.indent(_parser().format_help(), "    ").strip()}

    Examples:
        %%vox
        Which species are there?

        %%vox chat --attach df --max-tokens 200 --as answer
        What is odd in the column {{{{column}}}}?

        %%vox --base-url local --conversation notes
        Remember that the meeting is on Friday.
    """
    return run


def load(shell: Any) -> None:
    """Give a shell the magic, and completion for it; again does nothing new."""
    vox = Vox(shell)
    shell.register_magic_function(_magic(vox), magic_kind="cell", magic_name=MAGIC)

    @context_matcher(identifier=_MATCHER)  # type: ignore[untyped-decorator]  # IPython does not type it
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        return vox.complete(context)

    _forget_matcher(shell)
    shell.Completer.custom_matchers.append(matcher)


def unload(shell: Any) -> None:
    """Take the magic away."""
    shell.magics_manager.magics["cell"].pop(MAGIC, None)
    _forget_matcher(shell)


def _forget_matcher(shell: Any) -> None:
    matchers = shell.Completer.custom_matchers
    matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", "") != _MATCHER]


__all__ = ["fill", "load", "unload"]
