"""Measures activation ranges and writes the tables that make INT8 models."""
