"""The code that runs on the cluster: tasks, bases, learners and the one Tune trainable."""
