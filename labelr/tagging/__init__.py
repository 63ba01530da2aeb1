"""Applies models to folders."""
