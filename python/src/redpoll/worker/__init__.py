"""The process that evaluates science modules for an executor.

It connects to the executor's Unix socket, and from then on answers one request after another:

``load``      imports a module, so that the first alert of the night finds it warm;
``evaluate``  takes columns, gives one column back and the rows that failed, each with its reason.

Whatever modules print goes to the log, never into the socket. The process ends with its executor.
"""
