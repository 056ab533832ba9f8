-- The module's value in an archive:
--
--   redpoll run my_score/samples/my_score.sql --set source=FOLDER --available-now

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}' OPTIONS ('format' 'ocf', 'id' 'diaSourceId');

CREATE EXTERNAL TABLE my_score.archive STORED AS DELTA LOCATION 'my_score/archive';

CREATE VIEW scored AS
SELECT *,
    my_score(history(prvDiaSources.psfFlux, diaSource.psfFlux), history(prvDiaSources.psfFluxErr, diaSource.psfFluxErr))
        AS my_score
FROM alerts;

INSERT INTO my_score.archive
SELECT diaSourceId, diaSource.diaObjectId AS diaObjectId, diaSource.midpointMjdTai AS mjd, diaSource.band AS band,
    diaSource.psfFlux AS psfFlux, my_score FROM scored;
