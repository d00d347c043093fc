"""The notebook that holds a call without a key: its saved outputs are those of a run, its players are short, and it runs."""

import base64
import io
import re

import pytest
import soundfile

import voxnb
from tests.notebooks.saved import ROOT, Notebook, output

VOICE = Notebook("03_voice.ipynb")
MOST_BYTES = 200_000
LONGEST_S = 7.5


def players(notebook):
    """The sounds in its outputs: seconds of each."""
    text = "".join(output(cell) for cell in notebook.cells)
    found = re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', text)
    return [soundfile.info(io.BytesIO(base64.b64decode(one))).duration for one in found]


def test_its_players_are_short_and_each_has_a_line_for_pages_without_players():
    found = players(VOICE)
    assert len(found) == 3
    assert all(0.5 < seconds < LONGEST_S for seconds in found)
    assert len(re.findall(r"▶ \w+\.wav, \d\.\d s", "".join(map(output, VOICE.cells)))) == len(found)
    assert VOICE.path.stat().st_size < MOST_BYTES


def test_the_saved_notebook_shows_a_question_understood_answered_and_an_interruption():
    asked = output(VOICE.cell('print("caller: "'))
    assert "caller:  what is the capital of france\n" in asked
    assert re.search(r"model: +\S.*\n +\d\.\d\d s of it were heard", asked)
    assert re.search(r"heard \d+ ms of \d+ ms .* truncate", output(VOICE.cell("interrupted = ")))
    turns = output(VOICE.cell("turns("))
    assert turns.count("complete") >= 2
    assert "partial" in turns
    assert "first_heard_ms" in output(VOICE.cell("waterfall()"))
    assert "call.wav" in output(VOICE.cell("media("))
    panel = output(VOICE.cell("call.widget()"))
    assert "what is the capital of france" in panel
    assert "tell me about the sun" in panel
    assert "rebuilt exactly" in output(VOICE.cell("explain(1)"))
    assert output(VOICE.cell("verify()")).startswith("all holds: 1 conversation, 4 turns")


@pytest.mark.local
@pytest.mark.kernel
@pytest.mark.timeout(600)  # the engines on a busy machine
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # jupyter_client's own
def test_it_runs_and_what_was_said_is_in_the_store(tmp_path, monkeypatch):
    path = tmp_path / "store.db"
    monkeypatch.setenv("VOXNB_STORE", str(path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    again = VOICE.run(tmp_path)
    assert again.streams() == {"stdout"}
    assert len(players(again)) == 3
    with voxnb.ContextStore(path) as store:
        turns = store.turns("voice")
        assert list(turns["user_text"])[:3] == [
            "what is the capital of france", "tell me about the sun", "thank you very much",
        ]  # fmt: skip
        assert list(turns["state"]) == ["complete", "partial", "complete", "complete"]
        assert set(store.media("voice")["direction"]) == {"in", "out"}
        assert store.verify()
