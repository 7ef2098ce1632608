"""Marking: a class's notebooks, run in jailed children and checked here, into nbgrader's gradebook, a table and feedback.

The way of one mark: ``command.grade`` makes a ``classroom.Class``, which finds the ``submissions``, has nbgrader make its
``course`` folder from the solved notebook, and starts a ``zygote``, a process that has imported everything. For each submission a
worker calls ``marking.mark``:

1. ``graft`` puts the answers into the released notebook, whatever became of the student's copy.
2. The zygote forks a ``child`` in a ``jail``, and the child runs the student's cells.
3. The released test cells run in the worker. A name that they ask for is a proxy (``proxies``), and calling it calls the child;
   what travels is JSON and the bytes of tensors (``wire``), never a pickle.
4. ``rnncourse.exercises`` compares and says what is wrong; the record, a file, makes the run one that can be stopped.

The class then enters the record in the gradebook, and in the end writes the table and the ``report``. ``handout`` has the
commands ``release`` and ``check``.
"""

import sys

# jsonschema, which nbformat imports, would build a parser of internationalized addresses with it, for a check that notebooks
# have no use for: seconds at each start.
sys.modules.setdefault("rfc3987_syntax", None)
