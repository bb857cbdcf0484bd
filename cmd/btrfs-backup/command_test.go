package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// vault is a directory into which a shell command puts each stream, under the name of its snapshot, and what it was told.
type vault struct {
	testing.TB
	dir    string
	source string
}

func newVault(t testing.TB) *vault {
	t.Helper()
	source := filepath.Join(btrfstest.New(t, testSize).Dir, "home")
	btrfstest.Run(t, "btrfs", "subvolume", "create", source)
	btrfstest.Populate(t, source, 1)
	return &vault{t, t.TempDir(), source}
}

// place is the destination; it can be made to fail by a file.
func (v *vault) place() string {
	return fmt.Sprintf(`shell://cd '%s' && cat >"$BTRFS_BACKUP_SNAPSHOT" && `+
		`echo "$BTRFS_BACKUP_SNAPSHOT/$BTRFS_BACKUP_PARENT/$BTRFS_BACKUP_UUID/$BTRFS_BACKUP_BYTES" >>told && ! test -e fail`, v.dir)
}

// told gives the variables of each call that got to its end.
func (v *vault) told() (calls [][]string) {
	v.Helper()
	content, err := os.ReadFile(filepath.Join(v.dir, "told"))
	btrfstest.Check(v, err)
	for line := range strings.Lines(string(content)) {
		calls = append(calls, strings.Split(strings.TrimSuffix(line, "\n"), "/"))
	}
	return calls
}

func (v *vault) stream(name string) string { return filepath.Join(v.dir, name) }

func (v *vault) snapshots() []string { return names(v, filepath.Join(v.source, "snapshot")) }

func TestStreamsStoredByACommandAreAChainThatCanBeReceived(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	for generation := range int64(3) {
		if generation > 0 {
			btrfstest.Change(t, v.source, generation)
		}
		expect(t, exitDone, invoke(t, nil, v.source, v.place()), "stored, not verified")
	}
	snapshots := v.snapshots()
	back := btrfstest.New(t, testSize).Dir
	for i, call := range v.told() {
		parent := ""
		if i > 0 {
			parent = snapshots[i-1]
		}
		uuid := strings.Fields(btrfstest.Run(t, "sh", "-c", `btrfs subvolume show "$1" | grep 'UUID:' | head -1`, "sh",
			filepath.Join(v.source, "snapshot", snapshots[i])))[1]
		info, err := os.Stat(v.stream(snapshots[i]))
		btrfstest.Check(t, err)
		if want := []string{snapshots[i], parent, uuid, fmt.Sprint(info.Size())}; !slices.Equal(call, want) {
			t.Errorf("the command was told %q, want %q", call, want)
		}
		btrfstest.Run(t, "btrfs", "receive", "-f", v.stream(snapshots[i]), back)
		isCopy(t, v.source, back, snapshots[i])
	}
	if len(v.told()) != 3 {
		t.Errorf("calls: %q", v.told())
	}
}

func TestACommandGetsCompleteStreamsOnRequest(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	for range 2 {
		succeed(t, "-I", v.source, v.place())
	}
	for _, name := range v.snapshots() {
		back := filepath.Join(btrfstest.New(t, testSize).Dir)
		btrfstest.Run(t, "btrfs", "receive", "-f", v.stream(name), back)
		isCopy(t, v.source, back, name)
	}
}

func TestANewCommandBeginsWithTheNewestSnapshot(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	for range 2 {
		succeed(t, v.source)
	}
	succeed(t, "-S", v.source, v.place())
	if calls, newest := v.told(), v.snapshots()[1]; len(calls) != 1 || calls[0][0] != newest || calls[0][1] != "" {
		t.Errorf("calls: %q, the newest is %s", calls, newest)
	}
}

func TestACommandThatFailsIsAFailedDestinationAndGetsTheSnapshotAgain(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	succeed(t, v.source, v.place())
	btrfstest.Check(t, os.WriteFile(v.stream("fail"), nil, 0o644))
	for range 2 {
		expect(t, exitFailed, invoke(t, nil, "-N", "1", v.source, v.place()), "the command failed (exit status 1)", "hint: ")
	}
	snapshots := v.snapshots()
	if len(snapshots) < 2 || snapshots[0] != v.told()[0][0] {
		t.Fatalf("of the snapshots there are %v; the first is needed as parent", snapshots)
	}
	btrfstest.Check(t, os.Remove(v.stream("fail")))
	failed := len(v.told())
	succeed(t, "-S", v.source, v.place())
	parent := snapshots[0]
	for i, call := range v.told()[failed:] {
		if call[0] != snapshots[i+1] || call[1] != parent {
			t.Errorf("%s was sent as an increment to %q, want %s to %s", call[0], call[1], snapshots[i+1], parent)
		}
		parent = call[0]
	}
	if sent := len(v.told()) - failed; sent != len(snapshots)-1 {
		t.Errorf("%d were sent of %v", sent, snapshots)
	}
}

func TestACommandThatDoesNotReadEverythingIsAFailure(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	expect(t, exitFailed, invoke(t, nil, v.source, "shell://head -c 1000 >/dev/null"), "error: sending")
	if content, err := os.ReadFile(filepath.Join(v.source, "snapshot", ".outstanding_transfers")); err != nil || !strings.Contains(string(content), `"locks"`) {
		t.Errorf("the ledger is %s, %v", content, err)
	}
}

func TestACommandIsNotShownAnEndWhenTheSenderFails(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	for _, name := range []string{"large", "unreadable"} { // the first of which is more than pipes hold
		btrfstest.Check(t, os.WriteFile(filepath.Join(v.source, name), make([]byte, 8<<20), 0o644))
	}
	btrfstest.Damage(t, filepath.Join(v.source, "unreadable"), 4<<20)
	place := fmt.Sprintf("shell://cat >%s; touch %s", v.stream("part"), v.stream("ended"))
	expect(t, exitFailed, invoke(t, nil, v.source, place), "the kernel's send: input/output error")
	if exists(v.stream("ended")) {
		t.Error("the command took a part for the whole")
	}
	if info, err := os.Stat(v.stream("part")); err != nil || info.Size() == 0 {
		t.Errorf("the command got nothing: %v", err)
	}
}

func TestACommandIsNoPlaceForRetention(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	expect(t, exitDone, invoke(t, nil, "-n", "1", v.source, v.place()), "the retention of backups has no effect there")
	succeed(t, v.source, v.place())
	if calls := v.told(); len(calls) != 2 {
		t.Errorf("calls: %q", calls)
	}
}

func TestACommandWithoutAReadableLedgerIsRefused(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	succeed(t, v.source, v.place())
	btrfstest.Check(t, os.WriteFile(filepath.Join(v.source, "snapshot", ".outstanding_transfers"), []byte("["), 0o644))
	expect(t, exitFailed, invoke(t, nil, v.source, v.place()), "only the ledger tells which snapshots were sent there", "repair")
	if calls := v.told(); len(calls) != 1 {
		t.Errorf("calls: %q", calls)
	}
}
