DROP TABLE weir_schema;
