-- The six functions of fink-science that PySpark's reference has, on every alert. `standardized_flux` and
-- `magnitude_rate` are called by the names of their inputs.

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}'
    OPTIONS ('format' 'ztf', 'schema' '../../pipelines/ztf/schemas/alert.avsc');

CREATE EXTERNAL TABLE gate.packages STORED AS DELTA LOCATION 'gate/packages';

CREATE VIEW histories AS
SELECT candid, objectId, candidate,
    history(prv_candidates.jd, candidate.jd) AS cjd, history(prv_candidates.fid, candidate.fid) AS cfid,
    history(prv_candidates.magpsf, candidate.magpsf) AS cmagpsf,
    history(prv_candidates.sigmapsf, candidate.sigmapsf) AS csigmapsf,
    history(prv_candidates.diffmaglim, candidate.diffmaglim) AS cdiffmaglim,
    history(prv_candidates.magnr, candidate.magnr) AS cmagnr,
    history(prv_candidates.sigmagnr, candidate.sigmagnr) AS csigmagnr,
    history(prv_candidates.isdiffpos, candidate.isdiffpos) AS cisdiffpos,
    history(prv_candidates.distnr, candidate.distnr) AS cdistnr,
    10000 AS N, 0 AS seed
FROM alerts;

CREATE VIEW features AS
SELECT *, extract_features_ad(cmagpsf, cjd, csigmapsf, cfid, objectId, cdistnr, cmagnr, csigmagnr, cisdiffpos) AS lc_features
FROM histories;

CREATE VIEW scored AS
SELECT candid, lc_features,
    roid_catcher(cjd, cmagpsf, candidate.ndethist, candidate.sgscore1, candidate.ssdistnr, candidate.distpsnr1) AS roid,
    nalerthist(cmagpsf) AS nalerthist,
    magnitude_rate() AS rate,
    standardized_flux() AS standardized_flux,
    anomaly_score(lc_features, '') AS anomaly_score
FROM features;

INSERT INTO gate.packages SELECT * FROM scored;
