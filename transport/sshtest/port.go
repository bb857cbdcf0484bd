package sshtest

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Port gives a port of 127.0.0.1 that is the test's own until it ends: no other process and no connection gets it. A server of the test
// may listen on it, also again, if it sets SO_REUSEADDR, as all do; until then connections are refused.
func Port(t testing.TB) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { check(t, unix.Close(fd)) })
	check(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	check(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := unix.Getsockname(fd)
	check(t, err)
	return name.(*unix.SockaddrInet4).Port
}
