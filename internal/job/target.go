package job

import (
	"cmp"
	"net"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
)

const rsyncPort = 873

// parseTarget understands [USER@]HOST[:PORT], which is a part of text or all of it.
func parseTarget(text, machine string) (t ssh.Target, err error) {
	if i := strings.LastIndex(machine, "@"); i >= 0 {
		t.User, machine = machine[:i], machine[i+1:]
	}
	t.Host = machine
	port := ""
	if address, after, ok := strings.Cut(machine, "]"); ok && strings.HasPrefix(address, "[") {
		t.Host = address[1:]
		if port, ok = strings.CutPrefix(after, ":"); !ok && after != "" {
			return t, badPlace(text, strconv.Quote(after)+" follows the address", "use ssh://[ADDRESS]:PORT/PATH")
		}
	} else if name, after, ok := strings.Cut(machine, ":"); ok {
		t.Host, port = name, after
	}
	t.Host = strings.ToLower(t.Host)
	if port != "" {
		t.Port, err = strconv.Atoi(port)
		if err != nil || t.Port < 1 || t.Port > 65535 {
			return t, badPlace(text, strconv.Quote(port)+" is no port", "use a number up to 65535, or an IPv6 address in brackets")
		}
	}
	switch {
	case t.Host == "":
		return t, badPlace(text, "the host is missing", "use ssh://HOST/PATH")
	case strings.HasPrefix(t.Host, "-") || strings.HasPrefix(t.User, "-"):
		return t, badPlace(text, "no host and no user begins with a hyphen", "check the spelling")
	case strings.Contains(t.User, ":"):
		return t, badPlace(text, "a password cannot be given there", "use a key: ssh-keygen, ssh-copy-id")
	}
	return t, nil
}

// daemonSeenFrom is where a daemon is found from the machine at the end of a tunnel, as HOST:PORT: on that machine, unless
// the daemon's URL names another one.
func daemonSeenFrom(through ssh.Target, d Daemon) string {
	machine, _, _ := strings.Cut(strings.TrimPrefix(d.URL, rsyncScheme), "/")
	daemon, err := parseTarget(d.URL, machine)
	if err != nil || daemon.Host == through.Host {
		daemon.Host = "localhost"
	}
	return net.JoinHostPort(daemon.Host, strconv.Itoa(cmp.Or(daemon.Port, rsyncPort)))
}
