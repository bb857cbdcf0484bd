package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/transport/sshtest"
)

func TestDirectoriesAreCopiedToMachinesWithoutTheProgram(t *testing.T) {
	btrfstest.RequireRoot(t)
	bin := t.TempDir()
	btrfstest.Check(t, os.WriteFile(filepath.Join(bin, "btrfs-backup"), []byte("#!/bin/sh\nexit 127\n"), 0o755)) // wherever it is
	environ := []string{"PATH=" + bin + ":/usr/local/bin:/usr/bin:/bin", "HOME=" + t.TempDir()}
	far := &remote{Server: sshtest.Start(t, sshtest.Options{Env: environ})}
	for _, option := range far.Options() {
		far.options = append(far.options, "--ssh-opt", option)
	}
	for _, kind := range copyKinds {
		t.Run(kind, func(t *testing.T) {
			r := newCopyRig(t, kind)
			f := farCopy{r, far, r.source, far.place(r.destination)}
			btrfstest.Populate(f, f.source, 1)
			f.everyByteInNames()
			f.random(1, 8<<20, "large")
			histories := make(map[string]history)
			for generation := range int64(3) {
				if generation > 0 {
					btrfstest.Change(f, f.source, generation)
				}
				result := f.copies("--json")
				sent := sentTo(f, result, f.to)
				if generation > 0 && (sent[0].Parent == "" || sent[0].Wire == 0 || sent[0].Wire > 4<<20) {
					f.Errorf("not incremental: %+v", sent)
				}
				histories[f.newest()] = historyOf(f, f.newest())
			}
			for backup, h := range histories {
				h.unchanged(f, backup)
			}
			oldest := f.backups()[0]
			f.write("another", "file")
			expect(f, exitDone, invokeCmd(f, f.commandTo(nil, slices.Concat([]string{"-n", "2"}, far.arguments(f.from, f.to))...)))
			if got := f.backups(); len(got) != 2 || exists(filepath.Join(f.destination, oldest)) {
				f.Errorf("the backups are %v", got)
			}
			for _, name := range f.backups() {
				if h, known := histories[filepath.Join(f.destination, name)]; known {
					h.unchanged(f, filepath.Join(f.destination, name))
				}
			}
			expect(f, exitFailed, f.invoke("verify", far.place(f.destination+"/.latest")), "needs btrfs-backup")
			expect(f, exitDone, f.invoke("list", f.to), f.backups()...)
		})
	}
}
