"""What helps the author of a science module: names that are checked before the night, and a test in a notebook.

``check``   finds misspelt names, missing imports and parameters that do not fit, without running the function;
``trial``   runs a function on alerts in this process and sums up what it gave.
"""
