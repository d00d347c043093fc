"""Taking conversations out of the store, into files."""
