-- Science modules on every alert, without any cut: the values of one module go to an archive table beside the alert's id.
--
-- redpoll: module = picky

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}'
    OPTIONS ('format' 'ztf', 'schema' '../../pipelines/ztf/schemas/alert.avsc');

CREATE EXTERNAL TABLE gate.${module} STORED AS DELTA LOCATION 'gate/${module}';

CREATE VIEW scored AS SELECT candid, ${module}(candid) AS value FROM alerts;

INSERT INTO gate.${module} SELECT candid, value FROM scored;
