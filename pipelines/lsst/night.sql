-- A night of Rubin (LSST): every alert to the archive, scored, filtered to topics, and put in the store.
--
-- Files:   redpoll run pipelines/lsst/night.sql --set source=FOLDER --available-now
-- Topics:  redpoll run pipelines/lsst/night.sql --set source=kafka://HOST:PORT/alerts --set format=confluent \
--              --set registry=https://HOST --set topics=kafka://HOST:PORT
--
-- `format` is `confluent` for Rubin's stream (writer schemas by number, from the URL of a registry or a folder of
-- <id>.avsc files) and `ocf` for files that hold their schema. Schemas 7.4 to 11.0 may come mixed: the columns are
-- those of schemas/alert.avsc, which has the fields of all of them, and what a writer lacks is null. Fields of later
-- versions are added as they come. What is not null in that file, every version has.
--
-- With Fink's own filters, once they are registered (`redpoll module add-package fink-filters`): --set fink=on
--
-- redpoll: topics = topics
-- redpoll: store = store:
-- redpoll: science = on
-- redpoll: fink = off
-- redpoll: format = ocf
-- redpoll: registry = schemas

CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}'
    OPTIONS ('format' '${format}', 'registry' '${registry}', 'schema' 'schemas/alert.avsc', 'id' 'diaSourceId');

-- The archive: tables below the warehouse.
CREATE EXTERNAL TABLE lsst.raw     STORED AS DELTA PARTITIONED BY (night) LOCATION 'lsst/raw';
CREATE EXTERNAL TABLE lsst.science STORED AS DELTA PARTITIONED BY (night) LOCATION 'lsst/science';

