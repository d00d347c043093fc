"""What a notebook that saves widget state keeps of voxnb's widgets: their code, and nothing of what was said."""

import json

import nbformat
import pytest
from nbclient import NotebookClient

from tests.kernel.real_kernel import HERE, ROOT

pytestmark = [
    pytest.mark.kernel,
    # jupyter_client's own: an event loop policy of Python 3.14, a pending-deprecation of its sockets
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

MOST_STATE_BYTES = 150_000
CELLS = (
    (
        "import voxnb\nfrom voxnb import testing\nserver = testing.server('The secret answer is 42. ' * 200)\n"
        "chat = voxnb.chat('m', base_url=server.base_url, api_key='sk-very-secret-key', store=':memory:')"
    ),
    "chat.ask('A secret question?')",
    "panel = chat.widget()\npanel",
    "voxnb.doctor()",
    "panel.close()\nchat.close()\nserver.close()",
)


def test_saved_widget_state_is_small_and_holds_no_conversation(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(made, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}).execute()
    state = json.dumps(made.metadata.get("widgets", {}))
    assert len(state) < MOST_STATE_BYTES
    assert "secret" not in state
    assert "sk-very" not in json.dumps(made.cells[1:])
    shown = [one for cell in made.cells[1:4] for one in cell.outputs]
    assert len(shown) == 3
    for one in shown:
        assert set(one["data"]) <= {"text/plain", "text/html"}, "after the end no widget is needed to read it"
