package cluster

// For package cluster_test.
var (
	FindBinariesIn = findBinaries
	OpenToAll      = openToAll
)
