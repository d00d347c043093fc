"""Times that the requirements name, judged only where a machine can show them."""

import os

import pytest


def late(what):
    """Something was slower than it may be: a failure, unless the machine has far more to do than it can."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 2 * cores:
        pytest.skip(f"nothing can be timed at a load of {load:.1f} on {cores} cores: {what}")
    pytest.fail(what)
