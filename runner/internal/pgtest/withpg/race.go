package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// withoutRaceIfImpossible returns the command without its -race, after saying
// so, where the race detector cannot be had. It needs cgo, and with it a C
// compiler and the C library's headers.
func withoutRaceIfImpossible(ctx context.Context, command []string, say func(string, ...any)) ([]string, error) {
	if !slices.Contains(command, "-race") {
		return command, nil
	}
	reason := "CGO_ENABLED is 0"
	if os.Getenv("CGO_ENABLED") != "0" {
		if compiles(ctx) {
			return command, nil
		}
		err := aptInstall(ctx, say, "a C compiler", "gcc", "libc6-dev")
		if err == nil && compiles(ctx) {
			return command, nil
		}
		if err != nil && !errors.Is(err, errNoApt) {
			return nil, err
		}
		reason = "no C compiler works here"
	}
	say("RUNNING WITHOUT -race: %s", reason)
	return slices.DeleteFunc(slices.Clone(command), func(arg string) bool { return arg == "-race" }), nil
}

// compiles reports whether the C compiler that the go command uses can compile
// a program with a standard header.
func compiles(ctx context.Context) bool {
	out, err := exec.CommandContext(ctx, "go", "env", "CC").Output()
	if err != nil {
		return false
	}
	cc := strings.Fields(string(out))
	if len(cc) == 0 {
		return false
	}
	cmd := exec.CommandContext(ctx, cc[0], append(cc[1:], "-x", "c", "-c", "-o", os.DevNull, "-")...)
	cmd.Stdin = strings.NewReader("#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n")
	return cmd.Run() == nil
}
