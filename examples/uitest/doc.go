// Package uitest looks at River UI in a browser: its tests check that an
// operator sees there which lane of which org is held, and why. It is a module
// of its own, so that nobody who uses Weir gets a browser's driver with it.
package uitest
