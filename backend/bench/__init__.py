"""Benchmarks at FLUX's real size with random weights: `python -m backend bench`. Nothing of it runs when painting."""
