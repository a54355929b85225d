"""Search spaces: one small file per learner, and the type `Space`."""
