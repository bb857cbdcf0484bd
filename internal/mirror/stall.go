package mirror

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// A pulse is what the processes of a group have done so far. Bytes alone are not enough: rsync may look at files for hours, of
// which the kernel counts no bytes, and time alone is too much: a rsync that waits for itself wakes up once a minute.
type pulse struct {
	bytes uint64        // read and written, be it of pipes or the cache
	busy  time.Duration // of the processors
}

// moved tells that a group which had the pulse before does something, as far as that can be seen. limit is how long it may do
// nothing.
func (p pulse) moved(before pulse, limit time.Duration) bool {
	const idle = 10000 // a part of the time in so many
	return p.bytes == 0 || p.bytes != before.bytes || p.busy-before.busy > limit/idle
}

// watch ends what does nothing for so long. It looks often, so as to notice soon.
func watch(ctx context.Context, look func() pulse, limit time.Duration, end context.CancelCauseFunc) {
	const looks = 20
	every := time.NewTicker(max(limit/looks, time.Millisecond))
	defer every.Stop()
	last, since := look(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		now := look()
		if now.moved(last, limit) {
			last, since = now, time.Now()
		} else if time.Since(since) >= limit {
			end(hint.New(fmt.Errorf("it made no progress for %s", limit),
				"does a disk, or a mount in the source, not answer? See the kernel's log; --stall-timeout 0 waits for ever"))
			return
		}
	}
}

// pulseOf reads /proc (proc(5)), as far as that can be read.
func pulseOf(group int) (p pulse) {
	const perSecond = 100 // USER_HZ
	processes, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range processes {
		text, _ := os.ReadFile(stat)
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // a name may hold anything
		const groupField, user, system = 2, 11, 12
		if len(fields) <= system || fields[groupField] != strconv.Itoa(group) {
			continue
		}
		for _, ticks := range fields[user : system+1] {
			n, _ := strconv.ParseInt(ticks, 10, 64)
			p.busy += time.Duration(n) * time.Second / perSecond
		}
		counts, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "io"))
		for line := range strings.Lines(string(counts)) {
			if name, count, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && strings.HasSuffix(name, "char") {
				n, _ := strconv.ParseUint(count, 10, 64)
				p.bytes += n
			}
		}
	}
	return p
}
