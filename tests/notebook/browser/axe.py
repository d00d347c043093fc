"""What axe-core finds wrong for people who use a keyboard or a screen reader."""

from pathlib import Path


def violations(page, selector):
    """One line per rule that is broken inside of `selector`."""
    import axe_core_python

    if not page.locator(selector).count():
        return []
    page.evaluate((Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("selector => axe.run(selector, {resultTypes: ['violations']})", selector)
    return [
        f"{rule['id']}: {rule['help']} ({node['html'][:120]})" for rule in found["violations"] for node in rule["nodes"]
    ]
