"""Evaluation of models: metrics, thresholds, suspected label errors, reports."""
