"""Promises about the columns of feeds and stored frames, and what becomes of bad rows."""
