"""Sample alerts, by the names of a function's arguments.

A name is looked up as SQL does it for a module that is called without arguments: a column, else a field of one of the
struct columns. Functions of whole light curves call their arguments by the names of single measurements (``jd`` for all
times of an alert), so for these the list of that name with a ``c`` before it can come first.
"""

import pyarrow as pa
from pyarrow import types


class NotThere(Exception):
    """No column, or several fields, of that name."""


class Sample:
    """Alerts as a table."""

    def __init__(self, table):
        self.table = table.combine_chunks()

    @classmethod
    def read(cls, path):
        import pyarrow.parquet

        return cls(pyarrow.parquet.read_table(path))

    def column(self, name, histories=False):
        """The column that an argument of this name takes; of a measurement with ``histories``, all of its values.
        Raises NotThere."""
        if histories and f"c{name}" in self.table.column_names:
            return _one(self.table[f"c{name}"])
        if name in self.table.column_names:
            return _one(self.table[name])
        holders = [
            field.name
            for field in self.table.schema
            if types.is_struct(field.type) and field.type.get_field_index(name) >= 0
        ]
        if len(holders) != 1:
            raise NotThere(f"several fields `{name}`, in {', '.join(holders)}" if holders else f"no column `{name}`")
        whole = _one(self.table[holders[0]])
        return whole.flatten()[whole.type.get_field_index(name)]

    def batch(self, inputs, histories=False):
        """The columns of all inputs as a batch; trailing optional ones that are not there are left out. Raises
        NotThere."""
        names, columns = [], []
        # Who wants both has a name for each.
        given = {declared["name"] for declared in inputs}
        for declared in inputs:
            try:
                name = declared["name"]
                columns.append(self.column(name, histories and f"c{name}" not in given))
            except NotThere:
                if declared.get("optional"):
                    break
                raise
            names.append(declared["name"])
        return pa.RecordBatch.from_arrays(columns, names=names)


def _one(column):
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
