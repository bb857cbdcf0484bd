package main

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// absence is a way for a machine not to answer.
type absence struct {
	name        string
	options     []string
	error, hint string
	leave       func(t testing.TB, l *link) (back func())
}

var absences = []absence{
	{
		name: "refused connection", error: "connection refused", hint: "is sshd running there",
		leave: func(_ testing.TB, l *link) func() {
			l.proxy.Refuse(true)
			return func() { l.proxy.Refuse(false) }
		},
	}, {
		name: "unknown name", error: "unknown.invalid", hint: "is the name right?",
		options: []string{"--ssh-opt", "HostName=unknown.invalid"},
		leave:   func(testing.TB, *link) func() { return func() {} },
	}, {
		name: "silence", error: "does not go on with the handshake", hint: "is the machine up",
		options: []string{"--ssh-opt", "ConnectTimeout=1"},
		leave: func(_ testing.TB, l *link) func() {
			l.proxy.Stall(true)
			return func() { l.proxy.Cut(); l.proxy.Stall(false) }
		},
	}, {
		name: "connections closed at once", error: "closed during the handshake", hint: "is it sshd that listens",
		leave: func(t testing.TB, l *link) func() {
			l.proxy.Refuse(true)
			listener, err := net.Listen("tcp", l.proxy.Addr)
			btrfstest.Check(t, err)
			go func() {
				for c, err := listener.Accept(); err == nil; c, err = listener.Accept() {
					c.Close()
				}
			}()
			return func() { listener.Close(); l.proxy.Refuse(false) }
		},
	},
}

func TestRemoteThatIsDownStopsNoOtherAndHealsByIncrements(t *testing.T) {
	t.Parallel()
	for _, absence := range absences {
		t.Run(absence.name, func(t *testing.T) {
			t.Parallel()
			f := newFarRig(t, sshtest.Options{})
			other := filepath.Join(btrfstest.New(t, rigSize).Dir, "backups")
			common := f.newest()
			back := absence.leave(t, f.far)
			options := slices.Concat(absence.options, []string{"-N", "1"})
			run := start(t, f.to(options, other, f.url))
			expect(t, exitPartly, run.wait(), "btrfs-backup: error: ", f.url, absence.error, "btrfs-backup: hint: ", absence.hint)
			f.isSaved(other)
			f.lacks(f.newest(), f.url)
			f.hasInCommon(common, f.url)
			f.hasInCommon(f.newest(), other)
			first := f.newest()

			f.change()
			run = start(t, f.to(options))
			expect(t, exitFailed, run.wait(), "took snapshot", absence.error)
			f.lacks(f.newest(), f.url)
			second := f.newest()

			back()
			f.change()
			healed := f.healsFar("--json")
			var parents []string
			for _, sent := range sentTo(t, healed, f.url) {
				parents = append(parents, sent.Parent+" "+sent.Snapshot)
			}
			if want := []string{common + " " + first, first + " " + second, second + " " + f.newest()}; !slices.Equal(parents, want) {
				t.Errorf("sent %q (parent and snapshot), not %q\n%s", parents, want, healed.stderr)
			}
		})
	}
}

// A refusal is a way not to be let in, or not to trust the machine.
type refusal struct {
	name  string
	make  func(t testing.TB, r *remote) (options []string)
	error func(t testing.TB, r *remote) []string
}

