"""`espalier evaluate`: asks the winner of a sweep and its untouched base the tasks of lm-evaluation-harness."""
