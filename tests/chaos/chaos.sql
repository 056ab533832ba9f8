-- Every kind of sink: two archive tables, two topics, a wide-column table; and a view whose cuts the ledger counts.
--
-- redpoll: delivery = exactly-once

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}'
    OPTIONS ('format' 'ztf', 'schema' '../../pipelines/ztf/schemas/alert.avsc');

CREATE EXTERNAL TABLE chaos.raw STORED AS DELTA PARTITIONED BY (fid) LOCATION 'chaos/raw';
CREATE EXTERNAL TABLE chaos.good STORED AS DELTA LOCATION 'chaos/good';
CREATE EXTERNAL TABLE every STORED AS TOPIC LOCATION '${source}_every' OPTIONS ('format' 'fink', 'delivery' '${delivery}');
CREATE EXTERNAL TABLE red STORED AS TOPIC LOCATION '${source}_red' OPTIONS ('format' 'fink', 'delivery' '${delivery}');
CREATE EXTERNAL TABLE chaos.objects STORED AS STORE LOCATION 'store:chaos'
    OPTIONS ('row_key' '{objectId}_{candid}', 'families' 'i:*', 'timestamp' 'jd_to_timestamp(jd)');

CREATE VIEW good AS
SELECT * FROM alerts WHERE candidate.nbad = 0 AND candidate.rb >= 0.55 AND candidate.fid <> 3;

INSERT INTO chaos.raw SELECT objectId, candid, candidate.fid AS fid FROM alerts;
INSERT INTO chaos.good SELECT candid, candidate.magpsf AS magpsf FROM good;
INSERT INTO every SELECT objectId, candid FROM alerts;
INSERT INTO red SELECT objectId, candid FROM good WHERE candidate.fid = 2;
INSERT INTO chaos.objects SELECT objectId, candid, candidate.jd AS jd, candidate.magpsf AS magpsf FROM good;
