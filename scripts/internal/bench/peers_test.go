package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestPeerIsMeasuredFromFirstBackupToRestore(t *testing.T) {
	btrfstest.RequireRoot(t)
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	l := newLab(dir)
	t.Cleanup(l.close)
	tree := peerTree{bytes: 4 * mib}
	if err := l.preparePeers(tree); err != nil {
		t.Fatal(err)
	}
	var btrbk peer
	for _, p := range peers("btrfs-backup") {
		if p.name == "btrbk" {
			btrbk = p
		}
	}
	c, err := l.course(btrbk, tree)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.took) != len(phases) {
		t.Errorf("measured %d phases, not %d", len(c.took), len(phases))
	}
	if c.space < int64(tree.bytes) || c.space > 4*int64(tree.bytes) {
		t.Errorf("backups of %d bytes, half of them in small files, take %d", tree.bytes, c.space)
	}
}

func TestWhatDidNotComeBackIsNoResult(t *testing.T) {
	at := peerPlace{source: t.TempDir(), file: "some/file", target: t.TempDir()}
	put := func(path, content string) {
		t.Helper()
		if err := write(path, strings.NewReader(content), len(content)); err != nil {
			t.Fatal(err)
		}
	}
	put(filepath.Join(at.source, at.file), "new")
	if err := at.checkRestored(); err == nil {
		t.Error("nothing came back, and that was good enough")
	}
	restored := filepath.Join(at.target, "where", "it", "was")
	put(restored, "old")
	if err := at.checkRestored(); err == nil {
		t.Error("the file came back as it was before it changed, and that was good enough")
	}
	put(restored, "new")
	if err := at.checkRestored(); err != nil {
		t.Error(err)
	}
}

func TestMemoryIsThatOfAllProcesses(t *testing.T) {
	const held = 40_000_000
	cmd := exec.Command("perl", "-e", `$x = "x" x shift; fork; <STDIN>`, strconv.Itoa(held))
	stdin, err := cmd.StdinPipe() // which both wait for
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var most int64
	for end := time.Now().Add(time.Minute); most < 2*held && time.Now().Before(end); time.Sleep(time.Millisecond) {
		most = max(most, resident(cmd.Process.Pid))
	}
	if alone := highWater(cmd.Process.Pid); most < 2*held || alone >= 2*held {
		t.Errorf("two processes with %d bytes each had %d together, the first %d", held, most, alone)
	}
	if err := stdin.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestResultsTakeTheirPlaceInADocument(t *testing.T) {
	file := filepath.Join(t.TempDir(), "compared.md")
	document := "before\n" + resultsBegin + "old\n" + resultsEnd + "after\n"
	if err := os.WriteFile(file, []byte(document), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := replaceResults(file, []byte("new\n")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(document, "old", "new", 1); string(got) != want {
		t.Errorf("the document is %q, not %q", got, want)
	}
	if err := os.WriteFile(file, []byte("no place"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := replaceResults(file, nil); err == nil {
		t.Error("a document without a place for results was written")
	}
}

func TestThePageHasAPlaceForResultsOfAllPeers(t *testing.T) {
	page, err := os.ReadFile("../../../docs/compared.md")
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "compared.md")
	if err := os.WriteFile(copied, page, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := replaceResults(copied, nil); err != nil {
		t.Error(err)
	}
	for _, p := range peers("btrfs-backup") {
		if !strings.Contains(string(page), "| "+p.name+" ") {
			t.Errorf("there are no results of %s", p.name)
		}
	}
}
