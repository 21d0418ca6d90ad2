"""`import hansa.compat`: from then on `import nvflare` gives Hansa's classes under FLARE 2.0's names.

For notebooks and scripts that are not (yet) a job; a job whose config or code says `nvflare` has the alias by itself.
An installed `nvflare` is left alone: then its own classes are imported, which Hansa does not run.

Example::

    import hansa.compat
    from nvflare.apis.executor import Executor
"""

from __future__ import annotations

from hansa.jobs.flare_alias import install

install()
