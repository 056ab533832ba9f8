"""The processes that evaluate science modules for an executor.

The executor starts one *warm parent* for an environment. It imports modules and forks workers from itself, so that a
module is loaded once however many workers it has, and one that died is replaced within milliseconds:

``load``      imports a module: first in a trial process, since an import may kill its process;
``fork``      starts a worker of a module, which connects to the executor by itself;
``end``       ends a worker and whatever it started, and says how it ended.

A worker serves one module: it takes columns, gives one column back and the rows that failed, each with its reason.
Whatever modules print goes to the log, never into the socket. All processes end with their executor.
"""
