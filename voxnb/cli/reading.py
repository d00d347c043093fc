"""Commands that only read: conversations, show, search, explain, verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxnb.cli import arguments, output

if TYPE_CHECKING:
    import pandas as pd

    from voxnb.store.context_store import ContextStore
    from voxnb.terminal.screen import Screen

SEARCH_LIMIT = 50


def add(commands: Any) -> None:
    """Add them to the parser."""
    p = commands.add_parser(
        "conversations",
        help="list what the store holds",
        description="List the conversations of the store, in the order they were begun.",
        epilog="examples:\n  voxnb conversations --limit 10\n  voxnb conversations --json | jq -r .name",
    )
    arguments.window_options(p)
    arguments.json_option(p, what="one object per line, with the columns of store.conversations()")
    arguments.store_option(p)
    p.set_defaults(run=conversations)

    p = commands.add_parser(
        "show",
        help="show what was said in a conversation",
        description="Show the turns of a conversation, undone ones left out.",
        epilog="examples:\n  voxnb show iris\n  voxnb show iris --turns 2-5\n  voxnb show iris --messages --json",
    )
    p.add_argument("name", metavar="NAME", help="name or id of the conversation")
    p.add_argument("--turns", type=arguments.turns, metavar="A-B", help="only these, as 3, 2-5 or 4-")
    p.add_argument("--messages", action="store_true", help="every message: tool calls and their results too")
    arguments.json_option(p, what="one turn (or message) per line, with the columns of store.turns() or .messages()")
    arguments.store_option(p)
    p.set_defaults(run=show)

    p = commands.add_parser(
        "search",
        help="find messages by their words",
        description="Find the messages that hold all the words, newest first. Words are compared whole, without case and accents.",
        epilog="examples:\n  voxnb search parquet\n  voxnb search '\"exact phrase\"' begin*\n  voxnb search wells --conversation lab",
    )
    p.add_argument(
        "words", metavar="WORDS", nargs="+", help='words; "a phrase" in quotes of its own, begin* for a prefix'
    )
    p.add_argument("--conversation", metavar="NAME", help="only in this one")
    p.add_argument("--best", action="store_true", help="best first instead of newest first; reads every match")
    arguments.window_options(p)
    arguments.json_option(p, what="one message per line, with the columns of store.search()")
    arguments.store_option(p)
    p.set_defaults(run=search)
    _add_proofs(commands)


def _add_proofs(commands: Any) -> None:
    p = commands.add_parser(
        "explain",
        help="show exactly what was sent with a past turn",
        description="Rebuild the request of a past turn and show it item by item: what it is, why it was sent, its tokens. "
        "The hash that was stored when it was sent proves that it is the same.",
        epilog="examples:\n  voxnb explain iris 12\n  voxnb explain iris -1 --json | jq .request",
    )
    p.add_argument("name", metavar="NAME", help="name or id of the conversation")
    p.add_argument("turn", metavar="TURN", type=arguments.turn, help="number (-1 is the last) or id of the turn")
    arguments.json_option(p, what="one document with the request, its items and its tokens")
    arguments.store_option(p)
    p.set_defaults(run=explain)

    p = commands.add_parser(
        "verify",
        help="check that nothing is lost",
        description="Check the whole store: hashes, summaries and what they cover, and every past request rebuilt. "
        "Exits with 1 if anything does not hold.",
    )
    arguments.json_option(p, what="one document with the verdict and the problems")
    arguments.store_option(p)
    p.set_defaults(run=verify)


def conversations(options: Any) -> int:
    """``voxnb conversations``."""
    with output.reading(options) as store:
        frame = store.conversations(**arguments.window(options))
        if options.json:
            output.print_rows(frame)
            return 0
        shown = {
            "name": "name",
            "turn_count": "turns",
            "token_count": "tokens",
            "folds": "folds",
            "model": "model",
            "last_turn_at": "last turn",
        }
        output.table(frame, shown, flexible=("name", "model"))
        if frame.empty:
            then = " of that time" if options.since or options.until else ""
            output.say_error(f"no conversation{then} in {store.path!r}")
    return 0


def show(options: Any) -> int:
    """``voxnb show``."""
    with output.reading(options) as store:
        conversation = store[options.name]
        first, last = _range(options, conversation)
        turns = conversation.turns()
        turns = turns[turns["seq"].between(first, last)]
        messages = None
        if options.messages:
            messages = conversation.messages()
            messages = messages[messages["turn_seq"].between(first, last)]
        if options.json:
            output.print_rows(turns if messages is None else messages)
        elif messages is None:
            _show_turns(output.screen(), turns)
        else:
            _show_messages(output.screen(), turns, messages)
    return 0


def _range(options: Any, conversation: Any) -> tuple[int, int]:
    count = len(conversation)
    if options.turns is None:
        return 1, count
    first, last = options.turns
    conversation.number_of(first)  # raises where there is no such turn
    return first, min(count, last if last is not None else count)


def _show_turns(screen: Screen, turns: pd.DataFrame) -> None:
    for turn in turns.itertuples(index=False):
        _turn_head(screen, turn)
        for who, text in (("user", turn.user_text), ("assistant", turn.reply_text)):
            _said(screen, who, output.cell(text))
        if output.cell(turn.error):
            screen.line(("error  ", "33"), output.cell(turn.error))


def _show_messages(screen: Screen, turns: pd.DataFrame, messages: pd.DataFrame) -> None:
    by_turn: dict[Any, pd.DataFrame] = dict(iter(messages.groupby("turn_seq", sort=False)))
    for turn in turns.itertuples(index=False):
        _turn_head(screen, turn)
        for message in by_turn.get(turn.seq, messages[:0]).itertuples(index=False):
            who = " ".join(filter(None, (str(message.role), output.cell(message.tool_name))))
            _said(screen, who, output.cell(message.content) or output.cell(message.parts))
            if output.cell(message.tool_calls):
                _said(screen, "calls", output.cell(message.tool_calls))


def _turn_head(screen: Screen, turn: Any) -> None:
    state = str(turn.state)
    marks = (
        [state] * (state != "complete")
        + ["pinned"] * bool(turn.pinned)
        + ["in a summary"] * bool(output.cell(turn.covered_by))
    )
    facts = [f"turn {turn.seq}", output.cell(turn.created_at), f"{turn.tokens:,} tokens", *marks]
    screen.head(" · ".join(facts))


def _said(screen: Screen, who: str, text: str) -> None:
    if text:
        screen.line((who, "1;32" if who == "user" else "1;36"))
        screen.block(text, indent="  ")


def search(options: Any) -> int:
    """``voxnb search``."""
    with output.reading(options) as store:
        where = store[options.conversation] if options.conversation else None
        window = arguments.window(options)
        window["limit"] = window["limit"] or SEARCH_LIMIT
        found = store.search(" ".join(options.words), conversation=where, rank=options.best, **window)
        if options.json:
            output.print_rows(found)
            return 0
        shown = {"conversation": "conversation", "turn_seq": "turn", "role": "role", "snippet": "text"}
        output.table(found, shown, flexible=("conversation", "text"))
        if found.empty:
            output.say_error("nothing found")
        elif len(found) == window["limit"] and not options.limit:
            output.say_error(f"these are the newest {SEARCH_LIMIT}; --limit N shows more")
    return 0


def explain(options: Any) -> int:
    """``voxnb explain``."""
    with output.reading(options) as store:
        conversation = store[options.name]
        plan = conversation.explain(options.turn)
        if options.json:
            output.print_json(
                {
                    "conversation_id": conversation.id,
                    "conversation": conversation.name,
                    "turn_seq": plan.seq,
                    "exact": plan.exact,
                    "total_tokens": plan.total_tokens,
                    "tokens": plan.tokens,
                    "items": list(output.records(plan.df)),
                    "request": plan.request,
                }
            )
            return 0
        from voxnb.terminal.budget import show_plan

        screen = output.screen()
        proof = "rebuilt exactly" if plan.exact else "NOT the request that was sent; see voxnb verify"
        screen.head(f"{conversation.name} · turn {plan.seq} · {proof}")
        show_plan(screen, plan)
    return 0


def verify(options: Any) -> int:
    """``voxnb verify``."""
    with output.reading(options) as store:
        verdict = store.verify()
        if options.json:
            output.print_json(_verdict(store, verdict))
        else:
            output.screen().line(str(verdict))
    return 0 if verdict else 1


def _verdict(store: ContextStore, verdict: Any) -> dict[str, Any]:
    counts = ("conversations", "turns", "summaries", "requests")
    return {
        "path": store.path,
        "holds": bool(verdict),
        "problems": list(verdict.problems),
        **{name: getattr(verdict, name) for name in counts},
    }
