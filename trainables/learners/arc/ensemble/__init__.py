"""An ensemble: programs answer the tasks that they explain, percell's networks are trained for the others."""
