package inventory

import (
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

func TestAnExplanationFitsAScreen(t *testing.T) {
	t.Parallel()
	var entries []Decided
	for i := range 61 {
		at := time.Date(2026, 11, 29, 1, 30, 0, 0, time.Local).AddDate(0, 0, -i)
		e := Decided{Verdict: retention.Verdict{Name: at.Format("20060102-150405"), Keep: i < 34}, Goes: at.AddDate(1, 0, 0)}
		e.Reasons = []string{"newest common with ssh://root@nas.example.org:2222/backup/laptop/home", "the newest", "day 1 of 14"}
		if i > 0 {
			e.Reasons = []string{"day 12 of 14", "week 1 of 8", "month 1 of 12", "year 1 of all"}
		}
		entries = append(entries, e)
	}
	for _, all := range []bool{false, true} {
		var b strings.Builder
		btrfstest.Check(t, WriteDecided(&b, "/mnt/usb/home", entries, all))
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		for _, line := range lines {
			if len(line) > 80 {
				t.Errorf("%d columns: %s", len(line), line)
			}
		}
		last := "... 25 more; --all shows them"
		if all {
			last = "delete   20260930-013000  now         day 12 of 14, week 1 of 8, ..."
		}
		if lines[0] != "/mnt/usb/home: 61 backups, 34 stay, 27 go" || lines[len(lines)-1] != last || !all && len(lines) != 39 {
			t.Errorf("%d lines:\n%s", len(lines), b.String())
		}
	}
}
