"""Operators: how a candidate becomes another."""
