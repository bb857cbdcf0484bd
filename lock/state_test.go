package lock

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

func TestDestinationsThatAreOpenedSideBySideAreAllRemembered(t *testing.T) {
	d := State{filepath.Join(t.TempDir(), "state")}
	var adding sync.WaitGroup
	for i := range 20 {
		adding.Go(func() {
			if err := d.AddUsed(t.Context(), fmt.Sprint(i%10), fmt.Sprint("id", i)); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
	got, err := d.Used()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if len(got[fmt.Sprint(i)]) != 2 {
			t.Fatalf("on record are %v", got)
		}
	}
}

func TestASourceIsFoundUnderWhateverName(t *testing.T) {
	s := State{t.TempDir()}
	for name, uuids := range map[string][]string{"/old": {"a", "b"}, "/other": {"c"}} {
		if err := s.SetSource(t.Context(), name, uuids); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.SourcesBeside("a"); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAnUnreadableRecordIsAnErrorAndNeverOverwritten(t *testing.T) {
	read := map[string]func(State) (some int, err error){
		destinationsFile: func(s State) (int, error) { used, err := s.Used(); return len(used), err },
		sourcesFile:      func(s State) (int, error) { uuids, err := s.Source("/x"); return len(uuids), err },
		noticesFile:      func(s State) (int, error) { told, err := s.Notices(); return len(told), err },
	}
	write := map[string]func(State) error{
		destinationsFile: func(s State) error { return s.AddUsed(t.Context(), "/x", "id") },
		sourcesFile:      func(s State) error { return s.SetSource(t.Context(), "/x", []string{"uuid"}) },
		noticesFile: func(s State) error {
			return s.ChangeNotices(t.Context(), "mail", func([]string) []string { return []string{"word"} })
		},
	}
	for name := range read {
		s := State{t.TempDir()}
		if some, err := read[name](s); some != 0 || err != nil {
			t.Errorf("without a record: %d, %v", some, err)
		}
		file := filepath.Join(s.Dir, name)
		if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := read[name](s); err == nil {
			t.Error("a damaged record is read")
		}
		if err := write[name](s); err == nil {
			t.Error("a damaged record is replaced")
		}
		if content, err := os.ReadFile(file); err != nil || string(content) != "{" {
			t.Errorf("it holds %q, %v", content, err)
		}
		some, err := read[name](State{})
		if err := write[name](State{}); some != 0 || err != nil {
			t.Errorf("nothing is to be remembered: %d, %v", some, err)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

func TestSourcesThatAreSavedSideBySideAreAllRemembered(t *testing.T) {
	s := State{filepath.Join(t.TempDir(), "state")}
	var setting sync.WaitGroup
	for i := range 10 {
		setting.Go(func() {
			for n := range 3 {
				if err := s.SetSource(t.Context(), fmt.Sprint(i), []string{fmt.Sprint("uuid", n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	setting.Wait()
	for i := range 10 {
		if got, err := s.Source(fmt.Sprint(i)); err != nil || !slices.Equal(got, []string{"uuid2"}) {
			t.Errorf("on record are %v, error: %v", got, err)
		}
	}
}

func TestARecordThatCannotBeReplacedIsToldByItsName(t *testing.T) {
	btrfstest.RequireRoot(t)
	d := State{t.TempDir()}
	file := filepath.Join(d.Dir, destinationsFile)
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(file, file, "", unix.MS_BIND, ""); err != nil { // nothing replaces a mount point
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(file, 0) })
	if err := d.AddUsed(t.Context(), "/x", "id"); err == nil || err.Error() != "writing "+file+": device or resource busy" {
		t.Errorf("error: %v", err)
	}
}
