package main

import (
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// The delay is for telling what waits for an answer. It need only be longer than what is sent at once takes to be sent.
func TestAnIncrementTakesFewRoundTrips(t *testing.T) {
	t.Parallel()
	const most = 8 // more than a login: one more than it takes, for what is late on a slow machine
	f := newFarRig(t, sshtest.Options{})
	expect(t, exitDone, f.send())
	f.write("little", 2000)
	f.far.proxy.Delay(400 * time.Millisecond)
	login := f.far.trips(func() {
		target := ssh.Target{User: f.far.User, Host: "127.0.0.1", Port: f.far.proxy.Port()}
		machine := ssh.New(target, ssh.Options{Options: f.far.Options()})
		defer machine.Close()
		session, err := machine.Session(t.Context(), "true")
		btrfstest.Check(t, err)
		btrfstest.Check(t, session.Wait())
	})
	var told string
	run := f.far.trips(func() { told = expect(t, exitDone, f.send("--verbosity", "debug")).stderr })
	if n := strings.Count(told, "running on "); n != 2 {
		t.Errorf("%d sessions, not one for calls and one for the little stream:\n%s", n, told)
	}
	t.Logf("%d round trips, a login %d", run, login)
	if run > login+most {
		t.Errorf("%d round trips, of which a login is %d", run, login)
	}
}

// trips counts the round trips that something takes.
func (l *link) trips(do func()) int64 {
	before := l.proxy.RoundTrips()
	do()
	return l.proxy.RoundTrips() - before
}
