"""Searches settings: many runs, of which the best one shows which settings suit the data."""
