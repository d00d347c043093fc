"""Conversations in a terminal: text that cannot drive it, tables that fit it, and the chat."""
