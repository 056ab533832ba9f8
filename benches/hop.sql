-- The number of detections by a module in Python (science = on) or natively: the difference is the hop and the function.
--
-- redpoll: science = on

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}'
    OPTIONS ('format' 'ztf', 'schema' '../pipelines/ztf/schemas/alert.avsc');

CREATE EXTERNAL TABLE bench.hop STORED AS DELTA LOCATION 'bench/hop';

CREATE VIEW counted AS
SELECT candid,
    CASE WHEN '${science}' = 'on' THEN nalerthist(history(prv_candidates.magpsf, candidate.magpsf))
        ELSE n_detections(history(prv_candidates.magpsf, candidate.magpsf))
    END AS n
FROM alerts;

INSERT INTO bench.hop SELECT candid, n FROM counted;
