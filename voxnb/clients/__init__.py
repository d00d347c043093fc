"""Clients of model APIs, and the `Turn` handle that their requests return."""
