"""What audio means: formats, companding, resampling, pacing, silence and what was heard; pure decisions over plain values."""
