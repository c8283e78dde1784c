package pgtest

// For package pgtest_test.
var (
	DatabaseName = databaseName
	WithDatabase = withDatabase
)
