-- The whole work in SQL; SqlJob fills in ${...}. The lookups are functions in Java (Lookups).
-- The format `raw` with a STRING keeps a message's own bytes, so that the dead letter has them. The format csv would not.
CREATE TEMPORARY TABLE raw_fr (
  k BYTES,
  line STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'cdr.raw.FR',
  'properties.bootstrap.servers' = '${bootstrap}',
  'properties.group.id' = '${group}',
  'scan.startup.mode' = 'group-offsets',
  'properties.auto.offset.reset' = 'earliest',
  'scan.topic-partition-discovery.interval' = '0',
  'properties.max.poll.records' = '5000',
  'properties.max.partition.fetch.bytes' = '4194304',
  'key.format' = 'raw',
  'key.fields' = 'k',
  'value.format' = 'raw',
  'value.fields-include' = 'EXCEPT_KEY'
);

CREATE TEMPORARY FUNCTION lat_of AS 'peers.Lookups$Lat';
CREATE TEMPORARY FUNCTION lon_of AS 'peers.Lookups$Lon';
CREATE TEMPORARY FUNCTION segment_of AS 'peers.Lookups$Segment';
CREATE TEMPORARY FUNCTION plan_of AS 'peers.Lookups$Plan';

CREATE TEMPORARY TABLE cdr_final (
  imsi STRING, msisdn STRING, imei STRING, cell_id STRING, rat STRING,
  bytes_up BIGINT, bytes_down BIGINT, event_time TIMESTAMP_LTZ(3),
  country STRING, event_type STRING, timezone STRING, mcc STRING, mnc STRING,
  segment STRING, plan STRING, event_date STRING, event_hour INT,
  is_roaming BOOLEAN, geo_lat DOUBLE, geo_lon DOUBLE
) WITH (
  'connector' = 'kafka',
  'topic' = 'cdr.final',
  'properties.bootstrap.servers' = '${bootstrap}',
  'properties.acks' = 'all',
  'properties.compression.type' = 'snappy',
  'properties.linger.ms' = '10',
  'properties.batch.size' = '131072',
  'properties.buffer.memory' = '67108864',
  'sink.delivery-guarantee' = 'at-least-once',
  'key.format' = 'raw',
  'key.fields' = 'imsi',
  'value.format' = 'avro',
  'value.avro.timestamp_mapping.legacy' = 'false',
  'value.fields-include' = 'ALL'
);

CREATE TEMPORARY TABLE cdr_dlq (
  k BYTES,
  line STRING,
  headers MAP<STRING, BYTES> METADATA
) WITH (
  'connector' = 'kafka',
  'topic' = 'cdr.dlq',
  'properties.bootstrap.servers' = '${bootstrap}',
  'properties.acks' = 'all',
  'properties.compression.type' = 'snappy',
  'properties.linger.ms' = '10',
  'sink.delivery-guarantee' = 'at-least-once',
  'key.format' = 'raw',
  'key.fields' = 'k',
  'value.format' = 'raw',
  'value.fields-include' = 'EXCEPT_KEY'
);

-- Split once and decide once; both sinks read this view, and the planner is told to make one block of it
-- (table.optimizer.reuse-optimize-block-with-digest-enabled), so neither expression is repeated above it.
CREATE TEMPORARY VIEW split_fr AS
SELECT k, line, SPLIT(line, ';') AS f,
  -- the usual form of the event time (the last 20 characters), read here once: above it is needed three times
  TO_TIMESTAMP_LTZ(
    TIMESTAMPDIFF(DAY, DATE '1970-01-01', TRY_CAST(SUBSTRING(line, CHAR_LENGTH(line) - 19, 10) AS DATE)) * CAST(86400000 AS BIGINT)
      + TRY_CAST(SUBSTRING(line, CHAR_LENGTH(line) - 8, 2) AS INT) * 3600000
      + TRY_CAST(SUBSTRING(line, CHAR_LENGTH(line) - 5, 2) AS INT) * 60000
      + TRY_CAST(SUBSTRING(line, CHAR_LENGTH(line) - 2, 2) AS INT) * 1000, 3) AS usual_time,
  REGEXP(line, '^\d{14,15};\+?\d{10,15};(?:\d{14,16})?;[^;]*;[2345]G;(?:\d{1,18}|[0-8]\d{18}|9[01]\d{17});(?:\d{1,18}|[0-8]\d{18}|9[01]\d{17});(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)[T ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)\z') AS ok
