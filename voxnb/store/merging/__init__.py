"""Uniting two stores by their global ids: what is there already stays as it is, what is new is added."""
