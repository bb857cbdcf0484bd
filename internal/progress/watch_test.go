package progress

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestWhoWatchesSeesWhatLinesAreStillDueToTell(t *testing.T) {
	lines, told := make(chan string, 100), make(chan []Now, 100)
	d := NewLines(func(line string) { lines <- line }, 2*time.Second)
	defer d.Close()
	d.Watch(100*time.Millisecond, func(all []Now) { told <- all })
	transfer := d.Start(t.Context(), "/mnt/usb: 1", func(context.Context) (Total, error) { return Total{Bytes: 4 << 20}, nil })
	transfer.Add(1 << 20)
	for all := range told {
		if len(all) == 1 && all[0].Total > 0 { // the first line asked for it
			if n := all[0]; n.Title != "/mnt/usb: 1" || n.Bytes != 1<<20 || n.Began.IsZero() || !strings.HasPrefix(n.Sentence(), "1.0 MiB of 4.0 MiB (25 %), ") {
				t.Errorf("%+v: %s", n, n.Sentence())
			}
			break
		}
	}
	if line := <-lines; !strings.HasPrefix(line, "/mnt/usb: 1: 1.0 MiB, ") {
		t.Errorf("the line is %q", line)
	}
	transfer.Done(nil)
	for all := range told {
		if len(all) == 0 {
			return
		}
	}
}
