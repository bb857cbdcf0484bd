package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// A sample tells how many bytes went up a link by a time, at the most.
type sample struct {
	at time.Time
	up int64
}

// sampled takes samples until stop gives them.
func (l *link) sampled() (stop func() []sample) {
	done, all := make(chan struct{}), make(chan []sample)
	go func() {
		var taken []sample
		for ticker := time.NewTicker(20 * time.Millisecond); ; {
			up := l.proxy.Up.Load()
			taken = append(taken, sample{time.Now(), up})
			select {
			case <-ticker.C:
			case <-done:
				ticker.Stop()
				all <- taken
				return
			}
		}
	}()
	return func() []sample { close(done); return <-all }
}

// The limit is one of each destination, of the wire where there is one.
func TestRemoteRateLimitHoldsOnTheWireAndHere(t *testing.T) {
	t.Parallel()
	const rate, size, burst = 4 << 20, 6 << 20, 1 << 20
	f := newFarRig(t, sshtest.Options{})
	other := f.another(btrfstest.New(t, rigSize))
	f.write("large", size)
	stop := f.far.sampled()
	options := []string{"--rate-limit", "4M", "--compress", "none", "--json"}
	limited := expect(t, exitDone, invokeCmd(t, f.to(options, f.url, other)))
	samples := stop()
	for _, s := range samples { // since the beginning: later, a proxy that was held up would let pass at once what came meanwhile
		if allowed := int64(rate*s.at.Sub(samples[0].at).Seconds()) + burst; s.up-samples[0].up > allowed {
			t.Fatalf("%d bytes went up in %s, where %d are allowed", s.up-samples[0].up, s.at.Sub(samples[0].at), allowed)
		}
	}
	if up := samples[len(samples)-1].up - samples[0].up; up < size {
		t.Errorf("%d bytes went up", up)
	}
	for _, place := range []string{f.url, other} {
		transfers := sentTo(t, limited, place)
		sent := transfers[len(transfers)-1]
		atLeast := time.Duration(float64(sent.Bytes-burst) / rate * float64(time.Second))
		if sent.Bytes < size || sent.Duration < atLeast {
			t.Errorf("%d bytes to %s took %s, not %s", sent.Bytes, place, sent.Duration, atLeast)
		}
	}
}

func TestRemoteCompressionMakesFewerBytesCross(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	f := newFarRig(t, sshtest.Options{})
	text := filepath.Join(f.source, "text")
	cross := func(mode string) (sent engine.TransferReport, crossed int64) {
		btrfstest.Run(t, "sh", "-c", fmt.Sprintf("yes 'what the %s says again and again' | head -c %d >'%s'", mode, size, text))
		before := f.far.proxy.Up.Load()
		report := f.healsFar("--compress", mode, "--json")
		return sentTo(t, report, f.url)[0], f.far.proxy.Up.Load() - before
	}
	if sent, crossed := cross("zstd"); sent.Bytes < size || crossed > size/4 || sent.Wire > crossed || sent.Wire == 0 {
		t.Errorf("with zstd: %d bytes crossed, the report says %d of %d", crossed, sent.Wire, sent.Bytes)
	}
	if sent, crossed := cross("none"); sent.Bytes < size || crossed < size || sent.Wire > crossed || sent.Wire < sent.Bytes {
		t.Errorf("with none: %d bytes crossed, the report says %d of %d", crossed, sent.Wire, sent.Bytes)
	}
}

// logins gives how many times a client was let in, and sessions how many it began.
func (r *remote) logins() (logins, sessions int) {
	log := r.Log() // sshd's auth.c and session.c
	return strings.Count(log, "Accepted publickey for"), strings.Count(log, "Starting session:")
}

func TestRemoteDestinationsOfOneMachineShareAConnection(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	second := f.destination + "-too"
	before, _ := f.far.logins()
	expect(t, exitDone, invokeCmd(t, f.to(nil, f.url, f.far.place(second))))
	if after, _ := f.far.logins(); after-before != 1 {
		t.Errorf("%d connections were made", after-before)
	}
	f.isSavedFar()
	f.isSaved(second)
	f.far.noSession(t)
}

func TestRemotePlacesAreListedInOneSession(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	places := []string{f.url}
	for i := range 9 {
		places = append(places, f.far.place(makeDir(t, fmt.Sprintf("%s-%d", f.destination, i))))
	}
	loginsBefore, sessionsBefore := f.far.logins()
	listed := succeed(t, slices.Concat([]string{"list"}, f.far.options, places)...)
	for _, place := range places {
		if !strings.Contains(listed.stdout, place+": ") {
			t.Errorf("%s is not listed:\n%s", place, listed.stdout)
		}
	}
	if logins, sessions := f.far.logins(); logins-loginsBefore != 1 || sessions-sessionsBefore != 1 {
		t.Errorf("%d connections and %d sessions", logins-loginsBefore, sessions-sessionsBefore)
	}
	f.far.noSession(t)
}
