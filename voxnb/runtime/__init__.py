"""The shell under every client: the background loop, listener dispatch, and what is looked up at run time."""
