package lock

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDestinationsThatAreOpenedSideBySideAreAllRemembered(t *testing.T) {
	d := Destinations{filepath.Join(t.TempDir(), "state")}
	var adding sync.WaitGroup
	for i := range 20 {
		adding.Go(func() {
			if err := d.Add(t.Context(), fmt.Sprint(i%10), fmt.Sprint("id", i)); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
	got, err := d.Read()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if len(got[fmt.Sprint(i)]) != 2 {
			t.Fatalf("on record are %v", got)
		}
	}
}

func TestAnUnreadableRecordOfDestinationsIsAnErrorAndNeverOverwritten(t *testing.T) {
	d := Destinations{t.TempDir()}
	if used, err := d.Read(); used.Knows("/x") || err != nil {
		t.Errorf("without a record: %v, %v", used, err)
	}
	file := filepath.Join(d.Dir, destinationsFile)
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(); err == nil {
		t.Error("a damaged record is read")
	}
	if err := d.Add(t.Context(), "/x", "id"); err == nil {
		t.Error("a damaged record is added to")
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "{" {
		t.Errorf("it holds %q, %v", content, err)
	}
	if used, err := (Destinations{}).Read(); used.Knows("/x") || err != nil {
		t.Errorf("nothing is to be remembered: %v, %v", used, err)
	}
}

func TestARecordThatCannotBeReplacedIsToldByItsName(t *testing.T) {
	d := Destinations{t.TempDir()}
	file := filepath.Join(d.Dir, destinationsFile)
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(file, file, "", unix.MS_BIND, ""); err != nil { // nothing replaces a mount point
		t.Skip(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(file, 0) })
	if err := d.Add(t.Context(), "/x", "id"); err == nil || err.Error() != "writing "+file+": device or resource busy" {
		t.Errorf("error: %v", err)
	}
}
