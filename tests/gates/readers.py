"""What Redpoll left behind, read by other programs: a warehouse on disk or S3, and topics.

Imported after `lib.in_test_venv()`.
"""
import json
import os
import pathlib
import subprocess

import deltalake
from confluent_kafka.admin import AdminClient, NewTopic
from pyarrow import fs

import lib
from topic import records as committed  # noqa: F401, what a reader of committed records sees


class Warehouse:
    """A warehouse as other programs see it, and the log of one job in it."""

    def __init__(self, folder, on_s3, job):
        self.job = job
        self.on_s3 = on_s3
        if on_s3:
            bucket = os.environ.get("REDPOLL_TEST_BUCKET", "redpoll-test")
            subprocess.run([lib.REPOSITORY / "tests/services/s3.sh", "bucket", bucket], check=True, capture_output=True)
            self.root = f"{bucket}/{pathlib.Path(folder).name}"
            self.url = f"s3://{self.root}"
            self.files = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], allow_bucket_creation=False)
            self.options = {"AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"], "AWS_ALLOW_HTTP": "true"}
        else:
            self.root = self.url = str(folder / "warehouse")
            self.files, self.options = fs.LocalFileSystem(), None

    def read(self, path):
        with self.files.open_input_stream(path) as stream:
            return stream.read()

    def list(self, path, suffix):
        found = self.files.get_file_info(fs.FileSelector(f"{self.root}/{path}", allow_not_found=True, recursive=True))
        return sorted(info.path for info in found if info.path.endswith(suffix))

    def entries(self):
        """The log of the job: [(kind, content)]."""
        names = [path for path in self.list(f"_redpoll/jobs/{self.job}/log", ".json") if "checkpoint" not in path]
        found = []
        for path in names:
            try:
                found.extend(json.loads(self.read(path)).items())
            except ValueError:
                break  # being written
        return found

    def of(self, kind):
        return [content for name, content in self.entries() if name == kind]

    def receipts(self, epoch):
        paths = self.list(f"_redpoll/jobs/{self.job}/epochs/{epoch:012}/receipts", ".json")
        return [json.loads(self.read(path)) for path in paths]

    def rows(self, table, *columns):
        """Rows of an archive table, as tuples of these columns."""
        found = deltalake.DeltaTable(f"{self.url}/{table}", storage_options=self.options).to_pyarrow_table(columns=list(columns))
        return list(zip(*(found.column(name).to_pylist() for name in columns)))

    def transactions(self, table):
        """Epochs of the transactions in the table's log, in order of its versions."""
        lines = [line for path in self.list(f"{table}/_delta_log", ".json") for line in self.read(path).splitlines()]
        actions = [json.loads(line) for line in lines if line.strip()]
        return [action["txn"]["version"] for action in actions if "txn" in action]

    def remove(self):
        """What is on S3; a folder goes with the gate's own."""
        if self.on_s3:
            self.files.delete_dir(self.root)


def create_topics(servers, names, partitions):
    """Redpoll writes to topics that are there."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 4})
    for made in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
        made.result(60)
    return admin