var refusals = []refusal{
	{
		name: "refused key",
		make: func(t testing.TB, r *remote) []string {
			rename(t, filepath.Join(r.Dir, "authorized_keys"), filepath.Join(r.Dir, "hidden"))
			t.Cleanup(func() { rename(t, filepath.Join(r.Dir, "hidden"), filepath.Join(r.Dir, "authorized_keys")) })
			return nil
		},
		error: func(testing.TB, *remote) []string {
			return []string{"error: destination ", "none of these keys is accepted", "hint: add a public key"}
		},
	}, {
		name: "unknown host key",
		make: func(t testing.TB, r *remote) []string {
			none := filepath.Join(t.TempDir(), "none")
			return []string{"--ssh-opt", "UserKnownHostsFile=" + none, "--ssh-opt", "StrictHostKeyChecking=ask"}
		},
		error: func(t testing.TB, r *remote) []string {
			return []string{"error: destination ", fingerprint(t, r.HostKey+".pub"), "hint: compare its fingerprint"}
		},
	}, {
		name: "changed host key",
		make: func(t testing.TB, r *remote) []string {
			changed := filepath.Join(r.Dir, "changed")
			known, err := os.ReadFile(r.KnownHosts)
			btrfstest.Check(t, err)
			key, err := os.ReadFile(r.HostKey + ".pub")
			btrfstest.Check(t, err)
			other := sshtest.NewKey(t, filepath.Join(r.Dir, "other_key"))
			content := strings.ReplaceAll(string(known), strings.TrimSpace(string(key)), other)
			btrfstest.Check(t, os.WriteFile(changed, []byte(content), 0o600))
			return []string{"--ssh-opt", "UserKnownHostsFile=" + changed}
		},
		error: func(t testing.TB, r *remote) []string {
			shown, known := fingerprint(t, r.HostKey+".pub"), fingerprint(t, filepath.Join(r.Dir, "other_key.pub"))
			return []string{"error: destination ", shown, known, filepath.Join(r.Dir, "changed"), "hint: "}
		},
	},
}

// fingerprint gives that of a public key, as ssh-keygen(1) does.
func fingerprint(t testing.TB, file string) string {
	t.Helper()
	return strings.Fields(btrfstest.Run(t, "ssh-keygen", "-l", "-f", file))[1]
}

func TestRemoteThatRefusesOrIsNotTrustedGetsNothing(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	for _, refusal := range refusals {
		t.Run(refusal.name, func(t *testing.T) {
			f := f.inFar(t)
			before := names(t, f.destination)
			options := refusal.make(t, f.far.remote)
			run := start(t, f.to(options))
			refused := expect(t, exitFailed, run.wait(), append(refusal.error(t, f.far.remote), f.url, "took snapshot")...)
			tellsOnce(t, refused)
			f.holdsOnly(before)
			f.lacks(f.newest(), f.url)
		})
	}
	f.healsFar()
}

func TestRemoteThatIsFullOrReadOnlyIsLeftCleanAndHeals(t *testing.T) {
	t.Parallel()
	faults := []struct {
		name, error, hint string
		begin, end        func(t testing.TB, fs *btrfstest.FS)
	}{
		{
			name: "full", error: "no space left on device", hint: "make room at ",
			begin: func(t testing.TB, fs *btrfstest.FS) { fill(t, fs, 4<<20) },
			end:   func(t testing.TB, fs *btrfstest.FS) { btrfstest.Run(t, "rm", filepath.Join(fs.Dir, "filler")) },
		}, {
			name: "read-only", error: "read-only file system", hint: "is mounted read-only: mount it for writing",
			begin: func(t testing.TB, fs *btrfstest.FS) { btrfstest.Run(t, "mount", "-o", "remount,ro", fs.Dir) },
			end:   func(t testing.TB, fs *btrfstest.FS) { btrfstest.Run(t, "mount", "-o", "remount,rw", fs.Dir) },
		},
	}
	f := newFarRigOn(t, sshtest.Options{}, 128<<20)
	other := filepath.Join(btrfstest.New(t, rigSize).Dir, "backups")
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			f := f.inFar(t)
			before := names(t, f.destination)
			fault.begin(t, f.destinationFS)
			f.write("large", 12<<20)
			run := start(t, f.to([]string{"--compress", "none"}, f.url, other))
			failed := expect(t, exitPartly, run.wait(), "btrfs-backup: error: ", f.url, fault.error, "hint: ", fault.hint)
			tellsOnce(t, failed)
			f.holdsOnly(before)
			f.isSaved(other)
			f.far.noSession(t)
			fault.end(t, f.destinationFS)
			f.healsFar()
		})
	}
}
