"""What a turn took, from the store and in words."""

import voxnb
from tests.notebook.test_render import inspect
from voxnb import testing
from voxnb.notebook.receipt import receipt_lines
from voxnb.notebook.render import reply_html

POLICY = voxnb.ContextPolicy(
    window_tokens=400, reserve_output_tokens=50, fold_at_tokens=120, keep_last_turns=1, summary_max_tokens=30
)


def chat(server, **more):
    return voxnb.chat("gpt-4o-mini", base_url=server.base_url, api_key="k", store=":memory:", **more)


def test_a_stored_turn_has_its_tokens_its_time_and_what_is_left():
    with testing.server(["Hello."]) as server, chat(server, policy=POLICY) as talk:
        reply = talk.ask("Hi").result()
        receipt = reply.receipt
        assert (receipt.prompt_tokens, receipt.completion_tokens) == (
            reply.usage.prompt_tokens,
            reply.usage.completion_tokens,
        )
        assert receipt.cost_usd is None
        plan = talk.conversation.plan()
        assert receipt.next_tokens == plan.total_tokens
        assert receipt.left_tokens == plan.layout.limits.hard_tokens - plan.total_tokens
        assert (receipt.window_tokens, receipt.fold_at_tokens, receipt.folds) == (400, 120, ())
        said = "".join(inspect(reply_html(reply)).text)
        assert f"{reply.usage.prompt_tokens} tokens in, {reply.usage.completion_tokens} out · cost unknown" in said
        assert f"{receipt.left_tokens} of 400 tokens left for the next turn" in said


def test_a_fold_is_on_the_receipt_of_the_turn_that_came_after_it():
    with testing.server(["word " * 80, "word " * 80, "A summary.", "Fine."]) as server, chat(server) as talk:
        for n in (1, 2):
            talk.ask(f"Question {n}").result()
        talk.conversation.fold(1).result()
        talk.ask("Question 3").result()
        folds = [talk.conversation.receipt(n).folds for n in (1, 2, 3)]
        assert [len(folded) for folded in folds] == [0, 0, 1]
        first = folds[2][0]
        assert (first.round, first.first_seq, first.last_seq) == (1, 1, 1)
        assert "folded before this turn: turn 1 into summary 1, " in receipt_lines(talk.conversation.receipt(3))[1]


def test_an_answer_from_the_store_took_nothing():
    with testing.server(["Hello."]) as server:
        store = voxnb.ContextStore(":memory:")
        for _ in range(2):
            with voxnb.chat(
                "m", base_url=server.base_url, api_key="k", store=store, conversation="x", if_exists="reuse"
            ) as talk:
                reply = talk.ask("Hi").result()
        assert reply.reused
        assert "nothing was sent" in reply_html(reply)


def test_without_a_memory_the_usage_is_shown_and_the_rest_is_unknown():
    with testing.server(["Hello."]) as server:
        with voxnb.ChatCompletionsAPIClient(model="m", base_url=server.base_url, api_key="k") as client:
            reply = client.ask("Hi").result()
        assert receipt_lines(reply.receipt)[0].startswith(f"{reply.usage.prompt_tokens} tokens in, ")
        assert "cost unknown" in reply_html(reply)


def test_a_reply_whose_store_is_closed_is_still_shown():
    with testing.server(["Hello."]) as server:
        store = voxnb.ContextStore(":memory:")
        with voxnb.chat("m", base_url=server.base_url, api_key="k", store=store) as talk:
            reply = talk.ask("Hi").result()
        store.close()
        assert "Hello." in reply_html(reply)
