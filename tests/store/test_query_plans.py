"""What a turn costs in the store does not depend on how long the conversation is: no scans, the same statements."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from itertools import groupby

import pytest

import voxnb
from voxnb import testing
from voxnb.store.database import Database
from voxnb.store.place import empty_log

WAIT_S = 30
MODEL, TELLER = "gpt-4o-mini", "gpt-4o"
GROWING = {"turn", "message", "call", "event", "coverage", "summary", "value", "draft", "pin", "branch", "conversation"}
"""Tables that grow with a store, or with one conversation of it."""

POLICY = voxnb.ContextPolicy(
    window_tokens=8_000, fold_at_tokens=400, fold_to_tokens=200, keep_last_turns=1, summary_max_tokens=80
)
TELLER_POLICY = voxnb.ContextPolicy(window_tokens=128_000)
STEPS = 20
"""Steps of SQLite's machine between two looks at them."""


class Watch:
    """Notes every statement of every connection, and how many steps SQLite made."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.steps = 0
        self.on = False

    def see(self, statement: str) -> None:
        # What begins with a dash is what the search index does inside of a statement.
        if self.on and not statement.startswith("--"):
            self.statements.append(" ".join(statement.split()))

    def step(self) -> int:
        self.steps += STEPS * self.on
        return 0

    def run(self, work):
        """Watch while something is done; (statements, steps)."""
        self.statements, self.steps, self.on = [], 0, True
        try:
            work()
        finally:
            self.on = False
        return self.statements, self.steps


@pytest.fixture
def watch(monkeypatch):
    made, connect = Watch(), Database._connect
    # The marks round a summary are random and so is their length in tokens: that may move a fold by a turn.
    monkeypatch.setattr(secrets, "token_hex", lambda n: "5a" * n)

    def watched(database, *kind):
        connection = connect(database, *kind)
        connection.set_trace_callback(made.see)
        connection.set_progress_handler(made.step, STEPS)
        return connection

    monkeypatch.setattr(Database, "_connect", watched)
    return made


def reply(request):
    if request.model == TELLER:
        return "They spoke of what they made of it."
    return "An answer to what was asked, " * 4


def question(n):
    return f"Question #{n:06}: what do you make of it? " * 2


@pytest.fixture
def server():
    with testing.server(reply) as running:
        yield running


def access(server, path):
    return {"base_url": server.base_url, "api_key": server.api_key, "store": path}


def a_talk_of(turns, server, path):
    """A client in a conversation of so many turns, all but the newest folded."""
    settings = access(server, path)
    said = [("user", question), ("assistant", lambda n: f"Answer {n:06}.")]
    with voxnb.ContextStore(path) as store:
        store.append("talk", [{"role": r, "content": text(n)} for n in range(turns - 2) for r, text in said])
        for n in range(3):
            store.append(f"other {n}", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])
    with voxnb.chat(TELLER, policy=TELLER_POLICY, summary_model=TELLER, conversation="talk", **settings) as chat:
        chat.conversation.fold().result(WAIT_S)
        chat.store.close()
    chat = voxnb.chat(MODEL, policy=POLICY, summary_model=TELLER, conversation="talk", **settings)
    for n in range(2):
        chat.ask(question(900_000 + n)).result(WAIT_S)
        chat.idle().result(WAIT_S)
    assert len(chat.conversation) == turns
    return chat


def one_turn(chat, n):
    chat.ask(question(n)).result(WAIT_S)
    chat.idle().result(WAIT_S)


def shape(statement):
    """A statement without its values."""
    return re.sub(r"'(?:[^']|'')*'|\b\d+(\.\d+)?\b", "?", statement)


def plan_of(chat, statement):
    """The steps of SQLite's plan that are scans of tables that grow."""
    if statement.split()[0] not in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
        return []
    aliases = {alias: table for table, alias in re.findall(r"(?:FROM|JOIN|,) ?(\w+) (?:AS )?(\w+)", statement)}
    found = []
    for *_, detail in chat.store.database.read(f"EXPLAIN QUERY PLAN {statement}"):
        match = re.match(r"SCAN (\w+)(?! VIRTUAL)", detail)
        if match and aliases.get(match[1], match[1]) in GROWING:
            found.append(detail)
    return found


