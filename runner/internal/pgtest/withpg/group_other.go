//go:build !unix

package main

import "os/exec"

// Without process groups the end of the context kills the command alone.
func group(*exec.Cmd)    {}
func endGroup(*exec.Cmd) {}
