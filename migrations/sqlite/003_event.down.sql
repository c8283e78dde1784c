DROP INDEX weir_write_record_cancelled;
ALTER TABLE weir_write_record DROP COLUMN cancellation;
DROP TABLE weir_cancellation;
DROP TABLE weir_event;
