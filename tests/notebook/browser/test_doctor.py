"""`voxnb.doctor()` in a real JupyterLab and Notebook 7: what the page says, while the cell runs."""

import json

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

LOOK = (
    "found = voxnb.doctor()\nimport json; print(json.dumps({c.name: [c.state, c.found] for c in found.checks}))\nfound"
)


@pytest.mark.parametrize(("app", "name"), [("lab", "JupyterLab 4"), ("notebook", "Jupyter Notebook 7")])
def test_it_knows_its_page_its_shell_and_its_buffers(open_notebook, app, name):
    notebook = open_notebook(LOOK, app=app)
    cell = notebook.run(1)
    found = json.loads(notebook.printed(1))
    assert found["front end"][0] == "ok"
    assert found["front end"][1].startswith(name)
    assert found["subshell"] == ["ok", "widgets are heard while a cell runs"]
    assert found["buffers"][0] == "ok"
    assert found["secure context"] == ["ok", "yes"]
    assert found["microphone"][1] in ("the browser will ask", "denied", "allowed")
    assert found["kernel"][1].startswith("ipykernel ")
    shown = [output for output in notebook.outputs(1) if output["output_type"] != "stream"]
    assert len(shown) == 1, "the page was asked without a trace in the notebook"
    assert "text/html" in shown[0]["data"]
    assert notebook.problems == []
    if app == "lab":
        cell.get_by_text("voxnb: all is well").wait_for()
        notebook.picture(cell, "doctor")
