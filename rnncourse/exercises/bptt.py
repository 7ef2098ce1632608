"""The "Your turn" exercises of the notebook on bptt."""

EXERCISES = ()
