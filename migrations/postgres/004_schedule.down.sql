DROP TABLE weir_schedule;
