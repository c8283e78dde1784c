// Package runner runs Salesforce sync and write jobs on River: it keeps the
// orgs' grants, lets waiting jobs through the gate, guards each of them, and
// tells the app what happened.
package runner
