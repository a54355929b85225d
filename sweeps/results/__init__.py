"""Results of a sweep: records and tables, leaderboards, intervals and tests."""
