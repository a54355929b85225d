"""The learners. A new learner is its file plus a space file; nothing is registered."""
