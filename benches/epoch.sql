-- Next to no work: what an epoch costs by itself.

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}'
    OPTIONS ('format' 'ztf', 'schema' '../pipelines/ztf/schemas/alert.avsc');

CREATE EXTERNAL TABLE bench.ids STORED AS DELTA LOCATION 'bench/ids';

INSERT INTO bench.ids SELECT candid FROM alerts;
