-- A night of ZTF: everything to the archive, the good alerts enriched, filtered to topics, and put in the store.
--
--   redpoll run pipelines/ztf/night.sql --set source=NIGHT.tar.gz --available-now
--
-- With Fink's own modules and filters, once they are registered:
--
--   redpoll module add-package fink-science && redpoll module add-package fink-filters
--   redpoll run pipelines/ztf/night.sql --set source=NIGHT.tar.gz --set fink=on --available-now
--
-- redpoll: topics = topics
-- redpoll: store = store:
-- redpoll: science = on
-- redpoll: fink = off

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}' OPTIONS ('format' 'ztf', 'schema' 'schemas/alert.avsc', 'id' 'candid');

-- The archive: tables below the warehouse.
CREATE EXTERNAL TABLE ztf.raw     STORED AS DELTA PARTITIONED BY (night) LOCATION 'ztf/raw';
CREATE EXTERNAL TABLE ztf.science STORED AS DELTA PARTITIONED BY (night) LOCATION 'ztf/science';

-- Topics: on a broker (--set topics=kafka://HOST:PORT) or in folders of Avro files.
CREATE EXTERNAL TABLE bright   STORED AS TOPIC LOCATION '${topics}/fink_bright_ztf'   OPTIONS ('format' 'fink');
CREATE EXTERNAL TABLE young    STORED AS TOPIC LOCATION '${topics}/fink_young_ztf'    OPTIONS ('format' 'fink');
CREATE EXTERNAL TABLE rising   STORED AS TOPIC LOCATION '${topics}/fink_rising_ztf'   OPTIONS ('format' 'fink');
CREATE EXTERNAL TABLE near_sso STORED AS TOPIC LOCATION '${topics}/fink_near_sso_ztf' OPTIONS ('format' 'fink');
CREATE EXTERNAL TABLE sso      STORED AS TOPIC LOCATION '${topics}/fink_sso_ztf_candidates_ztf' OPTIONS ('format' 'fink');
-- redpoll: when fink = on
CREATE EXTERNAL TABLE sso_fink STORED AS TOPIC LOCATION '${topics}/fink_sso_fink_candidates_ztf' OPTIONS ('format' 'fink');
-- redpoll: when fink = on
CREATE EXTERNAL TABLE anomalies STORED AS TOPIC LOCATION '${topics}/fink_anomalies_ztf' OPTIONS ('format' 'fink');

-- The store: one main table, and two that find alerts by place and by Solar System object.
CREATE EXTERNAL TABLE ztf.objects STORED AS STORE LOCATION '${store}/ztf'
    OPTIONS ('row_key' '{objectId}_{candidate.jd}', 'families' 'i:objectId,candidate.*;d:*', 'timestamp' 'jd_to_timestamp(candidate[''jd''])');
CREATE EXTERNAL TABLE ztf.pixel128 STORED AS STORE LOCATION '${store}/ztf.pixel128'
    OPTIONS ('row_key' '{pixel128}_{jdstarthist}_{objectId}', 'families' 'i:*');
CREATE EXTERNAL TABLE ztf.ssnamenr STORED AS STORE LOCATION '${store}/ztf.ssnamenr'
    OPTIONS ('row_key' '{ssnamenr}_{jd}', 'families' 'i:*');

-- Quality: detections that are real, in g or r.
CREATE VIEW good AS
SELECT * FROM alerts
WHERE candidate.nbad = 0 AND candidate.rb >= 0.55 AND candidate.fid <> 3;

-- Science. Without it (--set science=off) the number of detections is still counted, natively.
CREATE VIEW scored AS
SELECT *,
    CASE WHEN '${science}' = 'on' THEN
        roid_catcher(history(prv_candidates.jd, candidate.jd), history(prv_candidates.magpsf, candidate.magpsf),
            candidate.ndethist, candidate.sgscore1, candidate.ssdistnr, candidate.distpsnr1)
    END AS roid,
    CASE WHEN '${science}' = 'on' THEN nalerthist(history(prv_candidates.magpsf, candidate.magpsf))
        ELSE n_detections(history(prv_candidates.magpsf, candidate.magpsf))
    END AS nalerthist
FROM good;

-- redpoll: when fink = off
CREATE VIEW valued AS SELECT * FROM scored;

-- Fink's modules take whole light curves. Their columns have the names that Fink's science table has.
-- redpoll: when fink = on
CREATE VIEW histories AS
SELECT *,
    history(prv_candidates.jd, candidate.jd) AS cjd, history(prv_candidates.fid, candidate.fid) AS cfid,
    history(prv_candidates.magpsf, candidate.magpsf) AS cmagpsf,
    history(prv_candidates.sigmapsf, candidate.sigmapsf) AS csigmapsf,
    history(prv_candidates.diffmaglim, candidate.diffmaglim) AS cdiffmaglim,
    history(prv_candidates.magnr, candidate.magnr) AS cmagnr,
    history(prv_candidates.sigmagnr, candidate.sigmagnr) AS csigmagnr,
    history(prv_candidates.isdiffpos, candidate.isdiffpos) AS cisdiffpos,
    history(prv_candidates.distnr, candidate.distnr) AS cdistnr,
    10000 AS N, 0 AS seed
FROM scored;

-- redpoll: when fink = on
CREATE VIEW computed AS
SELECT *,
    extract_features_ad(cmagpsf, cjd, csigmapsf, cfid, objectId, cdistnr, cmagnr, csigmagnr, cisdiffpos) AS lc_features,
    magnitude_rate() AS rate,
    standardized_flux() AS standardized
FROM histories;

-- redpoll: when fink = on
CREATE VIEW valued AS
SELECT * EXCLUDE (cjd, cfid, cmagpsf, csigmapsf, cdiffmaglim, cmagnr, csigmagnr, cisdiffpos, cdistnr, N, seed, lc_features, rate, standardized),
    lc_features[CAST(1 AS INT)] AS lc_features_g, lc_features[CAST(2 AS INT)] AS lc_features_r, anomaly_score(lc_features, '') AS anomaly_score,
    rate.jd_first_real_det AS jd_first_real_det, rate.jdstarthist_dt AS jdstarthist_dt, rate.mag_rate AS mag_rate,
    rate.sigma_rate AS sigma_rate, rate.lower_rate AS lower_rate, rate.upper_rate AS upper_rate,
    rate.delta_time AS delta_time, rate.from_upper AS from_upper,
    standardized['flux'] AS cstd_flux, standardized['sigma'] AS csigma_std_flux
FROM computed;

INSERT INTO ztf.raw SELECT *, night(candidate.jd) AS night FROM alerts;

-- Stamps are in the raw archive; twice would be for nothing.
INSERT INTO ztf.science
SELECT * EXCLUDE (cutoutScience, cutoutTemplate, cutoutDifference), night(candidate.jd) AS night FROM valued;

INSERT INTO bright SELECT * FROM scored WHERE candidate.magpsf < 17.0;

INSERT INTO young SELECT * FROM scored WHERE candidate.ndethist <= 5 AND candidate.jd - candidate.jdstarthist <= 20;

-- Brighter by 0.3 mag or more than the latest earlier detection in the same band.
INSERT INTO rising
SELECT * FROM scored
WHERE previous_in_band(prv_candidates.jd, prv_candidates.magpsf, prv_candidates.fid, candidate.fid)
    - CAST(candidate.magpsf AS DOUBLE) >= 0.3;

INSERT INTO near_sso SELECT * FROM scored WHERE candidate.ssdistnr >= 0 AND candidate.ssdistnr < 5;

-- redpoll: when fink = off
INSERT INTO sso SELECT * FROM scored WHERE roid = 3;

-- Fink's filters take their arguments by name, from the columns and the fields of candidate.
-- redpoll: when fink = on
INSERT INTO sso SELECT * FROM scored WHERE sso_ztf_candidates();

-- redpoll: when fink = on
INSERT INTO sso_fink SELECT * FROM scored WHERE sso_fink_candidates();

-- The lower the score, the odder; 0 is for light curves that are too short.
-- redpoll: when fink = on
INSERT INTO anomalies SELECT * FROM valued WHERE anomaly_score < -0.02;

-- The alert's candid is in candidate, too.
INSERT INTO ztf.objects SELECT objectId, candidate, roid, nalerthist FROM scored;

INSERT INTO ztf.pixel128
SELECT healpix_ring(candidate.ra, candidate.dec, 128) AS pixel128, candidate.jdstarthist AS jdstarthist, objectId,
    candid, candidate.jd AS jd, candidate.ra AS ra, candidate.dec AS dec, candidate.magpsf AS magpsf, roid, nalerthist
FROM scored;

INSERT INTO ztf.ssnamenr
SELECT candidate.ssnamenr AS ssnamenr, candidate.jd AS jd, objectId, candid, candidate.fid AS fid,
    candidate.magpsf AS magpsf, candidate.ra AS ra, candidate.dec AS dec, candidate.ssdistnr AS ssdistnr
FROM scored WHERE roid = 3 AND candidate.ssnamenr IS NOT NULL;
