-- What `benches/night` measures: cuts, history, the three science modules, everything but the stamps to the archive.
--
-- redpoll: science = on

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}'
    OPTIONS ('format' 'ztf', 'schema' '../pipelines/ztf/schemas/alert.avsc');

CREATE EXTERNAL TABLE bench.science STORED AS DELTA LOCATION 'bench/science';

CREATE VIEW good AS
SELECT * FROM alerts
WHERE candidate.nbad = 0 AND candidate.rb >= 0.55 AND candidate.fid <> 3;

CREATE VIEW scored AS
SELECT *,
    CASE WHEN '${science}' = 'on' THEN
        roid_catcher(history(prv_candidates.jd, candidate.jd), history(prv_candidates.magpsf, candidate.magpsf),
            candidate.ndethist, candidate.sgscore1, candidate.ssdistnr, candidate.distpsnr1)
    END AS roid,
    CASE WHEN '${science}' = 'on' THEN nalerthist(history(prv_candidates.magpsf, candidate.magpsf)) END AS nalerthist,
    CASE WHEN '${science}' = 'on' THEN
        standardized_flux(candid, objectId,
            history(prv_candidates.distnr, candidate.distnr), history(prv_candidates.magpsf, candidate.magpsf),
            history(prv_candidates.sigmapsf, candidate.sigmapsf), history(prv_candidates.magnr, candidate.magnr),
            history(prv_candidates.sigmagnr, candidate.sigmagnr), history(prv_candidates.isdiffpos, candidate.isdiffpos),
            history(prv_candidates.fid, candidate.fid), history(prv_candidates.jd, candidate.jd))
    END AS flux
FROM good;

INSERT INTO bench.science SELECT * EXCLUDE (cutoutScience, cutoutTemplate, cutoutDifference) FROM scored;