def test_no_statement_of_a_turn_its_plan_its_fold_or_explain_scans_a_table_that_grows(watch, server, tmp_path):
    chat = a_talk_of(30, server, tmp_path / "store.db")

    def work():
        for n in range(6):
            one_turn(chat, n)
        chat.conversation.plan("And now?")
        chat.conversation.explain(-1)
        chat.conversation.explain(31)
        chat.conversation.summary()
        chat.conversation.fold().result(WAIT_S)
        chat.conversation.pin(-2)
        chat.conversation.retry().result(WAIT_S)
        one_turn(chat, 7)
        chat.conversation.undo()
        chat.conversation.unfold()
        chat.conversation.fork(-3, name="another way")
        tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
        chat.ask("Another", tools=tools, temperature=0.5).result(WAIT_S)
        chat.idle().result(WAIT_S)

    statements, _ = watch.run(work)
    assert any("INSERT INTO summary" in s for s in statements)
    assert any("INSERT INTO pin" in s for s in statements)
    scans = {shape(s): plan for s in dict.fromkeys(statements) if (plan := plan_of(chat, s))}
    chat.close()
    assert scans == {}


def test_a_scan_would_be_seen(watch, server, tmp_path):
    chat = a_talk_of(10, server, tmp_path / "store.db")
    assert plan_of(chat, "SELECT count(*) FROM turn t WHERE t.state = 'failed'")
    assert plan_of(chat, "SELECT text FROM message WHERE role = 'user'")
    assert not plan_of(chat, "SELECT text FROM message WHERE turn = 1")
    chat.close()


def test_a_turn_is_the_same_statements_and_the_same_work_at_ten_and_at_two_thousand_turns(watch, server, tmp_path):
    found = {}
    for turns in (10, 2_000):
        chat = a_talk_of(turns, server, tmp_path / f"{turns}.db")
        rounds = [watch.run(lambda n=n: one_turn(chat, n)) for n in range(12)]
        looking = watch.run(lambda: (chat.conversation.plan("And now?"), chat.conversation.explain(-1)))
        folds = sum(any("INSERT INTO summary" in s for s in statements) for statements, _ in rounds)
        # A trigger is traced as its statement again; the search index is written for many messages at once.
        index = re.compile(r"message_fts|message_zone|'main'\.data_version")
        shapes = [
            Counter(shape(s) for s, _ in groupby(statements) if not index.search(s))
            for statements, _ in (*rounds, looking)
        ]
        found[turns] = shapes, folds, rounds
        chat.close()
    (few, few_folds, few_rounds), (many, many_folds, many_rounds) = found[10], found[2_000]
    assert few_folds == many_folds > 1
    assert few == many
    # The search index is written now and then, and merges its parts; of the rest a turn takes the same steps, a few more where a tree is deeper.
    steps = [sorted(steps for _, steps in rounds) for rounds in (few_rounds, many_rounds)]
    assert steps[1][len(steps[1]) // 2] <= 1.25 * steps[0][len(steps[0]) // 2]


MOST_STATEMENTS = 28
"""Of a turn, both transactions' BEGIN and COMMIT and the two switches of synchronous included."""


def test_a_turn_is_two_jobs_of_the_writer_with_one_transaction_each_and_few_statements(
    watch, server, tmp_path, monkeypatch
):
    perform, jobs = Database.perform, []
    monkeypatch.setattr(Database, "perform", lambda database, job: (jobs.append(job), perform(database, job))[1])
    chat = voxnb.chat(MODEL, conversation="talk", **access(server, tmp_path / "store.db"))
    for n in range(3):
        one_turn(chat, n)
    jobs.clear()
    traced, _ = watch.run(lambda: one_turn(chat, 3))
    statements = [statement for statement, _ in groupby(traced)]  # a trigger is traced as its statement again
    chat.close()
    assert len([job for job in jobs if job is not empty_log]) == 2  # close() puts the log into the file
    assert Counter(s for s in statements if s in ("BEGIN IMMEDIATE", "COMMIT")) == {"BEGIN IMMEDIATE": 2, "COMMIT": 2}
    pragmas = [s.removeprefix("PRAGMA ") for s in statements if s.startswith("PRAGMA")]
    assert pragmas == ["data_version", "synchronous=FULL", "synchronous=NORMAL"]
    assert len(statements) <= MOST_STATEMENTS, "\n".join(statements)
