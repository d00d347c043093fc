"""The notebook that carries scenarios over: its saved outputs are those of a run, and it runs."""

import re

import pytest

import voxnb
from tests.notebooks.saved import ROOT, Notebook, output

PORT = Notebook("02_port_a_scenario.ipynb")


def texts():
    return [cell.source for cell in PORT.made.cells if cell.cell_type == "markdown"]


def test_a_scenario_stands_above_its_port_and_both_say_the_same_names():
    scripts = [re.search(r"```js\n(.+?)```", text, re.DOTALL) for text in texts()]
    scripts = [found[1] for found in scripts if found]
    ports = [cell.source for cell in PORT.cells if "addEventListener" in cell.source]
    assert len(scripts) == len(ports) == 3
    names = re.compile(r"\b(?:create\w+|addEventListener|terminate|events\.\w+|data\.payload|Logger\.write)\b")
    for script, port in zip(scripts, ports, strict=True):
        assert set(names.findall(script)) <= set(names.findall(port))


def test_it_says_plainly_where_no_model_answers():
    scripted = [cell for cell in PORT.cells if "testing.server(" in cell.source]
    assert scripted
    told = [text for text in texts() if "scripted server" in text]
    assert len(told) == len(scripted)
    assert all("not a model" in text for text in told)


@pytest.mark.parametrize("factory", ["createChatCompletionsAPIClient", "createResponsesAPIClient"])
def test_the_saved_outputs_show_a_dialogue_and_its_end(factory):
    (cell,) = (c for c in PORT.cells if factory in c.source and '"baseUrl": "local"' in c.source)
    said = [line.split(":")[0] for line in output(cell).splitlines() if re.match(r"(caller|model|closed): ", line)]
    assert [who for who in said if who != "closed"] == ["caller", "model"] * 3
    assert ("closed" in said) == ("onWebSocketClose" in cell.source)


def test_the_saved_outputs_explain_what_was_sent():
    explained = [output(c) for c in PORT.cells if "explain(3)" in c.source]
    assert len(explained) == 2
    assert all("rebuilt exactly" in text for text in explained)


def test_the_saved_panel_lists_the_conversations_of_the_three_scenarios():
    assert "3 conversations, 7 turns" in output(PORT.cell("store.widget()"))


@pytest.mark.local
@pytest.mark.kernel
@pytest.mark.timeout(300)  # six replies on a slow machine
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # jupyter_client's own
def test_it_runs_and_its_conversations_are_in_the_store(tmp_path, monkeypatch):
    path = tmp_path / "store.db"
    monkeypatch.setenv("VOXNB_STORE", str(path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    again = PORT.run(tmp_path)
    assert again.streams() == {"stdout"}
    scripted = [(a, b) for a, b in zip(PORT.cells, again.cells, strict=True) if "testing.server(" in a.source]
    assert [output(a) for a, _ in scripted] == [output(b) for _, b in scripted]
    with voxnb.ContextStore(path) as store:
        turns = store.turns()
        assert set(turns["state"]) == {"complete"}
        assert sorted(turns.groupby("conversation_id").size()) == [1, 3, 3]
        assert store.verify()
