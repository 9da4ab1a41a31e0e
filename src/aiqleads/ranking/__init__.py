"""Rankers: what serving needs of them, how they are trained, compared and promoted."""
