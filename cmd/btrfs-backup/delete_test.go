package main

import (
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

func TestBackupsOfAnotherMachineAreDeletedIfTheKeyMayDoSo(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	taken := series(t, 4, source, destination)
	deletes := func(r *remote, status int, texts ...string) {
		t.Helper()
		args := append([]string{"delete"}, r.options...)
		expect(t, status, invoke(t, nil, append(args, r.place(filepath.Join(destination, taken[0])))...), texts...)
	}
	deletes(newRestricted(t, "--restrict-to '"+destination+"' --append-only"), exitFailed, "may not delete", "append-only")
	want(t, "backups", names(t, destination), taken...)
	deletes(newRestricted(t, "--restrict-to '"+destination+"'"), exitDone)
	far := newRemote(t, sshtest.Options{})
	expect(t, exitDone, invoke(t, nil, append(append([]string{"prune", "-n1"}, far.options...), far.place(destination))...))
	want(t, "backups", names(t, destination), taken[3])
	expect(t, exitDone, invoke(t, nil, append(append([]string{"forget"}, far.options...), far.place(source), destination)...), "")
	if l := ledger(t, filepath.Join(source, "snapshot")); len(l) > 0 {
		t.Errorf("the ledger holds %v", l)
	}
}
