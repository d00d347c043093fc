"""Functions as tools: their schemas, their calls, their results as text; and answers as typed values."""
