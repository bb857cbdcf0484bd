package main

import (
	"path/filepath"
	"testing"
	"time"
)

func TestAJobIsRunAtTheIntervalThatTheConfigurationNames(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	backups := filepath.Join(smallFS(t).Dir, "backups")
	m.configure("[interval]\nsix-hourly = \"6h\"\n[job.home]\nsource = \"SOURCE\"\ndestination = %q\nevery = \"six-hourly\"\n", backups)
	var made []string
	for range 4 * 9 { // a quarter of an hour each
		expect(t, exitDone, m.run())
		m.now = m.now.Add(14 * time.Minute)
	}
	for _, name := range m.dated(backups) {
		made = append(made, name[len("2026030"):len("20260302-1201")])
	}
	want(t, "made", made, "2-1201", "2-1801")
}
