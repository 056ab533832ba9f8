"""Finds the science modules and filters of a Python package, so that they can be registered as they are.

``source``  reads what a package defines, without importing it;
``reach``   follows what a function calls, to tell services it would ask and messages it would send;
``look``    imports one module of the package in a process of its own, and runs its functions on sample alerts;
``sample``  gives the columns of the sample by the names of arguments;
``scan``    puts all together: one entry for each function, with the reason where it cannot be used.
"""
