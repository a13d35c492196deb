"""Figures that anyone can take again: `python -m benchmarks [GROUP ...]`, or `make bench` for all."""
