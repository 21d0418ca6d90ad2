"""Kill, stop, cut, slow and fill what a federation stands on while it works, and check that nothing was lost.

`hansa faults` is the command; `plan` says what will happen, `nemesis` does it to an `arena` of real processes, and
`checker` reads what is left against what may happen.
"""
