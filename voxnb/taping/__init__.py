"""Tapes: what was asked of models and what they answered, kept as text, so that a notebook runs again without them."""
