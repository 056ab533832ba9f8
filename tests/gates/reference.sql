-- The two unmodified functions of fink-science that the night calls, on every alert, without any cut.

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}'
    OPTIONS ('format' 'ztf', 'schema' '../../pipelines/ztf/schemas/alert.avsc');

CREATE EXTERNAL TABLE gate.reference STORED AS DELTA LOCATION 'gate/reference';

CREATE VIEW scored AS
SELECT candid,
    roid_catcher(history(prv_candidates.jd, candidate.jd), history(prv_candidates.magpsf, candidate.magpsf),
        candidate.ndethist, candidate.sgscore1, candidate.ssdistnr, candidate.distpsnr1) AS roid,
    nalerthist(history(prv_candidates.magpsf, candidate.magpsf)) AS nalerthist
FROM alerts;

INSERT INTO gate.reference SELECT candid, roid, nalerthist FROM scored;
