"""The "Your turn" exercises of the notebook on sequences."""

EXERCISES = ()
