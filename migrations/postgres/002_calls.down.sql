DROP TABLE weir_token_call;
DROP TABLE weir_failed_call;
DROP TABLE weir_call_count;
