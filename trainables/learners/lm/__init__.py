"""Learners on a language model."""
