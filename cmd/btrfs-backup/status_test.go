package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

func TestStatusAsksAnotherMachineAndAnswersWithoutIt(t *testing.T) {
	t.Parallel()
	f := newFarRig(t, sshtest.Options{})
	here := filepath.Join(btrfstest.New(t, rigSize).Dir, "backups")
	expect(t, exitDone, invokeCmd(t, f.to(nil, here, f.url)))
	var content strings.Builder
	for _, job := range []string{"home", "again"} { // which share a connection
		fmt.Fprintf(&content, "[job.%s]\nsource = %q\ndestination = [%q, %q]\nssh-opt = [\n", job, f.source, here, f.url)
		for _, option := range f.far.Options() {
			fmt.Fprintf(&content, "%q,\n", option)
		}
		content.WriteString("]\n")
	}
	file := filepath.Join(t.TempDir(), "config.toml")
	btrfstest.Check(t, os.WriteFile(file, []byte(content.String()), 0o600))
	status := func(options ...string) result {
		return invokeCmd(t, f.commandTo(nil, append([]string{"status", "--config", file}, options...)...))
	}
	r := expect(t, exitDone, status("--timeout", "2m"))
	if strings.Count(r.stdout, " good\n") != 4 || r.stderr != "" {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	f.far.noSession(t)

	f.far.proxy.Stall(true)
	r = expect(t, exitDiffer, status("--timeout", "3s"), "no answer within 3s")
	if strings.Count(r.stdout, " good\n") != 2 || strings.Count(r.stdout, "2026-01-01") < 4 || strings.Count(r.stdout, " NO ANSWER\n") != 2 {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
}
