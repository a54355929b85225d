"""What may vary: one small file per learner."""
