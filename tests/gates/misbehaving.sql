-- Modules that do what no module should, each on the alerts whose candid is divisible by 31, beside one that is sound.

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}'
    OPTIONS ('format' 'ztf', 'schema' '../../pipelines/ztf/schemas/alert.avsc');

CREATE EXTERNAL TABLE gate.misbehaving STORED AS DELTA LOCATION 'gate/misbehaving';

CREATE VIEW scored AS
SELECT candid, raises(candid) AS raises, exits(candid) AS exits, segfaults(candid) AS segfaults, hangs(candid) AS hangs,
    hoards(candid) AS hoards, prints(candid) AS prints, forks(candid) AS forks, dials(candid) AS dials, sound(candid) AS sound
FROM alerts;

INSERT INTO gate.misbehaving
SELECT candid, raises, exits, segfaults, hangs, hoards, prints, forks, dials, sound FROM scored;
