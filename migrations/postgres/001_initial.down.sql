DROP TABLE weir_worker;
DROP TABLE weir_drain;
DROP TABLE weir_write_record;
DROP TABLE weir_write;
DROP TABLE weir_sync_seen;
DROP TABLE weir_sync;
DROP TABLE weir_org;
