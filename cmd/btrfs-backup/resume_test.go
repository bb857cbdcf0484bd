package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// A link is a remote behind a proxy that can be cut.
type link struct {
	*remote
	proxy *sshtest.Proxy
}

func newLink(t testing.TB, o sshtest.Options) *link {
	t.Helper()
	l := &link{remote: newRemote(t, o)}
	l.proxy = sshtest.NewProxy(t, l.Addr())
	known, err := os.ReadFile(l.KnownHosts)
	btrfstest.Check(t, err)
	_, key, _ := strings.Cut(string(known), " ")
	line := fmt.Sprintf("[127.0.0.1]:%d %s", l.proxy.Port(), key)
	btrfstest.Check(t, os.WriteFile(l.KnownHosts, append(known, line...), 0o600))
	return l
}

func (l *link) place(dir string) string {
	return fmt.Sprintf("ssh://%s@127.0.0.1:%d%s", l.User, l.proxy.Port(), dir)
}

// newLargePair makes a source with a file of random bytes, which no compression makes shorter.
func newLargePair(t testing.TB, size int64) (source, destination string) {
	t.Helper()
	const room = 1 << 30
	source = filepath.Join(btrfstest.New(t, room).Dir, "home")
	btrfstest.Run(t, "btrfs", "subvolume", "create", source)
	f, err := os.Create(filepath.Join(source, "large"))
	btrfstest.Check(t, err)
	_, err = io.CopyN(f, rand.Reader, size)
	btrfstest.Check(t, err)
	btrfstest.Check(t, f.Close())
	return source, filepath.Join(btrfstest.New(t, room).Dir, "backups")
}

// only gives the transfer of a run that made one.
func only(t testing.TB, stdout string) engine.TransferReport {
	t.Helper()
	var report struct {
		Destinations []struct{ Transfers []engine.TransferReport }
	}
	btrfstest.Check(t, json.Unmarshal([]byte(stdout), &report))
	if len(report.Destinations) != 1 || len(report.Destinations[0].Transfers) != 1 {
		t.Fatalf("not one transfer:\n%s", stdout)
	}
	return report.Destinations[0].Transfers[0]
}

// cutAt cuts a link each time that so many more bytes have crossed it.
func (l *link) cutAt(every int64, times int) (cuts func() int) {
	done, n := make(chan struct{}), 0
	go func() {
		defer close(done)
		for n < times {
			if l.proxy.Up.Load()+l.proxy.Down.Load() < every*int64(n+1) {
				time.Sleep(time.Millisecond)
				continue
			}
			l.proxy.Cut()
			n++
		}
	}()
	return func() int { <-done; return n }
}

func TestABrokenTransferGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	const size = 300 << 20
	for name, push := range map[string]bool{"push": true, "pull": false} {
		t.Run(name, func(t *testing.T) {
			if !push {
				btrfstest.OnlyInAll(t)
			}
			source, destination := newLargePair(t, size)
			l := newLink(t, sshtest.Options{})
			from, to := source, l.place(destination)
			if !push {
				from, to = l.place(source), destination
			}
			cuts := l.cutAt(size/6, 5)
			result := succeed(t, l.arguments("--json", "-v", "debug", from, to)...)
			sent := only(t, result.stdout)
			crossed := l.proxy.Up.Load() + l.proxy.Down.Load()
			if cuts() != 5 || push && sent.Resumed == 0 {
				t.Errorf("cut %d times, resumed %d times", cuts(), sent.Resumed)
			}
			t.Logf("%d bytes crossed for a stream of %d: %.4f", crossed, sent.Bytes, float64(crossed)/float64(sent.Bytes))
			if limit := sent.Bytes + sent.Bytes/50; sent.Bytes < size || crossed > limit {
				t.Errorf("%d bytes crossed for a stream of %d, want no more than %d\n%s", crossed, sent.Bytes, limit, result.stderr)
			}
			isCopy(t, source, destination, sent.Snapshot)
			if strings.Contains(result.stderr, "from the start") {
				t.Errorf("it began again:\n%s", result.stderr)
			}
		})
	}
}
