"""The embedded default: a small model of your own, so that everything runs without a key."""