-- Topics: on a broker (--set topics=kafka://HOST:PORT) or in folders of Avro files.
CREATE EXTERNAL TABLE uniform_sample STORED AS TOPIC
    LOCATION '${topics}/fink_uniform_sample_lsst' OPTIONS ('format' 'fink');
CREATE EXTERNAL TABLE remove_unlikely_transients STORED AS TOPIC
    LOCATION '${topics}/fink_remove_unlikely_transients_lsst' OPTIONS ('format' 'fink');
CREATE EXTERNAL TABLE solar_system STORED AS TOPIC
    LOCATION '${topics}/fink_solar_system_lsst' OPTIONS ('format' 'fink');
CREATE EXTERNAL TABLE bright_transients STORED AS TOPIC
    LOCATION '${topics}/fink_bright_transients_lsst' OPTIONS ('format' 'fink');
-- redpoll: when fink = on
CREATE EXTERNAL TABLE faint_trails STORED AS TOPIC
    LOCATION '${topics}/fink_faint_trails_lsst' OPTIONS ('format' 'fink');

-- The store: detections of objects (main table), detections of Solar System bodies, and objects by place. The salt,
-- the last digits of an id, spreads neighbouring ids over regions.
CREATE EXTERNAL TABLE lsst.diaSource_static STORED AS STORE LOCATION '${store}/lsst.diaSource_static'
    OPTIONS ('row_key' '{salt:0>3}_{diaSource.diaObjectId}_{diaSource.midpointMjdTai}',
        'families' 'r:diaSource.*,salt,observation_reason,target_name;f:*',
        'timestamp' 'mjd_to_timestamp(diaSource[''midpointMjdTai''])');
CREATE EXTERNAL TABLE lsst.diaSource_sso STORED AS STORE LOCATION '${store}/lsst.diaSource_sso'
    OPTIONS ('row_key' '{salt}_{packedDesignation}_{diaSource.midpointMjdTai}',
        'families' 'r:diaSource.*,salt,packedDesignation,ssSource.*;f:*',
        'timestamp' 'mjd_to_timestamp(diaSource[''midpointMjdTai''])');
CREATE EXTERNAL TABLE lsst.pixel1024 STORED AS STORE LOCATION '${store}/lsst.pixel1024'
    OPTIONS ('row_key' '{pixel1024}_{firstDiaSourceMjdTai}_{diaObjectId}', 'families' 'f:flux_statistics.*,flux_rate,flux_rate_error,mag_rate;r:*');

-- Science. Rubin's alerts are not cut. Packets say 0 or nothing for an association that is not there.
CREATE VIEW scored AS
SELECT *,
    coalesce(diaSource.ssObjectId, 0) <> 0 AS is_sso,
    array_min(history(prvDiaSources.midpointMjdTai, diaSource.midpointMjdTai)) AS firstDiaSourceMjdTai,
    CASE WHEN '${science}' = 'on' THEN
        flux_statistics(history(prvDiaSources.midpointMjdTai, diaSource.midpointMjdTai),
            history(prvDiaSources.psfFlux, diaSource.psfFlux), history(prvDiaSources.psfFluxErr, diaSource.psfFluxErr),
            history(prvDiaSources.band, diaSource.band), diaSource.band)
    END AS flux_statistics,
    CASE WHEN '${science}' = 'on' THEN
        flux_rate(history(prvDiaSources.midpointMjdTai, diaSource.midpointMjdTai),
            history(prvDiaSources.psfFlux, diaSource.psfFlux), history(prvDiaSources.psfFluxErr, diaSource.psfFluxErr),
            history(prvDiaSources.band, diaSource.band), diaSource.band, 5)
    END AS flux_rate
FROM alerts;

-- A night is Rubin's dayObs: it begins at noon, so that a Chilean night has one name.
INSERT INTO lsst.raw SELECT *, day_obs(diaSource.midpointMjdTai) AS night FROM alerts;

-- Stamps are in the raw archive; twice would be for nothing.
INSERT INTO lsst.science
SELECT * EXCLUDE (cutoutScience, cutoutTemplate, cutoutDifference), day_obs(diaSource.midpointMjdTai) AS night
FROM scored;

-- Fink's filters are Python: each takes its arguments by name, diaSource as a whole.
-- redpoll: when fink = on
INSERT INTO uniform_sample SELECT * FROM scored WHERE uniform_sample();

-- redpoll: when fink = on
INSERT INTO solar_system SELECT * FROM scored WHERE is_solar_system();

-- redpoll: when fink = on
INSERT INTO faint_trails SELECT * FROM scored WHERE faint_trails();

-- One alert in 113, whatever it is.
-- redpoll: when fink = off
INSERT INTO uniform_sample SELECT * FROM scored WHERE diaSourceId % 113 = 0;

-- Detections of an object seen before, well measured, brighter than in the template. A flag that a packet does not have
-- counts as not set. Fink's own filter of this name keeps, in fink-filters 7.45, the alerts with flags and drops the others,
-- against what its text says; so this is SQL with `fink` on, too.
INSERT INTO remove_unlikely_transients
SELECT * FROM scored
WHERE NOT is_sso AND diaSource.snr > 10 AND diaObject.nDiaSources > 2
    AND diaSource.isNegative IS NOT TRUE AND diaSource.isDipole IS NOT TRUE
    AND diaSource.psfFlux_flag IS NOT TRUE AND diaSource.shape_flag IS NOT TRUE
    AND diaSource.pixelFlags IS NOT TRUE AND diaSource.pixelFlags_bad IS NOT TRUE
    AND diaSource.pixelFlags_cr IS NOT TRUE AND diaSource.pixelFlags_nodata IS NOT TRUE
    AND diaSource.pixelFlags_streak IS NOT TRUE AND diaSource.pixelFlags_interpolated IS NOT TRUE
    AND diaSource.pixelFlags_edge IS NOT TRUE;

-- Known bodies, by Rubin's own association with the Minor Planet Center's orbits.
-- redpoll: when fink = off
INSERT INTO solar_system SELECT * FROM scored WHERE is_sso;

-- Bright and brightening, away from the Milky Way's plane: difference flux above 20 mag (AB, from psfFlux in nJy) and
-- above the object's mean in that band by more than the mean's error, more than 20 degrees of galactic latitude (the
-- pole is at 192.859, 27.128). Fink's filter for bright extragalactic candidates also asks SIMBAD, Gaia, VSX and galaxy
-- catalogues; this one asks none, so variable stars of the halo pass too.
INSERT INTO bright_transients
SELECT * FROM scored
WHERE NOT is_sso AND flux_njy_to_mag(diaSource.psfFlux) < 20
    AND diaSource.psfFlux -
        CASE diaSource.band
            WHEN 'u' THEN diaObject.u_psfFluxMean WHEN 'g' THEN diaObject.g_psfFluxMean
            WHEN 'r' THEN diaObject.r_psfFluxMean WHEN 'i' THEN diaObject.i_psfFluxMean
            WHEN 'z' THEN diaObject.z_psfFluxMean WHEN 'y' THEN diaObject.y_psfFluxMean
        END >
        CASE diaSource.band
            WHEN 'u' THEN diaObject.u_psfFluxMeanErr WHEN 'g' THEN diaObject.g_psfFluxMeanErr
            WHEN 'r' THEN diaObject.r_psfFluxMeanErr WHEN 'i' THEN diaObject.i_psfFluxMeanErr
            WHEN 'z' THEN diaObject.z_psfFluxMeanErr WHEN 'y' THEN diaObject.y_psfFluxMeanErr
        END
    AND abs(90 - angular_separation(diaSource.ra, diaSource.dec, 192.859, 27.128)) > 20;

INSERT INTO lsst.diaSource_static
SELECT diaSource.diaObjectId % 1000 AS salt, diaSource, observation_reason, target_name, firstDiaSourceMjdTai,
    flux_statistics, flux_rate.rate AS flux_rate, flux_rate.error AS flux_rate_error, flux_rate.mag_rate
FROM scored
WHERE NOT is_sso AND diaSource.diaObjectId > 0;

-- Salted by the two digits of the year, as in K04J12Q.
INSERT INTO lsst.diaSource_sso
SELECT substr(mpc_orbits.packed_primary_provisional_designation, 2, 2) AS salt,
    mpc_orbits.packed_primary_provisional_designation AS packedDesignation, diaSource, ssSource
FROM scored
WHERE is_sso AND mpc_orbits.packed_primary_provisional_designation IS NOT NULL;

INSERT INTO lsst.pixel1024
SELECT healpix_ring(diaSource.ra, diaSource.dec, 1024) AS pixel1024, firstDiaSourceMjdTai,
    diaSource.diaObjectId, diaSource.diaSourceId, diaSource.midpointMjdTai, diaSource.ra, diaSource.dec,
    diaSource.band, diaSource.psfFlux, diaSource.psfFluxErr, diaSource.reliability, diaObject.nDiaSources,
    flux_statistics, flux_rate.rate AS flux_rate, flux_rate.error AS flux_rate_error, flux_rate.mag_rate
FROM scored
WHERE NOT is_sso AND diaSource.diaObjectId > 0;
