"""What is remembered and what is sent: pure decisions over plain values."""
