"""The search itself: Ray Tune, Optuna, ASHA, finalists."""
