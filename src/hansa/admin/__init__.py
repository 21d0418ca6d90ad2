"""How people steer a federation: one table of commands, who may give them, and the session that gives them.

::

    permissions.py     who may do what; nobody else may do anything
    arguments.py       the arguments of each command
    commands.py        the table, and `dispatch`, the one way in
    session.py         `Session`, what `hansa.connect` returns, and its async twin
    remote_run.py      `RemoteRun`: a run on a federation, with the face of a `Run`
    flare_*.py         FLARE 2.0's admin API and its runner, over a session

The server's program brings `dispatch` and what it acts on together; nothing here runs a job.
"""
