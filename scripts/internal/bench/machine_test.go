package main

import (
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestMeasureCountsWhatOutlivesItsConnection(t *testing.T) {
	btrfstest.RequireRoot(t)
	m, err := newMachine(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const busy = 300 * time.Millisecond
	u, err := m.measure([]string{"ssh", near, `perl -e '1 while (times)[0] < 0.3' </dev/null >/dev/null 2>&1 &`})
	if err != nil {
		t.Fatal(err)
	}
	if u.there < busy {
		t.Errorf("counted %s of a process that took %s", u.there, busy)
	}
	if u.cpu >= busy {
		t.Errorf("counted %s of the other machine's time here", u.cpu)
	}
}
