-- The module's value in an archive:
--
--   redpoll run my_score/samples/my_score.sql --set source=FOLDER --available-now

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}' OPTIONS ('format' 'ztf', 'id' 'candid');

CREATE EXTERNAL TABLE my_score.archive STORED AS DELTA LOCATION 'my_score/archive';

CREATE VIEW scored AS
SELECT *,
    my_score(history(prv_candidates.magpsf, candidate.magpsf), history(prv_candidates.sigmapsf, candidate.sigmapsf))
        AS my_score
FROM alerts;

INSERT INTO my_score.archive
SELECT objectId, candid, candidate.jd AS jd, candidate.fid AS fid, candidate.magpsf AS magpsf, my_score FROM scored;
