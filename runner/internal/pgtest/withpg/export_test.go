package main

// For package main_test.
var (
	HowToGetPostgres = howToGetPostgres
	Main             = main
	Modules          = modules
)
