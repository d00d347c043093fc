"""What the provider's bytes and dicts mean: pure readers, no clock, no sockets."""
