"""The "Your turn" exercises of the notebook on recurrence."""

EXERCISES = ()
