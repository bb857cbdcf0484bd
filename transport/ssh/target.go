package ssh

import (
	"net"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/transport"
)

// A Target names a machine as its user types it.
type Target struct {
	User string // "": as configured
	Host string // name, address or alias; an IPv6 address without brackets
	Port int    // 0: as configured, else 22
}

// String gives [user@]host[:port], an IPv6 address in brackets.
func (t Target) String() string {
	text := t.Host
	switch {
	case t.Port != 0:
		text = net.JoinHostPort(t.Host, strconv.Itoa(t.Port))
	case strings.Contains(t.Host, ":"):
		text = "[" + t.Host + "]"
	}
	if t.User != "" {
		text = t.User + "@" + text
	}
	return text
}

// byHand gives the command with which a user can try an ssh program for the machine.
func (t Target) byHand(program string) string {
	argv := []string{program}
	if t.Port != 0 {
		argv = append(argv, "-p", strconv.Itoa(t.Port))
	}
	host := t.Host
	if t.User != "" {
		host = t.User + "@" + host
	}
	return transport.Quote(append(argv, host)...)
}
