package sshtest_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"

	"golang.org/x/sys/unix"
)

func TestAPortStaysTheTestsOwn(t *testing.T) {
	port := sshtest.Port(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	for range 2 {
		if _, err := net.Dial("tcp", address); err == nil {
			t.Error("somebody listens")
		}
		l, err := net.Listen("tcp", address)
		check(t, err)
		conn, err := net.Dial("tcp", address)
		check(t, err)
		check(t, conn.Close())
		check(t, l.Close())
	}
	other, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(other)
	if unix.Bind(other, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}) == nil {
		t.Error("another socket gets it")
	}
}
