package underway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/underway"
)

var check = btrfstest.Check

// As a run of its own, the test program tells of one until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("TEST_ONLY_RUN_IN"); dir != "" {
		underway.Begin(context.Background(), dir, underway.Run{Job: "killed"}, nil)
		fmt.Println("begun")
		select {}
	}
	os.Exit(m.Run())
}

func TestARunIsToldWhileItLastsWithItsTransfers(t *testing.T) {
	dir := t.TempDir()
	if all := underway.Runs(t.Context(), dir); len(all) > 0 {
		t.Errorf("before: %+v", all)
	}
	display, end := underway.Begin(t.Context(), dir, underway.Run{Job: "home", Source: "/home", Began: time.Now()}, nil)
	_, endOther := underway.Begin(t.Context(), dir, underway.Run{Source: "/etc", Began: time.Now()}, progress.Silent())
	all := underway.Runs(t.Context(), dir)
	if len(all) != 2 || all[0].Job != "home" || all[0].PID != os.Getpid() || len(all[0].Transfers) > 0 || all[1].Source != "/etc" {
		t.Errorf("begun: %+v", all)
	}
	transfer := display.Start(t.Context(), "/mnt/usb/home: 1", nil)
	transfer.Add(42)
	for all = underway.Runs(t.Context(), dir); len(all[0].Transfers) == 0; all = underway.Runs(t.Context(), dir) {
		time.Sleep(50 * time.Millisecond)
	}
	if got := all[0].Transfers[0]; got.Title != "/mnt/usb/home: 1" || got.Bytes != 42 {
		t.Errorf("%+v", got)
	}
	transfer.Done(nil)
	end()
	if all := underway.Runs(t.Context(), dir); len(all) != 1 || all[0].Source != "/etc" {
		t.Errorf("when one ended: %+v", all)
	}
	endOther()
	if all := underway.Runs(t.Context(), dir); len(all) > 0 {
		t.Errorf("when both ended: %+v", all)
	}
}

func TestAKilledRunIsToldNoMoreAndTheNextOneRemovesWhatItLeft(t *testing.T) {
	dir := t.TempDir()
	run := exec.Command(os.Args[0])
	run.Env = append(os.Environ(), "TEST_ONLY_RUN_IN="+dir)
	out, err := run.StdoutPipe()
	check(t, err)
	check(t, run.Start())
	_, err = out.Read(make([]byte, 1))
	check(t, err)
	if all := underway.Runs(t.Context(), dir); len(all) != 1 || all[0].PID != run.Process.Pid {
		t.Errorf("while it lives: %+v", all)
	}
	check(t, run.Process.Kill())
	_ = run.Wait()
	left, _ := filepath.Glob(filepath.Join(dir, "underway/*/run.json"))
	if all := underway.Runs(t.Context(), dir); len(all) > 0 || len(left) != 1 {
		t.Errorf("killed: %+v, %v", all, left)
	}
	_, end := underway.Begin(t.Context(), dir, underway.Run{}, nil)
	end()
	if left, _ := os.ReadDir(filepath.Join(dir, "underway")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWhereNothingCanBeToldARunGoesOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o600))
	shown := progress.Silent()
	display, end := underway.Begin(t.Context(), file, underway.Run{}, shown)
	end()
	if display != shown || len(underway.Runs(t.Context(), file)) > 0 {
		t.Error("it is told")
	}
	text, err := json.Marshal(underway.Run{PID: 1, Source: "/home"})
	if want := `{"pid":1,"source":"/home","began":"0001-01-01T00:00:00Z"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}