FROM raw_fr;

CREATE TEMPORARY VIEW valid_fr AS
SELECT
  f[1] AS imsi,
  CASE WHEN f[2] LIKE '+%' THEN f[2] ELSE '+' || f[2] END AS msisdn,
  NULLIF(f[3], '') AS imei,
  f[4] AS cell_id,
  f[5] AS rat,
  CAST(f[6] AS BIGINT) AS bytes_up,
  CAST(f[7] AS BIGINT) AS bytes_down,
  CASE WHEN CHAR_LENGTH(f[8]) = 20 THEN usual_time ELSE TO_TIMESTAMP_LTZ(
    TIMESTAMPDIFF(DAY, DATE '1970-01-01', CAST(SUBSTRING(f[8], 1, 10) AS DATE)) * CAST(86400000 AS BIGINT)
      + CAST(SUBSTRING(f[8], 12, 2) AS INT) * 3600000
      + CAST(SUBSTRING(f[8], 15, 2) AS INT) * 60000
      + CAST(SUBSTRING(f[8], 18, 2) AS INT) * 1000
      + CASE WHEN CHAR_LENGTH(f[8]) = 20 THEN 0 ELSE
          COALESCE(CAST(RPAD(REGEXP_EXTRACT(f[8], '\.(\d{1,3})', 1), 3, '0') AS INT), 0)
          - COALESCE(CAST(REGEXP_REPLACE(REGEXP_EXTRACT(f[8], '[+-]\d\d:?\d\d$'), ':?\d\d$', '') AS INT) * 3600000
              + CAST(REGEXP_EXTRACT(f[8], '[+-]\d\d:?(\d\d)$', 1) AS INT)
                * CASE WHEN REGEXP_EXTRACT(f[8], '([+-])\d\d:?\d\d$', 1) = '-' THEN -60000 ELSE 60000 END, 0)
        END, 3) END AS event_time,
  SUBSTRING(f[1], 1, 3) AS mcc,
  SUBSTRING(f[1], 4, 2) AS mnc
FROM split_fr WHERE ok;

INSERT INTO cdr_final
SELECT
  v.imsi, v.msisdn, v.imei, v.cell_id, v.rat, v.bytes_up, v.bytes_down, v.event_time,
  'FR', 'data', 'Europe/Paris', v.mcc, v.mnc, segment_of(v.imsi), plan_of(v.imsi),
  CAST(CAST(v.event_time AS DATE) AS STRING),
  CAST(EXTRACT(HOUR FROM v.event_time) AS INT),
  v.mcc <> '208', lat_of(v.cell_id), lon_of(v.cell_id)
FROM valid_fr AS v;

INSERT INTO cdr_dlq
SELECT k, line, CAST(MAP[
  'orion.error.code', ENCODE(CASE
    WHEN line IS NULL OR line = '' THEN 'empty_payload'
    WHEN CARDINALITY(f) <> 8 THEN 'malformed_payload'
    WHEN NOT REGEXP(f[1], '^\d{14,15}\z') THEN 'invalid_imsi'
    WHEN NOT REGEXP(f[2], '^\+?\d{10,15}\z') THEN 'invalid_msisdn'
    WHEN NOT REGEXP(f[3], '^(?:\d{14,16})?\z') THEN 'invalid_imei'
    WHEN NOT REGEXP(f[5], '^[2345]G\z') THEN 'unknown_rat'
    WHEN NOT REGEXP(f[6], '^(?:\d{1,18}|[0-8]\d{18}|9[01]\d{17})\z') THEN 'invalid_number'
    WHEN NOT REGEXP(f[7], '^(?:\d{1,18}|[0-8]\d{18}|9[01]\d{17})\z') THEN 'invalid_number'
    ELSE 'invalid_timestamp' END, 'UTF-8')] AS MAP<STRING, BYTES>)
FROM split_fr WHERE ok IS NOT TRUE;
