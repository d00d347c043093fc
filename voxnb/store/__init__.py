"""Conversations in SQLite: every turn kept, every summary with what it was made from."""
