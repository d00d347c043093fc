"""Bringing conversations from elsewhere into the store."""
