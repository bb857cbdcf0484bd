package mirror

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

func TestAReadingIsShownIfItTakesMoreThanAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		display := progress.NewLines(func(line string) { lines = append(lines, line) }, 10*time.Second)
		defer display.Close()
		o := Options{Progress: display}
		r := rereading{began: time.Now(), show: func() *progress.Transfer { return o.show(t.Context(), "reading", 100<<20) }}
		r.add(1 << 20)
		if r.shown != nil {
			t.Error("it is shown at once")
		}
		time.Sleep(2 * aMoment)
		r.add(24 << 20)
		r.add(25 << 20)
		time.Sleep(12 * time.Second)
		synctest.Wait()
		r.add(25 << 20)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		r.done()
		const first, second = "reading: 50 MiB, 2.5 MiB/s", "reading: 75 MiB of at most 100 MiB (at least 75 %), 2.5 MiB/s, at most 10 s left"
		if len(lines) != 2 || lines[0] != first || lines[1] != second || r.bytes != 75<<20 {
			t.Errorf("%d bytes, and shown %q", r.bytes, lines)
		}
	})
}
