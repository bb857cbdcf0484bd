package btrfs

import "strings"

const (
	incomingStart = "."
	incomingEnd   = ".incoming"
)

// Incoming is the hidden name under which a subvolume is received until it is complete.
func Incoming(name string) string { return incomingStart + name + incomingEnd }

// IncomingOf gives the name that a subvolume under a hidden name is to get, and false for any other name.
func IncomingOf(hidden string) (name string, ok bool) {
	name, ok = strings.CutPrefix(hidden, incomingStart)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, incomingEnd)
}

// IsIncoming tells a hidden name.
func IsIncoming(name string) bool {
	_, ok := IncomingOf(name)
	return ok
}
