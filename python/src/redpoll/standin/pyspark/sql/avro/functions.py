from pyspark.absent import absent

from_avro = absent("from_avro")
to_avro = absent("to_avro")
